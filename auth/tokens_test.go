package auth_test

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"testing"
	"time"

	"example.com/logto-gin-starter/auth"
	"example.com/logto-gin-starter/auth/authtest"
)

// TestTokens: which token Logto is asked for, and which comes.
func TestTokens(t *testing.T) {
	tests := []struct {
		name         string
		resource     string
		options      []auth.TokenOption
		request      url.Values // beyond grant_type and refresh_token
		audience     string     // empty: an opaque token
		organization string
		scopes       []string // some of those granted
	}{
		{"for Logto", "", nil, url.Values{}, "", "", []string{"openid", "profile"}},
		{"for an API", shopping, nil, url.Values{"resource": {shopping}}, shopping, "", []string{"read:products", "write:products"}},
		{"for another", store, nil, url.Values{"resource": {store}}, store, "", []string{"read:orders"}},
		{"with fewer scopes", shopping, []auth.TokenOption{auth.WithScopes("read:products")},
			url.Values{"resource": {shopping}, "scope": {"read:products"}}, shopping, "", []string{"read:products"}},
		{"for an organization", "", []auth.TokenOption{auth.WithOrganization(acme)},
			url.Values{"organization_id": {acme}}, "urn:logto:organization:" + acme, acme, []string{"read:members", "invite:members"}},
		{"for an API within an organization", shopping, []auth.TokenOption{auth.WithOrganization(acme)},
			url.Values{"resource": {shopping}, "organization_id": {acme}}, shopping, acme, []string{"read:products"}},
		{"all at once", shopping, []auth.TokenOption{
			auth.WithScopes("write:products", "read:products", "write:products"), auth.WithOrganization(acme), auth.ForceRefresh(),
		}, url.Values{"resource": {shopping}, "organization_id": {acme}, "scope": {"read:products write:products"}},
			shopping, acme, []string{"read:products"}},
	}
	a := newApp(t)
	a.signIn(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := a.session.ClearAccessTokens(t.Context()); err != nil {
				t.Fatal(err)
			}
			a.forget()
			token, err := a.session.AccessToken(t.Context(), tt.resource, tt.options...)
			if err != nil {
				t.Fatal(err)
			}
			form := a.wantRequest(t, authtest.Token, http.StatusOK).Form
			if form.Get("grant_type") != "refresh_token" || form.Get("refresh_token") == "" {
				t.Errorf("grant type %q", form.Get("grant_type"))
			}
			form.Del("grant_type")
			form.Del("refresh_token")
			if form.Encode() != tt.request.Encode() {
				t.Errorf("request %v, want %v", form, tt.request)
			}
			if missing := slices.DeleteFunc(slices.Clone(tt.scopes), func(s string) bool { return slices.Contains(token.Scopes, s) }); len(missing) > 0 {
				t.Errorf("scopes %v lack %v", token.Scopes, missing)
			}
			claims, err := token.Claims()
			if tt.audience == "" {
				a.wantError(t, err, auth.ErrOpaqueToken)
				return
			}
			if err != nil || claims.Audience[0] != tt.audience || claims.Organization() != tt.organization || !claims.HasScopes(tt.scopes...) {
				t.Errorf("claims %+v, %v", claims, err)
			}
			if life := token.Expiry.Sub(claims.Expiry.Time()).Abs().Seconds(); life > 2 {
				t.Errorf("expiry %v, but exp %v", token.Expiry, claims.Expiry.Time())
			}
			verified, err := a.client.VerifyAccessToken(t.Context(), string(token.Value), tt.audience)
			if err != nil || verified.ID != claims.ID || verified.ClientID != a.config.AppID {
				t.Errorf("verified %+v, %v", verified, err)
			}
		})
	}
}

// TestTokenClaims: the claims by themselves are those of the token that is kept.
func TestTokenClaims(t *testing.T) {
	a := newApp(t)
	a.signIn(t)
	resource, err := a.session.AccessTokenClaims(t.Context(), shopping)
	if err != nil || resource.Audience[0] != shopping {
		t.Errorf("%+v, %v", resource, err)
	}
	again, err := a.session.AccessTokenClaims(t.Context(), shopping)
	if err != nil || again.ID != resource.ID {
		t.Errorf("%+v, %v", again, err)
	}
	organization, err := a.session.OrganizationTokenClaims(t.Context(), acme)
	if err != nil || organization.Organization() != acme || organization.OrganizationID != "" {
		t.Errorf("%+v, %v", organization, err)
	}
	_, err = a.session.AccessTokenClaims(t.Context(), "")
	a.wantError(t, err, auth.ErrOpaqueToken)
	_, err = a.session.AccessTokenClaims(t.Context(), "https://other.example")
	a.wantError(t, err, auth.ErrUnknownResource)
	_, err = a.session.OrganizationTokenClaims(t.Context(), globex)
	a.wantAnswer(t, err, http.StatusForbidden, "access_denied")
	a.wantCalls(t, authtest.Token, 3)

	encode := base64.RawURLEncoding.EncodeToString
	for text, want := range map[string]error{
		"": auth.ErrOpaqueToken, "a.b": auth.ErrOpaqueToken, "a.!.c": auth.ErrOpaqueToken, "a.b.c.d": auth.ErrOpaqueToken,
		"a." + encode([]byte("[]")) + ".c":          auth.ErrInvalidToken,
		"a." + encode([]byte(`{"sub":[]}`)) + ".c":  auth.ErrInvalidToken,
		"a." + encode([]byte(`{"aud":{}}`)) + ".c":  auth.ErrInvalidToken,
		"a." + encode([]byte(`{"aud":null}`)) + ".": nil,
	} {
		claims, err := auth.Token{Value: auth.Secret(text)}.Claims()
		a.wantError(t, err, want)
		if len(claims.Audience) != 0 {
			t.Errorf("%q has the audience %q", text, claims.Audience)
		}
	}
}

// TestTokensRefused: what can't succeed is refused before any request.
func TestTokensRefused(t *testing.T) {
	a := newApp(t)
	plain := a.newClient(t, func(c *auth.Config) { c.Scopes = nil })
	tests := []struct {
		name string
		ask  func(*auth.Session) error
		want error
	}{
		{"unknown resource", access("https://other.example"), auth.ErrUnknownResource},
		{"resource with a slash", access(shopping + "/"), auth.ErrUnknownResource},
		{"an organization's URN as the resource", access("urn:logto:organization:" + acme), auth.ErrUnknownResource},
		{"unknown resource of an organization", access("https://other.example", auth.WithOrganization(acme)), auth.ErrUnknownResource},
		{"no organization", organization(""), auth.ErrInvalidOption},
		{"an API within no organization", access(shopping, auth.WithOrganization("")), auth.ErrInvalidOption},
		{"organization with a space", organization("a b"), auth.ErrInvalidOption},
		{"organization with a line end", access(shopping, auth.WithOrganization("a\n")), auth.ErrInvalidOption},
		{"scope of two", access(shopping, auth.WithScopes("a b")), auth.ErrInvalidOption},
		{"empty scope", access(shopping, auth.WithScopes("")), auth.ErrInvalidOption},
		{"organizations without their scope", func(*auth.Session) error {
			_, err := plain.Session(a.storage).OrganizationToken(t.Context(), acme)
			return err
		}, auth.ErrOrganizationsScope},
	}
	nobody := a.client.Session(&authtest.Memory{})
	a.signIn(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a.wantError(t, tt.ask(a.session), tt.want)
		})
	}
	t.Run("nobody is signed in", func(t *testing.T) {
		_, err := nobody.FetchUserInfo(t.Context())
		a.wantError(t, err, auth.ErrNotAuthenticated)
		_, err = nobody.IDTokenClaims(t.Context())
		a.wantError(t, err, auth.ErrNotAuthenticated)
		_, err = nobody.Person(t.Context())
		a.wantError(t, err, auth.ErrNotAuthenticated)
		a.wantError(t, access("")(nobody), auth.ErrNotAuthenticated)
		a.wantError(t, access(shopping, auth.ForceRefresh())(nobody), auth.ErrNotAuthenticated)
		if err := nobody.ClearAccessTokens(t.Context()); err == nil {
			t.Error("there was nothing to clear")
		}
	})
	if got := a.idp.Requests(); len(got) != 0 {
		t.Errorf("%d requests", len(got))
	}
}

// access and organization ask for a token and return the error.
func access(resource string, options ...auth.TokenOption) func(*auth.Session) error {
	return func(s *auth.Session) error {
		_, err := s.AccessToken(context.Background(), resource, options...)
		return err
	}
}

func organization(id string) func(*auth.Session) error {
	return func(s *auth.Session) error {
		_, err := s.OrganizationToken(context.Background(), id)
		return err
	}
}

// TestClearTokens: cleared access tokens come anew; without the refresh token it takes a new sign-in.
func TestClearTokens(t *testing.T) {
	a := newApp(t)
	a.signIn(t)
	first, err := a.session.AccessToken(t.Context(), shopping)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.session.ClearAccessTokens(t.Context()); err != nil {
		t.Fatal(err)
	}
	second, err := a.session.AccessToken(t.Context(), shopping)
	if err != nil || first.Value == second.Value {
		t.Errorf("the same token again, %v", err)
	}
	if !a.isSignedIn(t) {
		t.Error("signed out")
	}
	a.wantCalls(t, authtest.Token, 2)
}

// TestTokensUnreadable: records that another version wrote are told as a fault, and can be signed out of.
func TestTokensUnreadable(t *testing.T) {
	a := newApp(t)
	if _, err := a.storage.Start(t.Context(), "ada", "", time.Now(), []byte("?"), []byte("?")); err != nil {
		t.Fatal(err)
	}
	_, claims := a.session.IDTokenClaims(t.Context())
	_, person := a.session.Person(t.Context())
	for _, err := range []error{access("")(a.session), a.session.ClearAccessTokens(t.Context()), claims, person} {
		if err == nil || errors.Is(err, auth.ErrNotAuthenticated) || errors.Is(err, auth.ErrProvider) {
			t.Errorf("error %v", err)
		}
	}
	if _, err := a.session.SignOut(t.Context(), auth.SignOutOptions{}); err != nil || a.isSignedIn(t) {
		t.Errorf("not signed out: %v", err)
	}
}

// A token for fewer scopes, openid among them, comes with an ID token for fewer scopes: that is not who the person is from then on.
func TestFewerScopesFewerClaims(t *testing.T) {
	a := newApp(t)
	a.signIn(t)
	a.setOrganization(t, acme, nil)
	before := a.person(t)
	if _, err := a.session.AccessToken(t.Context(), shopping, auth.WithScopes("openid", "read:products")); err != nil {
		t.Fatal(err)
	}
	if now := a.person(t); now.DisplayName != before.DisplayName || now.Active != before.Active {
		t.Errorf("before: %+v\nnow: %+v", before, now)
	}
}
