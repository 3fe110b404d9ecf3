//go:build unix

package e2e

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/logto-gin-starter/auth/authtest"
)

// An outage is no sign-out: the same cookie works when Redis is back, and so does a sign-in that was under way.
func TestRedisStopsAndStarts(t *testing.T) {
	t.Parallel()
	redis := newRedis(t)
	s := newSiteOn(t, redis.url())
	ada, visitor := newPerson(t, s.url, s.logto), newPerson(t, s.url, s.logto)
	must(t, ada.signIn(t.Context(), "ada"))
	underWay := newPerson(t, s.url, s.logto)
	callback, err := underWay.toCallback(t.Context(), "grace")
	must(t, err)

	redis.stop()
	for _, page := range []string{"/", "/protected/sessions", "/sign-in", "/sign-out"} {
		a, err := ada.get(t.Context(), page)
		if err != nil || !a.isOutage() || !strings.Contains(a.body, "If you were signed in, you still are") {
			t.Errorf("%s without Redis: %d %v, %v", page, a.status, a.header, err)
		}
		if a, err := ada.getJSON(t.Context(), page); err != nil || !a.isOutage() {
			t.Errorf("%s as JSON without Redis: %d %v, %v", page, a.status, a.header, err)
		}
	}
	if a, err := ada.post(t.Context(), "/sign-out", nil); err != nil || !a.isOutage() {
		t.Errorf("sign-out without Redis: %d %v, %v", a.status, a.header, err)
	}
	if a, err := underWay.get(t.Context(), callback); err != nil || !a.isOutage() {
		t.Errorf("callback without Redis: %d %v, %v", a.status, a.header, err)
	}
	if a, err := visitor.get(t.Context(), "/"); err != nil || a.status != http.StatusOK {
		t.Errorf("a visitor's home page without Redis: %d, %v", a.status, err)
	}
	if a, err := visitor.get(t.Context(), "/readyz"); err != nil || !a.isOutage() || !strings.Contains(a.body, `"redis":"unavailable"`) {
		t.Errorf("/readyz without Redis: %d %s, %v", a.status, a.body, err)
	}
	if a, err := visitor.get(t.Context(), "/healthz"); err != nil || a.status != http.StatusOK {
		t.Errorf("/healthz without Redis: %d, %v", a.status, err)
	}
	for _, delivery := range s.logto.EndSession(t.Context(), "grace") {
		if delivery.Status != http.StatusServiceUnavailable {
			t.Errorf("back-channel logout without Redis: %d; Logto must learn that it was not done", delivery.Status)
		}
	}

	redis.start()
	ada.wantSignedIn(t, true, "after the outage, with the same cookie")
	if a, err := underWay.get(t.Context(), callback); err != nil || a.status != http.StatusSeeOther {
		t.Errorf("the same callback after the outage: %d, %v", a.status, err)
	}
	underWay.wantSignedIn(t, true, "who signed in during the outage")
	if a, err := visitor.get(t.Context(), "/readyz"); err != nil || a.status != http.StatusOK {
		t.Errorf("/readyz after the outage: %d %s, %v", a.status, a.body, err)
	}
}

// hangBound is what a request may take while Redis hangs. By its design that is 2 s; here it is only told from a
// request that waits for ever, or for each command anew.
const hangBound = 5 * time.Second

// A Redis that accepts connections and answers nothing costs each request a bounded time, however many there are.
func TestRedisHangs(t *testing.T) {
	heavy(t)
	t.Parallel()
	redis := newRedis(t)
	s := newSiteOn(t, redis.url())
	ada := newPerson(t, s.url, s.logto)
	must(t, ada.signIn(t.Context(), "ada"))

	redis.freeze()
	ctx, cancel := context.WithTimeout(t.Context(), hangBound)
	defer cancel()
	var requests sync.WaitGroup
	for i := range 100 {
		page := []string{"/", "/protected/sessions", "/sign-out", "/sign-in"}[i%4]
		requests.Go(func() {
			start := time.Now()
			a, err := ada.get(ctx, page)
			if err != nil || !a.isOutage() {
				t.Errorf("%s while Redis hangs, after %v: %d %v, %v", page, time.Since(start), a.status, a.header, err)
			}
		})
	}
	requests.Wait()
	if a, err := ada.get(ctx, "/healthz"); err != nil || a.status != http.StatusOK {
		t.Errorf("/healthz while Redis hangs: %d, %v", a.status, err)
	}

	redis.thaw()
	eventually(t, "sessions are back", func() bool {
		a, err := ada.get(t.Context(), "/")
		return err == nil && a.status == http.StatusOK
	})
	ada.wantSignedIn(t, true, "after Redis hung, with the same cookie")
}

// Redis is killed while the provider rotates the refresh token, and comes back after the provider's grace for the old one:
// the new one is saved all the same, and the person who waits gets the page.
func TestRedisKilledDuringRefresh(t *testing.T) {
	heavy(t)
	t.Parallel()
	redis := newRedis(t)
	address := freeAddress(t)
	logto, options := newLogto(t, "http://"+address, func(options *authtest.Options) { options.RotateAlways = true })
	startInstance(t, address, settings("http://"+address, address, redis.url(), logto, options))
	ada := signInBriefly(t, "http://"+address, logto)
	killed := make(chan struct{})
	logto.On(authtest.Token, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			redis.kill()
			close(killed)
			next.ServeHTTP(w, r)
		})
	}).Times(1)
	page := make(chan answer, 1)
	go func() {
		a, err := ada.getJSON(t.Context(), ownUserInfo)
		if err != nil {
			t.Error(err)
		}
		page <- a
	}()
	<-killed
	time.Sleep(3500 * time.Millisecond)
	redis.start()
	if a := <-page; a.status != http.StatusOK {
		t.Errorf("the page that waited: %d %s", a.status, a.body)
	}
	if n := logto.Count(authtest.Token); n != 1 {
		t.Errorf("%d refreshes, want 1", n)
	}
	ada.wantRefresh(t)
}

// A Redis that may evict sessions is told of in one line at start; one that may not, not.
func TestEvictionIsToldOf(t *testing.T) {
	t.Parallel()
	const warning = "Redis may evict sessions"
	redis := newRedis(t)
	quiet := newSiteOn(t, newRedis(t).url())
	for _, policy := range []string{"allkeys-lru", "volatile-ttl"} {
		must(t, redis.client.ConfigSet(t.Context(), "maxmemory-policy", policy).Err())
		s := newSiteOn(t, redis.url())
		eventually(t, "a line about "+policy, func() bool { return strings.Contains(s.log.String(), warning) })
		if strings.Count(s.log.String(), warning) != 1 || !strings.Contains(s.log.String(), policy) {
			t.Errorf("log: %s", s.log)
		}
	}
	if strings.Contains(quiet.log.String(), warning) {
		t.Errorf("log without a reason: %s", quiet.log)
	}
}
