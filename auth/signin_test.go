package auth_test

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/logto-gin-starter/auth"
	"example.com/logto-gin-starter/auth/authtest"
)

// authorizationRequest returns the parameters of a sign-in.
func (a *app) authorizationRequest(tb testing.TB, options auth.SignInOptions) url.Values {
	tb.Helper()
	if options.RedirectURI == "" {
		options.RedirectURI = callbackURI
	}
	address, err := a.session.SignIn(tb.Context(), options)
	if err != nil {
		tb.Fatal(err)
	}
	base, query, _ := strings.Cut(address, "?")
	if base != a.idp.Issuer+"/auth" {
		tb.Errorf("the request goes to %s", base)
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		tb.Fatal(err)
	}
	return values
}

func TestSignInRequest(t *testing.T) {
	a := newApp(t)
	got := a.authorizationRequest(t, auth.SignInOptions{})
	want := url.Values{
		"client_id": {a.config.AppID}, "response_type": {"code"}, "redirect_uri": {callbackURI}, "prompt": {"consent"},
		"code_challenge_method": {"S256"}, "resource": {shopping, store, "urn:logto:resource:organizations"},
		"scope": {strings.Join(append([]string{"openid", "profile", "offline_access"}, a.config.Scopes...), " ")},
	}
	for _, random := range []string{"state", "nonce", "code_challenge"} {
		if len(got[random]) != 1 || len(got.Get(random)) < 43 {
			t.Errorf("%s = %v", random, got[random])
		}
		got.Del(random)
	}
	if got.Encode() != want.Encode() {
		t.Errorf("request %v, want %v", got, want)
	}
}

func TestSignInOptions(t *testing.T) {
	tests := []struct {
		name    string
		options auth.SignInOptions
		want    string // parameters beyond those of a request without options
	}{
		{"prompt login", auth.SignInOptions{Prompt: []auth.Prompt{auth.PromptLogin, auth.PromptConsent}}, "max_age=3600&prompt=login+consent"},
		{"prompt none", auth.SignInOptions{Prompt: []auth.Prompt{auth.PromptNone}}, "prompt=none"},
		{"first screen", auth.SignInOptions{FirstScreen: auth.FirstScreenRegister}, "first_screen=register"},
		{"identifiers", auth.SignInOptions{
			FirstScreen: auth.FirstScreenIdentifierSignIn,
			Identifiers: []auth.Identifier{auth.IdentifierEmail, auth.IdentifierPhone, auth.IdentifierUsername},
		}, "first_screen=identifier%3Asign_in&identifier=email+phone+username"},
		{"interaction mode", auth.SignInOptions{InteractionMode: auth.InteractionModeSignUp}, "interaction_mode=signUp"},
		{"direct sign-in", auth.SignInOptions{DirectSignIn: "social:google"}, "direct_sign_in=social%3Agoogle"},
		{"one-time token", auth.SignInOptions{OneTimeToken: "ott", LoginHint: "ada@example.com"}, "login_hint=ada%40example.com&one_time_token=ott"},
		{"login hint", auth.SignInOptions{LoginHint: "a&b=c #d"}, "login_hint=a%26b%3Dc+%23d"},
		{"organization", auth.SignInOptions{OrganizationID: acme}, "organization_id=acme00corp01"},
		{"languages", auth.SignInOptions{UILocales: []string{"th", "en-GB"}}, "ui_locales=th+en-GB"},
		{"max age", auth.SignInOptions{MaxAge: time.Hour}, "max_age=3600"},
		{"acr values", auth.SignInOptions{ACRValues: []string{auth.ACRMFA, "b"}}, "acr_values=urn%3Alogto%3Aacr%3Amfa+b"},
		{"extra", auth.SignInOptions{Extra: url.Values{"y": {"a"}, "x": {"1", "2"}}}, "x=1&x=2&y=a"},
	}
	a := newApp(t)
	usual := a.authorizationRequest(t, auth.SignInOptions{})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := a.authorizationRequest(t, tt.options)
			for name := range usual {
				if name != "prompt" || slices.Equal(got[name], usual[name]) {
					got.Del(name)
				}
			}
			if got.Encode() != tt.want {
				t.Errorf("parameters %s, want %s", got.Encode(), tt.want)
			}
		})
	}
}

func TestSignInRefusesOptions(t *testing.T) {
	type options = auth.SignInOptions
	tests := []struct {
		name    string
		options auth.SignInOptions
	}{
		{"no redirect URI", options{RedirectURI: " "}},
		{"redirect URI that is a path", options{RedirectURI: "/callback"}},
		{"redirect URI with a fragment", options{RedirectURI: callbackURI + "#a"}},
		{"acr value", options{ACRValues: []string{"a b"}}},
		{"prompt", options{Prompt: []auth.Prompt{"select_account"}}},
		{"prompt none and another", options{Prompt: []auth.Prompt{auth.PromptNone, auth.PromptConsent}}},
		{"first screen", options{FirstScreen: "signup"}},
		{"interaction mode", options{InteractionMode: "register"}},
		{"identifier", options{Identifiers: []auth.Identifier{auth.IdentifierEmail, "e-mail"}}},
		{"direct sign-in's method", options{DirectSignIn: "oauth:google"}},
		{"direct sign-in without a method", options{DirectSignIn: "google"}},
		{"direct sign-in without a target", options{DirectSignIn: "sso:"}},
		{"one-time token without the login hint", options{OneTimeToken: "ott"}},
		{"a language that is two", options{UILocales: []string{"en th"}}},
		{"an empty language", options{UILocales: []string{""}}},
		{"max age below zero", options{MaxAge: -time.Second}},
		{"return to of more than a kilobyte", options{ReturnTo: "/" + strings.Repeat("a", 1<<10)}},
		{"max age of a fraction", options{MaxAge: 1500 * time.Millisecond}},
	}
	for _, reserved := range []string{
		"client_id", "redirect_uri", "response_type", "response_mode", "scope", "state", "nonce", "code_challenge",
		"code_challenge_method", "resource", "request", "request_uri", "prompt", "max_age", "first_screen",
		"interaction_mode", "identifier", "direct_sign_in", "login_hint", "one_time_token", "organization_id", "ui_locales",
		"client_secret", "claims", "registration", "id_token_hint",
	} {
		tests = append(tests, struct {
			name    string
			options auth.SignInOptions
		}{"extra " + reserved, options{Extra: url.Values{reserved: {"x"}}}})
	}
	a := newApp(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.options.RedirectURI == "" {
				tt.options.RedirectURI = callbackURI
			}
			address, err := a.session.SignIn(t.Context(), tt.options)
			a.wantError(t, err, auth.ErrInvalidOption)
			if address != "" || len(a.idp.Requests()) != 0 {
				t.Errorf("address %q, requests %v", address, a.idp.Requests())
			}
		})
	}
}

// TestSignInsAreIndependent: of any number of tabs, each lands where it wanted to go, in whatever order.
func TestSignInsAreIndependent(t *testing.T) {
	a := newApp(t)
	const tabs = 20
	var queries []url.Values
	seen := map[string]bool{}
	for i := range tabs {
		queries = append(queries, a.visit(t, auth.SignInOptions{ReturnTo: fmt.Sprint("/page/", i)}))
	}
	for _, request := range a.idp.Requests(authtest.Authorization) {
		for _, name := range []string{"state", "nonce", "code_challenge"} {
			if value := request.Form.Get(name); seen[value] {
				t.Errorf("%s is not unique", name)
			} else {
				seen[value] = true
			}
		}
	}
	for i, query := range slices.Backward(queries) {
		result, err := a.callback(query)
		if want := fmt.Sprint("/page/", i); err != nil || result.ReturnTo != want || result.Claims.Subject != a.idp.User("ada").Subject {
			t.Errorf("%v, %v, want to return to %s", result, err, want)
		}
	}
}

// TestClientAuthentication: credentials are URL-encoded before they go into the header (RFC 6749 §2.3.1).
func TestClientAuthentication(t *testing.T) {
	a := newApp(t, func(s *setup) {
		s.idp.Apps[0].ID, s.idp.Apps[0].Secret = "an app's id", "a+secret/with=odd%characters:é"
		s.config.AppID, s.config.AppSecret = s.idp.Apps[0].ID, auth.Secret(s.idp.Apps[0].Secret)
	})
	a.signIn(t)
	a.callAll(t)
	for _, request := range a.idp.Requests(authtest.Token, authtest.Revocation) {
		if request.Status != 200 || request.Auth != "client_secret_basic" || request.Form.Has("client_secret") {
			t.Errorf("%s: %d with %s", request.Endpoint, request.Status, request.Auth)
		}
	}
	a.config.AppSecret = "another-secret"
	a.session = a.newClient(t).Session(a.storage)
	_, err := a.callback(a.visit(t, auth.SignInOptions{}))
	a.wantAnswer(t, err, 401, "invalid_client")
}
