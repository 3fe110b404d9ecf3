package routes

import (
	"net/http"
	"net/url"
	"testing"
	"time"

	"example.com/logto-gin-starter/auth/authtest"
)

// TestNewKeyInAFlood: while strangers send tokens of keys that nobody knows, a new key of Logto's fails no sign-in. A good
// token that has to wait for it is not called invalid, and is good a little later.
func TestNewKeyInAFlood(t *testing.T) {
	for _, alg := range []string{"ES384", "RS256"} {
		t.Run(alg, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.signedIn(t, "ada")
			caller := s.browser(t)
			api := func(change ...func(*authtest.JWT)) reply {
				return caller.get("/api/own", "Authorization", "Bearer "+s.logto.AccessToken("ada", shopping, change...))
			}
			logout := func(change ...func(*authtest.JWT)) reply {
				return caller.post("/backchannel-logout", url.Values{"logout_token": {s.logto.LogoutToken("ada", change...)}})
			}
			unknown := func(a reply) bool {
				t.Helper()
				if a.status == http.StatusServiceUnavailable && a.header.Get("Retry-After") == "" {
					t.Error("503 without Retry-After")
				}
				return a.status == http.StatusServiceUnavailable
			}
			until(t, func() bool { return unknown(api(authtest.Header("kid", "nobody"))) })
			until(t, func() bool { return unknown(logout(authtest.Header("kid", "nobody"))) })
			if alg != "ES384" {
				until(t, func() bool { return unknown(api(authtest.SignedWithForeignKey(alg))) })
			}

			s.logto.RotateKey(alg)
			s.logto.On(authtest.Discovery, authtest.Field("id_token_signing_alg_values_supported", []string{alg}))
			if a := api(); !unknown(a) && a.status != http.StatusOK {
				t.Errorf("a good access token: %d", a.status)
			}
			if a := logout(); !unknown(a) && a.status != http.StatusOK {
				t.Errorf("a good logout token: %d", a.status)
			}
			b := s.signedIn(t, "ada") // at once
			until(t, func() bool { return logout().status == http.StatusOK })
			if b.isSignedIn() {
				t.Error("the logout token did not count")
			}
			until(t, func() bool { return api().status == http.StatusOK })
		})
	}
}

// until tries for some seconds.
func until(t *testing.T, done func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if done() {
			return
		}
	}
	t.Error("not in ten seconds")
}
