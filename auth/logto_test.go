package auth_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
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

	"example.com/logto-gin-starter/auth"
	"example.com/logto-gin-starter/auth/authtest"
)

// TestLogto goes through all that this package does at a real Logto, which these variables name:
//
//	LOGTO_TEST_ENDPOINT LOGTO_TEST_APP_ID LOGTO_TEST_APP_SECRET
//	LOGTO_TEST_REDIRECT_URI                     http://localhost:3000/callback by default; its root is the post sign-out URI
//	LOGTO_TEST_USERNAME LOGTO_TEST_PASSWORD
//	LOGTO_TEST_ORG_ID LOGTO_TEST_OTHER_ORG_ID   the person is a member of the first only
//	LOGTO_TEST_RESOURCES LOGTO_TEST_SCOPES      API resources, and permissions that the person has, space separated
//	LOGTO_TEST_BACKCHANNEL_ADDR                 where the registered back channel leads to; without it: not tested
//
// The application must require a session in back-channel logout.
func TestLogto(t *testing.T) {
	if os.Getenv("LOGTO_TEST_ENDPOINT") == "" {
		t.Skip("left out: LOGTO_TEST_ENDPOINT names no Logto")
	}
	l := newLogto(t)
	t.Run("sign-in", l.testSignIn)
	t.Run("user info", l.testUserInfo)
	t.Run("refresh", l.testRefresh)
	t.Run("resource token", l.testResource)
	t.Run("organization token", l.testOrganization)
	t.Run("step-up", l.testStepUp)
	t.Run("API", l.testAPI)
	t.Run("errors", l.testErrors)
	t.Run("sign-out", l.testSignOut)
	t.Run("back-channel logout", l.testBackchannel)
}

type logto struct {
	config      auth.Config
	client      *auth.Client
	redirectURI string
	member      string // organizations
	stranger    string
}

func newLogto(t *testing.T) *logto {
	l := &logto{
		config: auth.Config{
			Endpoint: os.Getenv("LOGTO_TEST_ENDPOINT"), AppID: os.Getenv("LOGTO_TEST_APP_ID"),
			AppSecret: auth.Secret(os.Getenv("LOGTO_TEST_APP_SECRET")),
			Scopes: append(strings.Fields(os.Getenv("LOGTO_TEST_SCOPES")), auth.ScopeEmail, auth.ScopePhone, auth.ScopeAddress,
				auth.ScopeCustomData, auth.ScopeIdentities, auth.ScopeRoles, auth.ScopeOrganizations, auth.ScopeOrganizationRoles),
			Resources: strings.Fields(os.Getenv("LOGTO_TEST_RESOURCES")),
		},
		redirectURI: cmp.Or(os.Getenv("LOGTO_TEST_REDIRECT_URI"), callbackURI),
		member:      os.Getenv("LOGTO_TEST_ORG_ID"),
		stranger:    os.Getenv("LOGTO_TEST_OTHER_ORG_ID"),
	}
	var err error
	if l.client, err = auth.New(l.config); err != nil {
		t.Fatal(err)
	}
	return l
}

// session is one in which the person has just signed in.
func (l *logto) session(t *testing.T, p *person, options auth.SignInOptions) (*auth.Session, auth.CallbackResult) {
	t.Helper()
	session := l.client.Session(&authtest.Memory{})
	result, err := session.HandleSignInCallback(t.Context(), l.visit(t, p, session, options))
	if err != nil {
		t.Fatal(err)
	}
	return session, result
}

func (l *logto) visit(t *testing.T, p *person, session *auth.Session, options auth.SignInOptions) url.Values {
	t.Helper()
	options.RedirectURI = l.redirectURI
	address, err := session.SignIn(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	target, err := url.Parse(p.visit(t, l.config.Endpoint, address))
	if err != nil {
		t.Fatal(err)
	}
	return target.Query()
}

func (l *logto) testSignIn(t *testing.T) {
	p := &person{cookies: map[string]string{}}
	session, result := l.session(t, p, auth.SignInOptions{ReturnTo: "/page", MaxAge: time.Hour, UILocales: []string{"th", "en"}})
	claims, err := session.IDTokenClaims(t.Context())
	if err != nil || claims.Subject == "" || claims.Subject != result.Claims.Subject || result.ReturnTo != "/page" {
		t.Errorf("%+v, %v", claims, err)
	}
	if claims.Nonce == "" || claims.AuthTime == 0 || claims.SessionID == "" || claims.Username.Value() != os.Getenv("LOGTO_TEST_USERNAME") {
		t.Errorf("claims %+v", claims)
	}
	if since := time.Since(claims.CreatedAt.Value().Time()); since < 0 || since > 50*365*24*time.Hour {
		t.Errorf("created_at is not in milliseconds: %v", claims.CreatedAt.Value())
	}
	if _, again := l.session(t, p, auth.SignInOptions{Prompt: []auth.Prompt{auth.PromptNone}}); again.Claims.Subject != claims.Subject {
		t.Errorf("a live session answers for %s", again.Claims.Subject)
	}
	stranger := &person{cookies: map[string]string{}}
	session = l.client.Session(&authtest.Memory{})
	query := l.visit(t, stranger, session, auth.SignInOptions{Prompt: []auth.Prompt{auth.PromptNone}})
	_, err = session.HandleSignInCallback(t.Context(), query)
	if answer, ok := errors.AsType[*auth.OAuthError](err); !ok || answer.Code != "login_required" {
		t.Errorf("prompt=none without a session: %v", err)
	}
}

func (l *logto) testUserInfo(t *testing.T) {
	session, result := l.session(t, &person{cookies: map[string]string{}}, auth.SignInOptions{})
	info, err := session.FetchUserInfo(t.Context())
	if err != nil || info.Subject != result.Claims.Subject {
		t.Fatalf("%+v, %v", info, err)
	}
	if info.CustomData.IsZero() || info.Identities.IsZero() || info.SSOIdentities.IsZero() || len(info.OrganizationData.Value()) == 0 {
		t.Errorf("claims of userinfo are missing: %+v", info)
	}
	if !result.Claims.CustomData.IsZero() || !result.Claims.OrganizationData.IsZero() {
		t.Errorf("claims of userinfo are in the ID token: %+v", result.Claims)
	}
	for name := range info.Extra {
		t.Errorf("the claim %s is not known by name", name)
	}
}

func (l *logto) testRefresh(t *testing.T) {
	session, result := l.session(t, &person{cookies: map[string]string{}}, auth.SignInOptions{})
	first, err := session.AccessToken(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(1100 * time.Millisecond) // iat is in seconds
	second, err := session.AccessToken(t.Context(), "", auth.ForceRefresh())
	if err != nil || first.Value == second.Value || time.Until(second.Expiry) < 59*time.Minute || !slices.Contains(second.Scopes, "offline_access") {
		t.Errorf("%v, %v", second, err)
	}
	claims, err := session.IDTokenClaims(t.Context())
	if err != nil || claims.Subject != result.Claims.Subject || claims.IssuedAt <= result.Claims.IssuedAt {
		t.Errorf("the ID token was not renewed: %+v, %v", claims, err)
	}
	if _, err := session.FetchUserInfo(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := session.AccessTokenClaims(t.Context(), ""); !errors.Is(err, auth.ErrOpaqueToken) {
		t.Error(err)
	}
}

func (l *logto) testResource(t *testing.T) {
	session, result := l.session(t, &person{cookies: map[string]string{}}, auth.SignInOptions{})
	for _, resource := range l.config.Resources {
		token, err := session.AccessToken(t.Context(), resource)
		if err != nil {
			t.Fatal(err)
		}
		claims, err := l.client.VerifyAccessToken(t.Context(), string(token.Value), resource)
		if err != nil || claims.Subject != result.Claims.Subject || len(claims.Scopes()) == 0 || !slices.Equal(claims.Scopes(), token.Scopes) {
			t.Fatalf("%+v, %v", claims, err)
		}
		if _, err := l.client.VerifyAccessToken(t.Context(), string(token.Value), resource+"/"); !errors.Is(err, auth.ErrInvalidToken) {
			t.Errorf("for another audience: %v", err)
		}
		one := token.Scopes[0]
		narrow, err := session.AccessToken(t.Context(), resource, auth.WithScopes(one))
		if err != nil || !slices.Equal(narrow.Scopes, []string{one}) {
			t.Errorf("with the scope %s: %v, %v", one, narrow.Scopes, err)
		}
	}
}

func (l *logto) testOrganization(t *testing.T) {
	session, _ := l.session(t, &person{cookies: map[string]string{}}, auth.SignInOptions{})
	token, err := session.OrganizationToken(t.Context(), l.member)
	if err != nil {
		t.Fatal(err)
	}
	claims, err := l.client.VerifyAccessToken(t.Context(), string(token.Value), "urn:logto:organization:"+l.member)
	if err != nil || claims.Organization() != l.member || claims.OrganizationID != "" || len(claims.Scopes()) == 0 {
		t.Errorf("organization token: %+v, %v", claims, err)
	}
	claims, err = session.AccessTokenClaims(t.Context(), l.config.Resources[0], auth.WithOrganization(l.member))
	if err != nil || claims.OrganizationID != l.member || !slices.Contains(claims.Audience, l.config.Resources[0]) || len(claims.Scopes()) == 0 {
		t.Errorf("resource token in the organization: %+v, %v", claims, err)
	}
	for _, id := range []string{l.stranger, "no-such-organization"} {
		_, err = session.OrganizationToken(t.Context(), id)
		answer, ok := errors.AsType[*auth.OAuthError](err)
		if !ok || answer.Status != http.StatusForbidden || answer.Code != "access_denied" || answer.LogtoCode != "oidc.access_denied" {
			t.Errorf("token for %s: %v", id, err)
		}
	}
	if _, err := session.OrganizationToken(t.Context(), l.member); err != nil {
		t.Errorf("after the refusal: %v", err)
	}
}

// testStepUp: when the person signed in is known where it was asked for, and stays so; a second factor is not, before Logto 1.46.
func (l *logto) testStepUp(t *testing.T) {
	p := &person{cookies: map[string]string{}}
	_, plain := l.session(t, p, auth.SignInOptions{})
	session, result := l.session(t, p, auth.SignInOptions{MaxAge: time.Minute})
	if l.client.SignedInWithin(time.Minute, plain.Claims) || !l.client.SignedInWithin(time.Minute, result.Claims) {
		t.Errorf("auth_time %v, and %v with max_age", plain.Claims.AuthTime, result.Claims.AuthTime)
	}
	if _, err := session.AccessToken(t.Context(), "", auth.ForceRefresh()); err != nil {
		t.Fatal(err)
	}
	if claims, err := session.IDTokenClaims(t.Context()); err != nil || claims.AuthTime != result.Claims.AuthTime {
		t.Errorf("after a refresh auth_time is %v, was %v; %v", claims.AuthTime, result.Claims.AuthTime, err)
	}
	query := l.visit(t, p, session, auth.SignInOptions{ACRValues: []string{auth.ACRMFA}})
	if _, err := session.HandleSignInCallback(t.Context(), query); !errors.Is(err, auth.ErrUnmetAuthentication) {
		t.Errorf("without a second factor: %v", err)
	}
}

// testAPI: a program that only receives tokens knows what they permit, and where.
func (l *logto) testAPI(t *testing.T) {
	session, result := l.session(t, &person{cookies: map[string]string{}}, auth.SignInOptions{})
	verifier, err := auth.NewVerifier(auth.Config{Endpoint: l.config.Endpoint})
	if err != nil {
		t.Fatal(err)
	}
	resource := l.config.Resources[0]
	plain, err := session.AccessToken(t.Context(), resource)
	if err != nil {
		t.Fatal(err)
	}
	within, err := session.AccessToken(t.Context(), resource, auth.WithOrganization(l.member))
	if err != nil {
		t.Fatal(err)
	}
	organization, err := session.OrganizationToken(t.Context(), l.member)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name   string
		need   auth.Permission
		token  auth.Token
		status int
	}{
		{"a resource", auth.Permission{Resource: resource, Scopes: plain.Scopes}, plain, 200},
		{"a permission that nobody has", auth.Permission{Resource: resource, Scopes: []string{"nonsense"}}, plain, 403},
		{"another resource", auth.Permission{Resource: l.config.Resources[1]}, plain, 401},
		{"the resource within the organization", auth.Permission{Resource: resource, Organization: l.member}, within, 200},
		{"the resource, issued within the organization", auth.Permission{Resource: resource}, within, 401},
		{"the resource within the organization, issued within none", auth.Permission{Resource: resource, Organization: l.member}, plain, 401},
		{"the organization", auth.Permission{Organization: l.member}, organization, 200},
		{"another organization", auth.Permission{Organization: l.stranger}, organization, 401},
		{"the resource, with an organization's token", auth.Permission{Resource: resource}, organization, 401},
	} {
		var caller auth.Caller
		api := verifier.Require(test.need)(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			caller, _ = auth.CallerFrom(r.Context())
		}))
		r, w := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody), httptest.NewRecorder()
		r.Header.Set("Authorization", "Bearer "+string(test.token.Value))
		api.ServeHTTP(w, r)
		if w.Code != test.status || w.Code == 200 && (caller.Subject != result.Claims.Subject || caller.Organization != test.need.Organization) {
			t.Errorf("%s: %d %s, caller %+v", test.name, w.Code, w.Body, caller)
		}
	}
}

// testErrors: what Logto itself refuses.
func (l *logto) testErrors(t *testing.T) {
	want := func(err error, status int, code string) {
		t.Helper()
		if answer, ok := errors.AsType[*auth.OAuthError](err); !ok || answer.Status != status || answer.Code != code {
			t.Errorf("error %v, want %d %s", err, status, code)
		}
	}
	p := &person{cookies: map[string]string{}}
	plain := l.config
	plain.Scopes, plain.Resources = nil, nil
	client, err := auth.New(plain)
	if err != nil {
		t.Fatal(err)
	}
	storage := &authtest.Memory{}
	session := client.Session(storage)
	query := l.visit(t, p, session, auth.SignInOptions{})
	if _, err := session.HandleSignInCallback(t.Context(), query); err != nil {
		t.Fatal(err)
	}
	all := l.client.Session(storage)
	_, err = all.AccessToken(t.Context(), l.config.Resources[0])
	want(err, http.StatusBadRequest, "invalid_target")
	_, err = all.OrganizationToken(t.Context(), l.member)
	want(err, http.StatusForbidden, "insufficient_scope")

	first, second := l.visit(t, p, session, auth.SignInOptions{}), l.visit(t, p, session, auth.SignInOptions{})
	first.Set("code", second.Get("code"))
	_, err = session.HandleSignInCallback(t.Context(), first)
	want(err, http.StatusBadRequest, "invalid_grant")

	wrong := l.config
	wrong.AppSecret = "wrong"
	if client, err = auth.New(wrong); err != nil {
		t.Fatal(err)
	}
	_, err = client.Session(storage).HandleSignInCallback(t.Context(), l.visit(t, p, session, auth.SignInOptions{}))
	want(err, http.StatusUnauthorized, "invalid_client")
}

// testSignOut: the tokens are worth nothing after it, and Logto's own session has ended.
func (l *logto) testSignOut(t *testing.T) {
	p := &person{cookies: map[string]string{}}
	storage, thief := &authtest.Memory{}, &authtest.Memory{}
	session := l.client.Session(storage)
	if _, err := session.HandleSignInCallback(t.Context(), l.visit(t, p, session, auth.SignInOptions{})); err != nil {
		t.Fatal(err)
	}
	identity, _ := storage.Identity(t.Context())
	tokens, _ := storage.Tokens(t.Context())
	if _, err := thief.Start(t.Context(), "", "", time.Now(), identity, tokens); err != nil {
		t.Fatal(err)
	}
	home := strings.TrimSuffix(l.redirectURI, "callback")
	address, err := session.SignOut(t.Context(), auth.SignOutOptions{PostLogoutRedirectURI: home, State: "the-state"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.client.Session(thief).FetchUserInfo(t.Context()); !errors.Is(err, auth.ErrSignInRequired) {
		t.Errorf("with a copy of the tokens: %v", err)
	}
	if got := p.visit(t, l.config.Endpoint, address); got != home+"?state=the-state" {
		t.Errorf("Logto leads to %s", got)
	}
	query := l.visit(t, p, session, auth.SignInOptions{Prompt: []auth.Prompt{auth.PromptNone}})
	if query.Get("error") != "login_required" {
		t.Errorf("still signed in at Logto: %v", query)
	}
}

// testBackchannel: Logto tells of a sign-out, by a token that verifies, once.
func (l *logto) testBackchannel(t *testing.T) {
	addr := os.Getenv("LOGTO_TEST_BACKCHANNEL_ADDR")
	if addr == "" {
		t.Skip("left out: LOGTO_TEST_BACKCHANNEL_ADDR is not set")
	}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		t.Skipf("left out: %v", err)
	}
	posted := make(chan string, 8)
	server := &http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		posted <- r.PostFormValue("logout_token")
	})}
	go server.Serve(listener) //nolint:errcheck // ends with http.ErrServerClosed, at Close
	defer server.Close()

	p := &person{cookies: map[string]string{}}
	session, result := l.session(t, p, auth.SignInOptions{})
	address, err := session.SignOut(t.Context(), auth.SignOutOptions{PostLogoutRedirectURI: strings.TrimSuffix(l.redirectURI, "callback")})
	if err != nil {
		t.Fatal(err)
	}
	p.visit(t, l.config.Endpoint, address)
	select {
	case token := <-posted:
		claims, err := l.client.VerifyLogoutToken(t.Context(), token)
		if err != nil || claims.Subject != result.Claims.Subject || claims.SessionID != result.Claims.SessionID || claims.SessionID == "" {
			t.Errorf("%+v, %v", claims, err)
		}
		if err := l.client.LogoutDone(t.Context(), claims); err != nil {
			t.Error(err)
		}
		if _, err := l.client.VerifyLogoutToken(t.Context(), token); !errors.Is(err, auth.ErrInvalidToken) {
			t.Errorf("the same token twice: %v", err)
		}
	case <-time.After(15 * time.Second):
		t.Error("Logto did not call")
	}
}

// person is somebody with a browser. Its cookies are kept as they come: some of Logto's are JSON, which
// net/http/cookiejar drops.
type person struct {
	cookies map[string]string // name and path to value
}

var (
	cookiePath  = regexp.MustCompile(`(?i); *path=([^;]*)`)
	logoutField = regexp.MustCompile(`<input[^>]*name="xsrf" value="([^"]*)"`)
)

func (p *person) do(t *testing.T, method, address, contentType string, body []byte, appID string) (*http.Response, []byte) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, address, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", contentType)
	r.Header.Set("Logto-App-Id", appID)
	for key, value := range p.cookies {
		name, path, _ := strings.Cut(key, " ")
		if path == "/" || r.URL.Path == path || strings.HasPrefix(r.URL.Path, path+"/") {
			r.Header.Set("Cookie", strings.TrimPrefix(r.Header.Get("Cookie")+"; "+name+"="+value, "; "))
		}
	}
	client := &http.Client{Timeout: 20 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	w, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Body.Close()
	text, err := io.ReadAll(w.Body)
	if err != nil || w.StatusCode >= http.StatusBadRequest {
		t.Fatalf("%s %s: %s %s, %v", method, address, w.Status, text, err)
	}
	for _, line := range w.Header.Values("Set-Cookie") {
		pair, attributes, _ := strings.Cut(line, ";")
		name, value, _ := strings.Cut(pair, "=")
		path := "/"
		if match := cookiePath.FindStringSubmatch(";" + attributes); match != nil {
			path = match[1]
		}
		p.cookies[name+" "+path] = value
	}
	return w, text
}

// visit follows redirects within Logto, signs in where Logto asks for it, and returns where the way leads out.
func (p *person) visit(t *testing.T, endpoint, address string) string {
	t.Helper()
	for range 20 {
		if !strings.HasPrefix(address, endpoint+"/") {
			return address
		}
		at, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(at.Path, "/sign-in") {
			address = p.signIn(t, at)
			continue
		}
		w, text := p.do(t, http.MethodGet, address, "", nil, "")
		if form := logoutField.FindSubmatch(text); form != nil { // a page that submits itself
			confirm := url.Values{"xsrf": {string(form[1])}, "logout": {"yes"}}
			w, text = p.do(t, http.MethodPost, endpoint+"/oidc/session/end/confirm", "application/x-www-form-urlencoded", []byte(confirm.Encode()), "")
		}
		next, err := w.Location()
		if err != nil {
			t.Fatalf("%s: %s %s", address, w.Status, text)
		}
		address = next.String()
	}
	t.Fatal("too many redirects")
	return ""
}

// signIn does what Logto's page does.
func (p *person) signIn(t *testing.T, page *url.URL) (next string) {
	t.Helper()
	call := func(method, path string, body any) (answer struct{ VerificationID, RedirectTo string }) {
		text, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		_, out := p.do(t, method, page.Scheme+"://"+page.Host+"/api/experience"+path, "application/json", text, page.Query().Get("app_id"))
		if len(out) > 0 {
			if err := json.Unmarshal(out, &answer); err != nil {
				t.Fatalf("%s: %s", path, out)
			}
		}
		return answer
	}
	call(http.MethodPut, "", map[string]string{"interactionEvent": "SignIn"})
	verified := call(http.MethodPost, "/verification/password", map[string]any{
		"identifier": map[string]string{"type": "username", "value": os.Getenv("LOGTO_TEST_USERNAME")},
		"password":   os.Getenv("LOGTO_TEST_PASSWORD"),
	})
	call(http.MethodPost, "/identification", map[string]string{"verificationId": verified.VerificationID})
	return call(http.MethodPost, "/submit", struct{}{}).RedirectTo
}
