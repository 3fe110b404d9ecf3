package routes

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"example.com/logto-gin-starter/auth/authtest"
)

func TestSignOut(t *testing.T) {
	s := newSite(t)
	b := s.signedIn(t, "ada")
	stolen := b.cookies()["sid"]
	s.logto.Forget()

	asks := b.get("/sign-out")
	b.want(asks, 200, "")
	if !strings.Contains(asks.body, `<form method="post" action="/sign-out">`) || !b.isSignedIn() || len(s.logto.Requests()) > 0 {
		t.Errorf("GET does more than ask: %s", asks.body)
	}

	a := b.post("/sign-out", nil, "Accept-Language", "th")
	b.want(a, 303, "")
	if b.isSignedIn() || b.cookies()["sid"] != "" {
		t.Error("still signed in here")
	}
	revocations := s.logto.Requests(authtest.Revocation)
	if len(revocations) != 1 || revocations[0].Auth != "client_secret_basic" || revocations[0].Form.Get("token_type_hint") != "refresh_token" {
		t.Errorf("revocations: %v", revocations)
	}
	end, err := url.Parse(a.header.Get("Location"))
	if err != nil {
		t.Fatal(err)
	}
	query := end.Query()
	if query.Get("id_token_hint") == "" || query.Get("client_id") == "" || query.Get("post_logout_redirect_uri") != s.url+"/" || query.Get("ui_locales") != "th" {
		t.Errorf("end of session: %v", query)
	}
	back, err := b.logto.SignOut(t.Context(), end.String())
	if err != nil || back != s.url+"/" {
		t.Errorf("the provider leads to %q, %v", back, err)
	}
	b.want(b.get("/?state=some"), 200, "")

	thief := s.browser(t)
	thief.setCookie("sid", stolen)
	if thief.isSignedIn() {
		t.Error("the old cookie still works")
	}
	if form := s.logto.Requests(authtest.Revocation)[0].Form; refreshes(t, s, form.Get("token")) {
		t.Error("the refresh token still works")
	}
	// The session at the provider has ended, too: it asks again who it is.
	if answer := b.get("/sign-in"); asksWho(t, b, answer.header.Get("Location")) != true {
		t.Error("still signed in at the provider")
	}
}

// refreshes tries a refresh token as a thief of all secrets would.
func refreshes(t *testing.T, s *site, token string) bool {
	t.Helper()
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}, "client_id": {"demoapp0123456789abcd"},
		"client_secret": {"demo-secret-0123456789-only-for-this"}}
	response, err := http.PostForm(s.logto.Issuer+"/token", form)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// asksWho reports whether the provider wants to know who it is.
func asksWho(t *testing.T, b *browser, authorize string) bool {
	t.Helper()
	_, err := b.logto.SignIn(t.Context(), authorize, "nobody")
	return err != nil
}

func TestSignOutCrossSite(t *testing.T) {
	s := newSite(t)
	for _, tt := range []struct {
		name    string
		headers []string
		status  int
	}{
		{"another site", []string{"Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example"}, 403},
		{"a sibling", []string{"Sec-Fetch-Site", "same-site", "Origin", "https://evil.localhost"}, 403},
		{"another site, old browser", []string{"Sec-Fetch-Site", "", "Origin", "https://evil.example"}, 403},
		{"a sandboxed frame", []string{"Sec-Fetch-Site", "", "Origin", "null"}, 403},
		{"this site", []string{"Sec-Fetch-Site", "same-origin", "Origin", s.url}, 303},
		{"this site, old browser", []string{"Sec-Fetch-Site", "", "Origin", s.url}, 303},
		{"no browser", []string{"Sec-Fetch-Site", ""}, 303},
		{"another site, very old browser", []string{"Sec-Fetch-Site", "", "Referer", "http://evil.example/page"}, 403},
		{"another port, very old browser", []string{"Sec-Fetch-Site", "", "Referer", "http://127.0.0.1:1/"}, 403},
		{"no site, very old browser", []string{"Sec-Fetch-Site", "", "Referer", "about:blank"}, 403},
		{"a user that looks like this site", []string{"Sec-Fetch-Site", "", "Referer", s.url + "@evil.example/"}, 403},
		{"not a URL", []string{"Sec-Fetch-Site", "", "Referer", "http://%zz/"}, 403},
		{"this site, very old browser", []string{"Sec-Fetch-Site", "", "Referer", s.url + "/sign-out"}, 303},
		{"this site, new browser", []string{"Sec-Fetch-Site", "same-origin", "Referer", "http://evil.example/"}, 303}, // what it says is worth more
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := s.signedIn(t, "ada")
			a := b.post("/sign-out", nil, tt.headers...)
			b.want(a, tt.status, "")
			if b.isSignedIn() != (tt.status == 403) {
				t.Errorf("signed in: %v", b.isSignedIn())
			}
			if tt.status == 403 && !strings.Contains(a.body, "Request blocked") {
				t.Errorf("no page: %s", a.body)
			}
		})
	}
}

// TestBehindProxy: the public address is configuration, so a form from there is no other site's, whatever Host says.
func TestBehindProxy(t *testing.T) {
	s := newSite(t)
	b := s.signedIn(t, "ada")
	port := s.url[strings.LastIndexByte(s.url, ':'):]
	inside := "http://localhost" + port // the proxy's view of the application: another Host
	cookie := "sid=" + b.cookies()["sid"]
	a := b.get(inside+"/sign-in", "Cookie", cookie, "X-Forwarded-Host", "evil.example", "X-Forwarded-Proto", "https", "Forwarded", "host=evil.example")
	if u, _ := url.Parse(a.header.Get("Location")); u.Query().Get("redirect_uri") != s.url+"/callback" {
		t.Errorf("redirect URI from the request: %s", u)
	}
	b.want(b.post(inside+"/sign-out", nil, "Cookie", cookie, "Sec-Fetch-Site", "", "Origin", "http://localhost:1"), 403, "")
	b.want(b.post(inside+"/sign-out", nil, "Cookie", cookie, "Sec-Fetch-Site", "", "Referer", "http://localhost:1/"), 403, "")
	b.want(b.post(inside+"/own/token", nil, "Cookie", cookie, "Sec-Fetch-Site", "", "Referer", s.url+"/own/token"), 200, "")
	b.want(b.post(inside+"/own/token", nil, "Cookie", cookie, "Sec-Fetch-Site", "", "Referer", inside+"/own/token"), 200, "")
	b.want(b.post(inside+"/sign-out", nil, "Cookie", cookie, "Sec-Fetch-Site", "", "Origin", s.url), 303, "")
}

// TestSignOutWithoutLogto: the session here ends whatever Logto does. A page says what is not done, and can try again; the next
// sign-in of this browser asks for the password.
func TestSignOutWithoutLogto(t *testing.T) {
	for name, tt := range map[string]struct {
		endpoint authtest.Endpoint
		wrong    authtest.Behaviour
	}{
		"revocation fails":  {authtest.Revocation, authtest.Status(500)},
		"revocation breaks": {authtest.Revocation, authtest.Reset},
		"revocation hangs":  {authtest.Revocation, authtest.Hang},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, func(set *setup) {
				if name == "revocation hangs" {
					set.client.Transport = impatient{"/revocation"}
				}
			})
			b := s.signedIn(t, "ada")
			s.logto.On(tt.endpoint, tt.wrong)
			a := b.post("/sign-out", nil)
			b.want(a, 200, "")
			if b.isSignedIn() || !strings.Contains(a.body, "You are signed out here") || !strings.Contains(a.body, `method="post" action="/sign-out"`) {
				t.Errorf("signed in: %v, %s", b.isSignedIn(), a.body)
			}
			if got := b.prompt(); got != withLogin {
				t.Errorf("the next sign-in asks for %q", got)
			}
			s.logto.Behave()
			if a = b.post("/sign-out", nil); a.status != 303 || !strings.HasPrefix(a.header.Get("Location"), s.logto.Issuer+"/session/end?") {
				t.Errorf("again: %d to %s", a.status, a.header.Get("Location"))
			}
			b.signIn("ada", "/")
			if got := b.prompt(); got != usual {
				t.Errorf("after that sign-in, one asks for %q", got)
			}
		})
	}
}

// TestSignOutDuringOutage: what could not be ended is not said to be ended.
func TestSignOutDuringOutage(t *testing.T) {
	s := newSite(t)
	b := s.signedIn(t, "ada")
	for _, commands := range [][]string{nil, {"EVALSHA", "EVAL"}} {
		s.redis.down(commands...)
		a := b.post("/sign-out", nil)
		b.want(a, 503, "")
		if len(a.header["Set-Cookie"]) > 0 || s.logto.Count(authtest.Revocation) > 0 {
			t.Error("signed out half-way")
		}
		s.redis.up()
		if !b.isSignedIn() {
			t.Error("signed out")
		}
	}
	b.want(b.post("/sign-out", nil), 303, "")
}
