package auth_test

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/logto-gin-starter/auth"
	"example.com/logto-gin-starter/auth/authtest"
)

// The tests of this file have the names of the modules of the OpenID Foundation's conformance suite for relying
// parties. Those of routes have the rest of back-channel logout: what is answered over HTTP.

// TestBasicRP signs in and, if that was possible, fetches user info.
func TestBasicRP(t *testing.T) {
	rs256 := func(s *setup) { s.idp.SigningAlg = "RS256" }
	es384 := func(*setup) {}
	idToken := func(change func(*authtest.JWT)) func(*authtest.Server) {
		return func(idp *authtest.Server) { idp.OnIDToken(change) }
	}
	well := func(*authtest.Server) {}
	tests := []struct {
		module    string
		setup     func(*setup)
		misbehave func(*authtest.Server)
		signIn    error // what it fails with; nil: it does not
		userInfo  error
	}{
		{"oidcc-client-test", es384, well, nil, nil},
		{"oidcc-client-test-invalid-iss", es384, idToken(authtest.WrongIssuer), auth.ErrInvalidToken, nil},
		{"oidcc-client-test-missing-sub", es384, idToken(authtest.NoClaim("sub")), auth.ErrInvalidToken, nil},
		{"oidcc-client-test-invalid-aud", es384, idToken(authtest.WrongAudience), auth.ErrInvalidToken, nil},
		{"oidcc-client-test-missing-iat", es384, idToken(authtest.NoClaim("iat")), auth.ErrInvalidToken, nil},
		{"oidcc-client-test-kid-absent-single-jwks", es384, idToken(authtest.NoHeader("kid")), nil, nil},
		{"oidcc-client-test-kid-absent-multiple-jwks", es384, func(idp *authtest.Server) {
			idp.RotateKey()
			idp.OnIDToken(authtest.NoHeader("kid"))
		}, nil, nil},
		{"oidcc-client-test-idtoken-sig-rs256", rs256, well, nil, nil},
		{"oidcc-client-test-idtoken-sig-none", es384, idToken(authtest.Unsigned), auth.ErrInvalidToken, nil},
		{"oidcc-client-test-invalid-sig-rs256", rs256, idToken(authtest.BrokenSignature), auth.ErrInvalidToken, nil},
		{"oidcc-client-test-invalid-sig-es384", es384, idToken(authtest.BrokenSignature), auth.ErrInvalidToken, nil},
		{"oidcc-client-test-userinfo-invalid-sub", es384, func(idp *authtest.Server) {
			idp.On(authtest.UserInfo, authtest.Field("sub", "somebodyelse"))
		}, nil, auth.ErrInvalidToken},
		{"oidcc-client-test-nonce-invalid", es384, idToken(authtest.WrongNonce), auth.ErrInvalidToken, nil},
		{"oidcc-client-test-scope-userinfo-claims", es384, well, nil, nil},
		{"oidcc-client-test-client-secret-basic", es384, well, nil, nil},
	}
	for _, tt := range tests {
		t.Run(tt.module, func(t *testing.T) {
			a := newApp(t, tt.setup, withoutOrganizations)
			tt.misbehave(a.idp)
			_, err := a.callback(a.visit(t, auth.SignInOptions{}))
			a.wantError(t, err, tt.signIn)
			if a.isSignedIn(t) != (tt.signIn == nil) {
				t.Errorf("signed in: %t", a.isSignedIn(t))
			}
			a.wantRequest(t, authtest.Authorization, http.StatusSeeOther)
			exchange := a.wantRequest(t, authtest.Token, http.StatusOK)
			if exchange.Auth != "client_secret_basic" {
				t.Errorf("client authentication: %q", exchange.Auth)
			}
			if tt.signIn != nil {
				a.wantCalls(t, authtest.UserInfo, 0)
				return
			}
			info, err := a.session.FetchUserInfo(t.Context())
			a.wantError(t, err, tt.userInfo)
			a.wantRequest(t, authtest.UserInfo, http.StatusOK)
			if tt.userInfo == nil && (info.Email.Value() == "" || info.PhoneNumber.Value() == "" || info.Address.Value().Country == "") {
				t.Errorf("user info lacks claims of the scopes email, phone, address: %+v", info)
			}
		})
	}
}

func TestConfigRP(t *testing.T) {
	t.Run("oidcc-client-test-discovery-openid-config", func(t *testing.T) {
		a := newApp(t)
		a.idp.On(authtest.Discovery, authtest.EditJSON(func(document map[string]any) {
			for name, value := range document {
				if strings.HasSuffix(name, "_endpoint") {
					document[name] = value.(string) + "?named=by-discovery"
				}
			}
		}))
		a.signIn(t)
		a.callAll(t)
		for _, e := range []authtest.Endpoint{authtest.Token, authtest.UserInfo, authtest.Revocation, authtest.EndSession} {
			for _, request := range a.idp.Requests(e) {
				if request.Form.Get("named") != "by-discovery" {
					t.Errorf("%s was not called as discovery says", e)
				}
			}
		}
	})
	t.Run("oidcc-client-test-discovery-jwks-uri-keys", func(t *testing.T) {
		a := newApp(t)
		a.idp.On(authtest.Discovery, authtest.Field("jwks_uri", a.idp.Issuer+"/jwks?named=by-discovery"))
		if _, err := a.callback(a.visit(t, auth.SignInOptions{})); err != nil {
			t.Fatal(err)
		}
		if got := a.wantRequest(t, authtest.Keys, http.StatusOK).Form.Get("named"); got != "by-discovery" {
			t.Errorf("keys were not fetched where discovery says: %q", got)
		}
	})
	t.Run("oidcc-client-test-discovery-issuer-mismatch", func(t *testing.T) {
		a := newApp(t)
		a.idp.On(authtest.Discovery, authtest.Field("issuer", "https://issuer.example/oidc"))
		address, err := a.session.SignIn(t.Context(), auth.SignInOptions{RedirectURI: callbackURI})
		a.wantError(t, err, auth.ErrProvider)
		if address != "" {
			t.Errorf("an authorization request: %s", address)
		}
		if got := len(a.idp.Requests()); got != 1 {
			t.Errorf("%d requests, want discovery alone", got)
		}
	})
	t.Run("oidcc-client-test-signing-key-rotation-just-before-signing", func(t *testing.T) {
		a := newApp(t)
		a.signIn(t) // the keys are known now
		query := a.visit(t, auth.SignInOptions{})
		a.idp.RotateKey()
		_, err := a.callback(query)
		a.wantError(t, err, nil)
		a.wantCalls(t, authtest.Keys, 1, authtest.Discovery, 0)
	})
	t.Run("oidcc-client-test-signing-key-rotation", func(t *testing.T) {
		a := newApp(t)
		old := a.idp.KeyID()
		a.signIn(t)
		a.idp.RotateKey()
		a.idp.WithdrawKey(old)
		_, err := a.callback(a.visit(t, auth.SignInOptions{}))
		a.wantError(t, err, nil)
		a.wantCalls(t, authtest.Keys, 1)
	})
}

// callAll uses every endpoint that an application calls, and ends signed out.
func (a *app) callAll(tb testing.TB) {
	tb.Helper()
	ctx := tb.Context()
	if _, err := a.session.FetchUserInfo(ctx); err != nil {
		tb.Error(err)
	}
	if _, err := a.session.AccessToken(ctx, shopping); err != nil {
		tb.Error(err)
	}
	address, err := a.session.SignOut(ctx, auth.SignOutOptions{PostLogoutRedirectURI: homeURI})
	if err != nil {
		tb.Error(err)
	}
	if _, err := a.browser.SignOut(ctx, address); err != nil {
		tb.Error(err)
	}
	a.wantCalls(tb, authtest.UserInfo, 1, authtest.Token, 1, authtest.Revocation, 1, authtest.EndSession, 1)
}

// TestRPInitiatedLogout signs out here and at Logto. Whatever state the browser returns with, it is signed out.
func TestRPInitiatedLogout(t *testing.T) {
	tests := []struct {
		module   string
		returned func(url.Values)
		state    string // that comes back
	}{
		{"oidcc-client-test-rp-init-logout", func(url.Values) {}, "the-state"},
		{"oidcc-client-test-rp-init-logout-other-state", func(q url.Values) { q.Set("state", "another") }, "another"},
		{"oidcc-client-test-rp-init-logout-no-state", func(q url.Values) { q.Del("state") }, ""},
	}
	for _, tt := range tests {
		t.Run(tt.module, func(t *testing.T) {
			a := newApp(t)
			a.signIn(t)
			a.idp.On(authtest.EndSession, editLocation(tt.returned))
			address, err := a.session.SignOut(t.Context(), auth.SignOutOptions{PostLogoutRedirectURI: homeURI, State: "the-state"})
			if err != nil {
				t.Fatal(err)
			}
			target, err := a.browser.SignOut(t.Context(), address)
			if err != nil {
				t.Fatal(err)
			}
			back, err := url.Parse(target)
			if err != nil || !strings.HasPrefix(target, homeURI) || back.Query().Get("state") != tt.state {
				t.Errorf("returned to %s", target)
			}
			// authtest does not ask whether to sign out, so the hint is an ID token of its own and of this session.
			ended := a.wantRequest(t, authtest.EndSession, http.StatusSeeOther)
			if ended.Form.Get("id_token_hint") == "" || ended.Form.Get("post_logout_redirect_uri") != homeURI {
				t.Errorf("end session was called with %v", slices.Collect(maps.Keys(ended.Form)))
			}
			if a.isSignedIn(t) {
				t.Error("still signed in")
			}
			a.signIn(t) // and can be again
		})
	}
}

func editLocation(edit func(url.Values)) authtest.Behaviour {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			answer := httptest.NewRecorder()
			next.ServeHTTP(answer, r)
			if location, err := url.Parse(answer.Header().Get("Location")); err == nil {
				query := location.Query()
				edit(query)
				location.RawQuery = query.Encode()
				answer.Header().Set("Location", location.String())
			}
			maps.Copy(w.Header(), answer.Header())
			w.WriteHeader(answer.Code)
		})
	}
}

// TestBackchannelLogout covers the modules, and after them what the suite leaves out.
func TestBackchannelLogout(t *testing.T) {
	claim, noClaim, header := authtest.Claim, authtest.NoClaim, authtest.Header
	const module = "oidcc-client-test-rp-backchannel-rpinitlogout"
	tests := []struct {
		name   string
		change func(*authtest.JWT)
		want   error
	}{
		{module, func(*authtest.JWT) {}, nil},
		{module + "-alg-none", authtest.Unsigned, auth.ErrInvalidToken},
		{module + "-no-event", noClaim("events"), auth.ErrInvalidToken},
		{module + "-with-nonce", authtest.WrongNonce, auth.ErrInvalidToken},
		{module + "-wrong-alg", authtest.SignedWithForeignKey("RS256"), auth.ErrInvalidToken},
		{module + "-wrong-aud", authtest.WrongAudience, auth.ErrInvalidToken},
		{module + "-wrong-event", authtest.WrongEvent, auth.ErrInvalidToken},
		{module + "-wrong-iss", authtest.WrongIssuer, auth.ErrInvalidToken},

		{"only sub", noClaim("sid"), nil},
		{"only sid", noClaim("sub"), nil},
		{"neither sub nor sid", func(t *authtest.JWT) { delete(t.Claims, "sub"); delete(t.Claims, "sid") }, auth.ErrInvalidToken},
		{"sub of another type", claim("sub", 7), auth.ErrInvalidToken},
		{"unknown sub", authtest.WrongSubject, nil}, // whose sessions end is not known here
		{"unknown claims", claim("https://example.com/claim", map[string]any{"a": []int{1}}), nil},
		{"further events", claim("events", map[string]any{logoutEvent: map[string]any{"x": 1}, "urn:x": 7}), nil},
		{"event that is null", claim("events", map[string]any{logoutEvent: nil}), auth.ErrInvalidToken},
		{"event that is text", claim("events", map[string]any{logoutEvent: "{}"}), auth.ErrInvalidToken},
		{"events that are a list", claim("events", []string{logoutEvent}), auth.ErrInvalidToken},
		{"nonce that is null", claim("nonce", nil), auth.ErrInvalidToken},
		{"several audiences", claim("aud", []string{"another-app", "demoapp0123456789abcd"}), nil},
		{"no jti", noClaim("jti"), auth.ErrInvalidToken},
		{"empty jti", claim("jti", ""), auth.ErrInvalidToken},
		{"no iat", noClaim("iat"), auth.ErrInvalidToken},
		{"no exp", noClaim("exp"), auth.ErrInvalidToken},
		{"exp in two days", claim("exp", time.Now().Add(48*time.Hour).Unix()), auth.ErrInvalidToken},
		{"expired", authtest.Shifted(-3 * time.Minute), auth.ErrInvalidToken},
		{"expired within the leeway", authtest.Shifted(-2*time.Minute - 10*time.Second), nil},
		{"from the future", authtest.Shifted(time.Minute), auth.ErrInvalidToken},
		{"from the future within the leeway", authtest.Shifted(20 * time.Second), nil},
		{"no typ", authtest.NoHeader("typ"), nil},
		{"typ in other letters", header("typ", "Logout+JWT"), nil},
		{"typ in full", header("typ", "application/logout+jwt"), nil},
		{"typ of an access token", header("typ", "at+jwt"), auth.ErrInvalidToken},
		{"typ JWT", header("typ", "JWT"), auth.ErrInvalidToken},
		{"typ that is no text", header("typ", 1), auth.ErrInvalidToken},
		{"broken signature", authtest.BrokenSignature, auth.ErrInvalidToken},
	}
	a := newApp(t)
	want := a.signIn(t).Claims
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			claims, err := a.client.VerifyLogoutToken(t.Context(), a.idp.LogoutToken("ada", tt.change))
			a.wantError(t, err, tt.want)
			if err != nil && claims.Subject+claims.SessionID != "" {
				t.Errorf("refused, but there are claims: %+v", claims)
			}
		})
	}
	t.Run("same jti twice", func(t *testing.T) {
		token := a.idp.LogoutToken("ada")
		claims, err := a.client.VerifyLogoutToken(t.Context(), token)
		if err == nil {
			err = a.client.LogoutDone(t.Context(), claims)
		}
		if err != nil || claims.Subject != want.Subject || claims.SessionID != want.SessionID || want.SessionID == "" {
			t.Errorf("claims %+v, %v, want those of the session %s", claims, err, want.SessionID)
		}
		_, err = a.client.VerifyLogoutToken(t.Context(), token)
		a.wantError(t, err, auth.ErrInvalidToken)
	})
	t.Run("an ID token", func(t *testing.T) {
		var raw string
		a.idp.OnIDToken(func(t *authtest.JWT) {
			t.Finish = func(token string) string { raw = token; return token }
		})
		a.signIn(t)
		_, err := a.client.VerifyLogoutToken(t.Context(), raw)
		a.wantError(t, err, auth.ErrInvalidToken)
	})
}

const logoutEvent = "http://schemas.openid.net/event/backchannel-logout"

// TestRefresh: the ID token that comes with a refresh is verified too, and with a bad one nothing of the answer is used: no
// access token is kept, or sent anywhere. Another person's ends the session.
func TestRefresh(t *testing.T) {
	tests := []struct {
		module string
		change func(*authtest.JWT)
		want   error
	}{
		{"oidcc-client-test-refresh-token", func(*authtest.JWT) {}, nil},
		{"oidcc-client-test-refresh-token-invalid-issuer", authtest.WrongIssuer, auth.ErrInvalidToken},
		{"oidcc-client-test-refresh-token-invalid-sub", authtest.WrongSubject, auth.ErrSignInRequired},

		{"another audience", authtest.WrongAudience, auth.ErrInvalidToken},
		{"a further audience", authtest.ForeignParty, auth.ErrInvalidToken},
		{"another nonce", authtest.WrongNonce, auth.ErrInvalidToken},
		{"no nonce", authtest.NoClaim("nonce"), nil},
		{"another auth_time", authtest.Claim("auth_time", 1_600_000_000), auth.ErrInvalidToken},
		{"no auth_time", authtest.NoClaim("auth_time"), nil},
		{"expired", authtest.Shifted(-24 * time.Hour), auth.ErrInvalidToken},
		{"unsigned", authtest.Unsigned, auth.ErrInvalidToken},
		{"broken signature", authtest.BrokenSignature, auth.ErrInvalidToken},
		{"not a token", func(t *authtest.JWT) { t.Finish = func(string) string { return "not.a.token" } }, auth.ErrInvalidToken},
	}
	for _, tt := range tests {
		for _, rotates := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, rotates %v", tt.module, rotates), func(t *testing.T) { testRefresh(t, rotates, tt.change, tt.want) })
		}
	}
}

func testRefresh(t *testing.T, rotates bool, change func(*authtest.JWT), want error) {
	a := newApp(t, func(s *setup) { s.idp.RotateAlways = rotates })
	if _, err := a.callback(a.visit(t, auth.SignInOptions{MaxAge: time.Hour})); err != nil {
		t.Fatal(err)
	}
	a.forget()
	before, err := a.session.IDTokenClaims(t.Context())
	if err != nil || before.Nonce == "" || before.AuthTime == 0 {
		t.Fatalf("claims %+v, %v", before, err)
	}
	user := a.idp.User("ada")
	user.Name = "Countess of Lovelace"
	a.idp.SetUser(user)
	hook := a.idp.OnRefreshedIDToken(change)
	var answer map[string]any
	a.idp.On(authtest.Token, authtest.EditJSON(func(body map[string]any) { answer = maps.Clone(body) })).Times(1)

	_, err = a.session.AccessToken(t.Context(), "", auth.ForceRefresh())
	a.wantError(t, err, want)
	a.wantRequest(t, authtest.Token, http.StatusOK)
	if want == auth.ErrSignInRequired {
		if a.isSignedIn(t) {
			t.Error("the session has not ended")
		}
		return
	}
	records := a.storage.records()
	if kept := strings.Contains(records, answer["access_token"].(string)); kept != (want == nil) {
		t.Errorf("the access token was kept: %v", kept)
	}
	if kept := strings.Contains(records, answer["refresh_token"].(string)); !kept {
		t.Error("the refresh token was lost")
	}
	after, err := a.session.IDTokenClaims(t.Context())
	if err != nil || (after.Name.Value() == user.Name) != (want == nil) {
		t.Fatalf("claims %+v, %v", after, err)
	}
	if person, err := a.session.Person(t.Context()); err != nil || person.DisplayName != after.Name.Value() {
		t.Errorf("pages call the person %q, %v", person.DisplayName, err)
	}
	// The session goes on, by the token from before or by a good answer; and what is kept is whole: Logto takes it as a hint.
	hook.Off()
	if _, err := a.session.FetchUserInfo(t.Context()); err != nil {
		t.Error(err)
	}
	for _, request := range a.idp.Requests(authtest.UserInfo) {
		if sent := strings.Contains(request.Header.Get("Authorization"), answer["access_token"].(string)); sent != (want == nil) {
			t.Errorf("the access token was sent: %v", sent)
		}
	}
	address, err := a.session.SignOut(t.Context(), auth.SignOutOptions{PostLogoutRedirectURI: homeURI})
	if err != nil {
		t.Fatal(err)
	}
	if target, err := a.browser.SignOut(t.Context(), address); err != nil || target != homeURI {
		t.Errorf("signed out to %q, %v", target, err)
	}
}
