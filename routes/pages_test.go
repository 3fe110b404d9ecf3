package routes

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/gin-gonic/gin"

	"example.com/logto-gin-starter/auth/authtest"
	"example.com/logto-gin-starter/static"
)

// TestRedisCommands: one for a page of who is signed in, none for a visitor without a cookie.
func TestRedisCommands(t *testing.T) {
	s := newSite(t)
	in, visitor := s.signedIn(t, "ada"), s.browser(t)
	in.get("/own/token") // fetches the tokens
	in.get("/")          // teaches Redis its script
	s.logto.Forget()
	for _, path := range []string{"/", "/sign-out", "/own/userinfo", "/own/token", "/unknown"} {
		want := []string{"GETRANGE"}
		if path == "/" {
			want = []string{"EVALSHA", "GETRANGE", "TIME", "ZCOUNT"} // a script, which counts sessions too
		}
		if got := s.redis.during(func() { in.get(path) }); !slices.Equal(got, want) {
			t.Errorf("%s, signed in: %q", path, got)
		}
		if got := s.redis.during(func() { visitor.get(path) }); got != nil {
			t.Errorf("%s, a visitor: %q", path, got)
		}
	}
	for _, path := range []string{"/healthz", "/backchannel-logout", "/static/unknown", s.app.Static.URL("app.css")} {
		if got := s.redis.during(func() { in.get(path) }); path != "/backchannel-logout" && got != nil {
			t.Errorf("%s: %q", path, got)
		}
	}
	// No page fetches discovery or keys again, and only two of them ask for user info.
	if asked := s.logto.Requests(); len(asked) != s.logto.Count(authtest.UserInfo) {
		t.Errorf("asked the provider: %v", asked)
	}
}

// TestOutage: while Redis is away nothing in the browser changes, and the same cookie works when it is back.
func TestOutage(t *testing.T) {
	s := newSite(t)
	b := s.signedIn(t, "ada")
	b.choose("th", "/")
	before := b.cookies()
	s.redis.down()
	for _, path := range []string{"/", "/sign-in", "/sign-up", "/callback?state=x", "/sign-out", "/own/userinfo", "/own/token", "/protected/sessions"} {
		a := b.get(path + "#fragment")
		b.want(a, 503, "")
		if a.header.Get("Retry-After") == "" || len(a.header["Set-Cookie"]) > 0 || !strings.Contains(a.body, `lang="th"`) {
			t.Errorf("%s: %v %s", path, a.header, a.body)
		}
		if a := b.getJSON(path); a.status != 503 || decode[map[string]string](t, a)["error"] != "unavailable" {
			t.Errorf("%s, JSON: %d %s", path, a.status, a.body)
		}
	}
	b.want(b.get("/unknown"), 404, "") // no less missing
	b.want(b.get("/healthz"), 200, "")
	b.want(s.browser(t).get("/"), 200, "") // who has no cookie needs no Redis
	s.redis.up()
	if !maps.Equal(before, b.cookies()) || !b.isSignedIn() {
		t.Error("not as it was")
	}
}

// TestOutageWithinPage: Redis goes away when the session is read already.
func TestOutageWithinPage(t *testing.T) {
	s := newSite(t, func(set *setup) {
		set.pages = func(app App, engine *gin.Engine) {
			page(app, engine, "/mine", app.handle(func(c *gin.Context) error {
				http.SetCookie(c.Writer, &http.Cookie{Name: "mine", Value: "1"})
				_, err := app.browser(c).EndOthers(c.Request.Context())
				return err
			}))
		}
	})
	b := s.signedIn(t, "ada")
	s.redis.down("EVALSHA", "EVAL")
	a := b.get("/mine")
	b.want(a, 503, "")
	if len(a.header["Set-Cookie"]) > 0 {
		t.Errorf("a cookie was set: %v", a.header)
	}
}

// TestReady: Redis decides, whatever Logto does.
func TestReady(t *testing.T) {
	s := newSite(t)
	b := s.browser(t)
	b.want(b.get("/healthz"), 200, "")
	s.redis.down()
	s.logto.On(authtest.Discovery, authtest.Status(503))
	wantReady := func(status int, redis, logto string) {
		t.Helper()
		a := b.get("/readyz")
		if want := fmt.Sprintf(`{"logto":%q,"redis":%q}`, logto, redis); a.status != status || a.body != want || (a.header.Get("Retry-After") != "") != (status == 503) {
			t.Errorf("%d %s, want %d %s", a.status, a.body, status, want)
		}
	}
	wantReady(503, "unavailable", "unavailable")
	s.redis.up()
	wantReady(200, "ok", "unavailable")
	s.logto.On(authtest.Discovery, authtest.Hang)
	begin := time.Now()
	wantReady(200, "ok", "unavailable")
	if waited := time.Since(begin); waited > 2*time.Second {
		t.Errorf("waited %v for Logto", waited)
	}
	s.logto.Behave()
	until(t, func() bool { return b.get("/readyz").body == `{"logto":"ok","redis":"ok"}` })
	wantReady(200, "ok", "ok")
	s.redis.down()
	wantReady(503, "unavailable", "ok")
	s.redis.up()
	s.logto.On(authtest.Discovery, authtest.Status(503))
	wantReady(200, "ok", "ok") // it is known
}

func TestLanguage(t *testing.T) {
	s := newSite(t)
	b := s.browser(t)
	speaks := func(lang, path string, headers ...string) {
		t.Helper()
		a := b.get(path, headers...)
		if !strings.Contains(a.body, `<html lang="`+lang+`">`) {
			t.Errorf("%s %v speaks not %s: %s", path, headers, lang, a.body)
		}
		if vary := a.header.Get("Vary"); vary != "Accept, Accept-Language, Cookie" {
			t.Errorf("Vary %q", vary)
		}
	}
	speaks("en", "/")
	speaks("th", "/", "Accept-Language", "th-TH,th;q=0.9,en;q=0.8")
	speaks("en", "/", "Accept-Language", "en;q=0.9, th;q=0.1")
	speaks("en", "/", "Accept-Language", "fr-FR, xx;;q=")
	b.choose("th", "/")
	speaks("th", "/", "Accept-Language", "en")
	speaks("th", "/unknown", "Accept-Language", "en")
	speaks("th", "/callback?state=x", "Accept-Language", "en")
	b.signIn("ada", "/")
	speaks("th", "/own/userinfo")
	if asked := s.logto.Requests(authtest.Authorization)[0].Form.Get("ui_locales"); asked != "th" {
		t.Errorf("ui_locales %q", asked)
	}
	b.choose("en", "/")
	speaks("en", "/", "Accept-Language", "th")
}

// choose takes a language, which must lead to the page that the form names.
func (b *browser) choose(language, page string) {
	b.t.Helper()
	b.want(b.post("/language", url.Values{"lang": {language}, "return_to": {page}}), http.StatusSeeOther, page)
}

// TestLanguageOfALink: it is kept, and does not stay in the address; only a page's can.
func TestLanguageOfALink(t *testing.T) {
	s := newSite(t)
	for path, want := range map[string]string{
		"/?lang=th": "/", "/?x=1&lang=th&y=%2F": "/?x=1&y=%2F", "/protected/sessions?lang=th": "/protected/sessions", "/nowhere?lang=th": "/nowhere",
		"/?lang=fr": "", "/?lang=": "", "/callback?lang=th&state=x": "", "//evil.example/?lang=th": "", "/%5Cevil.example/?lang=th": "/%5Cevil.example/",
	} {
		b := s.browser(t)
		a := b.get(path)
		if got := a.header.Get("Location"); got != want || (b.cookies()["lang"] == "th") != (want != "") {
			t.Errorf("%s leads to %q, want %q; cookies %v", path, got, want, b.cookies())
		}
		if a := s.browser(t).getJSON(path); a.header.Get("Location") != "" {
			t.Errorf("a program is led from %s to %s", path, a.header.Get("Location"))
		}
	}
}

// TestChooseLanguage: it leads back to the whole address that there was, and to no other site; it asks Redis for nothing.
func TestChooseLanguage(t *testing.T) {
	s := newSite(t)
	b := s.signedIn(t, "ada")
	for _, page := range []string{"/", "/?q=%22a%22&l=en", "/sign-out", "/protected/sessions", "/nowhere?x=1"} {
		if !strings.Contains(b.get(page).body, `name="return_to" value="`+html.EscapeString(page)+`">`+"\n<button name=\"lang\"") {
			t.Errorf("%s can't be read in another language: %s", page, b.get(page).body)
		}
		if commands := s.redis.during(func() { b.choose("th", page) }); commands != nil || b.cookies()["lang"] != "th" {
			t.Errorf("%s: %q, cookies %v", page, commands, b.cookies())
		}
	}
	other := s.browser(t)
	for name, form := range map[string]url.Values{
		"no such language": {"lang": {"fr"}, "return_to": {"/"}}, "markup": {"lang": {"<script>"}, "return_to": {"/"}}, "nothing": {},
		"another site": {"lang": {"th"}, "return_to": {"//evil.example/"}}, "by a scheme": {"lang": {"th"}, "return_to": {"https://evil.example"}},
		"by a backslash": {"lang": {"th"}, "return_to": {`/\evil.example`}},
	} {
		if a := other.post("/language", form); a.status != 400 || a.header.Get("Location") != "" || len(a.header["Set-Cookie"]) > 0 {
			t.Errorf("%s: %d to %q, cookies %q", name, a.status, a.header.Get("Location"), a.header["Set-Cookie"])
		}
	}
	other.want(other.post("/language", url.Values{"lang": {"th"}, "return_to": {"/"}}, "Sec-Fetch-Site", "cross-site"), 403, "")

	// What can't be asked for again as it was offers no other language: it would turn "cancelled" into "already used".
	s.logto.On(authtest.Revocation, authtest.Reset)
	for name, a := range map[string]reply{
		"a callback": other.get("/callback?error=access_denied&state=x"), "a form's answer": b.post("/protected/sessions", nil),
		"a form's page": b.post("/sign-out", nil), "somewhere else": other.get("//evil.example/"),
	} {
		if strings.Contains(a.body, `action="/language"`) || !strings.Contains(a.body, "<h1>") {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
}

// TestErrorPages: one reads what happened and what to do, with an ID that is in the log, and nothing that came in the
// address unescaped.
func TestErrorPages(t *testing.T) {
	const script = "%3Cscript%3Ealert(%22x%22)%3C/script%3E"
	s := newSite(t)
	s.logto.On(authtest.Discovery, authtest.Status(500))
	b := s.browser(t)
	for _, tt := range []struct {
		path   string
		status int
		name   string
	}{
		{"/" + script, 404, "not_found"},
		{"/callback?state=" + script, 400, "unknown_sign_in"},
		{"/callback?error=" + script + "&error_description=" + script, 400, "unknown_sign_in"},
		{"/sign-in?return_to=/" + script, 502, "logto_unavailable"},
		{"/" + strings.Repeat("x", 9000), 414, "too_large"},
		{"/?" + strings.Repeat("x", 9000), 414, "too_large"},
	} {
		a := b.get(tt.path)
		b.want(a, tt.status, "")
		if strings.Contains(a.body, "<script") || strings.Contains(a.body, `("x"`) {
			t.Errorf("%s: %s", tt.path, a.body)
		}
		id := a.header.Get("X-Request-Id")
		for _, text := range []string{id, s.app.Messages.Text("en", "error."+tt.name+".title"), s.app.Messages.Text("en", "error."+tt.name+".text"), `href="/"`} {
			if text == "" || !strings.Contains(a.body, text) {
				t.Errorf("%s lacks %q: %s", tt.path, text, a.body)
			}
		}
		if !strings.Contains(s.log.text(), `"id":"`+id+`"`) {
			t.Errorf("%s is not in the log", id)
		}
		if a := b.getJSON(tt.path); a.body != fmt.Sprintf(`{"error":%q,"request_id":%q}`, tt.name, a.header.Get("X-Request-Id")) {
			t.Errorf("%s, JSON: %s", tt.path, a.body)
		}
	}
	in := newSite(t).signedIn(t, "ada")
	for _, a := range []reply{in.get("/unknown"), in.do("DELETE", "/sign-up", "")} {
		if !strings.Contains(a.body, "Ada Lovelace") {
			t.Errorf("%d: the header does not know who is signed in: %s", a.status, a.body)
		}
	}
}

// TestLimits: what is too large is refused as such, on every address, with or without Content-Length.
func TestLimits(t *testing.T) {
	s := newSite(t)
	large := "end=" + strings.Repeat("x", maxBody)
	for _, path := range []string{"/sign-out", "/protected/sessions", "/own/token", "/backchannel-logout"} {
		in := s.signedIn(t, "ada")
		a := in.do("POST", path, large)
		in.want(a, 413, "")
		if !in.isSignedIn() {
			t.Errorf("%s was carried out", path)
		}
		if path == "/sign-out" {
			continue // has no use for a body
		}
		request, err := http.NewRequestWithContext(t.Context(), "POST", s.url+path, struct{ *strings.Reader }{strings.NewReader(large)})
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		response, err := in.http.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != 413 {
			t.Errorf("%s without Content-Length: %d", path, response.StatusCode)
		}
	}
	in := s.signedIn(t, "ada")
	for _, a := range []reply{
		in.do("POST", "/protected/sessions", "end=%zz"), in.do("POST", "/own/token", "a=%"), in.do("POST", "/own/token", "a;b"),
		in.get("/own/token?a=%zz"), in.do("POST", "/protected/sessions", "end=x", "Content-Type", "multipart/form-data; boundary"),
	} {
		in.want(a, 400, "")
	}
}

// TestHeaderLimits: a header that is parsed is refused beyond its limit, before it is parsed.
func TestHeaderLimits(t *testing.T) {
	s := newSite(t)
	b := s.signedIn(t, "ada")
	send := func(path string, header http.Header) reply {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), "GET", s.url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header = header
		response, err := b.http.Transport.RoundTrip(request) // without the browser's cookies
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return reply{response.StatusCode, response.Header, string(body)}
	}
	for name, limit := range map[string]int{
		"Accept": 2 << 10, "Accept-Language": 1 << 10, "Authorization": 16 << 10, "Content-Type": 1 << 10, "Cookie": 16 << 10,
	} {
		half, rest := strings.Repeat(",", limit/2), strings.Repeat(";", limit/2)
		for _, path := range []string{"/", "/healthz", "/api/own", "/unknown"} {
			if a := send(path, http.Header{name: {half, rest}}); a.status == 431 {
				t.Errorf("%s of %d bytes: %d on %s", name, limit, a.status, path)
			}
			a := send(path, http.Header{name: {half, rest + "x"}})
			text := s.app.Messages.Text("en", "error.too_large.title")
			if path == "/api/own" {
				text = `{"error":"too_large",`
			}
			if a.status != 431 || !strings.Contains(a.body, text) {
				t.Errorf("%s of %d bytes in two lines: %d on %s\n%s", name, limit+1, a.status, path, a.body)
			}
		}
		header := http.Header{"Accept": {"application/json"}, "Accept-Language": {"th"}}
		header[name] = []string{strings.Repeat("x", limit+1)}
		a := send("/", header)
		if name != "Accept" && a.body != fmt.Sprintf(`{"error":"too_large","request_id":%q}`, a.header.Get("X-Request-Id")) {
			t.Errorf("%s, JSON: %s", name, a.body)
		}
		header.Set("Accept", "text/html")
		if a := send("/", header); name != "Accept" && name != "Accept-Language" && !strings.Contains(a.body, `<html lang="th">`) {
			t.Errorf("%s, the page is not in Thai: %s", name, a.body)
		}
	}
}

// TestAcceptIsCheap: entries about other media types cost nothing but to pass over them.
func TestAcceptIsCheap(t *testing.T) {
	for _, junk := range []string{",", "a/b,", "text/xml;q=0.1;a=b,", `text/htm;a="b",`} {
		c, _ := gin.CreateTestContext(httptest.NewRecorder())
		c.Request = httptest.NewRequest("GET", "/", nil)
		c.Request.Header.Set("Accept", strings.Repeat(junk, 2<<10/len(junk)))
		if allocated := testing.AllocsPerRun(10, func() { wantsHTML(c) }); allocated > 0 {
			t.Errorf("%q: %v allocations", junk, allocated)
		}
	}
}

// TestHeaders: every kind of answer is hardened, over http and https.
func TestHeaders(t *testing.T) {
	for _, https := range []bool{false, true} {
		t.Run(fmt.Sprintf("https %v", https), func(t *testing.T) {
			s := newSite(t, func(set *setup) {
				set.https = https
				set.pages = func(app App, engine *gin.Engine) {
					engine.GET("/panic", func(*gin.Context) { panic("at once") })
				}
			})
			out, in := s.browser(t), s.signedIn(t, "ada")
			answers := map[string]reply{
				"page": in.get("/"), "visitor's page": out.get("/"), "to Logto": out.get("/sign-in"), "to sign in": out.get("/own/token"),
				"401": out.getJSON("/own/token"), "JSON": in.getJSON("/own/userinfo"), "400": out.get("/callback"),
				"403": in.post("/sign-out", nil, "Sec-Fetch-Site", "cross-site"), "404": out.get("/unknown"), "405": out.do("DELETE", "/", ""),
				"413": in.do("POST", "/sign-out", strings.Repeat("x", maxBody+1)), "414": out.get("/" + strings.Repeat("x", maxURI)),
				"500": in.get("/panic"), "health": out.get("/healthz"), "ready": out.get("/readyz"), "API": out.get("/api/own"),
				"back-channel": out.post("/backchannel-logout", nil), "no static file": out.get("/static/none"),
				"static file": out.get(s.app.Static.URL("app.css")), "language": out.post("/language", url.Values{"lang": {"th"}, "return_to": {"/"}}),
			}
			s.redis.down()
			answers["503"] = in.get("/")
			s.redis.up()
			answers["sign-out"] = in.post("/sign-out", nil)
			for name, a := range answers {
				wantHardened(t, s, name, a)
			}
		})
	}
}

// TestContentSecurityPolicy: what browsers may load and do follows from what there is.
func TestContentSecurityPolicy(t *testing.T) {
	for file, allows := range map[string]string{
		"app.css":         "",
		"other/app.js":    "; script-src 'self'; connect-src 'self'",
		"fonts/app.woff2": "; font-src 'self'",
	} {
		files, err := static.New(fstest.MapFS{file: {}})
		if err != nil {
			t.Fatal(err)
		}
		s := newSite(t, func(set *setup) { set.app = func(app *App) { app.Static = files } })
		want := "default-src 'none'; style-src 'self'; img-src 'self' https: " + s.logto.URL + "; form-action 'self' " + s.logto.URL +
			"; frame-ancestors 'none'; base-uri 'none'" + allows
		if got := s.browser(t).get("/healthz").header.Get("Content-Security-Policy"); got != want {
			t.Errorf("with %s: %s, want %s", file, got, want)
		}
	}
}

func wantHardened(t *testing.T, s *site, name string, a reply) {
	t.Helper()
	want := map[string]string{
		"Content-Security-Policy": contentSecurityPolicy(s.logto.URL, s.app.Static),
		"X-Content-Type-Options":  "nosniff", "Referrer-Policy": "same-origin", "Cross-Origin-Opener-Policy": "same-origin",
		"Cross-Origin-Resource-Policy": "same-origin", "Cache-Control": "no-store", "Strict-Transport-Security": "",
	}
	if name == "static file" {
		want["Cache-Control"] = "public, max-age=31536000, immutable"
	}
	https := s.app.secure()
	if https {
		want["Strict-Transport-Security"] = "max-age=31536000; includeSubDomains"
	}
	for header, value := range want {
		if got := a.header.Values(header); strings.Join(got, "\n") != value {
			t.Errorf("%s: %s %q, want %q", name, header, got, value)
		}
	}
	if len(a.header.Get("X-Request-Id")) < 16 {
		t.Errorf("%s: no request ID", name)
	}
	for _, header := range []string{"Server", "X-Powered-By", "Access-Control-Allow-Origin"} {
		if a.header.Get(header) != "" {
			t.Errorf("%s: %s", name, header)
		}
	}
	for _, cookie := range a.header["Set-Cookie"] {
		safe := strings.Contains(cookie, "; HttpOnly") && strings.Contains(cookie, "; SameSite=Lax") && strings.Contains(cookie, "; Path=/")
		if !safe || https && (!strings.Contains(cookie, "; Secure") || !strings.HasPrefix(cookie, "__Host-")) {
			t.Errorf("%s: cookie %s", name, cookie)
		}
	}
}

// TestHTTPS signs in where cookies are Secure and have the prefix __Host-.
func TestHTTPS(t *testing.T) {
	s := newSite(t, func(set *setup) { set.https = true })
	b := s.signedIn(t, "ada")
	names := slices.Sorted(maps.Keys(b.cookies()))
	if len(names) != 2 || names[0] != "__Host-sid" || !strings.HasPrefix(names[1], "__Host-signin-") || !b.isSignedIn() {
		t.Errorf("cookies %q, signed in: %v", names, b.isSignedIn())
	}
	plain := s.browser(t)
	plain.setCookie("sid", b.cookies()["__Host-sid"]) // as a sibling domain could plant it
	if plain.isSignedIn() {
		t.Error("a cookie without the prefix counts")
	}
	if b.post("/sign-out", nil); b.isSignedIn() || b.cookies()["__Host-sid"] != "" {
		t.Error("still signed in")
	}
}

// TestPanic gives an error page and a line with the stack, and the next request is served.
func TestPanic(t *testing.T) {
	s := newSite(t, func(set *setup) {
		set.pages = func(app App, engine *gin.Engine) {
			page(app, engine, "/panic", func(*gin.Context) { panic("on purpose") })
			page(app, engine, "/late", func(c *gin.Context) { c.String(200, "half a page"); panic("on purpose") })
			page(app, engine, "/broken", app.handle(func(c *gin.Context) error { return app.page(c, 200, "sessions", 7) }))
			page(app, engine, "/abort", func(*gin.Context) { panic(http.ErrAbortHandler) })
		}
	})
	b := s.signedIn(t, "ada")
	for _, path := range []string{"/panic", "/broken"} {
		a := b.get(path)
		b.want(a, 500, "")
		if !strings.Contains(a.body, "The mistake is ours") || strings.Contains(a.body, "on purpose") || !strings.Contains(a.body, a.header.Get("X-Request-Id")) {
			t.Errorf("%s: %s", path, a.body)
		}
		if a := b.getJSON(path); a.status != 500 || !strings.Contains(a.body, `"error":"internal"`) {
			t.Errorf("%s, JSON: %d %s", path, a.status, a.body)
		}
	}
	panics := s.log.lines(t, "panic")
	if len(panics) != 2 || panics[0]["cause"] != "on purpose" || !strings.Contains(fmt.Sprint(panics[0]["stack"]), "pages_test.go") || panics[0]["id"] == "" {
		t.Errorf("%v", panics)
	}
	if a := b.get("/late"); a.status != 200 || a.body != "half a page" {
		t.Errorf("what was written: %d %s", a.status, a.body)
	}
	if response, err := b.http.Get(s.url + "/abort"); err == nil {
		_ = response.Body.Close()
		t.Error("the connection was to break")
	}
	if !b.isSignedIn() {
		t.Error("signed out")
	}
}

// TestClientGone: who does not wait for the answer is no fault of ours.
func TestClientGone(t *testing.T) {
	s := newSite(t)
	b := s.signedIn(t, "ada")
	ctx, leave := context.WithCancel(t.Context())
	s.logto.On(authtest.UserInfo, func(http.Handler) http.Handler {
		return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			leave()
			<-r.Context().Done()
		})
	})
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/own/userinfo", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if response, err := b.http.Do(request); err == nil {
		_ = response.Body.Close()
		t.Fatal("an answer came")
	}
	s.web.Close() // when the handler is done
	lines := s.log.lines(t, "request")
	if last := lines[len(lines)-1]; last["status"] != float64(statusClientGone) || last["level"] != "INFO" {
		t.Errorf("%v", last)
	}
}

// TestLogLines: one for each request, with its route and not its path, and no key twice.
func TestLogLines(t *testing.T) {
	s := newSite(t)
	b := s.browser(t)
	for _, tt := range []struct {
		method, path, route, level string
		status                     int
	}{
		{"GET", "/?q=secret", "/", "INFO", 200},
		{"GET", "/secret/path", "", "INFO", 404},
		{"SECRET", "/", "", "INFO", 405},
		{"GET", "/callback?code=secret&state=secret", "/callback", "INFO", 400},
		{"GET", "/api/own/secret", "/api/own/:id", "INFO", 401},
		{"GET", "/static/secret.css", "/static/*name", "INFO", 404},
	} {
		before := len(s.log.lines(t, "request"))
		a := b.do(tt.method, tt.path, "")
		lines := s.log.lines(t, "request")
		if len(lines) != before+1 {
			t.Fatalf("%s: %d lines", tt.path, len(lines)-before)
		}
		line := lines[before]
		for name, want := range map[string]any{"route": tt.route, "level": tt.level, "status": float64(tt.status), "id": a.header.Get("X-Request-Id")} {
			if line[name] != want {
				t.Errorf("%s: %s is %v, want %v", tt.path, name, line[name], want)
			}
		}
		if duration, _ := line["duration_ms"].(float64); duration <= 0 {
			t.Errorf("duration_ms %v", line["duration_ms"])
		}
	}
	s.redis.down()
	b.setCookie("sid", strings.Repeat("A", 16)+"."+strings.Repeat("A", 43))
	b.get("/")
	lines := s.log.lines(t, "request")
	if b.get("/readyz"); s.log.lines(t, "request")[len(lines)]["level"] != "DEBUG" {
		t.Error("a health check that fails is a line of the log")
	}
	if last := lines[len(lines)-1]; last["level"] != "ERROR" || !strings.Contains(fmt.Sprint(last["error"]), "sessions are unavailable") {
		t.Errorf("%v", last)
	}
	if strings.Contains(strings.ToLower(s.log.text()), "secret") {
		t.Error("what came in a request is in the log")
	}
	for line := range bytes.Lines([]byte(s.log.text())) {
		wantKeysOnce(t, line)
	}
}

func wantKeysOnce(t *testing.T, line []byte) {
	t.Helper()
	decoder, seen := json.NewDecoder(bytes.NewReader(line)), map[json.Token]bool{}
	_, _ = decoder.Token() // the brace
	for decoder.More() {
		key, err := decoder.Token()
		if err != nil || seen[key] {
			t.Errorf("%v twice in %s", key, line)
		}
		seen[key] = true
		var value json.RawMessage
		_ = decoder.Decode(&value)
	}
}

// TestNothingSecret does all there is to do, with each answer of the provider's right and then wrong, and looks for every
// secret in all pages and in the log, and for what is personal in the log.
func TestNothingSecret(t *testing.T) { wantNothingSecret(t, tour) }

func wantNothingSecret(t *testing.T, tour func(*browser) []reply) {
	for _, e := range []authtest.Endpoint{authtest.Discovery, authtest.Keys, authtest.Token, authtest.UserInfo, authtest.Revocation} {
		for name, wrong := range map[string]authtest.Behaviour{
			"500": authtest.Status(500), "garbage": authtest.Garbage, "web page": authtest.HTML(200), "reset": authtest.Reset, "cut off": authtest.CutOff,
		} {
			t.Run(fmt.Sprint(e, " ", name), func(t *testing.T) {
				t.Parallel()
				s := newSite(t)
				given := issued(s.logto)
				b := s.browser(t)
				var seen []reply
				hook := s.logto.On(e, wrong)
				if seen = append(seen, b.get("/sign-in")); e != authtest.Discovery {
					seen = append(seen, b.get(b.begin("/sign-in", "ada")))
				}
				hook.Off()
				b.signIn("ada", "/")
				cookies := b.cookies()
				seen = append(seen, tour(b)...)
				s.logto.On(e, wrong)
				seen = append(seen, tour(b)...)
				seen = append(seen, b.post("/backchannel-logout", url.Values{"logout_token": {given()[0]}}), b.post("/sign-out", nil))

				secrets := append(given(), "demo-secret-0123456789-only-for-this")
				for _, value := range cookies {
					_, secret, _ := strings.Cut(value, ".")
					secrets = append(secrets, value, secret)
				}
				for _, r := range s.logto.Requests() {
					for _, name := range []string{"code", "code_verifier", "code_challenge", "refresh_token", "token", "state"} {
						secrets = append(secrets, r.Form.Get(name))
					}
					_, credentials, _ := strings.Cut(r.Header.Get("Authorization"), " ")
					secrets = append(secrets, credentials)
				}
				wantNone(t, "the log", s.log.text(), append(secrets, "Ada Lovelace", "ada@example.com", "66812345678", "4dal0velace0"))
				for _, a := range seen {
					if a.status != http.StatusSeeOther { // which is meant for the provider
						wantNone(t, "a page", a.body, secrets)
					}
				}
			})
		}
	}
}

// tour looks at every page, and presses every button that does not sign out.
func tour(b *browser) (seen []reply) {
	for _, path := range []string{"/", "/sign-out", "/own/userinfo", "/own/token", "/protected/sessions", "/unknown", "/callback?code=x&state=y"} {
		seen = append(seen, b.get(path), b.getJSON(path))
	}
	return append(seen, b.post("/own/token", nil), b.get("/api/own"), b.post("/organization", url.Values{"id": {acme}}), b.post("/protected/sessions", url.Values{"end": {"others"}}))
}

func wantNone(t *testing.T, where, text string, secrets []string) {
	t.Helper()
	for _, secret := range secrets {
		if secret != "" && strings.Contains(text, secret) {
			t.Errorf("%q is in %s: %s", secret, where, text)
		}
	}
}
