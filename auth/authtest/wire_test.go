package authtest_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"example.com/logto-gin-starter/auth/authtest"
	"example.com/logto-gin-starter/auth/authtest/people"
)

// The tests of TestWire say how Logto speaks. They run against authtest, or against the provider that LOGTO_TEST_ENDPOINT
// names, so that what authtest claims can be compared with a real Logto:
//
//	LOGTO_TEST_ENDPOINT LOGTO_TEST_APP_ID LOGTO_TEST_APP_SECRET LOGTO_TEST_REDIRECT_URI
//	LOGTO_TEST_USERNAME LOGTO_TEST_PASSWORD
//	LOGTO_TEST_BARE_USERNAME                    somebody with the same password but no picture, e-mail, phone, role, organization
//	LOGTO_TEST_ORG_ID LOGTO_TEST_OTHER_ORG_ID   the person is a member of the first only
//	LOGTO_TEST_RESOURCES                        two API resources, space separated
//	LOGTO_TEST_SCOPES                           permissions that the person has in all of these, space separated
//	LOGTO_TEST_BACKCHANNEL_ADDR                 where the application's back channel is, 127.0.0.1:3000; without it: not tested
//	LOGTO_TEST_ADMIN_ENDPOINT LOGTO_TEST_MANAGEMENT_SECRET   of the Management API, for what happens after a sign-in; without
//	                                            them: not tested. The tests make people of their own and delete them, and
//	                                            rotate the signing key. Logto must reach this machine at 127.0.0.1, for webhooks.
//
// The application must always issue refresh tokens and require a session in back-channel logout; it has one redirect URI,
// and its post sign-out URI is the root of that.
type provider struct {
	issuer, appID, secret, redirectURI string
	username, password                 string
	bare, barePassword                 string // who lacks nearly everything
	member, stranger                   string // organizations
	resources                          []string
	scopes                             string
	backchannel                        string
	admin                              admin            // nil: no Management API
	local                              *authtest.Server // nil: another provider
	client                             *http.Client
}

const (
	userScopes = "openid profile email phone address custom_data identities roles " +
		"urn:logto:scope:organizations urn:logto:scope:organization_roles"
	organizations = "urn:logto:resource:organizations"
)

func newProvider(t *testing.T) *provider {
	p := &provider{
		issuer: os.Getenv("LOGTO_TEST_ENDPOINT") + "/oidc", appID: os.Getenv("LOGTO_TEST_APP_ID"),
		secret: os.Getenv("LOGTO_TEST_APP_SECRET"), redirectURI: os.Getenv("LOGTO_TEST_REDIRECT_URI"),
		username: os.Getenv("LOGTO_TEST_USERNAME"), password: os.Getenv("LOGTO_TEST_PASSWORD"),
		bare: os.Getenv("LOGTO_TEST_BARE_USERNAME"), barePassword: os.Getenv("LOGTO_TEST_PASSWORD"),
		member: os.Getenv("LOGTO_TEST_ORG_ID"), stranger: os.Getenv("LOGTO_TEST_OTHER_ORG_ID"),
		resources: strings.Fields(os.Getenv("LOGTO_TEST_RESOURCES")), scopes: os.Getenv("LOGTO_TEST_SCOPES"),
		backchannel: os.Getenv("LOGTO_TEST_BACKCHANNEL_ADDR"),
		client: &http.Client{Timeout: 20 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		}},
	}
	if os.Getenv("LOGTO_TEST_ENDPOINT") != "" {
		p.admin = newManagement(t, p)
		return p
	}
	opts := people.Options("", "http://localhost:3000")
	opts.Apps[0].ID, opts.Apps[0].Secret = "an app's id", "a+secret/with=odd%characters"
	opts.Apps[0].AlwaysIssueRefreshToken = true
	p.local = authtest.New(opts)
	t.Cleanup(p.local.Close)
	p.issuer, p.appID, p.secret, p.redirectURI = p.local.Issuer, opts.Apps[0].ID, opts.Apps[0].Secret, opts.Apps[0].RedirectURIs[0]
	p.username, p.password = "ada", opts.Users[0].Password
	p.bare, p.barePassword = "grace", opts.Users[1].Password
	p.member, p.stranger = opts.Organizations[0].ID, opts.Organizations[1].ID
	p.resources = []string{opts.Resources[0].Indicator, opts.Resources[1].Indicator}
	p.scopes = "read:products write:products read:orders read:members invite:members"
	p.admin = localAdmin{p.local, p.appID, p.member}
	return p
}

// browser keeps cookies as they come: some of Logto's are JSON, which net/http/cookiejar drops.
type browser struct {
	p       *provider
	cookies map[string]string // name and path to value
}

func (p *provider) browser() *browser { return &browser{p, map[string]string{}} }

func (b *browser) do(t *testing.T, method, address, contentType string, body []byte, header ...string) (*http.Response, []byte) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, address, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	var cookies []string
	for key, value := range b.cookies {
		name, path, _ := strings.Cut(key, " ")
		if path == "/" || r.URL.Path == path || strings.HasPrefix(r.URL.Path, path+"/") {
			cookies = append(cookies, name+"="+value)
		}
	}
	if len(cookies) > 0 {
		r.Header.Set("Cookie", strings.Join(cookies, "; "))
	}
	w, err := b.p.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Body.Close()
	text, err := io.ReadAll(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range w.Header.Values("Set-Cookie") {
		pair, attributes, _ := strings.Cut(line, ";")
		name, value, _ := strings.Cut(pair, "=")
		path := "/"
		if match := regexp.MustCompile(`(?i); *path=([^;]*)`).FindStringSubmatch(";" + attributes); match != nil {
			path = match[1]
		}
		b.cookies[name+" "+path] = value
	}
	return w, text
}

// outcome is where a visit ended: back at the application, or with an answer of the provider.
type outcome struct {
	callback url.Values // nil: not back at the application
	target   string
	page     string // where the provider asked for something, if visiting stopped there
	asked    *url.URL
	status   int
	body     []byte
}

// visit follows redirects within the provider. Where it asks for a sign-in, the person signs in, unless stay is set.
func (b *browser) visit(t *testing.T, address string, stay bool) outcome {
	t.Helper()
	endpoint := strings.TrimSuffix(b.p.issuer, "/oidc")
	for range 20 {
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(address, endpoint+"/") {
			return outcome{callback: u.Query(), target: address}
		}
		if strings.HasPrefix(u.Path, "/sign-in") || strings.HasPrefix(u.Path, "/register") || strings.HasPrefix(u.Path, "/direct/") {
			if stay {
				return outcome{page: u.Path, asked: u}
			}
			address = b.signIn(t, u)
			continue
		}
		w, body := b.do(t, http.MethodGet, address, "", nil)
		if location, err := w.Location(); err == nil {
			address = location.String()
			continue
		}
		if action, form, ok := logoutForm(string(body)); ok { // the page submits itself, or a person says yes
			w, body = b.do(t, http.MethodPost, u.ResolveReference(&url.URL{Path: action}).String(), "application/x-www-form-urlencoded", []byte(form.Encode()))
			if location, err := w.Location(); err == nil {
				return outcome{callback: location.Query(), target: location.String()}
			}
		}
		return outcome{status: w.StatusCode, body: body}
	}
	t.Fatal("too many redirects")
	return outcome{}
}

func (b *browser) signIn(t *testing.T, page *url.URL) (next string) {
	t.Helper()
	if b.p.local != nil {
		form := url.Values{
			"interaction": {page.Query().Get("interaction")}, "username": {b.p.username}, "password": {b.p.password},
		}
		w, body := b.do(t, http.MethodPost, b.p.local.URL+"/sign-in", "application/x-www-form-urlencoded", []byte(form.Encode()))
		location, err := w.Location()
		if err != nil {
			t.Fatalf("sign in: %s: %s", w.Status, body)
		}
		return location.String()
	}
	next, err := b.byPassword(t, page)
	if err != nil {
		t.Fatal(err)
	}
	return next
}

func (b *browser) byPassword(t *testing.T, page *url.URL) (next string, refused error) {
	t.Helper()
	return b.experience(t, page, "/verification/password", map[string]any{
		"identifier": map[string]any{"type": "username", "value": b.p.username}, "password": b.p.password,
	})
}

// experience signs in as the page of a real Logto does, by a verification. It fails where Logto refuses the person.
func (b *browser) experience(t *testing.T, page *url.URL, verification string, proof map[string]any) (next string, refused error) {
	t.Helper()
	verified := map[string]any{}
	for _, step := range []struct {
		method, path string
		body         func() map[string]any
	}{
		{http.MethodPut, "", func() map[string]any { return map[string]any{"interactionEvent": "SignIn"} }},
		{http.MethodPost, verification, func() map[string]any { return proof }},
		{http.MethodPost, "/identification", func() map[string]any {
			return map[string]any{"verificationId": verified["verificationId"]}
		}},
		{http.MethodPost, "/submit", func() map[string]any { return map[string]any{} }},
	} {
		text, err := json.Marshal(step.body())
		if err != nil {
			t.Fatal(err)
		}
		w, answer := b.do(t, step.method, page.Scheme+"://"+page.Host+"/api/experience"+step.path, "application/json", text,
			"Logto-App-Id", page.Query().Get("app_id"))
		if w.StatusCode >= 300 {
			return "", fmt.Errorf("sign in: %s %s: %s: %s", step.method, step.path, w.Status, answer)
		}
		if len(answer) > 0 {
			if err := json.Unmarshal(answer, &verified); err != nil {
				t.Fatalf("sign in: %s: %s", step.path, answer)
			}
		}
	}
	next, _ = verified["redirectTo"].(string)
	return next, nil
}

var (
	formAction = regexp.MustCompile(`<form[^>]*action="[^"]*(/oidc/session/end/confirm)"`)
	formField  = regexp.MustCompile(`<input[^>]*name="(xsrf|interaction)" value="([^"]*)"`)
)

func logoutForm(page string) (action string, form url.Values, ok bool) {
	a, f := formAction.FindStringSubmatch(page), formField.FindStringSubmatch(page)
	if a == nil || f == nil {
		return "", nil, false
	}
	return a[1], url.Values{f[1]: {f[2]}, "logout": {"yes"}}, true
}

const verifier = "a-verifier-that-is-long-enough-to-be-accepted-here"

// authURL is an authorization request; change is pairs of parameters, an empty value leaves one out.
func (p *provider) authURL(change ...string) string {
	digest := sha256.Sum256([]byte(verifier))
	q := url.Values{
		"response_type": {"code"}, "client_id": {p.appID}, "redirect_uri": {p.redirectURI}, "state": {"the-state"},
		"nonce": {"the-nonce"}, "scope": {userScopes + " offline_access " + p.scopes}, "prompt": {"consent"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(digest[:])}, "code_challenge_method": {"S256"},
		"resource": append(slices.Clone(p.resources), organizations),
	}
	for i := 0; i+1 < len(change); i += 2 {
		q.Set(change[i], change[i+1])
		if change[i+1] == "" {
			q.Del(change[i])
		}
	}
	return p.issuer + "/auth?" + q.Encode()
}

// answer is the token endpoint's, or any other JSON answer.
type answer struct {
	status int
	header http.Header
	body   map[string]any
	text   string
}

func (p *provider) post(t *testing.T, path string, form url.Values, basic bool) answer {
	t.Helper()
	var header []string
	if basic {
		credentials := url.QueryEscape(p.appID) + ":" + url.QueryEscape(p.secret)
		header = []string{"Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte(credentials))}
	}
	w, text := p.browser().do(t, http.MethodPost, p.issuer+path, "application/x-www-form-urlencoded", []byte(form.Encode()), header...)
	a := answer{status: w.StatusCode, header: w.Header, text: string(text)}
	if len(text) > 0 {
		if err := json.Unmarshal(text, &a.body); err != nil {
			t.Fatalf("%s: not JSON: %s", path, text)
		}
	}
	return a
}

func (p *provider) exchange(t *testing.T, code string, change ...string) answer {
	t.Helper()
	form := url.Values{
		"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {p.redirectURI}, "code_verifier": {verifier},
	}
	for i := 0; i+1 < len(change); i += 2 {
		form.Set(change[i], change[i+1])
	}
	return p.post(t, "/token", form, true)
}

func (p *provider) refresh(t *testing.T, token any, change ...string) answer {
	t.Helper()
	text, _ := token.(string)
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {text}}
	for i := 0; i+1 < len(change); i += 2 {
		form.Add(change[i], change[i+1])
	}
	return p.post(t, "/token", form, true)
}

// signedIn signs in and exchanges the code.
func (p *provider) signedIn(t *testing.T, b *browser, change ...string) answer {
	t.Helper()
	got := b.visit(t, p.authURL(change...), false)
	if got.callback.Get("code") == "" {
		t.Fatalf("no code: %+v %s", got.callback, got.body)
	}
	a := p.exchange(t, got.callback.Get("code"))
	if a.status != http.StatusOK {
		t.Fatalf("exchange: %d %s", a.status, a.text)
	}
	return a
}

func (p *provider) userinfo(t *testing.T, token any) answer {
	t.Helper()
	text, _ := token.(string)
	w, body := p.browser().do(t, http.MethodGet, p.issuer+"/me", "", nil, "Authorization", "Bearer "+text)
	a := answer{status: w.StatusCode, header: w.Header, text: string(body)}
	if err := json.Unmarshal(body, &a.body); err != nil {
		t.Fatalf("userinfo: not JSON: %s", body)
	}
	return a
}

// token verifies a JWT by the provider's keys, and returns header and claims.
func (p *provider) token(t *testing.T, raw any) (header, claims map[string]any) {
	t.Helper()
	text, _ := raw.(string)
	parsed, err := jwt.ParseSigned(text, []jose.SignatureAlgorithm{jose.ES384, jose.RS256})
	if err != nil {
		t.Fatalf("not a JWT: %v: %q", err, text)
	}
	_, body := p.browser().do(t, http.MethodGet, p.issuer+"/jwks", "", nil)
	var keys jose.JSONWebKeySet
	if err := json.Unmarshal(body, &keys); err != nil {
		t.Fatal(err)
	}
	if err := parsed.Claims(keys, &claims); err != nil {
		t.Fatalf("signature: %v", err)
	}
	part, _, _ := strings.Cut(text, ".")
	raw64, err := base64.RawURLEncoding.DecodeString(part)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw64, &header); err != nil {
		t.Fatal(err)
	}
	return header, claims
}

func names(object map[string]any) []string {
	var list []string
	for name := range object {
		list = append(list, name)
	}
	slices.Sort(list)
	return list
}

func wantNames(t *testing.T, what string, object map[string]any, want ...string) {
	t.Helper()
	slices.Sort(want)
	if got := names(object); !slices.Equal(got, want) {
		t.Errorf("%s has %v, want %v", what, got, want)
	}
}

func wantError(t *testing.T, a answer, status int, code, description string) {
	t.Helper()
	if a.status != status || a.body["error"] != code || a.body["code"] != "oidc."+code || a.body["error_description"] != description {
		t.Errorf("answer %d %s, want %d %s %q", a.status, a.text, status, code, description)
	}
	if a.body["message"] == nil {
		t.Errorf("answer %s has no message", a.text)
	}
}

func TestWire(t *testing.T) {
	p := newProvider(t)
	t.Run("discovery", p.testDiscovery)
	t.Run("callback carries iss and state", p.testCallback)
	t.Run("refused with no way back", p.testNoWayBack)
	t.Run("refused at the application", p.testRefused)
	t.Run("a live session", p.testSession)
	t.Run("the first screen", p.testFirstScreen)
	t.Run("hints for the page", p.testHints)
	t.Run("max_age and auth_time", p.testAuthTime)
	t.Run("ID token and userinfo, all scopes", p.testClaims)
	t.Run("ID token and userinfo, fewest scopes", p.testFewClaims)
	t.Run("null and absent", p.testNull)
	t.Run("a code", p.testCode)
	t.Run("client authentication", p.testClientAuthentication)
	t.Run("refresh", p.testRefresh)
	t.Run("resource", p.testResource)
	t.Run("organization", p.testOrganization)
	t.Run("revocation", p.testRevocation)
	t.Run("one grant in one session", p.testOneGrant)
	t.Run("end session", p.testEndSession)
	t.Run("offline access outlives the session", p.testOfflineAccess)
	t.Run("back channel", p.testBackchannel)
	t.Run("after the sign-in", p.testAfter)
}

func (p *provider) testDiscovery(t *testing.T) {
	w, body := p.browser().do(t, http.MethodGet, p.issuer+"/.well-known/openid-configuration", "", nil)
	var got map[string]any
	if err := json.Unmarshal(body, &got); err != nil || w.StatusCode != http.StatusOK {
		t.Fatalf("%s %v %s", w.Status, err, body)
	}
	for name, path := range map[string]string{
		"issuer": "", "authorization_endpoint": "/auth", "token_endpoint": "/token", "userinfo_endpoint": "/me",
		"jwks_uri": "/jwks", "end_session_endpoint": "/session/end", "revocation_endpoint": "/token/revocation",
		"introspection_endpoint":                "/token/introspection",
		"pushed_authorization_request_endpoint": "/request", "device_authorization_endpoint": "/device/auth",
	} {
		if got[name] != p.issuer+path {
			t.Errorf("%s = %v", name, got[name])
		}
	}
	for _, name := range []string{
		"authorization_response_iss_parameter_supported", "backchannel_logout_supported", "backchannel_logout_session_supported",
	} {
		if got[name] != true {
			t.Errorf("%s = %v", name, got[name])
		}
	}
	for name, want := range map[string]string{
		"id_token_signing_alg_values_supported": `["ES384"]`, "code_challenge_methods_supported": `["S256"]`,
		"subject_types_supported": `["public"]`, "response_modes_supported": `["form_post","fragment","query"]`,
		"frontchannel_logout_supported": "null", "dpop_signing_alg_values_supported": "null",
	} {
		if list, _ := json.Marshal(got[name]); string(list) != want {
			t.Errorf("%s = %s, want %s", name, list, want)
		}
	}
	w, body = p.browser().do(t, http.MethodGet, p.issuer+"/nowhere", "", nil)
	if w.StatusCode != http.StatusNotFound || !strings.Contains(string(body), `"oidc.invalid_request"`) {
		t.Errorf("an unknown address: %s %s", w.Status, body)
	}
}

func (p *provider) testCallback(t *testing.T) {
	got := p.browser().visit(t, p.authURL(), false)
	if len(got.callback) != 3 || len(got.callback.Get("code")) != 43 || got.callback.Get("state") != "the-state" || got.callback.Get("iss") != p.issuer {
		t.Errorf("callback %v", got.callback)
	}
	if got := p.browser().visit(t, p.authURL("state", ""), false); got.callback.Has("state") || got.callback.Get("code") == "" {
		t.Errorf("without state: callback %v", got.callback)
	}
}

func (p *provider) testNoWayBack(t *testing.T) {
	for _, test := range []struct{ name, value, code, description string }{
		{"redirect_uri", "https://evil.example/callback", "invalid_redirect_uri",
			"redirect_uri did not match any of the client's registered redirect_uris"},
		{"redirect_uri", p.redirectURI + "/", "invalid_redirect_uri",
			"redirect_uri did not match any of the client's registered redirect_uris"},
		{"client_id", "nobody", "invalid_client", "invalid client nobody"},
		{"client_id", "", "invalid_request", "missing required parameter 'client_id'"},
	} {
		t.Run(test.name+"="+test.value, func(t *testing.T) {
			got := p.browser().visit(t, p.authURL(test.name, test.value), true)
			var body map[string]any
			if err := json.Unmarshal(got.body, &body); err != nil {
				t.Fatalf("%v: %+v", err, got)
			}
			wantError(t, answer{got.status, nil, body, string(got.body)}, http.StatusBadRequest, test.code, test.description)
			if body["iss"] != p.issuer || body["state"] != "the-state" {
				t.Errorf("iss %v, state %v", body["iss"], body["state"])
			}
		})
	}
	if got := p.browser().visit(t, p.authURL("redirect_uri", ""), false); !strings.HasPrefix(got.target, p.redirectURI) {
		t.Errorf("the only redirect_uri left out: %+v", got)
	}
}

func (p *provider) testRefused(t *testing.T) {
	for _, test := range []struct{ name, value, code, description string }{
		{"resource", "https://unknown.example/api", "invalid_target", "resource indicator is missing, or unknown"},
		{"prompt", "none", "login_required", "End-User authentication is required"},
		{"prompt", "none login", "invalid_request", "prompt none must only be used alone"},
		{"prompt", "select_account", "invalid_request", "unsupported prompt value requested"},
		{"code_challenge_method", "plain", "invalid_request", "not supported value of code_challenge_method"},
		{"code_challenge_method", "", "invalid_request", "code_challenge_method must be provided"},
		{"code_challenge", "", "invalid_request", "code_challenge must be provided with code_challenge_method"},
		{"code_challenge", "short", "invalid_request", "code_challenge must be a string with a minimum length of 43 characters"},
		{"response_type", "nonsense", "unsupported_response_type", "unsupported response_type requested"},
		{"response_type", "", "invalid_request", "missing required parameter 'response_type'"},
		{"max_age", "-1", "invalid_request", "invalid max_age parameter value"},
		{"id_token_hint", "garbage", "invalid_request", "could not validate id_token_hint"},
	} {
		t.Run(test.name+"="+test.value, func(t *testing.T) {
			got := p.browser().visit(t, p.authURL(test.name, test.value), true).callback
			if got.Get("error") != test.code || got.Get("error_description") != test.description ||
				got.Get("state") != "the-state" || got.Get("iss") != p.issuer || got.Has("code") {
				t.Errorf("callback %v, want %s %q", got, test.code, test.description)
			}
		})
	}
	t.Run("a parameter twice", func(t *testing.T) {
		got := p.browser().visit(t, p.authURL()+"&nonce=another", true).callback
		if got.Get("error") != "invalid_request" || got.Get("error_description") != "'nonce' parameter must not be provided twice" {
			t.Errorf("callback %v", got)
		}
	})
	t.Run("no PKCE", func(t *testing.T) {
		got := p.browser().visit(t, p.authURL("code_challenge", "", "code_challenge_method", ""), true)
		if p.local == nil { // Logto demands PKCE of public applications only; authtest of all
			if got.page == "" {
				t.Errorf("%+v", got)
			}
			return
		}
		if got.callback.Get("error") != "invalid_request" ||
			got.callback.Get("error_description") != "Authorization Server policy requires PKCE to be used for this request" {
			t.Errorf("callback %v", got.callback)
		}
	})
	t.Run("an unknown scope is dropped", func(t *testing.T) {
		a := p.signedIn(t, p.browser(), "scope", "openid nonsense")
		if a.body["scope"] != "openid" {
			t.Errorf("scope %q", a.body["scope"])
		}
	})
}

func (p *provider) testSession(t *testing.T) {
	b := p.browser()
	b.visit(t, p.authURL(), true)
	before := b.cookies["_session /"]
	first := p.signedIn(t, b)
	if after := b.cookies["_session /"]; after == "" || after == before {
		t.Errorf("the session's ID was %q and is %q after a sign-in", before, after)
	}
	hint, _ := first.body["id_token"].(string)
	for _, test := range []struct {
		change []string
		asks   bool
	}{
		{nil, false},
		{[]string{"prompt", ""}, false},
		{[]string{"prompt", "none"}, false},
		{[]string{"first_screen", "register"}, false},
		{[]string{"prompt", "login"}, true},
		{[]string{"prompt", "login consent"}, true},
		{[]string{"max_age", "0"}, true},
		{[]string{"max_age", "3600"}, false},
		{[]string{"id_token_hint", hint}, false},
	} {
		got := b.visit(t, p.authURL(test.change...), true)
		if (got.page != "") != test.asks || (got.callback.Get("code") != "") == test.asks {
			t.Errorf("%v: page %q, callback %v", test.change, got.page, got.callback)
		}
	}
	for _, change := range [][]string{{"max_age", "3600"}, {"max_age", "0"}, {"prompt", "login"}} {
		_, claims := p.token(t, p.signedIn(t, b, change...).body["id_token"])
		if at, ok := claims["auth_time"].(float64); !ok || time.Since(time.Unix(int64(at), 0)).Abs() > time.Minute {
			t.Errorf("%v: auth_time %v", change, claims["auth_time"])
		}
	}
	fresh := p.browser()
	p.signedIn(t, fresh, "scope", "openid")
	if got := fresh.visit(t, p.authURL("prompt", "none"), true); got.callback.Get("error") != "consent_required" ||
		got.callback.Get("error_description") != "requested scopes not granted" {
		t.Errorf("prompt=none for more than was granted: %v", got.callback)
	}
}

func (p *provider) testFirstScreen(t *testing.T) {
	for _, test := range []struct{ name, value, page string }{
		{"first_screen", "register", "/register"},
		{"first_screen", "sign_in", "/sign-in"},
		{"interaction_mode", "signUp", "/register"},
		{"interaction_mode", "signIn", "/sign-in"},
		{"first_screen", "nonsense", "/sign-in"},
	} {
		if got := p.browser().visit(t, p.authURL(test.name, test.value), true); got.page != test.page {
			t.Errorf("%s=%s leads to %q, want %q", test.name, test.value, got.page, test.page)
		}
	}
	if got := p.browser().visit(t, p.authURL("first_screen", "register", "interaction_mode", "nonsense"), true); got.page != "/sign-in" {
		t.Errorf("one invalid value leads to %q, want all of them discarded", got.page)
	}
}

// testHints: what is unknown is no fault, and what is known reaches the page.
func (p *provider) testHints(t *testing.T) {
	for _, test := range []struct{ name, value, page string }{
		{"organization_id", p.member, "/sign-in"},
		{"organization_id", "nonsense", "/sign-in"},
		{"login_hint", p.username, "/sign-in"},
		{"login_hint", "nobody@example.com", "/sign-in"},
		{"one_time_token", "nonsense", "/sign-in"}, // without an e-mail address
		{"acr_values", "urn:logto:acr:mfa", "/sign-in"},
	} {
		got := p.browser().visit(t, p.authURL(test.name, test.value), true)
		if got.page != test.page {
			t.Errorf("%s=%s leads to %q, want %q", test.name, test.value, got.page, test.page)
		}
		if p.local == nil && test.name != "acr_values" && got.asked.Query().Get(test.name) != test.value {
			t.Errorf("%s=%s does not reach the page %s", test.name, test.value, got.asked)
		}
	}
	a := p.signedIn(t, p.browser(), "organization_id", "nonsense", "login_hint", "nobody@example.com")
	if a.body["id_token"] == nil {
		t.Errorf("with an unknown organization: %s", a.text)
	}
}

// testAuthTime: it is that of the sign-in, however often the tokens are renewed, and is said where max_age was asked for.
func (p *provider) testAuthTime(t *testing.T) {
	b := p.browser()
	_, plain := p.token(t, p.signedIn(t, b).body["id_token"])
	if plain["auth_time"] != nil {
		t.Errorf("auth_time %v that nobody asked for", plain["auth_time"])
	}
	a := p.signedIn(t, b, "max_age", "3600")
	_, before := p.token(t, a.body["id_token"])
	if at, _ := before["auth_time"].(float64); at == 0 || at > before["iat"].(float64) {
		t.Errorf("auth_time %v, issued %v", before["auth_time"], before["iat"])
	}
	if p.local == nil { // whose clock TestAuthTimeStays moves
		time.Sleep(2 * time.Second)
	}
	_, after := p.token(t, p.refresh(t, a.body["refresh_token"]).body["id_token"])
	if after["auth_time"] != before["auth_time"] {
		t.Errorf("after a refresh auth_time is %v, was %v", after["auth_time"], before["auth_time"])
	}
	if got := b.visit(t, p.authURL("max_age", "1"), true); got.page == "" && p.local == nil {
		t.Errorf("an older session than max_age: %v", got.callback)
	}
	// A Logto before 1.46 does not know acr_values, and says nothing of it.
	if _, claims := p.token(t, p.signedIn(t, b, "acr_values", "urn:logto:acr:mfa").body["id_token"]); claims["acr"] != nil || claims["amr"] != nil {
		t.Errorf("acr %v, amr %v", claims["acr"], claims["amr"])
	}
}

func (p *provider) testClaims(t *testing.T) {
	a := p.signedIn(t, p.browser())
	header, id := p.token(t, a.body["id_token"])
	wantNames(t, "the ID token's header", header, "alg", "kid")
	for _, name := range []string{"custom_data", "identities", "sso_identities", "organization_data", "at_hash"} {
		if _, ok := id[name]; ok {
			t.Errorf("the ID token has %s", name)
		}
	}
	if id["iss"] != p.issuer || id["aud"] != p.appID || id["nonce"] != "the-nonce" || id["exp"].(float64)-id["iat"].(float64) != 3600 {
		t.Errorf("ID token %v", id)
	}
	if sid, _ := id["sid"].(string); sid == "" {
		t.Error("the ID token has no sid")
	}
	got := p.userinfo(t, a.body["access_token"])
	if got.status != http.StatusOK || got.body["sub"] != id["sub"] {
		t.Fatalf("userinfo %d %s", got.status, got.text)
	}
	for _, claims := range []map[string]any{id, got.body} {
		for _, name := range []string{"sub", "name", "username", "preferred_username", "picture", "email", "phone_number"} {
			if text, _ := claims[name].(string); text == "" {
				t.Errorf("%s = %v", name, claims[name])
			}
		}
		for _, name := range []string{"created_at", "updated_at"} {
			if at, _ := claims[name].(float64); time.UnixMilli(int64(at)).Year() < 2020 || time.UnixMilli(int64(at)).Year() > 2100 {
				t.Errorf("%s = %v, want milliseconds", name, claims[name])
			}
		}
		for name, want := range map[string]string{
			"email_verified": "true", "phone_number_verified": "true", "organizations": `["` + p.member + `"]`,
			"organization_roles": `["` + p.member + `:admin"]`,
		} {
			if got, _ := json.Marshal(claims[name]); string(got) != want {
				t.Errorf("%s = %s, want %s", name, got, want)
			}
		}
		if roles, _ := claims["roles"].([]any); len(roles) != 1 {
			t.Errorf("roles = %v", claims["roles"])
		}
	}
	if custom, _ := got.body["custom_data"].(map[string]any); custom["theme"] != "dark" {
		t.Errorf("custom_data = %v", got.body["custom_data"])
	}
	if _, ok := got.body["identities"].(map[string]any); !ok {
		t.Errorf("identities = %v", got.body["identities"])
	}
	if _, ok := got.body["sso_identities"].([]any); !ok {
		t.Errorf("sso_identities = %v", got.body["sso_identities"])
	}
	data, _ := got.body["organization_data"].([]any)
	if len(data) != 1 {
		t.Fatalf("organization_data = %v", data)
	}
	wantNames(t, "organization_data", data[0].(map[string]any), "id", "name", "description")
	for _, name := range []string{"iss", "aud", "iat", "exp", "nonce", "sid"} {
		if _, ok := got.body[name]; ok {
			t.Errorf("userinfo has %s", name)
		}
	}
	header, id = p.token(t, p.signedIn(t, p.browser(), "nonce", "", "scope", "openid").body["id_token"])
	wantNames(t, "the ID token of openid without nonce", id, "sub", "aud", "iss", "iat", "exp", "sid")
	if header["alg"] != "ES384" {
		t.Errorf("alg %v", header["alg"])
	}
}

func (p *provider) testFewClaims(t *testing.T) {
	a := p.signedIn(t, p.browser(), "scope", "openid")
	wantNames(t, "userinfo of openid", p.userinfo(t, a.body["access_token"]).body, "sub")
	a = p.signedIn(t, p.browser(), "scope", "openid email")
	wantNames(t, "userinfo of openid email", p.userinfo(t, a.body["access_token"]).body, "sub", "email", "email_verified")
	a = p.signedIn(t, p.browser(), "scope", "openid urn:logto:scope:organizations")
	wantNames(t, "userinfo of organizations", p.userinfo(t, a.body["access_token"]).body, "sub", "organizations", "organization_data")
}

func (p *provider) testNull(t *testing.T) {
	if p.bare == "" {
		t.Skip("set LOGTO_TEST_BARE_USERNAME to test what Logto says of somebody without e-mail, phone, role, organization")
	}
	bare := *p
	bare.username, bare.password = p.bare, p.barePassword
	a := bare.signedIn(t, bare.browser())
	_, id := p.token(t, a.body["id_token"])
	userinfo := p.userinfo(t, a.body["access_token"]).body
	common := map[string]string{
		"picture": "null", "email": "null", "email_verified": "false", "phone_number": "null", "phone_number_verified": "false",
		"roles": "[]", "organizations": "[]", "organization_roles": "[]",
	}
	for name, want := range common {
		for _, claims := range []map[string]any{id, userinfo} {
			value, ok := claims[name]
			if got, _ := json.Marshal(value); !ok || string(got) != want {
				t.Errorf("%s = %s (there: %v), want %s", name, got, ok, want)
			}
		}
	}
	for name, want := range map[string]string{"custom_data": "{}", "identities": "{}", "sso_identities": "[]", "organization_data": "[]"} {
		if got, _ := json.Marshal(userinfo[name]); string(got) != want {
			t.Errorf("%s = %s, want %s", name, got, want)
		}
	}
	for _, name := range []string{"given_name", "family_name", "gender", "locale", "address", "website"} {
		if value, ok := userinfo[name]; ok {
			t.Errorf("%s = %v, want it absent", name, value)
		}
	}
	api := p.refresh(t, a.body["refresh_token"], "resource", p.resources[0])
	_, claims := p.token(t, api.body["access_token"])
	if claims["scope"] != "" || api.body["scope"] != "" {
		t.Errorf("without a role: scope %q", claims["scope"])
	}
}

func (p *provider) testCode(t *testing.T) {
	const invalid = "grant request is invalid"
	code := p.browser().visit(t, p.authURL(), false).callback.Get("code")
	wantError(t, p.exchange(t, code, "code_verifier", strings.Repeat("x", 43)), 400, "invalid_grant", invalid)
	wantError(t, p.exchange(t, code, "redirect_uri", "https://other.example/"), 400, "invalid_grant", invalid)
	wantError(t, p.exchange(t, code, "code_verifier", ""), 400, "invalid_grant", invalid)
	wantError(t, p.exchange(t, code, "code_verifier", "short"), 400, "invalid_request",
		"code_verifier must be a string with a minimum length of 43 characters")
	wantError(t, p.exchange(t, "nonsense"), 400, "invalid_grant", invalid)
	a := p.exchange(t, code)
	if a.status != http.StatusOK {
		t.Fatalf("a refused attempt spent the code: %s", a.text)
	}
	wantNames(t, "the token answer", a.body, "access_token", "expires_in", "id_token", "refresh_token", "scope", "token_type")
	if token, _ := a.body["access_token"].(string); len(token) != 43 {
		t.Errorf("access token %q, want 43 characters", token)
	}
	if a.body["token_type"] != "Bearer" || a.body["expires_in"] != 3600.0 || !strings.Contains(a.header.Get("Cache-Control"), "no-store") {
		t.Errorf("%v %v %v", a.body["token_type"], a.body["expires_in"], a.header)
	}
	if !sameWords(a.body["scope"], userScopes+" offline_access") {
		t.Errorf("scope %q", a.body["scope"])
	}
	if again := p.exchange(t, code); again.body["error_uri"] == nil {
		t.Errorf("the second use: %s", again.text)
	} else {
		wantError(t, again, 400, "invalid_grant", invalid)
	}
	if got := p.userinfo(t, a.body["access_token"]); got.status != http.StatusUnauthorized {
		t.Errorf("after the second use the access token still works: %d", got.status)
	}
	wantError(t, p.refresh(t, a.body["refresh_token"]), 400, "invalid_grant", invalid)
	wantError(t, p.post(t, "/token", url.Values{"grant_type": {"password"}}, true), 400, "unsupported_grant_type", "unsupported grant_type requested")
	wantError(t, p.post(t, "/token", url.Values{}, true), 400, "invalid_request", "missing required parameter 'grant_type'")
}

func sameWords(a any, b string) bool {
	text, _ := a.(string)
	x, y := strings.Fields(text), strings.Fields(b)
	slices.Sort(x)
	slices.Sort(y)
	return slices.Equal(x, y)
}

func (p *provider) testClientAuthentication(t *testing.T) {
	form := func(change ...string) url.Values {
		f := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {"none"}}
		for i := 0; i+1 < len(change); i += 2 {
			f.Set(change[i], change[i+1])
		}
		return f
	}
	wantError(t, p.post(t, "/token", form(), true), 400, "invalid_grant", "grant request is invalid")
	wantError(t, p.post(t, "/token", form("client_id", p.appID, "client_secret", p.secret), false), 400, "invalid_grant", "grant request is invalid")
	wantError(t, p.post(t, "/token", form("client_id", p.appID), true), 400, "invalid_grant", "grant request is invalid")
	wantError(t, p.post(t, "/token", form("client_id", p.appID, "client_secret", p.secret), true), 400, "invalid_request",
		"client authentication must only be provided using one mechanism")
	wantError(t, p.post(t, "/token", form("client_id", p.appID, "client_secret", "wrong"), false), 401, "invalid_client", "client authentication failed")
	wantError(t, p.post(t, "/token", form("client_id", "nobody", "client_secret", "wrong"), false), 400, "invalid_client", "invalid client nobody")
	wantError(t, p.post(t, "/token", form("client_id", p.appID), false), 401, "invalid_client", "client authentication failed")
	wantError(t, p.post(t, "/token", form(), false), 400, "invalid_request", "no client authentication mechanism provided")
	other := *p
	other.secret = "wrong"
	a := other.post(t, "/token", form(), true)
	wantError(t, a, 401, "invalid_client", "client authentication failed")
	if !strings.HasPrefix(a.header.Get("WWW-Authenticate"), `Basic realm="`) {
		t.Errorf("WWW-Authenticate: %q", a.header.Get("WWW-Authenticate"))
	}
}

func (p *provider) testRefresh(t *testing.T) {
	first := p.signedIn(t, p.browser())
	a := p.refresh(t, first.body["refresh_token"])
	if a.status != http.StatusOK || a.body["refresh_token"] != first.body["refresh_token"] || a.body["scope"] != first.body["scope"] {
		t.Errorf("refresh: %d %s", a.status, a.text)
	}
	_, before := p.token(t, first.body["id_token"])
	_, after := p.token(t, a.body["id_token"])
	for _, name := range []string{"sub", "iss", "aud", "nonce", "sid"} {
		if before[name] != after[name] {
			t.Errorf("%s was %v and is %v after a refresh", name, before[name], after[name])
		}
	}
	if got := p.userinfo(t, first.body["access_token"]); got.status != http.StatusOK {
		t.Errorf("the earlier access token: %d", got.status)
	}
	narrow := p.refresh(t, first.body["refresh_token"], "scope", "openid email")
	_, claims := p.token(t, narrow.body["id_token"])
	if narrow.body["scope"] != "openid email" || claims["email"] == nil || claims["username"] != nil {
		t.Errorf("narrower scope: %s %v", narrow.text, claims)
	}
	if a := p.refresh(t, first.body["refresh_token"], "scope", "profile"); a.status != http.StatusOK || a.body["id_token"] != nil {
		t.Errorf("without openid: %d %s", a.status, a.text)
	}
	wantError(t, p.refresh(t, first.body["refresh_token"], "scope", "openid nonsense"), 400, "invalid_scope", "refresh token missing requested scope")
	wantError(t, p.refresh(t, "nonsense"), 400, "invalid_grant", "grant request is invalid")
	wantError(t, p.refresh(t, ""), 400, "invalid_request", "missing required parameter 'refresh_token'")
}

func (p *provider) testResource(t *testing.T) {
	first := p.signedIn(t, p.browser())
	refresh := first.body["refresh_token"]
	for _, resource := range p.resources {
		a := p.refresh(t, refresh, "resource", resource)
		header, claims := p.token(t, a.body["access_token"])
		wantNames(t, "the header", header, "alg", "kid", "typ")
		wantNames(t, "the claims", claims, "jti", "sub", "iat", "exp", "scope", "client_id", "iss", "aud")
		if header["typ"] != "at+jwt" || claims["aud"] != resource || claims["client_id"] != p.appID || a.body["scope"] != claims["scope"] {
			t.Errorf("%v %v %s", header, claims, a.text)
		}
		if p.scopes != "" && (claims["scope"] == "" || !subset(claims["scope"], p.scopes)) {
			t.Errorf("scope %q of %q", claims["scope"], p.scopes)
		}
		wantError(t, p.userinfo(t, a.body["access_token"]), 401, "invalid_token", "invalid token provided")
	}
	wantError(t, p.refresh(t, refresh, "resource", p.resources[0]+"/"), 400, "invalid_target", "resource indicator is missing, or unknown")
	a := p.refresh(t, refresh, "resource", p.resources[0], "resource", p.resources[1])
	if token, _ := a.body["access_token"].(string); a.status != http.StatusOK || len(token) != 43 {
		t.Errorf("two resources: %d %s", a.status, a.text)
	}
	a = p.refresh(t, refresh, "resource", p.resources[0], "scope", "openid")
	if a.body["scope"] != "" {
		t.Errorf("no permission asked for: scope %q", a.body["scope"])
	}
	// at the exchange, and one that the request did not name
	code := p.browser().visit(t, p.authURL("resource", p.resources[0]), false).callback.Get("code")
	_, claims := p.token(t, p.exchange(t, code, "resource", p.resources[0]).body["access_token"])
	if claims["aud"] != p.resources[0] {
		t.Errorf("at the exchange: %v", claims)
	}
	other := p.signedIn(t, p.browser(), "resource", p.resources[0])
	wantError(t, p.refresh(t, other.body["refresh_token"], "resource", p.resources[1]), 400, "invalid_target", "resource indicator is missing, or unknown")
}

func subset(a any, b string) bool {
	text, _ := a.(string)
	return !slices.ContainsFunc(strings.Fields(text), func(word string) bool { return !slices.Contains(strings.Fields(b), word) })
}

func (p *provider) testOrganization(t *testing.T) {
	refresh := p.signedIn(t, p.browser()).body["refresh_token"]
	a := p.refresh(t, refresh, "organization_id", p.member)
	_, claims := p.token(t, a.body["access_token"])
	wantNames(t, "an organization token", claims, "jti", "sub", "iat", "exp", "scope", "client_id", "iss", "aud")
	if claims["aud"] != "urn:logto:organization:"+p.member || a.body["expires_in"] != 3600.0 {
		t.Errorf("%v %s", claims, a.text)
	}
	if p.scopes != "" && (claims["scope"] == "" || !subset(claims["scope"], p.scopes)) {
		t.Errorf("scope %q of %q", claims["scope"], p.scopes)
	}
	a = p.refresh(t, refresh, "organization_id", p.member, "resource", p.resources[0])
	_, claims = p.token(t, a.body["access_token"])
	if claims["aud"] != p.resources[0] || claims["organization_id"] != p.member {
		t.Errorf("an API within an organization: %v", claims)
	}
	for _, id := range []string{p.stranger, "nonsense"} {
		wantError(t, p.refresh(t, refresh, "organization_id", id), 403, "access_denied", "user is not a member of the organization")
		wantError(t, p.refresh(t, refresh, "organization_id", id, "resource", p.resources[0]), 403, "access_denied", "user is not a member of the organization")
	}
	without := p.signedIn(t, p.browser(), "scope", "openid profile "+p.scopes, "resource", organizations).body["refresh_token"]
	a = p.refresh(t, without, "organization_id", p.member)
	wantError(t, a, 403, "insufficient_scope", "refresh token missing required scope")
	if a.body["scope"] != "urn:logto:scope:organizations" {
		t.Errorf("scope %v", a.body["scope"])
	}
	plain := p.signedIn(t, p.browser(), "resource", "").body["refresh_token"]
	a = p.refresh(t, plain, "organization_id", p.member)
	if a.status != http.StatusOK || a.body["scope"] != "" {
		t.Errorf("the organizations resource was not asked for: %d %s", a.status, a.text)
	}
}

func (p *provider) testRevocation(t *testing.T) {
	revoke := func(token any) answer {
		text, _ := token.(string)
		return p.post(t, "/token/revocation", url.Values{"token": {text}}, true)
	}
	a := p.signedIn(t, p.browser())
	api := p.refresh(t, a.body["refresh_token"], "resource", p.resources[0]).body["access_token"]
	wantError(t, revoke(api), 400, "unsupported_token_type", "Structured JWT Tokens cannot be revoked via the revocation_endpoint")
	if got := revoke("unknown"); got.status != http.StatusOK || got.text != "" {
		t.Errorf("an unknown token: %d %q", got.status, got.text)
	}
	wantError(t, p.post(t, "/token/revocation", url.Values{"token": {"x"}}, false), 400, "invalid_request", "no client authentication mechanism provided")
	wantError(t, p.post(t, "/token/revocation", url.Values{}, true), 400, "invalid_request", "missing required parameter 'token'")
	if got := revoke(a.body["access_token"]); got.status != http.StatusOK || got.text != "" {
		t.Errorf("an access token: %d %q", got.status, got.text)
	}
	wantError(t, p.refresh(t, a.body["refresh_token"]), 400, "invalid_grant", "grant request is invalid")
	a = p.signedIn(t, p.browser())
	revoke(a.body["refresh_token"])
	got := p.userinfo(t, a.body["access_token"])
	wantError(t, got, 401, "invalid_token", "invalid token provided")
	if !strings.HasPrefix(got.header.Get("WWW-Authenticate"), "Bearer ") {
		t.Errorf("WWW-Authenticate: %q", got.header.Get("WWW-Authenticate"))
	}
}

// testOneGrant: all sign-ins of a person in one session have one grant, with a password or without; another browser's has
// its own.
func (p *provider) testOneGrant(t *testing.T) {
	for _, prompt := range []string{"consent", "login consent"} {
		b := p.browser()
		first, second, elsewhere := p.signedIn(t, b), p.signedIn(t, b, "prompt", prompt), p.signedIn(t, p.browser())
		_, before := p.token(t, first.body["id_token"])
		_, after := p.token(t, second.body["id_token"])
		if first.body["refresh_token"] == second.body["refresh_token"] || before["sid"] != after["sid"] {
			t.Errorf("%s: refresh tokens %v and %v, sid %v and %v", prompt, first.body["refresh_token"], second.body["refresh_token"], before["sid"], after["sid"])
		}
		token, _ := first.body["refresh_token"].(string)
		p.post(t, "/token/revocation", url.Values{"token": {token}}, true)
		p.wantEnded(t, second)
		p.wantAlive(t, elsewhere)
		p.wantAlive(t, p.signedIn(t, b)) // the session lives, and gives a new one
	}
}

func (p *provider) home() string {
	u, _ := url.Parse(p.redirectURI)
	return u.Scheme + "://" + u.Host + "/"
}

func (p *provider) endURL(pairs ...string) string {
	q := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		q.Set(pairs[i], pairs[i+1])
	}
	return p.issuer + "/session/end?" + q.Encode()
}

func (p *provider) testEndSession(t *testing.T) {
	b := p.browser()
	a := p.signedIn(t, b, "prompt", "") // no offline_access
	hint, _ := a.body["id_token"].(string)
	for _, pairs := range [][]string{
		{"id_token_hint", hint, "post_logout_redirect_uri", "https://evil.example/"},
		{"client_id", p.appID, "post_logout_redirect_uri", "https://evil.example/"},
		{"client_id", "nobody", "post_logout_redirect_uri", p.home()},
		{"id_token_hint", "garbage"},
		{"id_token_hint", hint, "client_id", "another"},
	} {
		if got := b.visit(t, p.endURL(pairs...), true); got.status != http.StatusBadRequest {
			t.Errorf("%v: %d %s, want 400", pairs, got.status, got.body)
		}
	}
	got := b.visit(t, p.endURL("id_token_hint", hint, "post_logout_redirect_uri", p.home(), "state", "bye"), false)
	if got.target != p.home()+"?state=bye" {
		t.Errorf("led to %q", got.target)
	}
	if got := b.visit(t, p.authURL("prompt", "none"), true); got.callback.Get("error") != "login_required" {
		t.Errorf("the session lives: %v", got.callback)
	}
	if got := p.refresh(t, a.body["refresh_token"]); got.status != http.StatusBadRequest {
		t.Errorf("without offline_access the refresh token outlived the session: %d", got.status)
	}
	if got := p.userinfo(t, a.body["access_token"]); got.status != http.StatusUnauthorized {
		t.Errorf("without offline_access the access token outlived the session: %d", got.status)
	}
	p.signedIn(t, b)
	if got := b.visit(t, p.endURL("post_logout_redirect_uri", p.home()), false); !strings.HasPrefix(got.target, strings.TrimSuffix(p.issuer, "oidc")) {
		t.Errorf("with neither hint nor client the redirect was followed to %q", got.target)
	}
	p.signedIn(t, b)
	if got := b.visit(t, p.endURL("client_id", p.appID, "post_logout_redirect_uri", p.home()), false); got.target != p.home() {
		t.Errorf("with a client ID led to %q", got.target)
	}
}

func (p *provider) testOfflineAccess(t *testing.T) {
	b := p.browser()
	a := p.signedIn(t, b)
	hint, _ := a.body["id_token"].(string)
	p.signedIn(t, b, "prompt", "") // a later one without offline_access changes nothing for the first
	b.visit(t, p.endURL("id_token_hint", hint), false)
	if got := p.refresh(t, a.body["refresh_token"]); got.status != http.StatusOK {
		t.Errorf("refresh: %d %s", got.status, got.text)
	}
	if got := p.userinfo(t, a.body["access_token"]); got.status != http.StatusOK {
		t.Errorf("userinfo: %d", got.status)
	}
}

func (p *provider) testBackchannel(t *testing.T) {
	calls := p.listen(t)
	b := p.browser()
	a := p.signedIn(t, b)
	hint, _ := a.body["id_token"].(string)
	_, id := p.token(t, hint)
	b.visit(t, p.endURL("id_token_hint", hint, "post_logout_redirect_uri", p.home()), false)
	select {
	case call := <-calls:
		if call.Method != http.MethodPost || call.URL.Path != "/backchannel-logout" || len(call.PostForm) != 1 {
			t.Errorf("%s %s %v", call.Method, call.URL, call.PostForm)
		}
		header, claims := p.token(t, call.PostForm.Get("logout_token"))
		wantNames(t, "the header", header, "alg", "kid", "typ")
		wantNames(t, "the claims", claims, "iss", "aud", "sub", "iat", "exp", "jti", "events", "sid")
		events, _ := json.Marshal(claims["events"])
		if header["typ"] != "logout+jwt" || claims["sub"] != id["sub"] || claims["sid"] != id["sid"] || claims["aud"] != p.appID ||
			claims["exp"].(float64)-claims["iat"].(float64) != 120 || string(events) != `{"http://schemas.openid.net/event/backchannel-logout":{}}` {
			t.Errorf("%v %v", header, claims)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("no call")
	}
}

// listen is the application's back channel.
func (p *provider) listen(t *testing.T) <-chan *http.Request {
	t.Helper()
	calls := make(chan *http.Request, 10)
	app := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		calls <- r
	}))
	if p.local == nil {
		if p.backchannel == "" {
			t.Skip("set LOGTO_TEST_BACKCHANNEL_ADDR to test Logto's back-channel calls")
		}
		app.Listener.Close()
		listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", p.backchannel)
		if err != nil {
			t.Fatal(err)
		}
		app.Listener = listener
	}
	app.Start()
	t.Cleanup(app.Close)
	if p.local != nil {
		opts := people.Options("", "http://localhost:3000")
		registered := opts.Apps[0]
		registered.ID, registered.Secret, registered.AlwaysIssueRefreshToken = p.appID, p.secret, true
		registered.BackchannelLogoutURI = app.URL + "/backchannel-logout"
		p.local.Register(registered)
	}
	return calls
}
