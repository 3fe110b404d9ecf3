package routes

import (
	"bytes"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"example.com/logto-gin-starter/auth/authtest"
)

// TestBackchannelLogout: exactly 200 and the session has ended, or exactly 400 and it lives. Names that begin with
// oidcc- are the conformance suite's.
func TestBackchannelLogout(t *testing.T) {
	const module = "oidcc-client-test-rp-backchannel-rpinitlogout"
	for _, tt := range []struct {
		name   string
		token  []func(*authtest.JWT)
		change func(url.Values) // of the form
		status int
		lives  bool
	}{
		{module, nil, nil, 200, false},
		{module + "-alg-none", []func(*authtest.JWT){authtest.Unsigned}, nil, 400, true},
		{module + "-no-event", []func(*authtest.JWT){authtest.NoClaim("events")}, nil, 400, true},
		{module + "-with-nonce", []func(*authtest.JWT){authtest.WrongNonce}, nil, 400, true},
		{module + "-wrong-alg", []func(*authtest.JWT){authtest.SignedWithForeignKey("RS256")}, nil, 400, true},
		{module + "-wrong-aud", []func(*authtest.JWT){authtest.WrongAudience}, nil, 400, true},
		{module + "-wrong-event", []func(*authtest.JWT){authtest.WrongEvent}, nil, 400, true},
		{module + "-wrong-iss", []func(*authtest.JWT){authtest.WrongIssuer}, nil, 400, true},

		{"HS256 by secret", []func(*authtest.JWT){authtest.SignedWithSecret}, nil, 400, true},
		{"HS256 by public key", []func(*authtest.JWT){authtest.SignedWithPublicKey}, nil, 400, true},
		{"forged", []func(*authtest.JWT){authtest.SignedWithForeignKey("ES384")}, nil, 400, true},
		{"broken signature", []func(*authtest.JWT){authtest.BrokenSignature}, nil, 400, true},
		{"event is no object", []func(*authtest.JWT){authtest.Claim("events", map[string]any{"http://schemas.openid.net/event/backchannel-logout": true})}, nil, 400, true},
		{"expired", []func(*authtest.JWT){authtest.Shifted(-time.Hour)}, nil, 400, true},
		{"from the future", []func(*authtest.JWT){authtest.Shifted(time.Hour)}, nil, 400, true},
		{"no exp", []func(*authtest.JWT){authtest.NoClaim("exp")}, nil, 400, true},
		{"no iat", []func(*authtest.JWT){authtest.NoClaim("iat")}, nil, 400, true},
		{"no jti", []func(*authtest.JWT){authtest.NoClaim("jti")}, nil, 400, true},
		{"neither sub nor sid", []func(*authtest.JWT){authtest.NoClaim("sub"), authtest.NoClaim("sid")}, nil, 400, true},
		{"only sub", []func(*authtest.JWT){authtest.NoClaim("sid")}, nil, 200, false},
		{"only sid", []func(*authtest.JWT){authtest.NoClaim("sub")}, nil, 200, false},
		{"another sid of the sub", []func(*authtest.JWT){authtest.Claim("sid", "another")}, nil, 200, true},
		{"unknown sub", []func(*authtest.JWT){authtest.WrongSubject, authtest.NoClaim("sid")}, nil, 200, true},
		{"another sub with the sid", []func(*authtest.JWT){authtest.WrongSubject}, nil, 200, true},
		{"unknown sid", []func(*authtest.JWT){authtest.NoClaim("sub"), authtest.Claim("sid", "another")}, nil, 200, true},
		{"no typ", []func(*authtest.JWT){authtest.NoHeader("typ")}, nil, 200, false},
		{"another typ", []func(*authtest.JWT){authtest.Header("typ", "JWT")}, nil, 400, true},
		{"an access token's typ", []func(*authtest.JWT){authtest.Header("typ", "at+jwt")}, nil, 400, true},
		{"unknown claims", []func(*authtest.JWT){authtest.Claim("custom", map[string]any{"a": 1})}, nil, 200, false},
		{"unknown form fields", nil, func(form url.Values) { form["other"] = []string{"a", "b"}; form.Set("state", "x") }, 200, false},
		{"no logout_token", nil, func(form url.Values) { form.Del("logout_token") }, 400, true},
		{"empty logout_token", nil, func(form url.Values) { form.Set("logout_token", "") }, 400, true},
		{"two logout_tokens", nil, func(form url.Values) { form.Add("logout_token", form.Get("logout_token")) }, 400, true},
		{"no JWT", nil, func(form url.Values) { form.Set("logout_token", "a.b.c") }, 400, true},
		{"70 KB", nil, func(form url.Values) { form.Set("other", strings.Repeat("x", 70<<10)) }, 413, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			b := s.signedIn(t, "ada")
			other := s.signedIn(t, "grace")
			form := url.Values{"logout_token": {s.logto.LogoutToken("ada", tt.token...)}}
			if tt.change != nil {
				tt.change(form)
			}
			wantLogout(t, b, tt.status, tt.lives, s.browser(t).post("/backchannel-logout", form, "Sec-Fetch-Site", "", "Accept", ""))
			if !other.isSignedIn() {
				t.Error("somebody else is signed out")
			}
		})
	}
}

func wantLogout(t *testing.T, b *browser, status int, lives bool, a reply) {
	t.Helper()
	if a.status != status || a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("%d, Cache-Control %q, want %d", a.status, a.header.Get("Cache-Control"), status)
	}
	if body := decodeError(a); status == 200 && a.body != "" || status == 400 && body != "invalid_request" {
		t.Errorf("body %s", a.body)
	}
	if b.isSignedIn() != lives {
		t.Errorf("the session lives: %v", !lives)
	}
}

// decodeError returns the error of an OAuth error body.
func decodeError(a reply) string {
	text, _ := strings.CutPrefix(a.body, `{"error":"`)
	text, _ = strings.CutSuffix(text, `"}`)
	return text
}

// TestBackchannelForms: only a form in the body counts.
func TestBackchannelForms(t *testing.T) {
	s := newSite(t)
	b := s.signedIn(t, "ada")
	form := func() string { return url.Values{"logout_token": {s.logto.LogoutToken("ada")}}.Encode() }
	var parts bytes.Buffer
	multi := multipart.NewWriter(&parts)
	_ = multi.WriteField("logout_token", s.logto.LogoutToken("ada"))
	_ = multi.Close()
	caller := s.browser(t)
	wantLogout(t, b, 400, true, caller.do("POST", "/backchannel-logout", form(), "Content-Type", "application/json"))
	wantLogout(t, b, 400, true, caller.do("POST", "/backchannel-logout", form(), "Content-Type", ""))
	wantLogout(t, b, 400, true, caller.do("POST", "/backchannel-logout", parts.String(), "Content-Type", multi.FormDataContentType()))
	wantLogout(t, b, 400, true, caller.do("POST", "/backchannel-logout?"+form(), ""))
	wantLogout(t, b, 400, true, caller.do("POST", "/backchannel-logout", "logout_token=%zz"))
	if a := caller.get("/backchannel-logout?" + form()); a.status != 405 || a.header.Get("Cache-Control") != "no-store" || !b.isSignedIn() {
		t.Errorf("GET: %d", a.status)
	}
	// Another site's page can't have a valid token, so it need not be told apart; Logto sends neither header.
	wantLogout(t, b, 200, false, caller.do("POST", "/backchannel-logout", form(), "Content-Type", "application/x-www-form-urlencoded; charset=utf-8",
		"Sec-Fetch-Site", "cross-site", "Origin", "https://logto.example"))
	b = s.signedIn(t, "ada")
	wantLogout(t, b, 200, false, caller.do("POST", "/backchannel-logout", form(), "Sec-Fetch-Site", "", "Referer", "https://logto.example/"))
}

// TestBackchannelReplay: a token counts once.
func TestBackchannelReplay(t *testing.T) {
	s := newSite(t)
	form := url.Values{"logout_token": {s.logto.LogoutToken("ada", authtest.NoClaim("sid"))}}
	caller := s.browser(t)
	caller.want(caller.post("/backchannel-logout", form), 200, "")
	b := s.signedIn(t, "ada")
	wantLogout(t, b, 400, true, caller.post("/backchannel-logout", form))
}

// TestBackchannelSID ends one of the person's sessions of the two that began at different sessions of the provider.
func TestBackchannelSID(t *testing.T) {
	s := newSite(t)
	one := s.signedIn(t, "ada")
	token := s.logto.LogoutToken("ada")
	two := s.signedIn(t, "ada")
	one.want(one.post("/backchannel-logout", url.Values{"logout_token": {token}}), 200, "")
	if one.isSignedIn() || !two.isSignedIn() {
		t.Errorf("signed in: %v, %v", one.isSignedIn(), two.isSignedIn())
	}
}

// TestBackchannelUnknowable: without Redis or Logto's keys it is neither yes nor no.
func TestBackchannelUnknowable(t *testing.T) {
	s := newSite(t)
	b := s.signedIn(t, "ada")
	form := func() url.Values { return url.Values{"logout_token": {s.logto.LogoutToken("ada")}} }
	s.redis.down()
	a := b.post("/backchannel-logout", form())
	s.redis.up()
	wantLogout(t, b, 503, true, a)

	same := form() // Redis fails when the token has been noted, and Logto calls again with it
	s.redis.down("EVALSHA", "EVAL")
	a = b.post("/backchannel-logout", same)
	s.redis.up()
	wantLogout(t, b, 503, true, a)
	wantLogout(t, b, 200, false, b.post("/backchannel-logout", same))
	b = s.signedIn(t, "ada")
	wantLogout(t, b, 400, true, b.post("/backchannel-logout", same))

	fresh := newSite(t)
	fresh.logto.On(authtest.Keys, authtest.Reset)
	wantLogout(t, b, 503, true, fresh.browser(t).post("/backchannel-logout", url.Values{"logout_token": {fresh.logto.LogoutToken("ada")}}))

	wantLogout(t, b, 200, false, b.post("/backchannel-logout", form()))
}

// TestProviderEndsSession is the whole way: the session ends at the provider, which calls here.
func TestProviderEndsSession(t *testing.T) {
	s := newSite(t)
	one, two, other := s.signedIn(t, "ada"), s.signedIn(t, "ada"), s.signedIn(t, "grace")
	deliveries := s.logto.EndSession(t.Context(), "ada")
	if len(deliveries) != 2 {
		t.Fatalf("%d calls", len(deliveries))
	}
	for _, d := range deliveries {
		if d.Status != http.StatusOK || d.Header.Get("Cache-Control") != "no-store" || d.Err != nil {
			t.Errorf("%+v", d)
		}
	}
	if one.isSignedIn() || two.isSignedIn() || !other.isSignedIn() {
		t.Error("the wrong ones are signed in")
	}
	one.want(one.get("/own/userinfo"), 303, "/sign-in?return_to=%2Fown%2Fuserinfo")
	if a := one.get("/"); a.status != 200 || strings.Contains(a.body, "Ada") {
		t.Errorf("home: %d", a.status)
	}
}
