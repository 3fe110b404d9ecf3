package authtest_test

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"example.com/logto-gin-starter/auth/authtest"
	"example.com/logto-gin-starter/auth/authtest/people"
)

// demoPage goes to the demo's first page: its URL, and the browser that has it open.
func demoPage(t *testing.T, change ...string) (*provider, *browser, *url.URL) {
	t.Helper()
	opts := people.Options("", "http://localhost:3000")
	p := newLocal(t, opts)
	p.appID, p.secret = opts.Apps[0].ID, opts.Apps[0].Secret
	b := p.browser()
	w, body := b.do(t, http.MethodGet, p.authURL(append([]string{"resource", ""}, change...)...), "", nil)
	page, err := w.Location()
	if err != nil {
		t.Fatalf("%s %s", w.Status, body)
	}
	return p, b, page
}

func (b *browser) submit(t *testing.T, page *url.URL, fields ...string) (*http.Response, string) {
	t.Helper()
	form := url.Values{"interaction": {page.Query().Get("interaction")}}
	for i := 0; i+1 < len(fields); i += 2 {
		form.Set(fields[i], fields[i+1])
	}
	w, body := b.do(t, http.MethodPost, page.Scheme+"://"+page.Host+page.Path, "application/x-www-form-urlencoded", []byte(form.Encode()))
	return w, string(body)
}

func TestChooser(t *testing.T) {
	_, b, page := demoPage(t)
	w, body := b.do(t, http.MethodGet, page.String(), "", nil)
	if w.StatusCode != http.StatusOK || !strings.Contains(string(body), "Ada Lovelace") || !strings.Contains(string(body), `value="grace"`) {
		t.Fatalf("%s %s", w.Status, body)
	}
	policy := w.Header.Get("Content-Security-Policy")
	for _, part := range []string{"default-src 'none'", "form-action 'self' http://localhost:3000", "frame-ancestors 'none'"} {
		if !strings.Contains(policy, part) {
			t.Errorf("policy %q lacks %q", policy, part)
		}
	}
	if regexp.MustCompile(`(?i)<script|<style| style=| on[a-z]+=`).Match(body) {
		t.Errorf("the page has what its policy forbids: %s", body)
	}
	for _, id := range regexp.MustCompile(`<input id="([^"]*)"`).FindAllStringSubmatch(string(body), -1) {
		if !strings.Contains(string(body), `<label for="`+id[1]+`"`) {
			t.Errorf("%s has no label", id[1])
		}
	}
	w, text := b.submit(t, page, "account", "grace")
	if location := w.Header.Get("Location"); !strings.HasPrefix(location, "http://localhost:3000/callback?code=") {
		t.Errorf("one click led to %q %s", location, text)
	}
	if w, _ := b.submit(t, page, "account", "grace"); w.StatusCode != http.StatusBadRequest {
		t.Errorf("a second click: %s", w.Status)
	}
}

func TestPageRefuses(t *testing.T) {
	p, b, page := demoPage(t)
	other := p.browser()
	other.do(t, http.MethodGet, p.authURL("resource", ""), "", nil)
	for _, test := range []struct {
		name   string
		who    *browser
		fields []string
		status int
		text   string
	}{
		{"a wrong password", b, []string{"username", "ada", "password", "x"}, 422, "Wrong username or password."},
		{"an unknown person", b, []string{"username", `"><script>`, "password", ""}, 422, "&#34;&gt;&lt;script&gt;"},
		{"an account that is not a ready one", b, []string{"account", "root"}, 422, "Wrong"},
		{"another browser", other, []string{"account", "ada"}, 400, "expired"},
		{"another interaction", b, []string{"account", "ada", "interaction", "x"}, 400, "expired"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w, body := test.who.submit(t, page, test.fields...)
			if w.StatusCode != test.status || !strings.Contains(body, test.text) {
				t.Errorf("%s %s", w.Status, body)
			}
		})
	}
	plain := newLocal(t, authtest.Options{})
	other = plain.browser()
	w, _ := other.do(t, http.MethodGet, plain.authURL("resource", ""), "", nil)
	page, err := w.Location()
	if err != nil {
		t.Fatal(err)
	}
	if w, _ := other.submit(t, page, "account", "ada"); w.StatusCode != http.StatusUnprocessableEntity {
		t.Errorf("without Demo an account is had without its password: %s", w.Status)
	}
}

func TestSignUpPage(t *testing.T) {
	p, b, page := demoPage(t, "first_screen", "register", "login_hint", "hinted")
	if _, body := b.do(t, http.MethodGet, page.String(), "", nil); page.Path != "/register" || !strings.Contains(string(body), `value="hinted"`) {
		t.Errorf("%s %s", page, body)
	}
	for _, test := range []struct{ username, password, text string }{
		{"ada", "long enough", "taken"},
		{"1st", "long enough", "does not begin with a digit"},
		{"", "long enough", "does not begin with a digit"},
		{"mary", "short", "at least 8"},
	} {
		if w, body := b.submit(t, page, "username", test.username, "password", test.password, "name", "Mary"); w.StatusCode != 422 || !strings.Contains(body, test.text) || !strings.Contains(body, `value="Mary"`) {
			t.Errorf("%s: %s %s", test.username, w.Status, body)
		}
	}
	w, body := b.submit(t, page, "username", "mary", "password", "long enough", "name", "Mary", "email", "mary@example.com")
	location, err := w.Location()
	if err != nil {
		t.Fatalf("%s %s", w.Status, body)
	}
	got := p.userinfo(t, p.exchange(t, location.Query().Get("code")).body["access_token"]).body
	if got["email"] != "mary@example.com" || got["picture"] != p.local.URL+"/avatar/mary" || len(got["sub"].(string)) != 12 {
		t.Errorf("userinfo %v", got)
	}
}

// TestInvalidFields: a form that is refused says which field it is about, for a screen reader too, and where the reason is.
func TestInvalidFields(t *testing.T) {
	_, b, page := demoPage(t)
	register := *page
	register.Path = "/register"
	for _, test := range []struct {
		name    string
		page    *url.URL
		fields  []string
		invalid string
	}{
		{"nothing yet", page, nil, ""},
		{"wrong password", page, []string{"username", "ada", "password", "x"}, "username password"},
		{"no account yet", &register, nil, ""},
		{"bad username", &register, []string{"username", "1st", "password", "long enough"}, "username"},
		{"taken", &register, []string{"username", "ada", "password", "long enough"}, "username"},
		{"short password", &register, []string{"username", "mary", "password", "short"}, "password"},
	} {
		_, data := b.do(t, http.MethodGet, test.page.String(), "", nil)
		body := string(data)
		if test.fields != nil {
			_, body = b.submit(t, test.page, test.fields...)
		}
		var invalid []string
		for _, input := range regexp.MustCompile(`<input id="([^"]*)"[^>]*>`).FindAllStringSubmatch(body, -1) {
			if strings.Contains(input[0], `aria-invalid="true"`) {
				invalid = append(invalid, input[1])
			}
			for _, described := range regexp.MustCompile(`aria-describedby="([^"]*)"`).FindAllStringSubmatch(input[0], -1) {
				for id := range strings.FieldsSeq(described[1]) {
					if !strings.Contains(body, `id="`+id+`"`) {
						t.Errorf("%s: %s is described by %q, which is not there", test.name, input[1], id)
					}
				}
			}
		}
		if got := strings.Join(invalid, " "); got != test.invalid || (got != "") != strings.Contains(body, `role="alert" id="problem"`) {
			t.Errorf("%s: invalid is %q, want %q: %s", test.name, got, test.invalid, body)
		}
		if test.page == &register && !strings.Contains(body, "Letters a to z, digits and _") {
			t.Errorf("%s: the rule is not there: %s", test.name, body)
		}
	}
}

// TestWayBack: a page at which the way ends leads back to the application.
func TestWayBack(t *testing.T) {
	_, b, page := demoPage(t)
	for _, address := range []string{"/", "/sign-in?interaction=gone", "/account/security"} {
		_, body := b.do(t, http.MethodGet, page.Scheme+"://"+page.Host+address, "", nil)
		if !strings.Contains(string(body), `href="http://localhost:3000/"`) || strings.Contains(string(body), "<h1>authtest") {
			t.Errorf("%s: %s", address, body)
		}
	}
}

func TestLanguages(t *testing.T) {
	for _, test := range []struct{ locales, accept, lang, text string }{
		{"", "", "en", "Create account"},
		{"", "th-TH,th;q=0.9,en;q=0.8", "th", "สร้างบัญชี"},
		{"", "de, th;q=0.5", "th", "สร้างบัญชี"},
		{"th", "en", "th", "สร้างบัญชี"},
		{"en-US th", "th", "en", "Create account"},
		{"de", "", "en", "Create account"},
	} {
		_, b, page := demoPage(t, "ui_locales", test.locales)
		for _, page.Path = range []string{"/sign-in", "/register"} {
			w, body := b.do(t, http.MethodGet, page.String(), "", nil, "Accept-Language", test.accept)
			if w.StatusCode != http.StatusOK || !strings.Contains(string(body), `lang="`+test.lang+`"`) || !strings.Contains(string(body), test.text) {
				t.Errorf("%+v: %s %s", test, w.Status, body)
			}
		}
	}
}

func TestAvatar(t *testing.T) {
	p := newLocal(t, authtest.Options{})
	for _, test := range []struct{ path, letter string }{{"/avatar/ada.svg", ">A</text>"}, {"/avatar/%3Cscript%3E", ">&lt;</text>"}, {"/avatar/.svg", ">?</text>"}} {
		w, body := p.browser().do(t, http.MethodGet, p.local.URL+test.path, "", nil)
		if w.StatusCode != http.StatusOK || w.Header.Get("Content-Type") != "image/svg+xml" || !strings.Contains(string(body), test.letter) {
			t.Errorf("%s: %s %s", test.path, w.Status, body)
		}
	}
}

func TestDemo(t *testing.T) {
	opts := authtest.Demo("http://localhost:3001/", "http://localhost:3000/")
	if app := opts.Apps[0]; len(app.ID) != 21 || app.RedirectURIs[0] != "http://localhost:3000/callback" {
		t.Errorf("%+v", app)
	}
	for _, user := range opts.Users {
		if len(user.Subject) != 12 {
			t.Errorf("%s has the subject %q", user.Username, user.Subject)
		}
	}
	if opts.Users[0].Picture != "http://localhost:3001/avatar/ada.svg" {
		t.Errorf("picture %s", opts.Users[0].Picture)
	}
}
