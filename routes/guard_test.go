package routes

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"example.com/logto-gin-starter/auth"
	"example.com/logto-gin-starter/auth/authtest"
)

const products = "read:products"

// guarded has a page behind each guard, which a form can be sent to as well.
func guarded(change ...func(*setup)) func(*setup) {
	return func(set *setup) {
		set.pages = func(app App, engine *gin.Engine) {
			for path, guard := range map[string]GuardOption{
				"/role":        RequireRole("boss", "admin"),
				"/org":         RequireOrganization(),
				"/org-role":    RequireOrganizationRole("boss", "admin"),
				"/permission":  RequirePermission(shopping, products),
				"/permissions": RequirePermission(shopping, products, "write:products"),
				"/unknown-api": RequirePermission("https://unknown.example/api"),
				"/recent":      RequireRecentSignIn(time.Minute),
				"/mfa":         RequireMFA(),
				"/careful":     func(g *guard) { RequireRecentSignIn(time.Minute)(g); RequireMFA()(g) },
				"/acting":      func(g *guard) { RequireOrganizationRole("admin")(g); RequirePermission(shopping)(g) },
				"/insisting":   func(g *guard) { RequireRecentSignIn(time.Minute)(g); AlwaysRedirect(g) },
				"/both":        func(g *guard) { RequireRole("admin")(g); RequireOrganization()(g) },
			} {
				pass := func(c *gin.Context) {
					organization, _ := auth.OrganizationFrom(c)
					c.String(http.StatusOK, "%s in %q", auth.UserFrom(c).Subject, organization.Name)
				}
				page(app, engine, path, app.Authenticated(guard), pass)
				engine.POST(path, app.handle(app.loadSession), app.Authenticated(guard), pass)
			}
			ask := func(c *gin.Context) {
				r := app.rights(c)
				c.String(http.StatusOK, "%t %t %t", r.HasRole("admin"), r.HasOrganizationRole("admin"), r.HasPermission(shopping, products))
			}
			engine.GET("/open", ask)
			page(app, engine, "/template", app.Authenticated(), ask)
		}
		for _, f := range change {
			f(set)
		}
	}
}

// TestGuards: right, wrong, absent, null, odd type, for a page, a form and a program.
func TestGuards(t *testing.T) {
	acmeAdmin := acme + ":admin"
	now := time.Now().Unix()
	tests := []struct {
		path   string
		claim  string // of the ID token
		value  any    // absent if it is this very string: "absent"
		active bool   // Acme
		want   int    // 200, 403, or 303 for another sign-in
	}{
		{"/role", "roles", []string{"x", "admin"}, false, 200},
		{"/role", "roles", []string{"boss"}, false, 200},
		{"/role", "roles", []string{"Admin", "administrator", ""}, false, 403},
		{"/role", "roles", []string{}, false, 403},
		{"/role", "roles", "absent", false, 403},
		{"/role", "roles", nil, false, 403},
		{"/role", "roles", "admin", false, 403},
		{"/role", "roles", map[string]any{"admin": true}, false, 403},
		{"/role", "roles", []any{"admin", 1}, false, 403},

		{"/org", "organizations", []string{acme}, true, 200},
		{"/org", "organizations", []string{acme}, false, 403},

		{"/org-role", "organization_roles", []string{acmeAdmin}, true, 200},
		{"/org-role", "organization_roles", []string{acmeAdmin}, false, 403},
		{"/org-role", "organization_roles", []string{"other:admin", acme + ":member", ":admin", "admin"}, true, 403},
		{"/org-role", "organization_roles", "absent", true, 403},
		{"/org-role", "organization_roles", nil, true, 403},
		{"/org-role", "organization_roles", acmeAdmin, true, 403},
		{"/org-role", "organization_roles", map[string]any{acme: "admin"}, true, 403},

		{"/recent", "auth_time", now, false, 200},
		{"/recent", "auth_time", now - 3600, false, 303}, // stale
		{"/recent", "auth_time", now + 3600, false, 303},
		{"/recent", "auth_time", "absent", false, 303},
		{"/recent", "auth_time", nil, false, 303},
		{"/recent", "auth_time", 0, false, 303},

		{"/mfa", "acr", auth.ACRMFA, false, 200},
		{"/mfa", "acr", "urn:logto:acr:1fa", false, 303},
		{"/mfa", "acr", "absent", false, 303},
		{"/mfa", "acr", nil, false, 303},
		{"/mfa", "acr", []string{auth.ACRMFA}, false, 303},
		{"/mfa", "acr", true, false, 303},
	}
	s := newSite(t, guarded())
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.path, " ", tt.value, " ", tt.active), func(t *testing.T) {
			change := authtest.Claim(tt.claim, tt.value)
			if tt.value == "absent" {
				change = authtest.NoClaim(tt.claim)
			}
			s.logto.OnIDToken(change).Times(1)
			b := s.signedIn(t, "ada")
			in := `""`
			if tt.active {
				b.want(b.post("/organization", url.Values{"id": {acme}, "return_to": {"/there?a=b"}}), 303, "/there?a=b")
				in = `"Acme"`
			}
			wantGuard(b, tt.path, tt.want, in)
		})
	}
}

// wantGuard visits a guarded page as a person, as a form, and as a program.
func wantGuard(b *browser, path string, want int, in string) {
	b.t.Helper()
	get, sent, program := b.get(path+"?a=b"), b.post(path, nil, "Referer", b.site.url+"/form?x=y"), b.getJSON(path)
	switch want {
	case 200:
		for _, a := range []reply{get, sent, program} {
			if a.status != 200 || !strings.Contains(a.body, "4dal0velace0 in "+in) {
				b.t.Errorf("%d %s", a.status, a.body)
			}
		}
	case 403:
		for _, a := range []reply{get, sent} {
			if a.status != 403 || strings.Contains(a.body, "another site") || !strings.Contains(a.body, "sk an administrator") && !strings.Contains(a.body, "hoose another organization") {
				b.t.Errorf("%d %s", a.status, a.body)
			}
		}
		answer := decode[map[string]any](b.t, program)
		if program.status != 403 || answer["error"] != "forbidden" || len(answer["required"].(map[string]any)) != 1 || len(answer) != 2 {
			b.t.Errorf("program: %d %s", program.status, program.body)
		}
	default:
		parameter := map[string]string{"/recent": "max_age=60&", "/mfa": "acr_values=" + url.QueryEscape(auth.ACRMFA) + "&"}[path]
		b.want(get, 303, "/sign-in?"+parameter+"return_to="+url.QueryEscape(path+"?a=b"))
		link := `href="/sign-in?` + strings.ReplaceAll(parameter, "&", "&amp;") + "return_to=" + url.QueryEscape("/form?x=y") + `"`
		if sent.status != 403 || !strings.Contains(sent.body, "Confirm that it is you") || !strings.Contains(sent.body, link) {
			b.t.Errorf("form: %d, no %s in %s", sent.status, link, sent.body)
		}
		answer := decode[map[string]string](b.t, program)
		if program.status != 401 || answer["error"] != "reauthentication_required" || answer["sign_in"] != "/sign-in?"+parameter+"return_to="+url.QueryEscape(path) {
			b.t.Errorf("program: %d %s", program.status, program.body)
		}
	}
}

// A script can't follow where a page leads: it is told where to sign in, also where everybody else is sent there.
func TestReauthenticationOfScripts(t *testing.T) {
	s := newSite(t, guarded())
	b := s.signedIn(t, "ada")
	for _, tt := range []struct {
		method, path, accept string
		want                 int
	}{
		{"GET", "/recent", "*/*", 401},
		{"GET", "/insisting", "*/*", 303},
		{"GET", "/insisting", "application/json", 303},
		{"POST", "/insisting", "application/json", 401},
		{"POST", "/insisting", "text/html", 403},
	} {
		a := b.do(tt.method, tt.path, "", "Accept", tt.accept, "Referer", s.url+"/form")
		if a.status != tt.want || a.status == 401 && !strings.HasPrefix(a.body, `{"error":"reauthentication_required","sign_in":"/sign-in?max_age=60`) {
			t.Errorf("%s %s for %s: %d, want %d: %s", tt.method, tt.path, tt.accept, a.status, tt.want, a.body)
		}
	}
}

// TestRequirePermission: of the token within the active organization, if there is one.
func TestRequirePermission(t *testing.T) {
	s := newSite(t, guarded())
	b := s.signedIn(t, "ada")
	wantGuard(b, "/permissions", 200, `""`)
	b.post("/organization", url.Values{"id": {acme}})
	wantGuard(b, "/permission", 200, `"Acme"`)
	requests := s.logto.Requests(authtest.Token)
	if last := requests[len(requests)-1].Form; last.Get("organization_id") != acme || last.Get("resource") != shopping {
		t.Errorf("asked for %v", last)
	}
	s.logto.SetRoles("ada") // none
	s.logto.Join("ada", acme, "member")
	s.app.Sessions.MarkDue(t.Context(), "4dal0velace0")
	wantGuard(b, "/permissions", 403, "")
	if a := b.getJSON("/permissions"); a.body != `{"error":"forbidden","required":{"permission":{"resource":"`+shopping+`","scopes":["read:products","write:products"]}}}` {
		t.Errorf("what is required: %s", a.body)
	}
	again := `href="/sign-in?return_to=%2Fpermissions"`
	if a := b.get("/permissions"); !strings.Contains(a.body, again) {
		t.Errorf("no way to new permissions: %s", a.body)
	}
	wantGuard(b, "/unknown-api", 403, "")

	grace := s.signedIn(t, "grace")
	wantGuard(grace, "/permission", 403, "")

	for name, tt := range map[string]struct {
		change func(*authtest.JWT)
		want   int
	}{
		"scope absent":     {authtest.NoClaim("scope"), 403},
		"scope null":       {authtest.Claim("scope", nil), 403},
		"scope of a list":  {authtest.Claim("scope", []string{products}), 403},
		"another scope":    {authtest.Claim("scope", "read:product read:products2"), 403},
		"among others":     {authtest.Claim("scope", "a read:products b"), 200},
		"claims no object": {func(j *authtest.JWT) { clear(j.Claims) }, 403},
	} {
		t.Run(name, func(t *testing.T) {
			b := s.signedIn(t, "ada")
			b.t = t
			s.logto.OnAccessToken(tt.change).Times(1)
			if a := b.get("/permission"); a.status != tt.want {
				t.Errorf("%d %s, want %d", a.status, a.body, tt.want)
			}
		})
	}
	// What was not asked for at the last sign-in comes with another one.
	for _, code := range []string{"invalid_target", "insufficient_scope", "access_denied"} {
		b := s.signedIn(t, "ada")
		s.logto.On(authtest.Token, authtest.OAuthError(400, code, "no")).Times(1)
		if a := b.get("/permission"); a.status != 403 || !strings.Contains(a.body, `href="/sign-in?return_to=%2Fpermission"`) {
			t.Errorf("%s: %d %s", code, a.status, a.body)
		}
	}
	// An outage is no refusal.
	b = s.signedIn(t, "ada")
	s.logto.On(authtest.Token, authtest.Status(502))
	b.want(b.get("/permission"), 502, "")
}

// TestPermissionWithin: in an organization, only the permissions that hold there count.
func TestPermissionWithin(t *testing.T) {
	s := newSite(t, guarded())
	for name, tt := range map[string]struct {
		change func(*authtest.JWT)
		want   int
	}{
		"of the organization":     {func(*authtest.JWT) {}, 200},
		"of none":                 {authtest.NoClaim("organization_id"), 403}, // an older Logto ignores the parameter
		"of another organization": {authtest.Claim("organization_id", "gl0bexcorp02"), 403},
	} {
		t.Run(name, func(t *testing.T) {
			b := s.signedIn(t, "ada")
			b.post("/organization", url.Values{"id": {acme}})
			s.logto.OnAccessToken(tt.change).Times(1)
			b.t = t
			b.want(b.get("/permission"), tt.want, "")
		})
	}
}

// TestGuardsTogether: all must be met, and the first that is not says so.
func TestGuardsTogether(t *testing.T) {
	s := newSite(t, guarded())
	s.logto.OnIDToken(authtest.Claim("roles", []string{"admin"})).Times(1)
	b := s.signedIn(t, "ada")
	if a := b.getJSON("/both"); a.body != `{"error":"forbidden","required":{"organization":true}}` {
		t.Errorf("without an organization: %s", a.body)
	}
	b.post("/organization", url.Values{"id": {acme}})
	b.want(b.get("/both"), 200, "")
	b = s.browser(t)
	b.want(b.get("/both?x=y"), 303, toSignIn("/both?x=y"))
	if a := b.getJSON("/both"); a.status != 401 || a.body != `{"error":"Not authenticated"}` {
		t.Errorf("signed out: %d %s", a.status, a.body)
	}
}

// TestSwitchMeanwhile: who is let in as an administrator of one organization does not act in another, to which they switch while
// the guards wait for Logto.
func TestSwitchMeanwhile(t *testing.T) {
	s := newSite(t, guarded())
	s.logto.Join("ada", "gl0bexcorp02", "member")
	b := s.signedIn(t, "ada")
	b.want(b.post("/organization", url.Values{"id": {acme}}), 303, "/")
	s.logto.On(authtest.Token, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b.want(b.post("/organization", url.Values{"id": {"gl0bexcorp02"}}), 303, "/")
			next.ServeHTTP(w, r)
		})
	}).Times(1)
	if a := b.get("/acting"); a.status != 200 || a.body != `4dal0velace0 in "Acme"` {
		t.Errorf("%d %s", a.status, a.body)
	}
	b.want(b.get("/acting"), 403, "") // in the other one, ada is no administrator
}

// TestTemplateAsksTheSame: what a guard would let through.
func TestTemplateAsksTheSame(t *testing.T) {
	s := newSite(t, guarded())
	s.logto.OnIDToken(authtest.Claim("roles", []string{"admin"}))
	s.logto.OnRefreshedIDToken(authtest.Claim("roles", []string{"admin"}))
	b := s.signedIn(t, "ada")
	want := func(b *browser, want string) {
		t.Helper()
		if a := b.get("/template"); a.body != want {
			t.Errorf("%s, want %s", a.body, want)
		}
	}
	want(b, "true false true")
	b.post("/organization", url.Values{"id": {acme}})
	want(b, "true true true")
	s.logto.Behave()
	want(s.signedIn(t, "grace"), "false false false")
	s.logto.On(authtest.Token, authtest.Status(502))
	want(b, "true true true")                               // from what is kept
	if a := b.get("/open"); a.body != "false false false" { // as an error page that has no session
		t.Errorf("without a session: %d %s", a.status, a.body)
	}
}

// TestStepUp: who signs in again as asked passes, and stays who they were.
func TestStepUp(t *testing.T) {
	s := newSite(t, guarded())
	b := s.signedIn(t, "ada")
	b.post("/organization", url.Values{"id": {acme}})
	again := b.get("/recent")
	b.want(again, 303, "/sign-in?max_age=60&return_to=%2Frecent")
	b.want(b.get(b.begin(again.header.Get("Location"), "ada")), 303, "/recent")
	wantGuard(b, "/recent", 200, `"Acme"`)

	// A Logto that ignores acr_values does not lead round in a circle.
	again = b.get("/mfa")
	a := b.get(b.begin(again.header.Get("Location"), "ada"))
	if a.status != 403 || !strings.Contains(a.body, "second factor") || !b.isSignedIn() {
		t.Errorf("%d %s", a.status, a.body)
	}
	s.logto.OnIDToken(authtest.Claim("acr", auth.ACRMFA)).Times(1)
	b.want(b.get(b.begin(again.header.Get("Location"), "ada")), 303, "/mfa")
	wantGuard(b, "/mfa", 200, `"Acme"`)

	s.logto.OnCallback(authtest.Refused("unmet_authentication_requirements", "no factor")).Times(1)
	a = b.get(b.begin("/sign-in?acr_values="+url.QueryEscape(auth.ACRMFA), "ada"))
	if a.status != 403 || !strings.Contains(a.body, "second factor") {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// TestStepUpTwice: each sign-in asks for all that the guards want, else what one brings would be missing after the next.
func TestStepUpTwice(t *testing.T) {
	s := newSite(t, guarded())
	b := s.signedIn(t, "ada")
	again := b.get("/careful")
	b.want(again, 303, "/sign-in?max_age=60&return_to=%2Fcareful")
	b.want(b.get(b.begin(again.header.Get("Location"), "ada")), 303, "/careful")
	again = b.get("/careful")
	b.want(again, 303, "/sign-in?acr_values="+url.QueryEscape(auth.ACRMFA)+"&max_age=60&return_to=%2Fcareful")
	s.logto.OnIDToken(authtest.Claim("acr", auth.ACRMFA)).Times(1)
	b.want(b.get(b.begin(again.header.Get("Location"), "ada")), 303, "/careful")
	b.want(b.get("/careful"), 200, "")
}

// TestBackToTheForm: an address that only takes a form is none to come back to.
func TestBackToTheForm(t *testing.T) {
	s := newSite(t)
	b := s.browser(t)
	for name, tt := range map[string]struct {
		path, referer, want string
	}{
		"the page of the form":       {"/organization", s.url + "/protected/sessions?a=b", "/protected/sessions?a=b"},
		"unknown":                    {"/organization", "", "/"},
		"another site's":             {"/organization", "https://evil.example/protected/sessions", "/"},
		"same host, another scheme":  {"/organization", "ftp://" + strings.TrimPrefix(s.url, "http://") + "/x", "/x"},
		"an address that is a page":  {"/protected/sessions?lost=1", "", "/protected/sessions"},
		"a script":                   {"/organization", "javascript:alert(1)", "/"},
		"one that leads in a circle": {"/organization", s.url + "/sign-in", "/"},
	} {
		headers := []string{}
		if tt.referer != "" {
			headers = append(headers, "Referer", tt.referer)
		}
		want := "/sign-in"
		if tt.want != "/" {
			want = toSignIn(tt.want)
		}
		if a := b.post(tt.path, nil, headers...); a.status != 303 || a.header.Get("Location") != want {
			t.Errorf("%s: %d to %s, want %s", name, a.status, a.header.Get("Location"), want)
		}
	}
}

// TestAPISpeaksJSON: whatever a client accepts.
func TestAPISpeaksJSON(t *testing.T) {
	s := newSite(t)
	out, in := s.browser(t), s.signedIn(t, "ada")
	for _, tt := range []struct {
		method, path string
		headers      []string
		out, in      int
	}{
		{"GET", "/api/me", nil, 401, 200},
		{"GET", "/api/unknown", nil, 404, 404},
		{"GET", "/api/", nil, 404, 404},
		{"POST", "/api/me", nil, 405, 405},
		{"POST", "/api/me", []string{"Sec-Fetch-Site", "cross-site"}, 403, 403},
		{"GET", "/api/me", []string{"Accept-Language", strings.Repeat("x", 2000)}, 431, 431},
		{"GET", "/api/own", nil, 401, 200},
		{"GET", "/api/own/a%20b", nil, 404, 404},
		{"GET", "/api/own/" + acme, nil, 401, 200},
	} {
		for _, accept := range []string{"text/html", "*/*", "application/json", "text/html,application/xhtml+xml;q=0.9"} {
			for b, want := range map[*browser]int{out: tt.out, in: tt.in} {
				a := b.do(tt.method, tt.path, "", append([]string{"Accept", accept}, tt.headers...)...)
				if a.status != want || !strings.HasPrefix(a.header.Get("Content-Type"), "application/json") {
					t.Errorf("%s %s, Accept %s = %d %s %s, want %d", tt.method, tt.path, accept, a.status, a.header.Get("Content-Type"), a.body, want)
				}
				decode[map[string]any](t, a)
			}
		}
	}
	s.redis.down()
	if a := in.get("/api/me"); a.status != 503 || decode[map[string]string](t, a)["error"] != "unavailable" || len(a.header["Set-Cookie"]) > 0 {
		t.Errorf("without Redis: %d %s", a.status, a.body)
	}
}

func TestMe(t *testing.T) {
	s := newSite(t)
	s.logto.OnIDToken(authtest.Claim("roles", []string{"admin"})).Times(1)
	b := s.signedIn(t, "ada")
	type answer = map[string]any
	got := decode[answer](t, b.get("/api/me"))
	times := got["session"].(answer)
	delete(got, "session")
	since, errSince := time.Parse(time.RFC3339, times["since"].(string))
	expires, errExpires := time.Parse(time.RFC3339, times["expires"].(string))
	if errSince != nil || errExpires != nil || time.Since(since) > time.Minute || expires.Sub(since).Round(time.Hour) != 24*time.Hour {
		t.Errorf("session %v", times)
	}
	want := answer{
		"sub": "4dal0velace0", "name": "Ada Lovelace", "picture": "https://logto.example/avatar/ada.svg", "roles": []any{"admin"}, "organization": nil,
	}
	organizations := got["organizations"].([]any)
	delete(got, "organizations")
	if !maps.EqualFunc(got, want, func(a, b any) bool { return fmt.Sprint(a) == fmt.Sprint(b) }) {
		t.Errorf("%v, want %v", got, want)
	}
	isAcme := func(o any) bool { return fmt.Sprint(o) == fmt.Sprintf("map[id:%s name:Acme roles:[admin]]", acme) }
	if !slices.ContainsFunc(organizations, isAcme) {
		t.Errorf("organizations %v", organizations)
	}
	b.post("/organization", url.Values{"id": {acme}})
	if got := decode[answer](t, b.get("/api/me")); got["organization"] != acme {
		t.Errorf("active organization %v", got["organization"])
	}

	plain := newSite(t, func(set *setup) { set.client.Scopes = nil })
	got = decode[answer](t, plain.signedIn(t, "grace").get("/api/me"))
	delete(got, "session")
	if fmt.Sprint(got) != "map[name:grace organization:<nil> organizations:[] picture:<nil> roles:[] sub:gr4cehopp3r0]" {
		t.Errorf("who has nothing: %v", got)
	}
	if a := s.browser(t).get("/api/me"); a.status != 401 || a.body != `{"error":"Not authenticated"}` {
		t.Errorf("signed out: %d %s", a.status, a.body)
	}
}

// TestTokenOrCookie: the same caller, whichever way a request comes.
func TestTokenOrCookie(t *testing.T) {
	s := newSite(t)
	b := s.signedIn(t, "ada")
	const api = "/api/own"
	token := s.logto.AccessToken("ada", shopping)
	byToken, byCookie := s.browser(t).get(api, "Authorization", "Bearer "+token), b.get(api)
	b.want(byToken, 200, "")
	type answer struct{ Subject, Client string }
	if decode[answer](t, byToken) != decode[answer](t, byCookie) || !strings.Contains(byCookie.body, `"subject":"4dal0velace0"`) {
		t.Errorf("by token %s, by cookie %s", byToken.body, byCookie.body)
	}
	// A token that is no good is not made up for by the cookie.
	b.want(b.get(api, "Authorization", "Bearer x.y.z"), 401, "")
	b.want(b.get(api, "Authorization", "Basic eDp5"), 401, "")
	if a := s.signedIn(t, "grace").get(api); a.status != 403 || !strings.HasPrefix(a.body, `{"error":"forbidden","required":{"permission":`) {
		t.Errorf("grace: %d %s", a.status, a.body)
	}
	if a := s.signedIn(t, "grace").get("/api/own/gl0bexcorp02"); a.status != 403 || a.body != `{"error":"forbidden","required":{"permission":{"organization":"gl0bexcorp02","scopes":[]}}}` {
		t.Errorf("no member: %d %s", a.status, a.body)
	}
	b.want(b.get("/api/own/a%20b"), 404, "")
	b.want(b.get("/api/own/"+acme, "Authorization", ""), 200, "") // as without one
	plain := newSite(t, func(set *setup) { set.client.Scopes = nil })
	if a := plain.signedIn(t, "ada").get("/api/own/" + acme); a.status != 403 {
		t.Errorf("organizations are not configured: %d %s", a.status, a.body)
	}
	b = s.signedIn(t, "ada")
	s.logto.On(authtest.Token, authtest.Status(502))
	if a := b.get(api); a.status != 502 {
		t.Errorf("Logto away: %d %s", a.status, a.body)
	}
}

// TestGuardWithoutSetting: what lets nobody pass because Logto is not asked for it is an error in the log, by the setting's name.
func TestGuardWithoutSetting(t *testing.T) {
	for path, setting := range map[string]string{
		"/role": "roles in LOGTO_SCOPES", "/org": auth.ScopeOrganizations + " in LOGTO_SCOPES", "/org-role": auth.ScopeOrganizations + " in LOGTO_SCOPES",
		"/permission": "LOGTO_RESOURCES",
	} {
		bare := newSite(t, guarded(func(set *setup) { set.client.Scopes, set.client.Resources = nil, nil }))
		whole := newSite(t, guarded())
		for s, level := range map[*site]string{bare: "ERROR", whole: "INFO"} {
			b := s.signedIn(t, "grace")
			b.want(b.get(path), 403, "")
			lines := s.log.lines(t, "request")
			if last := fmt.Sprint(lines[len(lines)-1]); !strings.Contains(last, "level:"+level) || strings.Contains(last, setting) != (s == bare) {
				t.Errorf("%s: %s, want %s", path, last, level)
			}
		}
	}
}
