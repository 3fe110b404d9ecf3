package routes

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"example.com/logto-gin-starter/auth"
	"example.com/logto-gin-starter/auth/authtest"
)

const period = 2 * time.Second

// threeInstances are a site of which three instances share Redis and the provider, and ask it again after the period.
// merchants is a forker's page for people with a role.
func threeInstances(t *testing.T) (*site, []string) {
	t.Helper()
	merchants := func(app App, engine *gin.Engine) {
		page(app, engine, "/merchants", app.Authenticated(), app.handle(func(c *gin.Context) error {
			if !slices.Contains(auth.UserFrom(c).Claims().Roles.Value(), "merchant") {
				return &statusError{http.StatusForbidden, "forbidden"}
			}
			c.String(http.StatusOK, "welcome")
			return nil
		}))
	}
	var set *setup
	s := newSite(t, func(given *setup) {
		given.client.Revalidate, given.pages, given.provider.RotateAlways = period, merchants, true
		set = given
	})
	addresses := []string{s.url}
	for range 2 {
		other := *s
		handler := other.build(t, set.client)
		merchants(other.app, handler.(*gin.Engine))
		web := httptest.NewServer(handler)
		t.Cleanup(web.Close)
		addresses = append(addresses, web.URL)
	}
	return s, addresses
}

// at asks an instance for a page with the browser's cookies.
func (b *browser) at(instance, path string) reply {
	b.t.Helper()
	return b.get(instance+path, "Cookie", "sid="+b.cookies()["sid"])
}

// TestOneRevalidation: however many requests come to however many instances, Logto is asked once in a period.
func TestOneRevalidation(t *testing.T) {
	t.Parallel()
	s, instances := threeInstances(t)
	b := s.signedIn(t, "ada")
	s.logto.Forget()
	const periods = 3
	var all sync.WaitGroup
	end := time.Now().Add(periods*period + period/2)
	for i := range 9 {
		all.Go(func() {
			for time.Now().Before(end) {
				if a := b.at(instances[i%3], "/"); !strings.Contains(a.body, "Hello, Ada Lovelace") {
					t.Errorf("%d: %.500s", a.status, a.body)
					return
				}
			}
		})
	}
	all.Wait()
	if n := s.logto.Count(authtest.Token); n < 1 || n > periods {
		t.Errorf("%d refreshes in %d periods", n, periods)
	}
}

// TestChangesArrive: what ends or changes at Logto is here within the period and one request, on every page of each instance.
func TestChangesArrive(t *testing.T) {
	t.Parallel()
	pages := []string{"/", "/merchants", "/own/userinfo", "/own/token", "/protected/sessions", "/sign-out", "/unknown"}
	s, instances := threeInstances(t)
	b := s.signedIn(t, "ada")
	want := func(path string, status int, text string) {
		t.Helper()
		for _, instance := range instances {
			if a := b.at(instance, path); a.status != status || !strings.Contains(a.body, text) {
				t.Errorf("%s at %s: %d, want %d and %q in %.300s", path, instance, a.status, status, text, a.body)
			}
		}
	}
	want("/merchants", 200, "welcome")
	s.logto.SetRoles("ada")
	user := s.logto.User("ada")
	user.Name = "Countess"
	s.logto.SetUser(user)
	time.Sleep(period)
	b.at(instances[1], "/unknown") // the request that asks
	want("/merchants", 403, "")
	want("/", 200, "Hello, Countess")

	for _, path := range pages {
		b.signIn("ada", "/")
		s.logto.Suspend("ada")
		time.Sleep(period)
		a := b.at(instances[2], path) // the first to ask, whichever page it is
		if strings.Contains(a.body, "Countess") || a.status == 200 && !strings.Contains(a.body, `href="/sign-in"`) {
			t.Errorf("%s knows a person who was suspended: %d %.2000s", path, a.status, a.body)
		}
		for _, path := range pages {
			for _, instance := range instances {
				if a := b.at(instance, path); strings.Contains(a.body, "Countess") {
					t.Errorf("%s at %s still knows them", path, instance)
				}
			}
		}
		if b.isSignedIn() {
			t.Errorf("%s: still signed in", path)
		}
		s.logto.Unsuspend("ada")
	}
}

// TestLogtoIsDown ends nothing: the first page waits two seconds at most, and those after it hardly at all.
func TestLogtoIsDown(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long: left out with -short")
	}
	t.Parallel()
	s, instances := threeInstances(t)
	b := s.signedIn(t, "ada")
	time.Sleep(period)
	s.logto.On(authtest.Token, authtest.Delay(5*time.Second))
	var longest []time.Duration
	for end := time.Now().Add(12 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		for _, instance := range instances {
			began := time.Now()
			if a := b.at(instance, "/"); a.status != 200 || !strings.Contains(a.body, "Hello, Ada Lovelace") {
				t.Fatalf("%d %.300s", a.status, a.body)
			}
			if took := time.Since(began); took > time.Second {
				longest = append(longest, took)
			}
		}
	}
	// One try of the session at a time, each of which an instance waits for once; and none by an instance that has just waited.
	if len(longest) > 6 {
		t.Errorf("pages waited: %v", longest)
	}
	s.logto.Behave()
	s.logto.SetRoles("ada")
	deadline := time.Now().Add(20 * time.Second)
	for b.at(instances[0], "/merchants").status != 403 {
		if time.Now().After(deadline) {
			t.Fatal("when Logto is back, nobody asks it")
		}
		time.Sleep(100 * time.Millisecond)
	}
	if !b.isSignedIn() {
		t.Error("signed out")
	}
}

// oddOrganizations are IDs that Logto would not give.
var oddOrganizations = []any{
	[]string{"../../etc", "a b", "x\u0000", "", "<script>", strings.Repeat("x", 300)}, "acme", 7, nil, []any{1, nil, "acme00corp01"}, map[string]any{},
}

// TestOddOrganizations: they make no page fail.
func TestOddOrganizations(t *testing.T) {
	for _, organizations := range oddOrganizations {
		s := newSite(t)
		s.logto.OnIDToken(authtest.Claim("organizations", organizations))
		b := s.signedIn(t, "ada")
		for _, path := range []string{"/", "/own/token", "/own/userinfo", "/protected/sessions"} {
			if a := b.get(path); a.status != 200 || strings.Contains(a.body, "<script") {
				t.Errorf("%s with %v: %d", path, organizations, a.status)
			}
		}
		if a := b.getJSON("/api/me"); a.status != 200 {
			t.Errorf("JSON with %v: %d %s", organizations, a.status, a.body)
		}
	}
}

// What ended or changed at Logto ends here within SESSION_REVALIDATE and one request: also for an API that knows its caller by the
// cookie.
func TestCallerIsRevalidated(t *testing.T) {
	for name, change := range map[string]func(*site){
		"suspended": func(s *site) { s.logto.Suspend("ada") },
		"role lost": func(s *site) { s.logto.SetRoles("ada") },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			b := s.signedIn(t, "ada")
			b.want(b.getJSON("/api/own"), 200, "")
			change(s)
			if _, err := s.app.Sessions.MarkDue(t.Context(), s.logto.User("ada").Subject); err != nil { // as if the time had passed
				t.Fatal(err)
			}
			s.logto.Forget()
			if a := b.getJSON("/api/own"); a.status == 200 && name == "suspended" || s.logto.Count(authtest.Token) == 0 {
				t.Errorf("%d %s; Logto was asked %d times", a.status, a.body, s.logto.Count(authtest.Token))
			}
		})
	}
}
