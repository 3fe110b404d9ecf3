package authtest_test

import (
	"context"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/logto-gin-starter/auth/authtest"
)

// ways is a provider with all that Options can switch on.
func ways() authtest.Options {
	return authtest.Options{
		Apps: refreshing(),
		Users: []authtest.User{
			{
				Subject: "ada", Username: "ada", Password: "analytical", Name: "Ada", Email: "ada@example.com", MFA: true,
				Identities: map[string]any{"google": map[string]any{"userId": "1"}}, SSOIdentities: []any{map[string]any{"issuer": "https://sso.example"}},
			},
			{Subject: "grace", Username: "grace", Password: "cobol1959", Email: "grace@example.com"},
			{Subject: "eve", Username: "eve", Password: "x", Email: "eve@example.com", Suspended: true, Identities: map[string]any{"google": map[string]any{}}},
		},
		Organizations: []authtest.Organization{{ID: "acme", Name: "Acme & Sons"}},
		Resources:     []authtest.Resource{{Indicator: "https://api.example"}},
		Connectors:    []authtest.Connector{{"social", "google", "Google"}, {"sso", "corp-id", "Corp"}},
		StepUp:        true, AccountCenter: true,
	}
}

func newWays(t *testing.T, change ...func(*authtest.Options)) *provider {
	t.Helper()
	opts := ways()
	for _, f := range change {
		f(&opts)
	}
	p := newLocal(t, opts)
	p.password = "analytical"
	return p
}

// open goes to an authorization request, and returns the page that it leads to and what that says.
func (b *browser) open(t *testing.T, change ...string) (page *url.URL, text string) {
	t.Helper()
	return b.opened(t, b.p.authURL(append([]string{"resource", ""}, change...)...))
}

func (b *browser) opened(t *testing.T, address string) (page *url.URL, text string) {
	t.Helper()
	for range 5 {
		page, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(address, b.p.local.URL+"/") {
			return page, ""
		}
		w, body := b.do(t, http.MethodGet, address, "", nil)
		location, err := w.Location()
		if err != nil {
			return page, string(body)
		}
		address = location.String()
	}
	t.Fatal("too many redirects")
	return nil, ""
}

// claimsOf exchanges the code of a callback.
func (p *provider) claimsOf(t *testing.T, w *http.Response) (id map[string]any, tokens answer) {
	t.Helper()
	location, err := w.Location()
	if err != nil || location.Query().Get("code") == "" {
		t.Fatalf("%s, to %v", w.Status, location)
	}
	tokens = p.exchange(t, location.Query().Get("code"))
	_, id = p.token(t, tokens.body["id_token"])
	return id, tokens
}

func TestConnectors(t *testing.T) {
	for _, test := range []struct {
		name, direct, page string
		choice             []string // on that page
		subject            string   // empty: somebody new
	}{
		{"social", "social:google", "/direct/social/google", []string{"account", "ada"}, "ada"},
		{"social, somebody new", "social:google", "/direct/social/google", []string{"new", "1"}, ""},
		{"enterprise", "sso:corp-id", "/direct/sso/corp-id", []string{"account", "ada"}, "ada"},
		{"enterprise, somebody new", "sso:corp-id", "/direct/sso/corp-id", []string{"new", "1"}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newWays(t)
			b := p.browser()
			page, text := b.open(t, "direct_sign_in", test.direct)
			if page.Path != test.page || strings.Contains(text, `value="grace"`) {
				t.Fatalf("%s %s", page, text)
			}
			w, _ := b.submit(t, page, test.choice...)
			id, tokens := p.claimsOf(t, w)
			if (id["sub"] == "ada") != (test.subject == "ada") || id["acr"] != nil || !slices.Equal(id["amr"].([]any), []any{"fed"}) {
				t.Errorf("ID token %v", id)
			}
			info := p.userinfo(t, tokens.body["access_token"]).body
			if len(info["identities"].(map[string]any))+len(info["sso_identities"].([]any)) == 0 || info["email"] == nil {
				t.Errorf("user info %v", info)
			}
		})
	}
}

func TestConnectorRefuses(t *testing.T) {
	p := newWays(t)
	for _, unknown := range []string{"social:nobody", "sso:google", "google", ":", "social:"} {
		if page, _ := p.browser().open(t, "direct_sign_in", unknown); page.Path != "/sign-in" {
			t.Errorf("%s leads to %s", unknown, page)
		}
	}
	if page, _ := p.browser().open(t, "direct_sign_in", "social:nobody", "first_screen", "register"); page.Path != "/register" {
		t.Errorf("an unknown connector leads to %s, not to the first screen", page)
	}
	b := p.browser()
	page, text := b.open(t, "direct_sign_in", "social:google")
	for _, test := range []struct {
		fields []string
		text   string
	}{
		{[]string{"account", "grace"}, "Wrong"}, // who has no identity there
		{[]string{"account", ""}, "Wrong"},
		{nil, "Wrong"},
		{[]string{"account", "eve"}, "suspended"},
	} {
		if w, body := b.submit(t, page, test.fields...); w.StatusCode != 422 || !strings.Contains(body, test.text) {
			t.Errorf("%v: %s %s", test.fields, w.Status, body)
		}
	}
	// who cancels there is at the sign-in page, as at Logto, and the other buttons are too
	cancel := regexp.MustCompile(`<a href="(/sign-in\?[^"]*)"`).FindStringSubmatch(text)
	if cancel == nil {
		t.Fatalf("no way to cancel on %s", text)
	}
	_, text = b.opened(t, p.local.URL+cancel[1])
	if !strings.Contains(text, `href="/direct/social/google?interaction=`) || !strings.Contains(text, "Continue with Google") || strings.Contains(text, "Corp") {
		t.Errorf("the sign-in page: %s", text)
	}
	page.Path = "/direct/social/nobody"
	if w, _ := b.submit(t, page, "new", "1"); w.StatusCode != 422 {
		t.Errorf("somebody new at an unknown connector: %s", w.Status)
	}
}

func TestOneTimeToken(t *testing.T) {
	clock := &clock{now: time.Now()}
	p := newWays(t, func(o *authtest.Options) { o.Now = clock.Now })
	for _, email := range []string{"grace@example.com", "new@example.com"} {
		page, text := p.browser().open(t, "one_time_token", p.local.OneTimeToken(email), "login_hint", email, "prompt", "login consent")
		code := page.Query().Get("code")
		if code == "" {
			t.Fatalf("%s %s", page, text)
		}
		a := p.exchange(t, code)
		_, id := p.token(t, a.body["id_token"])
		if id["email"] != email || id["acr"] != "urn:logto:acr:1fa" || !slices.Equal(id["amr"].([]any), []any{"otp"}) || (id["sub"] == "grace") != (email == "grace@example.com") {
			t.Errorf("ID token %v", id)
		}
	}
	used := p.local.OneTimeToken("ada@example.com")
	p.browser().open(t, "one_time_token", used, "login_hint", "ada@example.com")
	old := p.local.OneTimeToken("ada@example.com")
	clock.pass(10 * time.Minute)
	fresh := p.local.OneTimeToken("ada@example.com")
	for _, test := range []struct{ name, token, email, text string }{
		{"used", used, "ada@example.com", "has expired"},
		{"expired", old, "ada@example.com", "has expired"},
		{"of another e-mail", fresh, "grace@example.com", "not valid for this e-mail"},
		{"unknown", "x", "ada@example.com", "not valid for this e-mail"},
		{"of somebody who is suspended", p.local.OneTimeToken("eve@example.com"), "eve@example.com", "suspended"},
	} {
		page, text := p.browser().open(t, "one_time_token", test.token, "login_hint", test.email)
		if page.Path != "/one-time-token" || !strings.Contains(text, test.text) || !strings.Contains(text, "/sign-in") {
			t.Errorf("%s: %s %s", test.name, page, text)
		}
	}
	b := p.browser()
	if page, _ := b.open(t, "one_time_token", fresh, "login_hint", "ada@example.com"); page.Query().Get("code") == "" {
		t.Errorf("with another's e-mail it was spent: %s", page)
	}
	if page, _ := b.open(t, "one_time_token", fresh, "login_hint", "ada@example.com", "prompt", "consent"); page.Query().Get("code") == "" {
		t.Errorf("opened again in the same browser: %s", page)
	}
	if _, text := b.open(t, "one_time_token", fresh, "login_hint", "ada@example.com", "prompt", "login"); !strings.Contains(text, "has been used") {
		t.Errorf("opened again where a sign-in is asked for: %s", text)
	}
	if page, _ := p.browser().open(t, "one_time_token", fresh); page.Path != "/sign-in" {
		t.Errorf("without an e-mail it leads to %s", page)
	}
}

// A link for another person does not sign out who is there without asking, unless the application asked for a sign-in.
func TestOneTimeTokenSwitches(t *testing.T) {
	p := newWays(t)
	b := p.browser()
	p.signedIn(t, b, "resource", "")
	token := p.local.OneTimeToken("grace@example.com")
	page, text := b.open(t, "one_time_token", token, "login_hint", "grace@example.com")
	if page.Path != "/one-time-token" || !strings.Contains(text, "You are signed in as Ada") || !strings.Contains(text, "Continue with grace@example.com") {
		t.Fatalf("%s %s", page, text)
	}
	w, _ := b.submit(t, page)
	if id, _ := p.claimsOf(t, w); id["sub"] != "grace" {
		t.Errorf("signed in is %v", id["sub"])
	}
	token = p.local.OneTimeToken("ada@example.com")
	if page, _ := b.open(t, "one_time_token", token, "login_hint", "ada@example.com", "prompt", "login"); page.Query().Get("code") == "" {
		t.Errorf("with prompt=login: %s", page)
	}
}

func TestMagicLink(t *testing.T) {
	p := newWays(t, func(o *authtest.Options) { o.Demo = true })
	b := p.browser()
	if _, text := b.opened(t, p.local.URL+"/"); !strings.Contains(text, "Send a link to ") {
		t.Errorf("the start page: %s", text)
	}
	w, text := b.submit(t, &url.URL{Scheme: "http", Host: strings.TrimPrefix(p.local.URL, "http://"), Path: "/magic-link"})
	link := regexp.MustCompile(`href="http://localhost:3000/sign-in\?email=ada%40example.com&amp;one_time_token=([^"]+)"`).FindStringSubmatch(text)
	if link == nil {
		t.Fatalf("%s %s", w.Status, text)
	}
	if page, _ := b.open(t, "one_time_token", link[1], "login_hint", "ada@example.com"); page.Query().Get("code") == "" {
		t.Errorf("the link leads to %s", page)
	}
	plain := newWays(t)
	if _, text := plain.browser().opened(t, plain.local.URL+"/"); strings.Contains(text, "magic") {
		t.Errorf("the start page without Demo: %s", text)
	}
}

func TestBranding(t *testing.T) {
	p := newWays(t)
	for _, path := range []string{"sign_in", "register"} {
		if _, text := p.browser().open(t, "organization_id", "acme", "first_screen", path, "login_hint", "hinted"); !strings.Contains(text, "Acme &amp; Sons") || !strings.Contains(text, `value="hinted"`) {
			t.Errorf("%s: %s", path, text)
		}
	}
	if page, text := p.browser().open(t, "organization_id", "nonsense"); page.Path != "/sign-in" || strings.Contains(text, "organization") {
		t.Errorf("an unknown organization: %s %s", page, text)
	}
}

func wantContext(t *testing.T, claims map[string]any, at time.Time, acr string, amr ...any) {
	t.Helper()
	got, _ := claims["amr"].([]any)
	if claims["auth_time"] != float64(at.Unix()) || claims["acr"] != acr || !slices.Equal(got, amr) {
		t.Errorf("auth_time %v, acr %v, amr %v, want %d %s %v", claims["auth_time"], claims["acr"], got, at.Unix(), acr, amr)
	}
}

func TestStepUp(t *testing.T) {
	const api, mfa = "https://api.example", "urn:logto:acr:mfa"
	clock := &clock{now: time.Now()}
	p := newWays(t, func(o *authtest.Options) { o.Now = clock.Now })
	b := p.browser()
	signedIn := clock.Now()
	_, id := p.token(t, p.signedIn(t, b, "resource", api).body["id_token"])
	wantContext(t, id, signedIn, "urn:logto:acr:1fa", "pwd")
	clock.pass(time.Minute)
	for _, enough := range []string{"urn:logto:acr:1fa", mfa + " urn:logto:acr:1fa", "unknown"} {
		if page, _ := b.open(t, "acr_values", enough); page.Query().Get("code") == "" {
			t.Errorf("acr_values=%s leads to %s", enough, page)
		}
	}
	if page, _ := b.open(t, "acr_values", mfa, "prompt", "none"); page.Query().Get("error") != "login_required" {
		t.Errorf("without a page: %s", page)
	}
	page, text := b.open(t, "acr_values", mfa, "resource", api)
	if page.Path != "/step-up" || !strings.Contains(text, "Approve") {
		t.Fatalf("%s %s", page, text)
	}
	approved := clock.Now()
	w, _ := b.submit(t, page)
	id, tokens := p.claimsOf(t, w)
	wantContext(t, id, approved, mfa, "pop", "user", "mfa")
	clock.pass(time.Minute)
	refreshed := p.refresh(t, tokens.body["refresh_token"], "resource", api)
	_, id = p.token(t, refreshed.body["id_token"])
	wantContext(t, id, approved, mfa, "pop", "user", "mfa")
	_, access := p.token(t, refreshed.body["access_token"])
	wantContext(t, access, approved, mfa, "pop", "user", "mfa")
	if page, _ := b.open(t, "acr_values", mfa); page.Query().Get("code") == "" {
		t.Errorf("a second time leads to %s", page)
	}

	// with the sign-in
	page, _ = b.open(t, "acr_values", mfa, "prompt", "login")
	if w, _ := b.submit(t, &url.URL{Scheme: page.Scheme, Host: page.Host, Path: "/step-up", RawQuery: page.RawQuery}); w.StatusCode != http.StatusBadRequest {
		t.Errorf("a second factor before the first: %s", w.Status)
	}
	w, _ = b.submit(t, page, "username", "ada", "password", "analytical")
	page, err := w.Location()
	if err != nil || page.Path != "/step-up" {
		t.Fatalf("after the password: %s %v", w.Status, page)
	}
	w, _ = b.submit(t, page)
	id, _ = p.claimsOf(t, w)
	wantContext(t, id, clock.Now(), mfa, "pwd", "pop", "user", "mfa")
}

func TestStepUpUnmet(t *testing.T) {
	p := newWays(t)
	b := p.browser()
	for range 2 { // with the sign-in, then in the session
		page, _ := b.open(t, "acr_values", "urn:logto:acr:mfa")
		if page.Path == "/sign-in" {
			w, _ := b.submit(t, page, "username", "grace", "password", "cobol1959")
			page, _ = w.Location()
		}
		if q := page.Query(); q.Get("error") != "unmet_authentication_requirements" || q.Get("state") != "the-state" || q.Get("iss") != p.issuer {
			t.Errorf("led to %s", page)
		}
	}
	old := newWays(t, func(o *authtest.Options) { o.StepUp = false })
	_, id := old.token(t, old.signedIn(t, old.browser(), "resource", "", "acr_values", "urn:logto:acr:mfa").body["id_token"])
	for _, name := range []string{"acr", "amr", "auth_time"} {
		if id[name] != nil {
			t.Errorf("a Logto before 1.46 says %s %v", name, id[name])
		}
	}
}

func TestAuthTimeStays(t *testing.T) {
	clock := &clock{now: time.Now()}
	p := newWays(t, func(o *authtest.Options) { o.Now, o.StepUp = clock.Now, false })
	b := p.browser()
	signedIn := clock.Now()
	p.signedIn(t, b, "resource", "")
	clock.pass(time.Minute)
	a := p.signedIn(t, b, "resource", "", "max_age", "60")
	clock.pass(time.Minute)
	_, id := p.token(t, p.refresh(t, a.body["refresh_token"]).body["id_token"])
	if id["auth_time"] != float64(signedIn.Unix()) {
		t.Errorf("after a refresh auth_time is %v, was %d", id["auth_time"], signedIn.Unix())
	}
	if page, _ := b.open(t, "max_age", "60"); page.Path != "/sign-in" {
		t.Errorf("a session older than max_age leads to %s", page)
	}
}

func TestAccountCenter(t *testing.T) {
	p := newWays(t)
	b := p.browser()
	address := p.local.URL + "/account/profile?redirect=http%3A%2F%2Flocalhost%3A3000%2Faccount%2Fdone&ui_locales=th"
	page, _ := b.opened(t, address)
	if page.Path != "/sign-in" {
		t.Fatalf("without a session it leads to %s", page)
	}
	w, _ := b.submit(t, page, "username", "ada", "password", "analytical")
	back, err := w.Location()
	if err != nil || back.String() != address {
		t.Fatalf("the sign-in leads to %v", back)
	}
	field := regexp.MustCompile(`name="interaction" value="([^"]+)"`)
	// change opens a page, posts its form, and returns where that leads.
	change := func(path, query string, fields ...string) (status int, target, text string) {
		t.Helper()
		_, text = b.opened(t, p.local.URL+path+query)
		interaction := field.FindStringSubmatch(text)
		if interaction == nil {
			t.Fatalf("no form on %s", text)
		}
		w, text := b.submit(t, &url.URL{Scheme: page.Scheme, Host: page.Host, Path: path}, append(fields, "interaction", interaction[1])...)
		return w.StatusCode, w.Header.Get("Location"), text
	}
	const done = "?redirect=http%3A%2F%2Flocalhost%3A3000%2Faccount%2Fdone"
	if _, text := b.opened(t, address); !strings.Contains(text, `lang="th"`) || !strings.Contains(text, `value="Ada"`) {
		t.Errorf("the page: %s", text)
	}
	if _, target, _ := change("/account/profile", done, "name", " Countess "); target != "http://localhost:3000/account/done" || p.local.User("ada").Name != "Countess" {
		t.Errorf("led to %q, name %q", target, p.local.User("ada").Name)
	}
	for _, refused := range []string{"", "?redirect=javascript%3Aalert(1)", "?redirect=%3A", "?redirect=%2F%2Fevil.example"} {
		if _, target, _ := change("/account/profile", refused, "name", "x"); !strings.HasPrefix(target, p.local.URL+"/account/profile") {
			t.Errorf("%s led to %q", refused, target)
		}
	}
	for _, test := range []struct{ current, password, text string }{
		{"wrong", "long enough", "The current password is wrong."}, {"analytical", "short", "at least 8"},
	} {
		if status, _, text := change("/account/security", done, "current", test.current, "password", test.password); status != 422 || !strings.Contains(text, test.text) {
			t.Errorf("%v: %d %s", test, status, text)
		}
	}
	if _, target, _ := change("/account/security", done, "current", "analytical", "password", "long enough"); target != "http://localhost:3000/account/done" || p.local.User("ada").Password != "long enough" {
		t.Errorf("led to %q, password %q", target, p.local.User("ada").Password)
	}
	for path, status := range map[string]int{"/account/profile": 400, "/account/nonsense": 404} {
		method := map[int]string{400: http.MethodPost, 404: http.MethodGet}[status]
		if w, _ := p.browser().do(t, method, p.local.URL+path, "application/x-www-form-urlencoded", []byte("name=x")); w.StatusCode != status {
			t.Errorf("%s %s: %s, want %d", method, path, w.Status, status)
		}
	}
	closed := newWays(t, func(o *authtest.Options) { o.AccountCenter = false })
	if _, text := closed.browser().opened(t, closed.local.URL+"/account/security"); !strings.Contains(text, "The Account Center is not enabled.") {
		t.Errorf("off: %s", text)
	}
}

// TestBrowserSaysYes: SignIn clicks through all of them.
func TestBrowserSaysYes(t *testing.T) {
	p := newWays(t)
	for _, change := range [][]string{
		{"direct_sign_in", "social:google"},
		{"direct_sign_in", "social:google", "acr_values", "urn:logto:acr:mfa"},
		{"acr_values", "urn:logto:acr:mfa"},
		{"first_screen", "register"},
		{"one_time_token", p.local.OneTimeToken("ada@example.com"), "login_hint", "ada@example.com"},
	} {
		target, err := p.local.SignIn(context.Background(), p.authURL(append(change, "resource", "")...), "ada")
		if err != nil || !strings.Contains(target, "code=") {
			t.Errorf("%v: %q %v", change, target, err)
		}
	}
	if target, err := p.local.SignIn(t.Context(), p.authURL("resource", "", "direct_sign_in", "social:google"), "grace"); err == nil {
		t.Errorf("who has no identity there: %q", target)
	}
}

// TestWithoutUsername: who came by a link or another provider has none, and is a person like others all the same.
func TestWithoutUsername(t *testing.T) {
	p := newWays(t)
	for _, email := range []string{"one@example.com", "two@example.com"} {
		page, _ := p.browser().open(t, "one_time_token", p.local.OneTimeToken(email), "login_hint", email)
		_, id := p.token(t, p.exchange(t, page.Query().Get("code")).body["id_token"])
		subject, _ := id["sub"].(string)
		if email == "one@example.com" {
			p.local.Join(subject, "acme")
			p.local.Edit(subject, func(u *authtest.User) { u.Name = "One" })
		}
		member := p.local.User(subject).Name == "One"
		page, _ = p.browser().open(t, "one_time_token", p.local.OneTimeToken(email), "login_hint", email)
		_, id = p.token(t, p.exchange(t, page.Query().Get("code")).body["id_token"])
		if organizations := id["organizations"].([]any); id["sub"] != subject || (len(organizations) == 1) != member {
			t.Errorf("%s: %v", email, id)
		}
	}
}
