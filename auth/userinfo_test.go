package auth_test

import (
	"context"
	"encoding/json"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"example.com/logto-gin-starter/auth"
	"example.com/logto-gin-starter/auth/authtest"
)

// TestFetchUserInfo: what only the userinfo endpoint tells, asked for with the opaque token of the sign-in.
func TestFetchUserInfo(t *testing.T) {
	a := newApp(t)
	signedIn := a.signIn(t)
	info, err := a.session.FetchUserInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := a.wantRequest(t, authtest.UserInfo, http.StatusOK); got.Auth != "bearer" || got.Form.Has("access_token") {
		t.Errorf("asked with %q", got.Auth)
	}
	a.wantCalls(t, authtest.Token, 0)
	if info.Subject != signedIn.Claims.Subject || info.CustomData.Value()["theme"] != "dark" ||
		info.Identities.Value()["github"].UserID != "1815" || info.SSOIdentities.Value()[0].Issuer != "https://sso.example.com" ||
		info.OrganizationData.Value()[0].Name != "Acme" {
		t.Errorf("user info %+v", info)
	}
	if !signedIn.Claims.CustomData.IsZero() || signedIn.Claims.Email.Value() != info.Email.Value() {
		t.Errorf("ID token %+v", signedIn.Claims)
	}
}

// TestUserInfoIsAskedAnew each time.
func TestUserInfoIsAskedAnew(t *testing.T) {
	a := newApp(t)
	a.signIn(t)
	for _, name := range []string{"Ada King", ""} {
		user := a.idp.User("ada")
		user.Name = name
		a.idp.SetUser(user)
		info, err := a.session.FetchUserInfo(t.Context())
		if err != nil || info.Name.Value() != name || info.Name.IsNull() != (name == "") {
			t.Errorf("name %v, %v, want %q", info.Name, err, name)
		}
	}
}

func TestUserInfoFails(t *testing.T) {
	for _, tt := range append([]brokenAnswer{
		{"another sub", authtest.Field("sub", "somebodyelse"), -1},
		{"no sub", authtest.NoField("sub"), -1},
		{"empty sub", authtest.Field("sub", ""), -1},
		{"sub that is no text", authtest.Field("sub", []int{1}), 0},
		{"a JWT", authtest.Body(http.StatusOK, "application/jwt", "e30.garbage.e30"), 0},
		{"insufficient_scope", authtest.OAuthError(http.StatusForbidden, "insufficient_scope", "access token missing openid scope"), http.StatusForbidden},
	}, broken...) {
		t.Run(tt.name, func(t *testing.T) {
			a := newApp(t)
			a.signIn(t)
			before := a.storage.records()
			bad := a.idp.On(authtest.UserInfo, tt.answer)
			info, err := a.session.FetchUserInfo(t.Context())
			if tt.status < 0 {
				a.wantError(t, err, auth.ErrInvalidToken)
			} else {
				a.wantBroken(t, err, tt)
			}
			if info.Subject != "" || a.storage.records() != before {
				t.Errorf("user info %+v, or the session was changed", info)
			}
			a.wantCalls(t, authtest.Token, 0)
			bad.Off()
			if _, err := a.session.FetchUserInfo(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestUserInfoHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApp(t, inMemory)
		a.signIn(t)
		a.idp.On(authtest.UserInfo, authtest.Hang)
		for _, bound := range []time.Duration{time.Second, time.Hour} {
			begin := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), bound)
			_, err := a.session.FetchUserInfo(ctx)
			cancel()
			a.wantError(t, err, auth.ErrProvider)
			if waited := time.Since(begin); !auth.IsTimeout(err) || waited > min(bound, 10*time.Second) {
				t.Errorf("after %v: %v", waited, err)
			}
		}
	})
}

// TestUserInfoRenewsItsToken: one that has expired before it is sent, one that was refused after; but only once.
func TestUserInfoRenewsItsToken(t *testing.T) {
	t.Run("expired", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a := newApp(t, inMemory)
			a.signIn(t)
			time.Sleep(time.Hour)
			if _, err := a.session.FetchUserInfo(t.Context()); err != nil {
				t.Error(err)
			}
			a.wantCalls(t, authtest.Token, 1, authtest.UserInfo, 1)
		})
	})
	refused := authtest.OAuthError(http.StatusUnauthorized, "invalid_token", "invalid token provided")
	t.Run("refused", func(t *testing.T) {
		a := newApp(t)
		a.signIn(t)
		a.idp.On(authtest.UserInfo, refused).Times(1)
		if _, err := a.session.FetchUserInfo(t.Context()); err != nil {
			t.Error(err)
		}
		a.wantCalls(t, authtest.Token, 1, authtest.UserInfo, 2)
	})
	t.Run("always refused", func(t *testing.T) {
		a := newApp(t)
		a.signIn(t)
		a.idp.On(authtest.UserInfo, refused)
		_, err := a.session.FetchUserInfo(t.Context())
		a.wantAnswer(t, err, http.StatusUnauthorized, "invalid_token")
		a.wantCalls(t, authtest.Token, 1, authtest.UserInfo, 2)
	})
	t.Run("cleared", func(t *testing.T) {
		a := newApp(t)
		if _, err := a.callback(a.visit(t, auth.SignInOptions{Prompt: []auth.Prompt{auth.PromptLogin}})); err != nil { // no refresh token
			t.Fatal(err)
		}
		a.forget()
		if err := a.session.ClearAccessTokens(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, err := a.session.FetchUserInfo(t.Context())
		a.wantError(t, err, auth.ErrSignInRequired)
		a.wantCalls(t, authtest.UserInfo, 0)
	})
	t.Run("revoked with all else", func(t *testing.T) {
		a := newApp(t)
		a.signIn(t)
		a.idp.RevokeGrants("ada")
		_, err := a.session.FetchUserInfo(t.Context())
		a.wantError(t, err, auth.ErrSignInRequired)
		if a.isSignedIn(t) {
			t.Error("still signed in")
		}
	})
}

// TestUserInfoIsExact: the JSON is what Logto answered, absent, null and unknown claims too.
func TestUserInfoIsExact(t *testing.T) {
	a := newApp(t)
	a.signIn(t)
	answer := `{"sub":"` + a.idp.User("ada").Subject + `","name":null,"updated_at":1700000000000,"email":["odd"],` +
		`"Email":"another claim","custom_data":{"n":12345678901234567890,"null":null},"https://example.com/x":[1,{"a":"<&>"}]}`
	a.idp.On(authtest.UserInfo, authtest.Body(http.StatusOK, "application/json", answer))
	info, err := a.session.FetchUserInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(info)
	if err != nil || canonical(t, text) != canonical(t, []byte(answer)) {
		t.Errorf("%s, %v, want %s", text, err, answer)
	}
	if email, ok := info.Email.Get(); ok || email != "" {
		t.Errorf("e-mail %q", email)
	}
}
