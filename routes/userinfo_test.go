package routes

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"example.com/logto-gin-starter/auth/authtest"
)

// TestUserInfoJSON: exactly what the provider's userinfo endpoint answers. What was not asked for is absent, what the
// person lacks is null.
func TestUserInfoJSON(t *testing.T) {
	s := newSite(t)
	var sent map[string]any
	s.logto.On(authtest.UserInfo, authtest.EditJSON(func(claims map[string]any) {
		claims["quota"] = json.Number("9007199254740993") // more than a float64 can hold
		claims["tenant"] = map[string]any{"custom": []any{nil, true, "<&>"}}
		claims["gender"] = json.Number("7") // not the type that it should have
		claims["SUB"] = "not the sub"
		sent = claims
	}))
	for _, who := range []string{"ada", "grace"} {
		b := s.signedIn(t, who)
		a := b.getJSON("/protected/userinfo")
		b.want(a, 200, "")
		if got := decode[map[string]any](t, a); !reflect.DeepEqual(got, sent) {
			t.Errorf("%s:\n got %v\nsent %v", who, got, sent)
		}
	}
	for name, want := range map[string]bool{"email": true, "picture": true, "given_name": false, "address": false} {
		if value, is := sent[name]; is != want || value != nil {
			t.Errorf("this test proves nothing about %s: %v", name, value)
		}
	}

	few := newSite(t, func(set *setup) { set.client.Scopes = nil })
	b := few.signedIn(t, "ada")
	got := decode[map[string]any](t, b.getJSON("/protected/userinfo"))
	if _, asked := got["email"]; asked || got["name"] != "Ada Lovelace" {
		t.Errorf("without scopes: %v", got)
	}
}

func TestUserInfoAddress(t *testing.T) {
	s := newSite(t)
	s.wantAddresses(t, []address{
		{"GET", "/protected/userinfo", want{303, toSignIn("/protected/userinfo")}, want{401, ""}, want{200, ""}, want{200, ""}},
	})
	s.wantMethods(t, map[string][]string{"/protected/userinfo": {"GET", "HEAD"}})
}

func TestUserInfoPage(t *testing.T) {
	s := newSite(t)
	s.logto.OnIDToken(authtest.Claim("tenant", "blue"))
	ada := s.signedIn(t, "ada").get("/protected/userinfo").body
	for name, text := range map[string]string{
		"subject first":       "<tbody>\n<tr>\n<th scope=\"row\"><code>sub</code>",
		"text":                "Ada Lovelace",
		"picture":             `<span class="thumbnail"><img src="https://logto.example/avatar/ada.svg"`,
		"address of a page":   `<a href="https://example.com/ada" rel="noreferrer noopener">`,
		"time, of ms":         `<time datetime="2026-01-05T09:00:00Z">5 January 2026`,
		"yes":                 "✓ Yes",
		"object":              "&#34;theme&#34;: &#34;dark&#34;",
		"list":                `<code class="badge">merchant</code>`,
		"only userinfo":       "Userinfo only",
		"only ID token":       "<code>tenant</code></th>\n<td>blue <span class=\"origin badge\">ID token only",
		"both":                "<td>Countess</td>",
		"the endpoint's JSON": "&#34;sub&#34;: &#34;4dal0velace0&#34;",
		"how to get it":       "-b &#39;sid=…&#39; " + s.url + "/protected/userinfo",
	} {
		if !strings.Contains(ada, text) {
			t.Errorf("%s: no %s", name, text)
		}
	}
	if grace := s.signedIn(t, "grace").get("/protected/userinfo").body; !strings.Contains(grace, "Requested, but not set in Logto.") || !strings.Contains(grace, `<span class="muted">None</span>`) || !strings.Contains(grace, `<span class="person-name">grace</span>`) {
		t.Errorf("who has no name: %s", grace)
	}
}

func TestUserInfoNothingSecret(t *testing.T) {
	wantNothingSecret(t, func(b *browser) []reply {
		return []reply{b.get("/protected/userinfo"), b.getJSON("/protected/userinfo")}
	})
}

// TestUserInfoIsFresh: the page asks the provider each time.
func TestUserInfoIsFresh(t *testing.T) {
	s := newSite(t)
	b := s.signedIn(t, "ada")
	changed := s.logto.User("ada")
	changed.Name = `<script>alert("1")</script>`
	changed.Picture = "javascript:alert(1)"
	changed.CustomData = map[string]any{"</code><script>": "x"}
	s.logto.SetUser(changed)
	a := b.get("/protected/userinfo")
	if !strings.Contains(a.body, "&lt;script&gt;") || strings.Contains(a.body, "<script") || strings.Contains(a.body, "ZgotmplZ") {
		t.Errorf("not fresh, or not escaped: %s", a.body)
	}
	// What it differs in from the ID token is said, and is in the header of each page from now on.
	if !strings.Contains(a.body, `Differs from the ID token`) || !strings.Contains(a.body, `<span class="value">Ada Lovelace</span>`) {
		t.Errorf("the difference is not shown: %s", a.body)
	}
	if a := b.get("/"); strings.Contains(a.body, "<script") || strings.Contains(a.body, "ZgotmplZ") || !strings.Contains(a.body, "&lt;script&gt;") {
		t.Errorf("home: %s", a.body)
	}
}

func TestUserInfoRefused(t *testing.T) {
	for _, tt := range []struct {
		name   string
		wrong  authtest.Behaviour
		status int
		stays  bool // signed in
	}{
		{"oidcc-client-test-userinfo-invalid-sub", authtest.Field("sub", "somebodyelse"), 502, true},
		{"no sub", authtest.NoField("sub"), 502, true},
		{"500", authtest.Status(500), 502, true},
		{"web page", authtest.HTML(200), 502, true},
		{"garbage", authtest.Garbage, 502, true},
		{"cut off", authtest.CutOff, 502, true},
		{"reset", authtest.Reset, 502, true},
		{"2 MB", authtest.Huge(2 << 20), 502, true},
		{"redirects", authtest.RedirectLoop, 502, true},
		{"slow", authtest.Hang, 504, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t, func(set *setup) {
				if tt.name == "slow" {
					set.client.Transport = impatient{"/me"}
				}
			})
			b := s.signedIn(t, "ada")
			s.logto.On(authtest.UserInfo, tt.wrong)
			a := b.get("/protected/userinfo?a=b")
			b.want(a, tt.status, "")
			if !strings.Contains(a.body, `href="/protected/userinfo?a=b"`) || strings.Contains(a.body, "ada@example.com") {
				t.Errorf("want a way to try again and no claims: %s", a.body)
			}
			if a := b.getJSON("/protected/userinfo"); a.status != tt.status || !strings.Contains(a.body, `"request_id":"`) {
				t.Errorf("JSON: %d %s", a.status, a.body)
			}
			if !b.isSignedIn() {
				t.Error("signed out")
			}
			s.logto.Behave()
			if tt.name != "slow" {
				b.want(b.get("/protected/userinfo"), 200, "")
			}
		})
	}
	t.Run("access token revoked early", func(t *testing.T) {
		s := newSite(t)
		b := s.signedIn(t, "ada")
		s.logto.On(authtest.UserInfo, authtest.OAuthError(401, "invalid_token", "")).Times(1)
		b.want(b.get("/protected/userinfo"), 200, "")
	})
	t.Run("grant revoked", func(t *testing.T) {
		s := newSite(t)
		b := s.signedIn(t, "ada")
		s.logto.RevokeGrants("ada")
		b.want(b.get("/protected/userinfo"), 303, "/sign-in?return_to=%2Fprotected%2Fuserinfo")
		if a := b.getJSON("/protected/userinfo"); a.status != 401 || a.body != `{"error":"Not authenticated"}` {
			t.Errorf("JSON: %d %s", a.status, a.body)
		}
	})
}
