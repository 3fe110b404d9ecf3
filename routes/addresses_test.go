package routes

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/gin-contrib/sessions"
	"github.com/gin-gonic/gin"

	"example.com/logto-gin-starter/auth"
	"example.com/logto-gin-starter/auth/authtest"
)

// address is who gets what at one, as a page and as JSON.
type address struct {
	method, path                     string
	outHTML, outJSON, inHTML, inJSON want
}

type want struct {
	status   int
	location string // beginning of it
}

// TestAddresses is the table of addresses. Those of a page of the sample are in its own tests.
func TestAddresses(t *testing.T) {
	s := newSite(t)
	toLogto := s.logto.Issuer + "/auth?"
	stylesheet := s.app.Static.URL("app.css")
	s.wantAddresses(t, []address{
		{"GET", "/", want{200, ""}, want{200, ""}, want{200, ""}, want{200, ""}},
		{"GET", "/sign-in", want{303, toLogto}, want{303, toLogto}, want{303, toLogto}, want{303, toLogto}},
		{"GET", "/sign-up", want{303, toLogto}, want{303, toLogto}, want{303, toLogto}, want{303, toLogto}},
		{"GET", "/callback", want{400, ""}, want{400, ""}, want{303, "/"}, want{303, "/"}},
		{"GET", "/sign-out", want{200, ""}, want{200, ""}, want{200, ""}, want{200, ""}},
		{"GET", "/own/userinfo", want{303, toSignIn("/own/userinfo")}, want{401, ""}, want{200, ""}, want{200, ""}},
		{"GET", "/own/token?a=b&c=d", want{303, toSignIn("/own/token?a=b&c=d")}, want{401, ""}, want{200, ""}, want{200, ""}},
		{"POST", "/own/token", want{303, toSignIn("/own/token")}, want{401, ""}, want{200, ""}, want{200, ""}},
		{"GET", "/protected/sessions", want{303, toSignIn("/protected/sessions")}, want{401, ""}, want{200, ""}, want{200, ""}},
		{"POST", "/protected/sessions?lost=1", want{303, toSignIn("/protected/sessions")}, want{401, ""}, want{400, ""}, want{400, ""}},
		{"POST", "/backchannel-logout", want{400, ""}, want{400, ""}, want{400, ""}, want{400, ""}},
		{"GET", "/healthz", want{200, ""}, want{200, ""}, want{200, ""}, want{200, ""}},
		{"GET", "/readyz", want{200, ""}, want{200, ""}, want{200, ""}, want{200, ""}},
		{"GET", stylesheet, want{200, ""}, want{200, ""}, want{200, ""}, want{200, ""}},
		{"GET", "/static/unknown.css", want{404, ""}, want{404, ""}, want{404, ""}, want{404, ""}},
		{"GET", "/api/own", want{401, ""}, want{401, ""}, want{200, ""}, want{200, ""}},
		{"GET", "/api/me", want{401, ""}, want{401, ""}, want{200, ""}, want{200, ""}},
		{"POST", "/organization", want{303, "/sign-in"}, want{401, ""}, want{303, "/"}, want{303, "/"}},
		{"GET", "/account/done", want{303, toSignIn("/account/done")}, want{401, ""}, want{303, "/"}, want{303, "/"}},
		{"GET", "/unknown", want{404, ""}, want{404, ""}, want{404, ""}, want{404, ""}},
		{"GET", "/sign-in/", want{404, ""}, want{404, ""}, want{404, ""}, want{404, ""}},
		// The last: it signs out.
		{"POST", "/sign-out", want{303, s.logto.Issuer + "/session/end?"}, want{303, s.logto.Issuer + "/session/end?"},
			want{303, s.logto.Issuer + "/session/end?"}, want{303, s.logto.Issuer + "/session/end?"}},
	})
}

func (s *site) wantAddresses(t *testing.T, all []address) {
	t.Helper()
	for _, tt := range all {
		check := func(who string, b *browser, accept string, want want) {
			t.Run(who+" "+accept+" "+tt.method+" "+tt.path, func(t *testing.T) {
				b.t = t
				a := b.do(tt.method, tt.path, "", "Accept", accept)
				if location := a.header.Get("Location"); a.status != want.status || !strings.HasPrefix(location, want.location) ||
					want.location == "" && location != "" {
					t.Errorf("%d to %q, want %d to %q…", a.status, location, want.status, want.location)
				}
				if got := a.body; a.status == 401 && accept == "application/json" && (strings.HasPrefix(tt.path, "/protected/") || strings.HasPrefix(tt.path, "/own/")) && got != `{"error":"Not authenticated"}` {
					t.Errorf("body %s", got)
				}
			})
		}
		check("signed out", s.browser(t), "text/html", tt.outHTML)
		check("signed out", s.browser(t), "application/json", tt.outJSON)
		check("signed in", s.signedIn(t, "ada"), "text/html", tt.inHTML)
		check("signed in", s.signedIn(t, "ada"), "application/json", tt.inJSON)
	}
}

func TestWrongMethod(t *testing.T) {
	newSite(t).wantMethods(t, map[string][]string{
		"/": {"GET", "HEAD"}, "/sign-in": {"GET"}, "/sign-up": {"GET"}, "/callback": {"GET"}, "/sign-out": {"GET", "HEAD", "POST"},
		"/protected/sessions": {"GET", "HEAD", "POST"}, "/backchannel-logout": {"POST"}, "/healthz": {"GET", "HEAD"},
		"/organization": {"POST"}, "/account/done": {"GET"}, "/api/me": {"GET", "HEAD"},
		"/readyz": {"GET", "HEAD"}, "/static/app.css": {"GET", "HEAD"},
	})
}

// wantMethods wants each other method than these to be refused, signed in and out.
func (s *site) wantMethods(t *testing.T, all map[string][]string) {
	t.Helper()
	out, in := s.browser(t), s.signedIn(t, "ada")
	for path, allowed := range all {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "ODD"} {
			if slices.Contains(allowed, method) {
				continue
			}
			for _, b := range []*browser{out, in} {
				a := b.do(method, path, "", "Sec-Fetch-Site", "same-origin")
				if a.status != http.StatusMethodNotAllowed || a.header.Get("Allow") != strings.Join(allowed, ", ") {
					t.Errorf("%s %s = %d, Allow %q", method, path, a.status, a.header.Get("Allow"))
				}
				text := "That doesn’t work here"
				if strings.HasPrefix(path, "/api/") {
					text = `{"error":"method_not_allowed",`
				}
				if method != "OPTIONS" && method != "HEAD" && !strings.Contains(a.body, text) {
					t.Errorf("%s %s does not say %s: %s", method, path, text, a.body)
				}
			}
		}
	}
}

// TestHead: what a monitor sees is what GET answers, without the body.
func TestHead(t *testing.T) {
	s := newSite(t)
	b := s.signedIn(t, "ada")
	for _, path := range []string{"/", "/healthz", "/readyz", "/own/userinfo", "/protected/sessions"} {
		get, head := b.do("GET", path, ""), b.do("HEAD", path, "")
		if head.status != get.status || head.body != "" {
			t.Errorf("HEAD %s = %d %q, GET %d", path, head.status, head.body, get.status)
		}
	}
}

// TestWhoWantsWhat is the guard's answer by what a client accepts.
func TestWhoWantsWhat(t *testing.T) {
	s := newSite(t)
	for _, tt := range []struct {
		accept        string
		out           int
		inContentType string
	}{
		{"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", 303, "text/html"},
		{"text/html", 303, "text/html"},
		{"TEXT/HTML", 303, "text/html"},
		{"application/json", 401, "application/json"},
		{"application/json, text/html;q=0.5", 401, "application/json"},
		{"application/json;q=0.5, text/html", 303, "text/html"},
		{"text/html;q=0", 401, "text/html"},
		{"*/*", 401, "text/html"}, // curl
		{"image/png", 401, "text/html"},
		{"text/html;q=nonsense,;;;,", 303, "text/html"},
		{"application/json ; charset=utf-8 ; Q = 0.5 , text/html;q=0.6", 303, "text/html"},
		{"text/html;q=0.5;q=0.9, application/json;q=0.6", 401, "application/json"},
		{"application/json;q=2, text/html;q=-1", 303, "text/html"}, // neither is a weight
	} {
		out := s.browser(t).get("/protected/sessions", "Accept", tt.accept)
		if out.status != tt.out {
			t.Errorf("signed out, %q: %d, want %d", tt.accept, out.status, tt.out)
		}
		in := s.signedIn(t, "grace").get("/protected/sessions", "Accept", tt.accept)
		if in.status != 200 || !strings.HasPrefix(in.header.Get("Content-Type"), tt.inContentType) {
			t.Errorf("signed in, %q: %d %s, want %s", tt.accept, in.status, in.header.Get("Content-Type"), tt.inContentType)
		}
	}
}

// TestReturnAfterSignIn goes to a protected page as a person does who is not signed in.
func TestReturnAfterSignIn(t *testing.T) {
	s := newSite(t)
	b := s.browser(t)
	asked := b.get("/protected/sessions?x=1&y=%2F")
	b.want(asked, 303, "/sign-in?return_to=%2Fprotected%2Fsessions%3Fx%3D1%26y%3D%252F")
	b.want(b.get(b.begin(asked.header.Get("Location"), "ada")), 303, "/protected/sessions?x=1&y=%2F")
}

// TestGuardOptions is the guide's two switches.
func TestGuardOptions(t *testing.T) {
	s := newSite(t, func(set *setup) {
		set.pages = func(app App, engine *gin.Engine) {
			show := func(c *gin.Context) {
				user := auth.UserFrom(c.Request.Context())
				c.JSON(200, gin.H{"sub": user.Subject, "name": user.Claims().Name, "fetched": user.Info})
			}
			page(app, engine, "/mine", app.Authenticated(), show)
			page(app, engine, "/mine/fetched", app.Authenticated(FetchUserInfo), show)
			page(app, engine, "/mine/redirect", app.Authenticated(AlwaysRedirect), show)
			page(app, engine, "/mine/never", app.Authenticated(NeverRedirect, FetchUserInfo), show)
		}
	})
	for _, tt := range []struct {
		path       string
		html, json int
	}{
		{"/mine", 303, 401},
		{"/mine/fetched", 303, 401},
		{"/mine/redirect", 303, 303},
		{"/mine/never", 401, 401},
	} {
		b := s.browser(t)
		b.want(b.get(tt.path), tt.html, "")
		b.want(b.getJSON(tt.path), tt.json, "")
		for _, a := range []reply{b.get(tt.path), b.getJSON(tt.path)} {
			if a.status == 401 && a.body != `{"error":"Not authenticated"}` {
				t.Errorf("%s: more than the guard has answered: %s", tt.path, a.body)
			}
			if a.status == 303 && a.header.Get("Location") != toSignIn(tt.path) {
				t.Errorf("%s leads to %s", tt.path, a.header.Get("Location"))
			}
		}
	}
	b := s.signedIn(t, "ada")
	s.logto.Forget()
	const plain = `{"fetched":null,"name":"Ada Lovelace","sub":"4dal0velace0"}`
	for _, path := range []string{"/mine", "/mine/redirect"} {
		if a := b.get(path); a.body != plain {
			t.Errorf("%s: %s", path, a.body)
		}
	}
	if asked := len(s.logto.Requests()); asked != 0 {
		t.Errorf("%d requests to the provider for ID token claims", asked)
	}
	for _, path := range []string{"/mine/fetched", "/mine/never"} {
		if a := b.get(path); !strings.Contains(a.body, `"custom_data":{`) {
			t.Errorf("%s: %s", path, a.body)
		}
	}
	if asked := s.logto.Count(authtest.UserInfo); asked != 2 {
		t.Errorf("%d requests for user info, want 2", asked)
	}

	s.logto.RevokeGrants("ada") // what concerns the sign-in as a whole is answered as if nobody were signed in
	b.want(b.get("/mine"), 200, "")
	b.want(b.get("/mine/fetched"), 303, "/sign-in?return_to=%2Fmine%2Ffetched")
	b.want(b.get("/mine/never"), 401, "")
}

// TestOwnValues follows a forker's value in sessions.Default(c).
func TestOwnValues(t *testing.T) {
	s := newSite(t, func(set *setup) {
		set.pages = func(app App, engine *gin.Engine) {
			page(app, engine, "/count", func(c *gin.Context) {
				values := sessions.Default(c)
				n, _ := values.Get("count").(int)
				values.Set("count", n+1)
				if err := values.Save(); err != nil {
					app.stop(c, err)
					return
				}
				c.JSON(200, n+1)
			})
		}
	})
	b := s.browser(t)
	count := func(want string) {
		t.Helper()
		if a := b.get("/count"); a.body != want {
			t.Errorf("count %s, want %s", a.body, want)
		}
	}
	count("1")
	count("2")
	visitor := b.cookies()["sid"]
	b.signIn("ada", "/")
	if b.cookies()["sid"] == visitor {
		t.Error("the visitor's ID is the signed-in person's")
	}
	count("3")
	s.redis.down()
	b.want(b.get("/count"), 503, "")
	s.redis.up()
	count("4")
	b.signIn("ada", "/") // again
	count("5")
	b.logto = s.logto.Browser()
	b.signIn("grace", "/")
	count("1") // not ada's
	b.post("/sign-out", nil)
	count("1")
}
