package auth_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/logto-gin-starter/auth"
	"example.com/logto-gin-starter/auth/authtest"
)

// brokenAnswer is a way in which an endpoint's answer may be bad.
type brokenAnswer struct {
	name   string
	answer authtest.Behaviour
	status int // of an *OAuthError; 0: ErrProvider
}

var broken = []brokenAnswer{
	{"500", authtest.Status(http.StatusInternalServerError), http.StatusInternalServerError},
	{"503 in HTML", authtest.HTML(http.StatusServiceUnavailable), http.StatusServiceUnavailable},
	{"404 without a body", authtest.Body(http.StatusNotFound, "", ""), http.StatusNotFound},
	{"HTML", authtest.HTML(http.StatusOK), 0},
	{"garbage", authtest.Garbage, 0},
	{"nothing", authtest.Body(http.StatusOK, "application/json", ""), 0},
	{"null", authtest.Body(http.StatusOK, "application/json", "null"), 0},
	{"a list", authtest.Body(http.StatusOK, "application/json", `["garbage"]`), 0},
	{"10 MB", authtest.Huge(10 << 20), 0},
	{"cut off", authtest.CutOff, 0},
	{"reset", authtest.Reset, 0},
	{"redirect", authtest.RedirectLoop, http.StatusTemporaryRedirect},
}

// wantBroken compares the error after such an answer.
// Ready notices within ten seconds that Logto has gone, and that it is back.
func TestReadyNotices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApp(t, inMemory)
		a.wantError(t, a.client.Ready(t.Context()), nil)
		away := a.idp.On(authtest.Discovery, authtest.Status(http.StatusBadGateway))
		a.wantError(t, a.client.Ready(t.Context()), nil)
		time.Sleep(10*time.Second + time.Millisecond)
		a.wantError(t, a.client.Ready(t.Context()), auth.ErrProvider)
		away.Off()
		time.Sleep(2 * time.Second)
		a.wantError(t, a.client.Ready(t.Context()), nil)
	})
}

func (a *app) wantBroken(tb testing.TB, err error, b brokenAnswer) {
	tb.Helper()
	if auth.IsTimeout(err) {
		tb.Errorf("a time-out: %v", err)
	}
	if b.status == 0 {
		a.wantError(tb, err, auth.ErrProvider)
		return
	}
	if answer, ok := errors.AsType[*auth.OAuthError](err); !ok || answer.Status != b.status {
		tb.Errorf("error %v, want an answer %d", err, b.status)
	}
	a.wantError(tb, err, err)
}

// TestDiscoveryFails: a failure is told as one, is never kept, and ends with its cause.
func TestDiscoveryFails(t *testing.T) {
	field, noField := authtest.Field, authtest.NoField
	tests := append(slices.Clone(broken), []brokenAnswer{
		{"another issuer", field("issuer", "https://issuer.example/oidc"), 0},
		{"the issuer with a slash", authtest.EditJSON(func(d map[string]any) { d["issuer"] = d["issuer"].(string) + "/" }), 0},
		{"no issuer", noField("issuer"), 0},
		{"no authorization endpoint", noField("authorization_endpoint"), 0},
		{"no token endpoint", noField("token_endpoint"), 0},
		{"no userinfo endpoint", noField("userinfo_endpoint"), 0},
		{"no keys", noField("jwks_uri"), 0},
		{"an endpoint that is a path", field("token_endpoint", "/oidc/token"), 0},
		{"an endpoint of another scheme", field("authorization_endpoint", "javascript://host/%0aalert(1)"), 0},
		{"an endpoint over https", authtest.EditJSON(func(d map[string]any) {
			d["jwks_uri"] = strings.Replace(d["jwks_uri"].(string), "http:", "https:", 1)
		}), 0},
		{"an endpoint that looks like the issuer's", authtest.EditJSON(func(d map[string]any) {
			d["token_endpoint"] = strings.Replace(d["token_endpoint"].(string), "/oidc", "@host.example/oidc", 1)
		}), 0},
		{"an endpoint that is no text", field("token_endpoint", 7), 0},
		{"no algorithm", noField("id_token_signing_alg_values_supported"), 0},
		{"symmetric algorithms alone", field("id_token_signing_alg_values_supported", []string{"HS256", "none"}), 0},
	}...)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := newApp(t)
			bad := a.idp.On(authtest.Discovery, tt.answer)
			for range 2 {
				a.wantError(t, a.client.Ready(t.Context()), auth.ErrProvider)
				_, err := a.session.SignIn(t.Context(), auth.SignInOptions{RedirectURI: callbackURI})
				a.wantError(t, err, auth.ErrProvider)
				_, err = a.client.VerifyAccessToken(t.Context(), a.idp.AccessToken("ada", shopping), shopping)
				a.wantError(t, err, auth.ErrProvider)
			}
			a.wantCalls(t, authtest.Discovery, 6, authtest.Keys, 0)
			bad.Off()
			a.signIn(t)
			if err := a.client.Ready(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestDiscoveryMovesNothing: no endpoint is called, nor is a browser sent to one, that is not of the issuer's own origin.
func TestDiscoveryMovesNothing(t *testing.T) {
	for _, name := range []string{
		"authorization_endpoint", "token_endpoint", "userinfo_endpoint", "jwks_uri", "revocation_endpoint", "end_session_endpoint",
	} {
		t.Run(name, func(t *testing.T) {
			a := newApp(t)
			a.signIn(t)
			called := make(chan *http.Request, 100)
			other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { called <- r }))
			defer other.Close()
			a.idp.On(authtest.Discovery, authtest.EditJSON(func(document map[string]any) {
				u, _ := url.Parse(document[name].(string)) // it is one
				document[name] = other.URL + u.Path
			}))
			restarted := a.newClient(t)
			fault := restarted.Ready(t.Context())
			a.wantError(t, fault, auth.ErrProvider)
			if text := fmt.Sprint(fault); !strings.Contains(text, name) || strings.Contains(text, other.URL) {
				t.Errorf("the fault does not name the field alone: %v", fault)
			}

			session := restarted.Session(a.storage)
			address, err := session.SignIn(t.Context(), auth.SignInOptions{RedirectURI: callbackURI})
			a.wantError(t, err, auth.ErrProvider)
			if address != "" {
				t.Errorf("an authorization request: %s", address)
			}
			_, err = session.HandleSignInCallback(t.Context(), a.visit(t, auth.SignInOptions{}))
			a.wantError(t, err, auth.ErrProvider)
			_, err = session.FetchUserInfo(t.Context())
			a.wantError(t, err, auth.ErrProvider)
			_, err = session.AccessToken(t.Context(), shopping)
			a.wantError(t, err, auth.ErrProvider)
			_, err = restarted.VerifyAccessToken(t.Context(), a.idp.AccessToken("ada", shopping), shopping)
			a.wantError(t, err, auth.ErrProvider)
			address, err = session.SignOut(t.Context(), auth.SignOutOptions{PostLogoutRedirectURI: homeURI})
			a.wantError(t, err, auth.ErrProvider)
			if address != "" || a.isSignedIn(t) {
				t.Errorf("signed out to %s", address)
			}
			select {
			case r := <-called:
				t.Errorf("another host got %s %s %v", r.Method, r.URL, r.Header)
			default:
			}
		})
	}
}

// TestDiscoveryIsShared: pages that need it at once make one request, and the next ones none.
func TestDiscoveryIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApp(t, inMemory)
		a.idp.On(authtest.Discovery, authtest.Delay(time.Second))
		gone, leave := context.WithCancel(t.Context())
		first := make(chan error)
		go func() { first <- a.client.Ready(gone) }()
		synctest.Wait()
		others := make(chan error)
		for range 50 {
			go func() { others <- a.client.Ready(t.Context()) }()
		}
		synctest.Wait()
		leave() // the one who asked is gone; the others still get what was asked for
		a.wantError(t, <-first, context.Canceled)
		for range 50 {
			a.wantError(t, <-others, nil)
		}
		a.wantError(t, a.client.Ready(t.Context()), nil)
		a.wantCalls(t, authtest.Discovery, 1)
	})
}

// TestDiscoveryIsSlow: who does not trust a request that others have begun asks again, and still takes its answer.
func TestDiscoveryIsSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApp(t, inMemory)
		a.idp.On(authtest.Discovery, authtest.Delay(1500*time.Millisecond))
		begin := time.Now()
		go func() { _ = a.client.Ready(t.Context()) }()
		time.Sleep(500 * time.Millisecond)
		a.wantError(t, a.client.Ready(t.Context()), nil)
		if waited := time.Since(begin); waited != 1500*time.Millisecond {
			t.Errorf("the answer came after %v", waited)
		}
		time.Sleep(10 * time.Second) // the second request ends
	})
}

// TestDiscoveryHangs: neither the caller's bound nor our own is exceeded.
func TestDiscoveryHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApp(t, inMemory)
		bad := a.idp.On(authtest.Discovery, authtest.Hang)
		for _, bound := range []time.Duration{time.Second, time.Hour} {
			begin := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), bound)
			defer cancel()
			_, err := a.session.SignIn(ctx, auth.SignInOptions{RedirectURI: callbackURI})
			a.wantError(t, err, auth.ErrProvider)
			if waited := time.Since(begin); !auth.IsTimeout(err) || waited > min(bound, 10*time.Second) {
				t.Errorf("after %v: %v", waited, err)
			}
		}
		bad.Off()
		a.signIn(t)
	})
}

// TestOutage: what is known of Logto is used on while it can't be asked, without making every call wait.
func TestOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApp(t, inMemory)
		a.signIn(t)
		time.Sleep(2 * time.Hour) // discovery is to be renewed
		a.idp.On(authtest.Discovery, authtest.Hang)
		begin := time.Now()
		for range 20 {
			a.visit(t, auth.SignInOptions{})
		}
		if waited := time.Since(begin); waited > 2*time.Second {
			t.Errorf("20 sign-ins waited %v for discovery", waited)
		}
		a.wantCalls(t, authtest.Discovery, 1)
		time.Sleep(23 * time.Hour) // too old to be true
		a.wantError(t, a.client.Ready(t.Context()), auth.ErrProvider)
		a.idp.Behave()
		a.signIn(t)
		time.Sleep(10 * time.Second) // what hangs ends
	})
}
