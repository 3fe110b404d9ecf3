package routes

import (
	"strings"
	"testing"

	"github.com/go-redis/redis_rate/v10"

	"example.com/logto-gin-starter/auth/authtest"
)

const (
	offersSignIn = `<a class="button quiet" href="/sign-in">`
	knowsAda     = `<span class="person-name">Ada Lovelace`
)

// TestErrorsWhileSignedIn: an error page says nothing of the sign-in that is not true, and its header offers none to who is
// signed in.
func TestErrorsWhileSignedIn(t *testing.T) {
	for name, tt := range map[string]struct {
		fail   func(s *site, b *browser) reply
		status int
		says   string
		knows  bool // its header shows who is signed in
	}{
		"Logto is away": {func(s *site, b *browser) reply {
			s.logto.On(authtest.UserInfo, authtest.Status(503))
			return b.get("/own/userinfo")
		}, 502, "You are still signed in.", true},
		"Logto is slow": {func(s *site, b *browser) reply {
			s.logto.On(authtest.UserInfo, authtest.Hang)
			return b.get("/own/userinfo")
		}, 504, "You are still signed in.", true},
		"Logto talks nonsense": {func(s *site, b *browser) reply {
			s.logto.On(authtest.UserInfo, authtest.Garbage)
			return b.get("/own/userinfo")
		}, 502, "You are still signed in.", true},
		"signing in again fails": {func(s *site, b *browser) reply {
			s.logto.On(authtest.Token, authtest.Garbage)
			return b.get(b.begin("/sign-in", "ada"))
		}, 502, "The sign-in service", true},
		"no session can be read": {func(s *site, b *browser) reply {
			s.redis.down()
			return b.get("/own/userinfo")
		}, 503, "If you were signed in, you still are.", false},
		"no page, and no session": {func(s *site, b *browser) reply {
			s.redis.down()
			return b.get("/nowhere")
		}, 404, "no page at this address", false},
		"refused": {func(_ *site, b *browser) reply {
			return b.post("/protected/sessions", nil, "Sec-Fetch-Site", "cross-site")
		}, 403, "came from another site", false},
		"too many": {func(_ *site, b *browser) reply {
			b.get("/sign-up")
			return b.get("/sign-up")
		}, 429, "Please wait a minute", false},
		"too large": {func(_ *site, b *browser) reply { return b.get("/?" + strings.Repeat("x", maxURI)) }, 414, "larger than we accept", false},
		"no page":   {func(_ *site, b *browser) reply { return b.get("/nowhere") }, 404, "no page at this address", true},
		"no method": {func(_ *site, b *browser) reply { return b.do("DELETE", "/", "") }, 405, "used in this way", true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, func(set *setup) {
				if name == "Logto is slow" {
					set.client.Transport = impatient{"/oidc/me"}
				}
				if name == "too many" {
					set.app = func(app *App) { app.Limit = redis_rate.Limit{Rate: 1, Burst: 2, Period: 1 << 40} }
				}
			})
			b := s.signedIn(t, "ada")
			a := tt.fail(s, b)
			b.want(a, tt.status, "")
			if !strings.Contains(a.body, tt.says) || strings.Contains(a.body, "not signed in") {
				t.Errorf("it does not say %q: %s", tt.says, a.body)
			}
			if strings.Contains(a.body, knowsAda) != tt.knows || strings.Contains(a.body, offersSignIn) {
				t.Errorf("its header: %s", a.body)
			}
			if n := strings.Count(a.body, `class="button primary"`); n != 1 {
				t.Errorf("%d primary actions: %s", n, a.body)
			}
			s.redis.up()
			if !b.isSignedIn() {
				t.Error("signed out")
			}
		})
	}
	out := newSite(t).browser(t)
	if a := out.get("/nowhere"); !strings.Contains(a.body, offersSignIn) {
		t.Errorf("nobody is offered to sign in: %s", a.body)
	}
}
