package auth_test

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/logto-gin-starter/auth"
	"example.com/logto-gin-starter/auth/authtest"
)

// TestSignOut: ended here, revoked at Logto, and the way to end Logto's own session.
func TestSignOut(t *testing.T) {
	a := newApp(t)
	a.signIn(t)
	a.token(t, shopping) // the ID token is now the refreshed one
	a.forget()
	var endedFirst bool
	a.idp.On(authtest.Revocation, func(next http.Handler) http.Handler {
		endedFirst = !a.isSignedIn(t)
		return next
	})
	address, err := a.session.SignOut(t.Context(), auth.SignOutOptions{
		PostLogoutRedirectURI: homeURI, State: "the-state", UILocales: []string{"th", "en"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if a.isSignedIn(t) || !endedFirst {
		t.Error("not signed out, or not before the revocation")
	}
	revocation := a.wantRequest(t, authtest.Revocation, http.StatusOK)
	if revocation.Auth != "client_secret_basic" || revocation.Form.Get("token_type_hint") != "refresh_token" {
		t.Errorf("revocation with %q, %v", revocation.Auth, revocation.Form["token_type_hint"])
	}
	base, query, _ := strings.Cut(address, "?")
	parameters, err := url.ParseQuery(query)
	if err != nil || base != a.idp.Issuer+"/session/end" {
		t.Errorf("leads to %s, %v", base, err)
	}
	for name, want := range map[string]string{
		"client_id": a.config.AppID, "post_logout_redirect_uri": homeURI, "state": "the-state", "ui_locales": "th en",
	} {
		if parameters.Get(name) != want {
			t.Errorf("%s = %q, want %q", name, parameters.Get(name), want)
		}
	}
	if target, err := a.browser.SignOut(t.Context(), address); err != nil || target != homeURI+"?state=the-state" {
		t.Errorf("Logto leads to %q, %v", target, err)
	}
}

// TestSignOutRevokes all that was granted: a copy of the tokens is worth nothing.
func TestSignOutRevokes(t *testing.T) {
	for name, prompt := range map[string]auth.Prompt{"the refresh token": auth.PromptConsent, "the access token, if that is all": auth.PromptLogin} {
		t.Run(name, func(t *testing.T) {
			a := newApp(t)
			if _, err := a.callback(a.visit(t, auth.SignInOptions{Prompt: []auth.Prompt{prompt}})); err != nil {
				t.Fatal(err)
			}
			var thief authtest.Memory
			identity, _ := a.storage.Identity(t.Context())
			tokens, _ := a.storage.Tokens(t.Context())
			if _, err := thief.Start(t.Context(), "", "", time.Now(), identity, tokens); err != nil {
				t.Fatal(err)
			}
			if _, err := a.session.SignOut(t.Context(), auth.SignOutOptions{}); err != nil {
				t.Fatal(err)
			}
			_, err := a.client.Session(&thief).FetchUserInfo(t.Context())
			a.wantError(t, err, auth.ErrSignInRequired)
		})
	}
}

// TestSignOutTwice: it is no error that nobody is signed in.
func TestSignOutTwice(t *testing.T) {
	a := newApp(t)
	address, err := a.session.SignOut(t.Context(), auth.SignOutOptions{PostLogoutRedirectURI: homeURI})
	if err != nil || strings.Contains(address, "id_token_hint") {
		t.Errorf("%s, %v", address, err)
	}
	a.wantCalls(t, authtest.Revocation, 0)
	if target, err := a.browser.SignOut(t.Context(), address); err != nil || target != homeURI {
		t.Errorf("Logto leads to %q, %v", target, err)
	}
}

// TestSignOutWithoutLogto: the person is signed out here, whatever Logto does.
func TestSignOutWithoutLogto(t *testing.T) {
	for _, tt := range broken {
		t.Run(tt.name, func(t *testing.T) {
			a := newApp(t)
			a.signIn(t)
			a.idp.On(authtest.Revocation, tt.answer)
			address, err := a.session.SignOut(t.Context(), auth.SignOutOptions{PostLogoutRedirectURI: homeURI})
			if a.isSignedIn(t) {
				t.Error("not signed out")
			}
			if tt.status >= 500 || tt.name == "reset" {
				a.wantError(t, err, auth.ErrProvider) // the browser would get no better answer
			} else if err != nil || !strings.HasPrefix(address, a.idp.Issuer+"/session/end?") {
				t.Errorf("%s, %v", address, err)
			}
			a.client.Close() // which tries once more
			if (tt.status != 0 || tt.name == "reset") != strings.Contains(a.log.String(), "tokens not revoked") {
				t.Errorf("the log has %s", a.log)
			}
		})
	}
	t.Run("discovery", func(t *testing.T) {
		a := newApp(t)
		a.signIn(t)
		a.session = a.newClient(t).Session(a.storage) // one that has just started
		a.idp.On(authtest.Discovery, authtest.Reset)
		address, err := a.session.SignOut(t.Context(), auth.SignOutOptions{PostLogoutRedirectURI: homeURI})
		a.wantError(t, err, auth.ErrProvider)
		if a.isSignedIn(t) || address != "" {
			t.Errorf("signed out to %q", address)
		}
	})
	t.Run("no end session endpoint", func(t *testing.T) {
		a := newApp(t)
		a.idp.On(authtest.Discovery, authtest.EditJSON(func(document map[string]any) {
			delete(document, "end_session_endpoint")
			delete(document, "revocation_endpoint")
		}))
		a.signIn(t)
		address, err := a.session.SignOut(t.Context(), auth.SignOutOptions{PostLogoutRedirectURI: homeURI})
		if err != nil || a.isSignedIn(t) || address != homeURI {
			t.Errorf("%s, %v", address, err)
		}
	})
}

// TestSignOutIsBound: neither a Logto that hangs nor a browser that has gone keeps it from its end.
func TestSignOutIsBound(t *testing.T) {
	for _, e := range []authtest.Endpoint{authtest.Revocation, authtest.Discovery} {
		synctest.Test(t, func(t *testing.T) {
			a := newApp(t, inMemory)
			a.signIn(t)
			a.session = a.newClient(t).Session(a.storage)
			a.idp.On(e, authtest.Hang)
			begin := time.Now()
			_, err := a.session.SignOut(t.Context(), auth.SignOutOptions{})
			a.wantError(t, err, auth.ErrProvider)
			if a.isSignedIn(t) {
				t.Errorf("%s: not signed out", e)
			}
			if waited := time.Since(begin); waited > 3*time.Second {
				t.Errorf("%s: waited %v", e, waited)
			}
			a.idp.Behave()
			time.Sleep(10 * time.Second) // what hung has ended
		})
	}
	t.Run("the browser has gone", func(t *testing.T) {
		a := newApp(t)
		a.signIn(t)
		ctx, leave := context.WithCancel(t.Context())
		leave()
		if _, err := a.session.SignOut(ctx, auth.SignOutOptions{}); err != nil || a.isSignedIn(t) {
			t.Error(err)
		}
		a.wantRequest(t, authtest.Revocation, http.StatusOK)
	})
}

// TestRevocationIsTriedAgain once, half a minute later, or when the application ends.
func TestRevocationIsTriedAgain(t *testing.T) {
	for name, wait := range map[string]func(*app){
		"later":                func(*app) { time.Sleep(30*time.Second + time.Millisecond) },
		"when the client ends": func(a *app) { a.client.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newApp(t, inMemory)
				a.signIn(t)
				a.idp.On(authtest.Revocation, authtest.Status(http.StatusServiceUnavailable)).Times(1)
				_, err := a.session.SignOut(t.Context(), auth.SignOutOptions{})
				a.wantError(t, err, auth.ErrProvider)
				time.Sleep(20 * time.Second)
				a.wantCalls(t, authtest.Revocation, 1)
				waiting := time.Now()
				wait(a)
				synctest.Wait()
				if name != "later" && time.Since(waiting) > 0 {
					t.Errorf("the end waited %v", time.Since(waiting))
				}
				if requests := a.idp.Requests(authtest.Revocation); len(requests) != 2 || requests[1].Status != http.StatusOK {
					t.Errorf("revocations: %v", requests)
				}
				if strings.Contains(a.log.String(), "not revoked") {
					t.Errorf("the log has %s", a.log)
				}
			})
		})
	}
}

// TestSharedGrant: at Logto, all sign-ins of a person in one session there have one grant. What is revoked late must not
// end a session that has begun since, or that was never ended.
func TestSharedGrant(t *testing.T) {
	wantStanding := func(t *testing.T, a *app, revocations int) {
		t.Helper()
		synctest.Wait()
		a.wantCalls(t, authtest.Revocation, revocations)
		if _, err := a.session.AccessToken(t.Context(), "", auth.ForceRefresh()); err != nil || !a.isSignedIn(t) {
			t.Errorf("the grant was revoked: %v", err)
		}
	}
	for name, prompt := range map[string][]auth.Prompt{
		"signed in again":                 nil,
		"signed in again with a password": {auth.PromptLogin, auth.PromptConsent},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newApp(t, inMemory)
				a.signIn(t)
				a.idp.On(authtest.Revocation, authtest.Status(http.StatusServiceUnavailable)).Times(1)
				_, err := a.session.SignOut(t.Context(), auth.SignOutOptions{})
				a.wantError(t, err, auth.ErrProvider)
				time.Sleep(time.Second)
				if _, err := a.callback(a.visit(t, auth.SignInOptions{Prompt: prompt})); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Minute)
				wantStanding(t, a, 1)
			})
		})
	}
	t.Run("another sign-in overtaken", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a := newApp(t, inMemory)
			a.signIn(t)
			query := a.visit(t, auth.SignInOptions{})
			_, err := a.client.Session(overtaken{a.storage}).HandleSignInCallback(t.Context(), query)
			a.wantError(t, err, auth.ErrOvertaken)
			wantStanding(t, a, 0)
		})
	})
}

// TestAnotherPersonSignsIn in the same browser: what the first had granted is revoked, as at their sign-out. Who signs in
// again keeps it: at Logto the grant is the same.
func TestAnotherPersonSignsIn(t *testing.T) {
	a := newApp(t)
	a.signIn(t)
	a.signIn(t)
	a.client.Close()
	a.wantCalls(t, authtest.Revocation, 0)

	a = newApp(t)
	a.signIn(t)
	tokens, _ := a.storage.Tokens(t.Context())
	address, err := a.session.SignIn(t.Context(), auth.SignInOptions{RedirectURI: callbackURI})
	if err != nil {
		t.Fatal(err)
	}
	target, err := a.idp.Browser().SignIn(t.Context(), address, "grace")
	if err != nil {
		t.Fatal(err)
	}
	callback, _ := url.Parse(target)
	if _, err := a.callback(callback.Query()); err != nil {
		t.Fatal(err)
	}
	a.client.Close() // waits for it
	revocation := a.wantRequest(t, authtest.Revocation, http.StatusOK)
	if token := revocation.Form.Get("token"); token == "" || !strings.Contains(string(tokens), token) {
		t.Error("what was revoked is not the first person's")
	}
	if !a.isSignedIn(t) {
		t.Error("the second is not signed in")
	}
}

// overtaken is a storage whose person's sessions were ended since the sign-in began.
type overtaken struct{ auth.Storage }

func (overtaken) Start(context.Context, string, string, time.Time, []byte, []byte) (bool, error) {
	return false, nil
}

// TestOvertaken: a sign-in that a sign-out has overtaken starts nothing, leaves no grant behind, and knows the way back.
func TestOvertaken(t *testing.T) {
	a := newApp(t)
	query := a.visit(t, auth.SignInOptions{ReturnTo: "/wanted"})
	result, err := a.client.Session(overtaken{a.storage}).HandleSignInCallback(t.Context(), query)
	a.wantError(t, err, auth.ErrOvertaken)
	if a.isSignedIn(t) || result.ReturnTo != "/wanted" {
		t.Errorf("signed in, or back to %q", result.ReturnTo)
	}
	a.client.Close()
	a.wantRequest(t, authtest.Revocation, http.StatusOK)

	// In another tab the same person stays signed in, by the same grant.
	a = newApp(t)
	a.signIn(t)
	query = a.visit(t, auth.SignInOptions{})
	_, err = a.client.Session(overtaken{a.storage}).HandleSignInCallback(t.Context(), query)
	a.wantError(t, err, auth.ErrOvertaken)
	a.wantCalls(t, authtest.Revocation, 0)
	a.token(t, shopping)
}

// TestSignOutStorageFails: then the person is not told that they are signed out, and nothing is revoked.
func TestSignOutStorageFails(t *testing.T) {
	a := newApp(t)
	a.signIn(t)
	away := errors.New("storage is away")
	for _, broken := range []auth.Storage{noTokens{a.storage, away}, noIdentity{a.storage, away}, noEnd{a.storage, away}} {
		address, err := a.client.Session(broken).SignOut(t.Context(), auth.SignOutOptions{PostLogoutRedirectURI: homeURI})
		a.wantError(t, err, away)
		if address != "" || !a.isSignedIn(t) {
			t.Errorf("signed out to %q", address)
		}
	}
	a.wantCalls(t, authtest.Revocation, 0)
	_, err := a.client.Session(noIdentity{a.storage, away}).IsAuthenticated(t.Context())
	a.wantError(t, err, away)
	a.wantError(t, access(shopping)(a.client.Session(noTokens{a.storage, away})), away)
}

type noTokens struct {
	auth.Storage
	err error
}

func (s noTokens) Tokens(context.Context) ([]byte, error) { return nil, s.err }

type noIdentity struct {
	auth.Storage
	err error
}

func (s noIdentity) Identity(context.Context) ([]byte, error) { return nil, s.err }

type noEnd struct {
	auth.Storage
	err error
}

func (s noEnd) End(context.Context) error { return s.err }

// A hint that makes the URL longer than servers take is left out: the client ID leads back too.
func TestLongHint(t *testing.T) {
	for size, hinted := range map[int]bool{1 << 10: true, 5 << 10: false} {
		a := newApp(t)
		a.idp.OnIDToken(authtest.Claim("long", strings.Repeat("x", size)))
		a.signIn(t)
		address, err := a.session.SignOut(t.Context(), auth.SignOutOptions{})
		if err != nil {
			t.Fatal(err)
		}
		u, err := url.Parse(address)
		if err != nil || u.Query().Has("id_token_hint") != hinted || u.Query().Get("client_id") != a.config.AppID {
			t.Errorf("%d bytes: %s, %v", size, address, err)
		}
	}
}
