package auth_test

import (
	"bytes"
	"context"
	"crypto"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/logto-gin-starter/auth"
	"example.com/logto-gin-starter/auth/authtest"
)

// TestCallbackQuery: whatever is wrong with the query, the code is not spent and nobody is signed in.
func TestCallbackQuery(t *testing.T) {
	set := func(name string, values ...string) func(url.Values) {
		return func(q url.Values) { q[name] = values }
	}
	add := func(name, value string) func(url.Values) { return func(q url.Values) { q.Add(name, value) } }
	del := func(name string) func(url.Values) { return func(q url.Values) { q.Del(name) } }
	tests := []struct {
		name string
		edit func(url.Values)
		want error
		used bool // the sign-in is over then
	}{
		{"unknown state", set("state", "another"), auth.ErrUnknownSignIn, false},
		{"no state", del("state"), auth.ErrUnknownSignIn, false},
		{"empty state", set("state", ""), auth.ErrUnknownSignIn, false},
		{"repeated state", add("state", "another"), auth.ErrUnknownSignIn, false},
		{"state in other letters", func(q url.Values) { q.Set("state", strings.ToLower(q.Get("state"))) }, auth.ErrUnknownSignIn, false},
		{"nothing at all", func(q url.Values) { clear(q) }, auth.ErrUnknownSignIn, false},
		{"no iss", del("iss"), auth.ErrInvalidCallback, true},
		{"another iss", set("iss", "https://issuer.example/oidc"), auth.ErrInvalidCallback, true},
		{"iss with a slash", func(q url.Values) { q.Set("iss", q.Get("iss")+"/") }, auth.ErrInvalidCallback, true},
		{"another iss with an error", func(q url.Values) {
			authtest.Refused("access_denied", "")(q)
			q.Set("iss", "https://issuer.example/oidc")
		}, auth.ErrInvalidCallback, true},
		{"repeated iss", func(q url.Values) { q.Add("iss", q.Get("iss")) }, auth.ErrInvalidCallback, true},
		{"repeated code", add("code", "another"), auth.ErrInvalidCallback, true},
		{"repeated error", set("error", "access_denied", "server_error"), auth.ErrInvalidCallback, true},
		{"repeated description", set("error_description", "a", "b"), auth.ErrInvalidCallback, true},
		{"no code", del("code"), auth.ErrInvalidCallback, true},
		{"empty code", set("code", ""), auth.ErrInvalidCallback, true},
	}
	a := newApp(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			right := a.visit(t, auth.SignInOptions{})
			wrong, _ := url.ParseQuery(right.Encode())
			tt.edit(wrong)
			result, err := a.callback(wrong)
			a.wantError(t, err, tt.want)
			if a.isSignedIn(t) || result.Claims.Subject != "" {
				t.Errorf("signed in: %+v", result)
			}
			a.wantCalls(t, authtest.Token, 0)
			if strings.Contains(err.Error(), right.Get("code")) {
				t.Errorf("the error shows the code: %v", err)
			}
			_, err = a.callback(right)
			if tt.used {
				a.wantError(t, err, auth.ErrUnknownSignIn)
				a.wantCalls(t, authtest.Token, 0)
				return
			}
			a.wantError(t, err, nil)
			if _, err := a.session.SignOut(t.Context(), auth.SignOutOptions{}); err != nil {
				t.Fatal(err)
			}
			a.forget()
		})
	}
}

// TestCallbackRefused: an error in the redirect is Logto's refusal.
func TestCallbackRefused(t *testing.T) {
	tests := []struct {
		name, code, description string
		edit                    func(url.Values)
		text                    string
	}{
		{"denied", "access_denied", "End-User aborted interaction", authtest.Refused("access_denied", "End-User aborted interaction"),
			"sign-in callback: logto answered access_denied: End-User aborted interaction"},
		{"without a description", "server_error", "", func(q url.Values) { q.Set("error", "server_error") },
			"sign-in callback: logto answered server_error"},
		{"with a code too", "login_required", "", authtest.Param("error", "login_required"), "sign-in callback: logto answered login_required"},
		{"not printable", "a  b", "c\ufffd d", authtest.Refused("a\r\nb", "c\ufffd\x1bd"), "sign-in callback: logto answered a  b: c\ufffd d"},
		{"long", "long", strings.Repeat("é", 300) + "…", authtest.Refused("long", strings.Repeat("é", 5000)),
			"sign-in callback: logto answered long: " + strings.Repeat("é", 300) + "…"},
	}
	a := newApp(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a.idp.OnCallback(tt.edit).Times(1)
			_, err := a.callback(a.visit(t, auth.SignInOptions{}))
			answer, ok := errors.AsType[*auth.OAuthError](err)
			if !ok || *answer != (auth.OAuthError{Code: tt.code, Description: tt.description}) || err.Error() != tt.text {
				t.Errorf("error %#v: %v", answer, err)
			}
			a.wantCalls(t, authtest.Token, 0)
		})
	}
	t.Run("by Logto itself", func(t *testing.T) {
		_, err := a.callback(a.visit(t, auth.SignInOptions{Prompt: []auth.Prompt{auth.PromptNone}, MaxAge: time.Second}))
		a.wantError(t, err, nil) // ada's browser is signed in there
		a.browser = a.idp.Browser()
		_, err = a.callback(a.visit(t, auth.SignInOptions{Prompt: []auth.Prompt{auth.PromptNone}}))
		a.wantAnswer(t, err, 0, "login_required")
	})
}

// TestCallbackIsOnce: for a second visit, and for another browser, there is no such sign-in.
func TestCallbackIsOnce(t *testing.T) {
	a := newApp(t)
	query := a.visit(t, auth.SignInOptions{ReturnTo: "/page"})
	_, err := a.client.Session(&authtest.Memory{}).HandleSignInCallback(t.Context(), query)
	a.wantError(t, err, auth.ErrUnknownSignIn)
	result, err := a.callback(query)
	if err != nil || result.ReturnTo != "/page" {
		t.Errorf("%+v, %v", result, err)
	}
	_, err = a.callback(query)
	a.wantError(t, err, auth.ErrUnknownSignIn)
	a.wantCalls(t, authtest.Token, 1)
	if !a.isSignedIn(t) {
		t.Error("a second visit signed out")
	}
}

// TestCallbackIsBound: to ten minutes, and to the verifier and redirect URI of its request.
func TestCallbackIsBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApp(t, inMemory)
		query := a.visit(t, auth.SignInOptions{ReturnTo: "/wanted"})
		time.Sleep(time.Hour + time.Second)
		result, err := a.callback(query)
		a.wantError(t, err, auth.ErrUnknownSignIn)
		if result.ReturnTo != "/wanted" {
			t.Errorf("too late, and %q is forgotten", result.ReturnTo)
		}
		a.wantCalls(t, authtest.Token, 0)

		query = a.visit(t, auth.SignInOptions{})
		time.Sleep(2 * time.Minute) // longer than a code lives
		_, err = a.callback(query)
		a.wantAnswer(t, err, http.StatusBadRequest, "invalid_grant")

		first, second := a.visit(t, auth.SignInOptions{}), a.visit(t, auth.SignInOptions{})
		first.Set("code", second.Get("code")) // an injected code
		_, err = a.callback(first)
		a.wantAnswer(t, err, http.StatusBadRequest, "invalid_grant")
		exchange := a.idp.Requests(authtest.Token)[1]
		if exchange.Form.Get("redirect_uri") != callbackURI || len(exchange.Form.Get("code_verifier")) < 43 {
			t.Errorf("exchange with %v", exchange.Form)
		}
	})
}

// TestCallbackWithoutDiscovery: of an application that has just started while Logto is away.
func TestCallbackWithoutDiscovery(t *testing.T) {
	a := newApp(t)
	query := a.visit(t, auth.SignInOptions{})
	a.idp.On(authtest.Discovery, authtest.Reset)
	_, err := a.newClient(t).Session(a.storage).HandleSignInCallback(t.Context(), query)
	a.wantError(t, err, auth.ErrProvider)
	a.wantCalls(t, authtest.Token, 0)
}

// TestCallbackStorageConfused: a storage that gives another sign-in, or none that can be read, signs nobody in.
func TestCallbackStorageConfused(t *testing.T) {
	a := newApp(t)
	query := a.visit(t, auth.SignInOptions{})
	record, _ := a.storage.OpenSignIn(query.Get("state"))
	future := bytes.Replace(record, []byte(`{"b":`), []byte(`{"b":9`), 1)
	for calls, record := range [][]byte{[]byte("?"), []byte("{}"), future, record} {
		state, _ := a.storage.SealSignIn(record)
		query.Set("state", state)
		if _, err := a.callback(query); err == nil || a.isSignedIn(t) {
			t.Errorf("signed in with %s", record)
		}
		a.wantCalls(t, authtest.Token, calls/3) // the last has another secret, and so another verifier: Logto refuses
	}
}

// TestCallbackWithoutIss: where discovery does not announce iss, it may be missing, but not be another's.
func TestCallbackWithoutIss(t *testing.T) {
	a := newApp(t)
	a.idp.On(authtest.Discovery, authtest.NoField("authorization_response_iss_parameter_supported"))
	a.idp.OnCallback(authtest.Param("iss", "https://issuer.example/oidc")).Times(1)
	_, err := a.callback(a.visit(t, auth.SignInOptions{}))
	a.wantError(t, err, auth.ErrInvalidCallback)
	a.wantCalls(t, authtest.Token, 0)
	a.idp.OnCallback(authtest.NoParam("iss"))
	_, err = a.callback(a.visit(t, auth.SignInOptions{}))
	a.wantError(t, err, nil)
}

// TestIDToken: each row is a token that Logto gave for a code.
func TestIDToken(t *testing.T) {
	claim, noClaim, header, shifted := authtest.Claim, authtest.NoClaim, authtest.Header, authtest.Shifted
	now := time.Now().Unix()
	tests := []struct {
		name   string
		change func(*authtest.JWT)
		good   bool
	}{
		{"as it is", func(*authtest.JWT) {}, true},
		{"iss with a slash", func(t *authtest.JWT) { t.Claims["iss"] = t.Claims["iss"].(string) + "/" }, false},
		{"no iss", noClaim("iss"), false},
		{"no aud", noClaim("aud"), false},
		{"aud that is empty", claim("aud", []string{}), false},
		{"aud that is a list of one", func(t *authtest.JWT) { t.Claims["aud"] = []any{t.Claims["aud"]} }, true},
		{"a further audience", func(t *authtest.JWT) { t.Claims["aud"] = []any{t.Claims["aud"], "another-app"} }, false},
		{"a further audience and azp", func(t *authtest.JWT) {
			t.Claims["azp"], t.Claims["aud"] = t.Claims["aud"], []any{t.Claims["aud"], "another-app"}
		}, false},
		{"another azp", authtest.ForeignParty, false},
		{"another azp, aud as it is", claim("azp", "another-app"), false},
		{"own azp", func(t *authtest.JWT) { t.Claims["azp"] = t.Claims["aud"] }, true},
		{"empty sub", claim("sub", ""), false},
		{"sub that is null", claim("sub", nil), false},
		{"sub that is a number", claim("sub", 1), false},
		{"sub in other letters", func(t *authtest.JWT) { t.Claims["SUB"] = t.Claims["sub"]; delete(t.Claims, "sub") }, false},
		{"no nonce", noClaim("nonce"), false},
		{"nonce that is null", claim("nonce", nil), false},
		{"nonce in other letters", func(t *authtest.JWT) { t.Claims["Nonce"] = t.Claims["nonce"]; delete(t.Claims, "nonce") }, false},
		{"no exp", noClaim("exp"), false},
		{"exp that is text", claim("exp", "2030-01-01"), false},
		{"exp that is null", claim("exp", nil), false},
		{"expired", shifted(-24 * time.Hour), false},
		{"from the future", shifted(time.Hour), false},
		{"iat that is null", claim("iat", nil), false},
		{"iat beyond all years", claim("iat", 1e300), false},
		{"exp beyond all years", claim("exp", 1e300), true},
		{"times with fractions", func(t *authtest.JWT) { t.Claims["iat"], t.Claims["exp"] = float64(now)-0.5, float64(now)+600.25 }, true},
		{"typ JWT", header("typ", "JWT"), true},
		{"typ of an access token", header("typ", "at+jwt"), false},
		{"typ of a logout token", header("typ", "logout+jwt"), false},
		{"unknown critical header", header("crit", []string{"x"}), false},
		{"kid of no key", header("kid", "nobody"), false},
		{"kid that leads elsewhere", header("jku", "https://evil.example/jwks"), true}, // nobody follows it
		{"another at_hash", claim("at_hash", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"), false},
		{"unsigned", authtest.Unsigned, false},
		{"alg none in other letters", func(t *authtest.JWT) {
			t.Finish = func(token string) string {
				_, rest, _ := strings.Cut(token, ".")
				payload, _, _ := strings.Cut(rest, ".")
				return base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"NonE"}`)) + "." + payload + "."
			}
		}, false},
		{"HS256 with the public key", authtest.SignedWithPublicKey, false},
		{"HS256 with the client secret", authtest.SignedWithSecret, false},
		{"signed by an unknown key", authtest.SignedWithForeignKey("ES384"), false},
		{"signed on another curve", authtest.SignedOnOtherCurve, false},
		{"an algorithm that was not announced", authtest.SignedWithForeignKey("ES256"), false},
		{"broken signature", authtest.BrokenSignature, false},
		{"no signature", func(t *authtest.JWT) {
			t.Finish = func(token string) string { return token[:strings.LastIndex(token, ".")+1] }
		}, false},
		{"two parts", func(t *authtest.JWT) {
			t.Finish = func(token string) string { return token[:strings.LastIndex(token, ".")] }
		}, false},
		{"four parts", func(t *authtest.JWT) { t.Finish = func(token string) string { return token + ".x" } }, false},
		{"in JSON", func(t *authtest.JWT) {
			t.Finish = func(token string) string {
				p := strings.Split(token, ".")
				return `{"protected":"` + p[0] + `","payload":"` + p[1] + `","signature":"` + p[2] + `"}`
			}
		}, false},
		{"none", func(t *authtest.JWT) { t.Finish = func(string) string { return "" } }, false},
		{"far too long", claim("padding", strings.Repeat("x", 64<<10)), false},
		{"claims of odd types", func(t *authtest.JWT) { t.Claims["name"], t.Claims["email_verified"] = []int{1}, "yes" }, true},
		{"sid that is a number", claim("sid", 1), false},
	}
	a := newApp(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a.idp.OnIDToken(tt.change).Times(1)
			_, err := a.callback(a.visit(t, auth.SignInOptions{}))
			if tt.good {
				a.wantError(t, err, nil)
			} else {
				a.wantError(t, err, auth.ErrInvalidToken)
			}
			if a.isSignedIn(t) != tt.good {
				t.Errorf("signed in: %t", !tt.good)
			}
			if _, err := a.session.SignOut(t.Context(), auth.SignOutOptions{}); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestLeeway is about the second in which a token begins or ends to be good.
func TestLeeway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now().Unix()
		for _, tt := range []struct {
			claim  string
			at     int64
			leeway time.Duration // of the configuration
			good   bool
		}{
			{"exp", now - 29, 0, true}, {"exp", now - 30, 0, false},
			{"iat", now + 30, 0, true}, {"iat", now + 31, 0, false},
			{"nbf", now + 30, 0, true}, {"nbf", now + 31, 0, false},
			{"exp", now, time.Second, true}, {"exp", now - 1, time.Second, false},
			{"iat", now + 1, time.Second, true}, {"iat", now + 2, time.Second, false},
			{"auth_time", now - 90, 0, true}, {"auth_time", now - 91, 0, false}, // max_age is a minute
		} {
			a := newApp(t, inMemory, func(s *setup) { s.config.Leeway = tt.leeway })
			a.idp.OnIDToken(authtest.Claim(tt.claim, tt.at))
			_, err := a.callback(a.visit(t, auth.SignInOptions{MaxAge: time.Minute}))
			if tt.good && err != nil || !tt.good && !errors.Is(err, auth.ErrInvalidToken) {
				t.Errorf("%s = now%+d s with a leeway of %v: %v", tt.claim, tt.at-now, tt.leeway, err)
			}
		}
	})
}

// TestAccessTokenHash: an at_hash is not demanded, but must fit (OpenID Connect Core §3.1.3.8).
func TestAccessTokenHash(t *testing.T) {
	a := newApp(t)
	var accessToken string
	a.idp.On(authtest.Token, authtest.EditJSON(func(answer map[string]any) { answer["access_token"] = accessToken }))
	for _, tt := range []struct {
		accessToken string
		want        error
	}{{"the-access-token", nil}, {"another-access-token", auth.ErrInvalidToken}} {
		accessToken = tt.accessToken
		hash := crypto.SHA384.New()
		hash.Write([]byte("the-access-token"))
		a.idp.OnIDToken(authtest.Claim("at_hash", base64.RawURLEncoding.EncodeToString(hash.Sum(nil)[:24])))
		_, err := a.callback(a.visit(t, auth.SignInOptions{}))
		a.wantError(t, err, tt.want)
	}
}

func TestMaxAge(t *testing.T) {
	tests := []struct {
		name   string
		change func(*authtest.JWT)
		want   error
	}{
		{"just signed in", func(*authtest.JWT) {}, nil},
		{"no auth_time", authtest.NoClaim("auth_time"), auth.ErrInvalidToken},
		{"too long ago", authtest.Claim("auth_time", time.Now().Add(-2*time.Minute).Unix()), auth.ErrInvalidToken},
		{"within the leeway", authtest.Claim("auth_time", time.Now().Add(-80*time.Second).Unix()), nil},
		{"text", authtest.Claim("auth_time", "now"), auth.ErrInvalidToken},
	}
	a := newApp(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a.idp.OnIDToken(tt.change).Times(1)
			_, err := a.callback(a.visit(t, auth.SignInOptions{MaxAge: time.Minute}))
			a.wantError(t, err, tt.want)
		})
	}
}

// TestPromptLogin: a browser that drops the parameter, to get in by the session that Logto has, is not let in.
func TestPromptLogin(t *testing.T) {
	for name, tt := range map[string]struct {
		drop []string
		want error
	}{
		"as it was sent":         {nil, nil},
		"without prompt":         {[]string{"prompt"}, auth.ErrInvalidToken},
		"without max_age either": {[]string{"prompt", "max_age"}, auth.ErrInvalidToken},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newApp(t, inMemory)
				a.signIn(t)
				time.Sleep(time.Minute) // more than the leeway
				address, err := a.session.SignIn(t.Context(), auth.SignInOptions{
					RedirectURI: callbackURI, Prompt: []auth.Prompt{auth.PromptLogin, auth.PromptConsent},
				})
				if err != nil {
					t.Fatal(err)
				}
				u, _ := url.Parse(address)
				query := u.Query()
				for _, name := range tt.drop {
					query.Del(name)
				}
				u.RawQuery = query.Encode()
				target, err := a.browser.SignIn(t.Context(), u.String(), "ada")
				if err != nil {
					t.Fatal(err)
				}
				callback, _ := url.Parse(target)
				_, err = a.callback(callback.Query())
				a.wantError(t, err, tt.want)
			})
		})
	}
}

// TestExchangeFails: nobody is signed in, and the code is not tried twice.
func TestExchangeFails(t *testing.T) {
	tests := append(slices.Clone(broken), []brokenAnswer{
		{"an error under 200", authtest.Body(http.StatusOK, "application/json", `{"error":"invalid_grant","error_description":"garbage"}`), 0},
		{"an error beside the tokens", authtest.Field("error", "invalid_grant"), 0},
		{"no access token", authtest.NoField("access_token"), 0},
		{"a token of another type", authtest.Field("token_type", "mac"), 0},
		{"a token of a type that is no text", authtest.Field("token_type", 7), 0},
		{"an access token that is no text", authtest.Field("access_token", map[string]any{"garbage": 1}), 0},
		{"an ID token that is no text", authtest.Field("id_token", 7), -1},
		{"no ID token", authtest.NoField("id_token"), -1},
	}...)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := newApp(t)
			a.idp.On(authtest.Token, tt.answer)
			_, err := a.callback(a.visit(t, auth.SignInOptions{}))
			if tt.status < 0 {
				a.wantError(t, err, auth.ErrInvalidToken)
			} else {
				a.wantBroken(t, err, tt)
			}
			a.wantCalls(t, authtest.Token, 1)
			if a.isSignedIn(t) {
				t.Error("signed in")
			}
		})
	}
}

// TestExchangeHangs: the caller's bound holds, and else our own.
func TestExchangeHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApp(t, inMemory)
		for _, e := range []authtest.Endpoint{authtest.Token, authtest.Keys} {
			for _, bound := range []time.Duration{time.Second, time.Hour} {
				query := a.visit(t, auth.SignInOptions{})
				bad := a.idp.On(e, authtest.Hang)
				begin := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), bound)
				_, err := a.session.HandleSignInCallback(ctx, query)
				cancel()
				a.wantError(t, err, auth.ErrProvider)
				if waited := time.Since(begin); !auth.IsTimeout(err) || waited > min(bound, 10*time.Second) {
					t.Errorf("%s: after %v: %v", e, waited, err)
				}
				bad.Off()
			}
		}
		a.signIn(t)
	})
}

// TestExchangeStalls in the middle of the answer, which libraries tell like any other error.
func TestExchangeStalls(t *testing.T) {
	a := newApp(t)
	query := a.visit(t, auth.SignInOptions{})
	ctx, giveUp := context.WithCancel(t.Context())
	a.config.Transport = transport(func(r *http.Request) (*http.Response, error) {
		answer, err := http.DefaultTransport.RoundTrip(r)
		if err == nil && r.Method == http.MethodPost {
			_ = answer.Body.Close()
			answer.Body = stalled(giveUp)
		}
		return answer, err
	})
	_, err := a.newClient(t).Session(a.storage).HandleSignInCallback(ctx, query)
	a.wantError(t, err, auth.ErrProvider)
	a.wantError(t, err, context.Canceled)
}

// stalled is a body of which nothing comes, until the reader gives up.
type stalled context.CancelFunc

func (s stalled) Read([]byte) (int, error) { s(); return 0, errors.New("broken off") }
func (s stalled) Close() error             { return nil }

// TestCallbackStorageFails: a failure of the storage is told as it is.
func TestCallbackStorageFails(t *testing.T) {
	a := newApp(t)
	away := errors.New("storage is away")
	query := a.visit(t, auth.SignInOptions{})
	for _, broken := range []auth.Storage{noSignIns{a.storage, away}, noStart{a.storage, away}} {
		_, err := a.client.Session(broken).HandleSignInCallback(t.Context(), query)
		a.wantError(t, err, away)
	}
	a.wantCalls(t, authtest.Token, 1) // of the second, when Start failed
}

type noSignIns struct {
	auth.Storage
	err error
}

func (s noSignIns) UseSignIn(context.Context, string, time.Duration) (bool, error) {
	return false, s.err
}

type noStart struct {
	auth.Storage
	err error
}

func (s noStart) Start(context.Context, string, string, time.Time, []byte, []byte) (bool, error) {
	return false, s.err
}
