package routes

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"example.com/logto-gin-starter/auth"
	"example.com/logto-gin-starter/auth/authtest"
)

type tokensJSON struct {
	Resources, Organizations map[string]struct {
		Claims map[string]any
		Error  *tokenError
	}
}

func TestTokensAddresses(t *testing.T) {
	s := newSite(t)
	s.wantAddresses(t, []address{
		{"GET", "/protected/tokens?a=b&c=d", want{303, toSignIn("/protected/tokens?a=b&c=d")}, want{401, ""}, want{200, ""}, want{200, ""}},
		{"POST", "/protected/tokens", want{303, toSignIn("/protected/tokens")}, want{401, ""}, want{200, ""}, want{200, ""}},
		{"GET", "/api/resource?indicator=" + url.QueryEscape(shopping), want{401, ""}, want{401, ""}, want{200, ""}, want{200, ""}},
		{"GET", "/api/organizations/" + acme, want{401, ""}, want{401, ""}, want{200, ""}, want{200, ""}},
	})
	s.wantMethods(t, map[string][]string{
		"/protected/tokens": {"GET", "HEAD", "POST"}, "/api/resource": {"GET", "HEAD"}, "/api/organizations/" + acme: {"GET", "HEAD"},
	})
}

// TestTokensOddOrganizations: an ID that Logto would not give makes the page fail no more than others.
func TestTokensOddOrganizations(t *testing.T) {
	for _, organizations := range oddOrganizations {
		s := newSite(t)
		s.logto.OnIDToken(authtest.Claim("organizations", organizations))
		b := s.signedIn(t, "ada")
		if a := b.get("/protected/tokens"); a.status != 200 || strings.Contains(a.body, "<script") {
			t.Errorf("with %v: %d", organizations, a.status)
		}
		if a := b.getJSON("/protected/tokens"); a.status != 200 {
			t.Errorf("JSON with %v: %d %s", organizations, a.status, a.body)
		}
	}
}

func TestTokensJSON(t *testing.T) {
	s := newSite(t)
	b := s.signedIn(t, "ada")
	a := b.getJSON("/protected/tokens")
	b.want(a, 200, "")
	got := decode[tokensJSON](t, a)
	if len(got.Resources) != 2 || len(got.Organizations) != 1 {
		t.Fatalf("%s", a.body)
	}
	for audience, want := range map[string]struct {
		claims map[string]any
		scope  string
	}{
		shopping:                         {got.Resources[shopping].Claims, "read:products write:products"},
		store:                            {got.Resources[store].Claims, "read:products write:products read:orders"},
		"urn:logto:organization:" + acme: {got.Organizations[acme].Claims, "read:members"},
	} {
		if want.claims["aud"] != audience || want.claims["sub"] != "4dal0velace0" || want.claims["iss"] != s.logto.Issuer || want.claims["scope"] != want.scope {
			t.Errorf("%s: %v", audience, want.claims)
		}
	}
	// They are kept: a second page asks for nothing.
	s.logto.Forget()
	if again := b.getJSON("/protected/tokens"); again.body != a.body || len(s.logto.Requests()) > 0 {
		t.Errorf("asked again: %v", s.logto.Requests())
	}
	empty := newSite(t, func(set *setup) { set.client.Resources, set.client.Scopes = nil, nil })
	if a := empty.signedIn(t, "ada").getJSON("/protected/tokens"); a.body != `{"organizations":{},"resources":{}}` {
		t.Errorf("nothing configured: %s", a.body)
	}
}

// TestTokensPage: one sees what is in the token that one asked for, at its row, and never a token.
func TestTokensPage(t *testing.T) {
	s := newSite(t)
	given := issued(s.logto)
	b := s.signedIn(t, "ada")
	s.logto.Forget()
	all := []reply{b.get("/protected/tokens")}
	for _, text := range []string{
		shopping, store, "<h3>Acme <code", acme, `<span class="visually-hidden"> for Acme</span>`,
		`<article id="resource-1">`, `action="/protected/tokens#resource-1"`, `<article id="organization-acme00corp01">`, `action="/protected/tokens#organization-acme00corp01"`,
	} {
		if !strings.Contains(all[0].body, text) {
			t.Errorf("the page lacks %q: %s", text, all[0].body)
		}
	}
	if asked := s.logto.Requests(); len(asked) > 0 || strings.Contains(all[0].body, "<pre") {
		t.Errorf("nobody asked for a token, and the page asked for %v: %s", asked, all[0].body)
	}
	post := func(form url.Values, texts ...string) {
		t.Helper()
		a := b.post("/protected/tokens", form)
		b.want(a, 200, "")
		for _, text := range texts {
			if !strings.Contains(a.body, text) {
				t.Errorf("after %v the page lacks %q: %s", form, text, a.body)
			}
		}
		if shown := strings.Count(a.body, "<details open>"); shown != min(len(texts), 1) {
			t.Errorf("after %v the page shows the claims of %d tokens", form, shown)
		}
		all = append(all, a, b.post("/protected/tokens", form, "Accept", "application/json"))
	}
	post(url.Values{"resource": {store}}, "1 hour", `<code class="badge">write:products</code>`, "&#34;aud&#34;: &#34;"+store)
	if asked := s.logto.Requests(authtest.Token); len(asked) != 4 || asked[0].Form.Get("resource") != store { // and each for the JSON
		t.Errorf("asked for %v", asked)
	}
	s.logto.Forget()
	post(url.Values{"resource": {shopping}, "call": {"1"}}, "Sample API response", "&#34;subject&#34;: &#34;4dal0velace0&#34;", "&#34;write:products&#34;")
	post(url.Values{"organization": {acme}, "call": {"1"}}, "&#34;organization&#34;: &#34;acme00corp01&#34;")
	if asked := s.logto.Count(authtest.Token); asked != 0 {
		t.Errorf("%d new tokens to call an API", asked)
	}
	// "Get a new token" asks for one, of that row alone.
	claims := func() tokensJSON { return decode[tokensJSON](t, b.getJSON("/protected/tokens")) }
	before := claims()
	post(url.Values{"resource": {store}}, store)
	after := claims()
	if before.Resources[store].Claims["jti"] == after.Resources[store].Claims["jti"] ||
		before.Resources[shopping].Claims["jti"] != after.Resources[shopping].Claims["jti"] {
		t.Errorf("%v\n%v", before, after)
	}
	s.logto.Forget()
	post(url.Values{"resource": {"https://other.example/api"}, "organization": {"gl0bexcorp02"}})
	if asked := s.logto.Count(authtest.Token); asked != 0 {
		t.Errorf("%d tokens for what is not on the page", asked)
	}
	if len(given()) < 7 {
		t.Fatalf("only %d tokens", len(given()))
	}
	for _, token := range given() {
		for _, a := range all {
			if strings.Contains(a.body, token) || strings.Contains(fmt.Sprint(a.header), token) {
				t.Errorf("a token is in %s", a.body)
			}
		}
	}
}

func TestTokensNothingSecret(t *testing.T) {
	wantNothingSecret(t, func(b *browser) (seen []reply) {
		const page = "/protected/tokens"
		for _, form := range []url.Values{{"resource": {shopping}}, {"resource": {shopping}, "call": {"1"}}, {"organization": {acme}, "call": {"1"}}} {
			seen = append(seen, b.post(page, form))
		}
		return append(seen, b.get(page), b.getJSON(page))
	})
}

// TestTokensRefused: a refusal is explained in its row, the others are there, and nobody is signed out.
func TestTokensRefused(t *testing.T) {
	for _, tt := range []struct {
		name  string
		wrong authtest.Behaviour
		code  string
		text  string
	}{
		{"not a member", authtest.OAuthError(403, "access_denied", "user is not a member of the organization"), "access_denied", "not a member"},
		{"unknown resource", authtest.OAuthError(400, "invalid_target", "<script>"), "invalid_target", "Register it"},
		{"no permission", authtest.OAuthError(403, "insufficient_scope", ""), "insufficient_scope", "lack a permission"},
		{"500", authtest.Status(500), "unknown", "Try again"},
		{"web page", authtest.HTML(502), "unknown", "Try again"},
		{"reset", authtest.Reset, "unknown", "Try again"},
		{"opaque", authtest.Field("access_token", "opaque"), "unknown", "Try again"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t)
			b := s.signedIn(t, "ada")
			s.logto.On(authtest.Token, tt.wrong)
			got := decode[tokensJSON](t, b.getJSON("/protected/tokens"))
			for name, row := range map[string]*tokenError{shopping: got.Resources[shopping].Error, store: got.Resources[store].Error, acme: got.Organizations[acme].Error} {
				if row == nil || row.Code != tt.code || !strings.Contains(row.Message, tt.text) {
					t.Errorf("%s: %+v", name, row)
				}
			}
			a := b.post("/protected/tokens", url.Values{"organization": {acme}})
			b.want(a, 200, "")
			if !strings.Contains(a.body, "Refused") || !strings.Contains(a.body, tt.text) || strings.Contains(a.body, "<script>") {
				t.Errorf("no explanation: %s", a.body)
			}
			s.logto.Behave()
			if tt.name != "opaque" { // which is kept until it expires
				s.logto.On(authtest.Token, tt.wrong).Times(1)
			}
			if got := decode[tokensJSON](t, b.post("/protected/tokens", url.Values{"resource": {shopping}}, "Accept", "application/json")); tt.name != "opaque" &&
				(got.Resources[shopping].Error == nil || got.Resources[store].Claims == nil || got.Organizations[acme].Claims == nil) {
				t.Errorf("one refusal: %+v", got)
			}
			if !b.isSignedIn() {
				t.Error("signed out")
			}
		})
	}
	t.Run("grant revoked", func(t *testing.T) {
		s := newSite(t)
		b := s.signedIn(t, "ada")
		s.logto.RevokeGrants("ada")
		b.want(b.get("/protected/tokens"), 200, "")
		b.want(b.post("/protected/tokens", url.Values{"resource": {store}}), 303, "/sign-in?return_to=%2Fprotected%2Ftokens")
		b.want(b.getJSON("/protected/tokens"), 401, "")
	})
	t.Run("Redis away", func(t *testing.T) {
		s := newSite(t)
		b := s.signedIn(t, "ada")
		s.redis.down("EVALSHA", "EVAL")
		b.want(b.post("/protected/tokens", url.Values{"resource": {store}}), 503, "")
		s.redis.up()
		b.want(b.post("/protected/tokens", url.Values{"resource": {store}}), 200, "")
	})
}

// TestAPI is the sample API as a program sees it that comes with a token.
func TestAPI(t *testing.T) {
	s := newSite(t, func(set *setup) {
		set.pages = func(app App, engine *gin.Engine) {
			write := func(c *gin.Context) auth.Permission {
				return auth.Permission{Resource: shopping, Organization: c.Query("organization"), Scopes: []string{"read:products", "write:products"}}
			}
			engine.GET("/api/write", app.RequireToken(write), app.handle(app.sampleAPI))
		}
	})
	const organization = "urn:logto:organization:" + acme
	resource := "/api/resource?indicator=" + url.QueryEscape(shopping)
	good := s.logto.AccessToken("ada", shopping)
	for _, tt := range []struct {
		name, path, authorization string
		status                    int
		challenge                 string
		body                      string
	}{
		{"good", resource, "Bearer " + good, 200, "",
			`{"client":"demoapp0123456789abcd","scopes":["read:products","write:products","delete:products"],"subject":"4dal0velace0"}`},
		{"scheme in lower case", resource, "bearer " + good, 200, "", ""},
		{"organization", "/api/organizations/" + acme, "Bearer " + s.logto.AccessToken("ada", organization), 200, "",
			`{"client":"demoapp0123456789abcd","organization":"acme00corp01","scopes":["read:members","invite:members"],"subject":"4dal0velace0"}`},
		{"no token", resource, "", 401, `Bearer realm="api"`, `{"error":"unauthorized"}`},
		{"another scheme", resource, "Basic YTpi", 401, `Bearer realm="api"`, `{"error":"unauthorized"}`},
		{"empty token", resource, "Bearer ", 401, `Bearer realm="api"`, `{"error":"unauthorized"}`},
		{"garbage", resource, "Bearer garbage", 401, `Bearer realm="api", error="invalid_token"`, `{"error":"invalid_token"}`},
		{"for another API", resource, "Bearer " + s.logto.AccessToken("ada", store), 401, `Bearer realm="api", error="invalid_token"`, ""},
		{"for another organization", "/api/organizations/gl0bexcorp02", "Bearer " + s.logto.AccessToken("ada", organization), 401, `Bearer realm="api", error="invalid_token"`, ""},
		{"expired", resource, "Bearer " + s.logto.AccessToken("ada", shopping, authtest.Shifted(-24*time.Hour)), 401, `Bearer realm="api", error="invalid_token"`, ""},
		{"forged", resource, "Bearer " + s.logto.AccessToken("ada", shopping, authtest.SignedWithForeignKey("ES384")), 401, `Bearer realm="api", error="invalid_token"`, ""},
		{"unsigned", resource, "Bearer " + s.logto.AccessToken("ada", shopping, authtest.Unsigned), 401, `Bearer realm="api", error="invalid_token"`, ""},
		{"no access token, by its type", resource, "Bearer " + s.logto.AccessToken("ada", shopping, authtest.NoHeader("typ")), 401, `Bearer realm="api", error="invalid_token"`, ""},
		{"of another issuer", resource, "Bearer " + s.logto.AccessToken("ada", shopping, authtest.WrongIssuer), 401, `Bearer realm="api", error="invalid_token"`, ""},
		{"token in the query", resource + "&access_token=" + good, "", 401, `Bearer realm="api"`, ""},
		{"unknown resource", "/api/resource?indicator=https://other.example", "Bearer " + good, 404, "", `{"error":"not_found"}`},
		{"no resource", "/api/resource", "Bearer " + good, 404, "", `{"error":"not_found"}`},
		{"of an organization, for none", resource, "Bearer " + s.logto.AccessToken("ada", shopping, authtest.Claim("organization_id", acme)), 401, `Bearer realm="api", error="invalid_token"`, `{"error":"invalid_token"}`},
		{"a resource within an organization", "/api/write?organization=" + acme, "Bearer " + s.logto.AccessToken("ada", shopping, authtest.Claim("organization_id", acme)), 200, "",
			`{"client":"demoapp0123456789abcd","organization":"acme00corp01","scopes":["read:products","write:products","delete:products"],"subject":"4dal0velace0"}`},
		{"a resource within no organization", "/api/write?organization=" + acme, "Bearer " + good, 401, `Bearer realm="api", error="invalid_token"`, ""},
		{"all scopes", "/api/write", "Bearer " + good, 200, "", ""},
		{"a scope is missing", "/api/write", "Bearer " + s.logto.AccessToken("ada", shopping, authtest.Claim("scope", "read:products")), 403,
			`Bearer realm="api", error="insufficient_scope", scope="read:products write:products"`, `{"error":"insufficient_scope","scope":"read:products write:products"}`},
		{"no scope", "/api/write", "Bearer " + s.logto.AccessToken("ada", shopping, authtest.NoClaim("scope")), 403, `Bearer realm="api", error="insufficient_scope", scope="read:products write:products"`, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := s.browser(t).get(tt.path, "Authorization", tt.authorization)
			if challenge := a.header.Get("WWW-Authenticate"); a.status != tt.status || challenge != tt.challenge || tt.body != "" && a.body != tt.body {
				t.Errorf("%d %s %s, want %d %s %s", a.status, challenge, a.body, tt.status, tt.challenge, tt.body)
			}
			if !strings.HasPrefix(a.header.Get("Content-Type"), "application/json") || len(a.header["Set-Cookie"]) > 0 {
				t.Errorf("headers %v", a.header)
			}
		})
	}
	if strings.Contains(s.log.text(), good) {
		t.Error("a token is in the log")
	}
}

// TestAPIWithoutKeys: not to know is no refusal.
func TestAPIWithoutKeys(t *testing.T) {
	s := newSite(t)
	resource, token := "/api/resource?indicator="+url.QueryEscape(shopping), "Bearer "+s.logto.AccessToken("ada", shopping)
	s.logto.On(authtest.Keys, authtest.Status(http.StatusServiceUnavailable))
	b := s.browser(t)
	a := b.get(resource, "Authorization", token)
	b.want(a, 503, "")
	if a.header.Get("Retry-After") == "" || a.header.Get("WWW-Authenticate") != "" || a.body != `{"error":"temporarily_unavailable"}` {
		t.Errorf("%v %s", a.header, a.body)
	}
	s.logto.Behave()
	b.want(b.get(resource, "Authorization", token), 200, "")
}
