//go:build unix

package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
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
	for _, page := range []string{"/", "/protected/userinfo", "/protected/tokens", "/protected/sessions", "/sign-in", "/sign-out"} {
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
		page := []string{"/", "/protected/userinfo", "/protected/tokens", "/sign-in"}[i%4]
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
	s := newSiteOn(t, redis.url(), func(options *authtest.Options) { options.RotateAlways = true })
	ada := signInBriefly(t, s.url, s.logto)
	killed := make(chan struct{})
	s.logto.On(authtest.Token, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			redis.kill()
			close(killed)
			next.ServeHTTP(w, r)
		})
	}).Times(1)
	page := make(chan answer, 1)
	go func() {
		a, err := ada.getJSON(t.Context(), "/protected/userinfo")
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
	if n := s.logto.Count(authtest.Token); n != 1 {
		t.Errorf("%d refreshes, want 1", n)
	}
	ada.wantRefresh(t)
}

// Redis is killed under load and comes back with what it had on disk: whoever was told to be signed in still is, whoever
// was told to be signed out still is, nobody ever sees another's page, and all else in between is 503.
func TestRedisKilledUnderLoad(t *testing.T) {
	heavy(t)
	t.Parallel()
	redis := newRedis(t)
	const people = 24
	s := newSiteOn(t, redis.url(), func(options *authtest.Options) {
		for i := range people {
			user := authtest.User{Username: fmt.Sprintf("user%d", i), Password: "x", Name: fmt.Sprintf("Person %d.", i)}
			options.Users = append(options.Users, user)
		}
	})
	l := &load{t: t, ctx: t.Context(), site: s}
	for i := range people {
		l.people = append(l.people, newPerson(t, s.url, s.logto))
		must(t, l.people[i].signIn(t.Context(), fmt.Sprintf("user%d", i)))
	}
	stop := make(chan struct{})
	var workers sync.WaitGroup
	for i := range people {
		workers.Go(func() {
			for round := 0; ; round++ {
				select {
				case <-stop:
					return
				default:
					l.use(i, round)
				}
			}
		})
	}
	for range 2 {
		l.more(&l.pages, 400)
		redis.kill()
		l.more(&l.outages, 100)
		redis.start()
		l.more(&l.pages, 400)
	}
	close(stop)
	workers.Wait()
	for i := range people {
		if l.look(i, true) {
			t.Errorf("person %d: 503 although Redis is back", i)
		}
	}
	for _, p := range l.signedOut {
		p.wantSignedIn(t, false, "with the cookie of a session that was signed out")
	}
	t.Logf("%d pages, %d sign-ins, %d answers of 503", l.pages.Load(), l.signIns.Load(), l.outages.Load())
}

// load is many people who use the application at once.
type load struct {
	t                       *testing.T
	ctx                     context.Context
	site                    *site
	people                  []*person
	pages, signIns, outages atomic.Int64

	mu        sync.Mutex
	signedOut []*person // browsers that still have the cookie of a session that was signed out
}

// use does what a person does: mostly looks at pages, sometimes signs out and in again.
func (l *load) use(i, round int) {
	switch {
	case i%4 == 0 && round%20 == 19:
		l.signOutAndIn(i)
	default:
		l.look(i, true)
	}
}

// look gets the home page, and compares who it greets.
func (l *load) look(i int, signedIn bool) (outage bool) {
	a, err := l.people[i].get(l.ctx, "/")
	switch {
	case err != nil:
		l.t.Errorf("person %d: %v", i, err)
	case a.isOutage():
		l.outages.Add(1)
		return true
	case a.status != http.StatusOK || strings.Contains(a.body, fmt.Sprintf("Person %d.", i)) != signedIn || strings.Count(a.body, "<h1>") != 1:
		l.t.Errorf("person %d, signed in: %v, sees %d: %.2000s", i, signedIn, a.status, a.body)
	default:
		l.pages.Add(1)
	}
	return false
}

// signOutAndIn goes on trying until both are done: after a 503 nobody knows whether it was.
func (l *load) signOutAndIn(i int) {
	before := newPerson(l.t, l.site.url, l.site.logto)
	if err := before.copyCookies(l.people[i]); err != nil {
		l.t.Error(err)
	}
	l.insist(i, "signs out", func(p *person) error {
		a, err := p.post(l.ctx, "/sign-out", nil)
		if err == nil && a.status != http.StatusSeeOther {
			err = fmt.Errorf("POST /sign-out: %d", a.status)
		}
		return err
	})
	l.look(i, false)
	l.mu.Lock()
	l.signedOut = append(l.signedOut, before)
	l.mu.Unlock()
	l.insist(i, "signs in", func(p *person) error { return p.signIn(l.ctx, fmt.Sprintf("user%d", i)) })
	l.signIns.Add(1)
}

func (l *load) insist(i int, what string, try func(*person) error) {
	for l.ctx.Err() == nil {
		switch err := try(l.people[i]); {
		case err == nil:
			return
		case strings.Contains(err.Error(), ": 503"):
			l.outages.Add(1)
		default:
			l.t.Errorf("person %d %s: %v", i, what, err)
			return
		}
	}
}

// more waits until a counter has grown by so much.
func (l *load) more(counter *atomic.Int64, by int64) {
	l.t.Helper()
	goal := counter.Load() + by
	eventually(l.t, fmt.Sprintf("%d more answers", by), func() bool { return counter.Load() >= goal })
}
