//go:build unix

package e2e

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.com/logto-gin-starter/auth/authtest"
)

// crowd sends 200 requests of ada's at once, and wants 200 answers of 200. The provider answers no refresh before all of
// them are there.
func (f *fleet) crowd(t *testing.T, ada *person) {
	t.Helper()
	const size = 200
	all := f.arrived.Load() + size
	f.logto.On(authtest.Token, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			for f.arrived.Load() < all && r.Context().Err() == nil {
				time.Sleep(10 * time.Millisecond)
			}
			next.ServeHTTP(w, r)
		})
	})
	var requests sync.WaitGroup
	for i := range size {
		page := []string{ownUserInfo, ownToken}[i%2]
		requests.Go(func() {
			a, err := ada.getJSON(t.Context(), page)
			if err != nil || a.status != http.StatusOK || strings.Contains(a.body, `"error"`) {
				t.Errorf("%s: %d %.300s, %v", page, a.status, a.body, err)
			}
		})
	}
	requests.Wait()
}

// wantOneRefresh wants exactly one successful refresh for each thing that a token is for.
func (f *fleet) wantOneRefresh(t *testing.T) {
	t.Helper()
	refreshes := map[string]int{}
	for _, request := range f.logto.Requests(authtest.Token) {
		if request.Status == http.StatusOK {
			refreshes[request.Form.Get("resource")]++
		} else if request.Status != 0 { // 0: its instance was killed
			t.Errorf("the provider refused a refresh: %d", request.Status)
		}
	}
	if refreshes[""] != 1 || refreshes["https://shopping.your-app.com/api"] != 1 || len(refreshes) != 2 {
		t.Errorf("refreshes by resource: %v, want one each", refreshes)
	}
	tokens := map[string]bool{}
	for _, request := range f.logto.Requests(authtest.UserInfo) {
		tokens[request.Header.Get("Authorization")] = true
	}
	if len(tokens) != 1 {
		t.Errorf("%d different access tokens were used at userinfo, want the one new one", len(tokens))
	}
}

// wantStanding wants the person to be signed in at each instance, and the grant to stand: another refresh works.
func (f *fleet) wantStanding(t *testing.T, ada *person) {
	t.Helper()
	for i, instance := range f.instances {
		if !instance.hasEnded() {
			ada.at(instance).wantSignedIn(t, true, "at instance "+strconv.Itoa(i))
		}
	}
	ada.wantRefresh(t)
}

// 200 requests at once at three instances, with an access token that has expired: one refresh, and nobody is signed out.
func TestOneRefresh(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	ada := signInBriefly(t, f.url, f.logto)
	f.crowd(t, ada)
	f.wantOneRefresh(t)
	f.wantStanding(t, ada)
}

// The same with a provider that takes longer than the lock lives without renewal, and longer than its grace for a token
// used twice.
func TestOneRefreshAtSlowProvider(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	ada := signInBriefly(t, f.url, f.logto)
	f.logto.On(authtest.Token, authtest.DelayAnswer(15*time.Second)).Times(1)
	f.crowd(t, ada)
	f.wantOneRefresh(t)
	f.wantStanding(t, ada)
}

// The same with the instance killed that is refreshing, before the provider has done anything: another one takes over.
func TestRefreshingInstanceKilled(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	ada := signInBriefly(t, f.url, f.logto)
	f.logto.On(authtest.Token, func(http.Handler) http.Handler {
		return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { f.killSender(t, r) })
	}).Times(1)
	f.crowd(t, ada)
	f.wantOneRefresh(t)
	f.wantStanding(t, ada)
}

// The same with the instance killed after the provider has rotated the refresh token, so that the new one is lost with it:
// the next instance has the lock while the provider still forgives the old one.
func TestRotatedTokenLost(t *testing.T) {
	t.Parallel()
	var stopped atomic.Pointer[time.Time] // the provider's clock, so that a slow machine does not use up the grace
	f := newFleetOn(t, func(options *authtest.Options) {
		options.Resources, options.Organizations = options.Resources[:1], nil
		options.Now = func() time.Time {
			if now := stopped.Load(); now != nil {
				return *now
			}
			return time.Now()
		}
	})
	ada := signInBriefly(t, f.url, f.logto)
	f.logto.On(authtest.Token, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			now := time.Now()
			stopped.Store(&now)
			next.ServeHTTP(discard{http.Header{}}, r)
			f.killSender(t, r)
		})
	}).Times(1)
	a, err := ada.get(t.Context(), ownUserInfo)
	if err != nil || a.status != http.StatusOK {
		t.Fatalf("the page: %d to %q, %v; want 200", a.status, a.location(), err)
	}
	stopped.Store(nil)
	f.wantStanding(t, ada)
}

// A Redis that is full keeps the rotated refresh token all the same: the one before is worth nothing any more.
func TestRefreshWithFullMemory(t *testing.T) {
	t.Parallel()
	var ahead atomic.Int64 // of the provider's clock, to be past the grace
	f := newFleetOn(t, func(options *authtest.Options) {
		options.Resources, options.Organizations = options.Resources[:1], nil
		options.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	})
	ada := signInBriefly(t, f.url, f.logto)
	must(t, f.redis.client.ConfigSet(t.Context(), "maxmemory", "1").Err())
	a, err := ada.get(t.Context(), ownUserInfo)
	if err != nil || a.status != http.StatusOK {
		t.Errorf("the page: %d, %v; want 200", a.status, err)
	}
	must(t, f.redis.client.ConfigSet(t.Context(), "maxmemory", "0").Err())
	ahead.Store(int64(10 * time.Second))
	f.wantStanding(t, ada)
}

// When the provider does not forgive it, what is left is to ask the person to sign in again: never an error page, and back to
// where they were.
func TestGrantLost(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	ada := signInBriefly(t, f.url, f.logto)
	f.logto.RevokeGrants("ada")
	a, err := ada.get(t.Context(), ownUserInfo)
	if err != nil || a.status != http.StatusSeeOther || a.location() != "/sign-in?return_to=%2Fown%2Fuserinfo" {
		t.Fatalf("the page: %d to %q, %v; want a redirect to sign in", a.status, a.location(), err)
	}
	if a, err = ada.getJSON(t.Context(), ownUserInfo); err != nil || a.status != http.StatusUnauthorized {
		t.Errorf("the page as JSON: %d, %v", a.status, err)
	}
	must(t, ada.signIn(t.Context(), "ada"))
	if a, err = ada.get(t.Context(), ownUserInfo); err != nil || a.status != http.StatusOK {
		t.Errorf("after signing in again: %d, %v", a.status, err)
	}
}

// killSender kills the instance that sent a request.
func (f *fleet) killSender(t *testing.T, r *http.Request) {
	sender := r.Header.Get(instanceHeader)
	i := slices.IndexFunc(f.instances, func(i *instance) bool { return i.url == sender })
	if i < 0 {
		t.Errorf("a request that no instance sent: %v", r.URL)
		return
	}
	f.instances[i].kill()
}

// discard is a response that nobody gets.
type discard struct{ header http.Header }

func (d discard) Header() http.Header       { return d.header }
func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) WriteHeader(int)             {}

// A sign-out on one instance, and one at the provider, is seen by the others at once.
func TestSignOutSeenByAll(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	ada, elsewhere, grace := newPerson(t, f.url, f.logto), newPerson(t, f.url, f.logto), newPerson(t, f.url, f.logto)
	must(t, ada.signIn(t.Context(), "ada"))
	must(t, elsewhere.signIn(t.Context(), "ada"))
	must(t, grace.signIn(t.Context(), "grace"))
	cookies := newPerson(t, f.url, f.logto) // who has a copy of ada's cookies
	must(t, cookies.copyCookies(ada))

	a, err := ada.at(f.instances[0]).post(t.Context(), "/sign-out", nil)
	if err != nil || a.status != http.StatusSeeOther {
		t.Fatalf("sign-out: %d, %v", a.status, err)
	}
	for _, instance := range f.instances {
		cookies.at(instance).wantSignedIn(t, false, "after the sign-out, with the old cookie")
		elsewhere.at(instance).wantSignedIn(t, true, "in another browser")
	}

	deliveries := f.logto.EndSession(t.Context(), "ada")
	for _, delivery := range deliveries {
		if delivery.Status != http.StatusOK {
			t.Errorf("back-channel logout: %d %s, %v", delivery.Status, delivery.Body, delivery.Err)
		}
	}
	if len(deliveries) == 0 {
		t.Error("the provider called no back channel")
	}
	for _, instance := range f.instances {
		elsewhere.at(instance).wantSignedIn(t, false, "after the back-channel logout")
		grace.at(instance).wantSignedIn(t, true, "somebody else")
	}
}
