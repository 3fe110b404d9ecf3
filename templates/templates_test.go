package templates_test

import (
	"errors"
	"html/template"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/logto-gin-starter/internal/i18n"
	"example.com/logto-gin-starter/static"
	"example.com/logto-gin-starter/templates"
)

// The data of the pages, as package routes gives it.
type (
	home struct {
		DirectSignIns []string
		Since         string
		SinceText     string
		Places        int
	}
	userinfo struct {
		Info                    profile
		Groups                  []group
		JSON, IDTokenJSON, Curl string
	}
	profile struct {
		Username, Email, PhoneNumber       value[string]
		EmailVerified, PhoneNumberVerified value[bool]
	}
	value[T any] struct{ Value T }
	group        struct {
		Title  string
		Claims []claim
	}
	claim struct {
		Name, Value, Kind, Origin, Other string
		List                             []string
	}
	tokens struct{ Resources, Organizations []token }
	token  struct {
		ID, Name, Label, ExpiresIn, Claims, API string
		Scopes                                  []string
		Error                                   *tokenError
		IsAsked                                 bool
	}
	tokenError struct{ Code, Message string }
	sessions   struct {
		Sessions []session
		Others   bool
	}
	session struct {
		ID, Device, System  string
		Since, Seen         time.Time
		SinceText, SeenText string
		Current             bool
	}
	failure struct {
		Status                              int
		Title, Message, RetryURL, RetryText string
		ChooseOrganization                  bool
	}
)

// rights are those of somebody who may do everything, or nothing.
type rights bool

func (r rights) HasRole(...string) bool               { return bool(r) }
func (r rights) HasOrganizationRole(...string) bool   { return bool(r) }
func (r rights) HasPermission(string, ...string) bool { return bool(r) }

// sample is a page with something to show.
type sample struct {
	page string
	user *templates.User
	data any
}

var (
	ada   = &templates.User{Name: "Ada Lovelace"}
	since = time.Date(2026, time.November, 23, 19, 26, 0, 0, time.UTC)
)

// samples returns pages that show text wherever a page can show any.
func samples(text string) map[string]sample {
	user := &templates.User{Name: text, Initial: text, Picture: text, Email: text}
	member := &templates.User{Name: text, Initial: text, Email: text, Organization: text, AccountURL: text, Organizations: []templates.Organization{{ID: text, Name: text, Active: true}, {ID: text, Name: text}}}
	known := session{ID: text, Device: text, System: text, Since: since, Seen: since, SinceText: text, SeenText: text}
	current := known
	current.Current = true
	fetched := token{ID: text, Name: text, Label: text, ExpiresIn: text, Claims: text, API: text, Scopes: []string{text}, IsAsked: true}
	refused := token{ID: text, Name: text, Error: &tokenError{text, text}, IsAsked: true}
	asleep := token{ID: text, Name: text, Label: text}
	info := profile{value[string]{text}, value[string]{text}, value[string]{text}, value[bool]{true}, value[bool]{true}}
	var claims []claim
	for _, kind := range []string{"text", "time", "url", "image", "bool", "list", "json", "none", "null"} {
		for _, origin := range []string{"both", "differs", "userinfo", "id_token"} {
			claims = append(claims, claim{text, text, kind, origin, text, []string{text}})
		}
	}
	all := map[string]sample{
		"home signed out":    {"home", nil, home{}},
		"home direct":        {"home", nil, home{DirectSignIns: []string{"social:" + text, "sso:" + text, text}}},
		"home member":        {"home", member, home{Since: text, SinceText: text}},
		"access":             {"access", user, nil},
		"access member":      {"access", member, nil},
		"home":               {"home", user, home{Since: text, SinceText: text}},
		"signout":            {"signout", user, nil},
		"signout signed out": {"signout", nil, nil},
		"userinfo":           {"userinfo", user, userinfo{info, []group{{text, claims}}, text, text, text}},
		"userinfo empty":     {"userinfo", user, userinfo{}},
		"tokens":             {"tokens", user, tokens{[]token{fetched}, []token{fetched, refused, asleep}}},
		"tokens empty":       {"tokens", user, tokens{}},
		"sessions":           {"sessions", user, sessions{[]session{current, known, {}}, true}},
		"sessions only this": {"sessions", user, sessions{[]session{current}, false}},
		"error":              {"error", user, failure{404, text, text, text, text, false}},
		"error organization": {"error", member, failure{403, text, text, "", "", true}},
		"error signed out":   {"error", nil, failure{Status: 500, Title: text, Message: text}},
	}
	maps.DeleteFunc(all, func(_ string, s sample) bool { // somebody has taken the page away
		_, err := os.Stat("pages/" + s.page + ".html")
		return err != nil
	})
	return all
}

func parse(t testing.TB) (templates.Set, *i18n.Catalog) {
	t.Helper()
	messages, err := i18n.Load(i18n.Files())
	if err != nil {
		t.Fatal(err)
	}
	assets, err := static.New(static.Files())
	if err != nil {
		t.Fatal(err)
	}
	set, err := templates.Parse(templates.Files(), assets.URL, messages)
	if err != nil {
		t.Fatal(err)
	}
	return set, messages
}

func (s sample) render(t testing.TB, set templates.Set, lang string) string {
	t.Helper()
	var html strings.Builder
	err := set.Render(&html, s.page, templates.Page{Lang: lang, Path: "/a", ReturnTo: "/a?b=c", Here: "/a?b=c", Known: true, RequestID: "r-1", User: s.user, Rights: rights(s.user != nil), Data: s.data})
	if err != nil {
		t.Fatal(err)
	}
	return html.String()
}

// Each page in each language is one that the Content-Security-Policy and a screen reader can live with.
func TestPages(t *testing.T) {
	set, messages := parse(t)
	inline := regexp.MustCompile(`(?i)<script|<style|\s(style|on[a-z]+)=|javascript:`)
	for _, lang := range messages.Languages() {
		for name, s := range samples("Ada Lovelace") {
			html := s.render(t, set, lang)
			for _, once := range []string{`<html lang="` + lang + `">`, "<h1", "<main", "<header class=\"site-header\"", "<footer", `aria-current="true"`, "</html>"} {
				if once == `aria-current="true"` && len(messages.Languages()) == 1 {
					continue // there is no choice
				}
				if n := strings.Count(html, once); n != 1 {
					t.Errorf("%s in %s has %d of %q, want 1", name, lang, n, once)
				}
			}
			if found := inline.FindString(html); found != "" {
				t.Errorf("%s in %s has %q", name, lang, found)
			}
			if found := regexp.MustCompile(`<title>\s*·|{{|<no value>|%!`).FindString(html); found != "" {
				t.Errorf("%s in %s has %q", name, lang, found)
			}
		}
	}
}

// What people and providers say stays text, in every place where a page shows it.
func TestHostileData(t *testing.T) {
	set, _ := parse(t)
	for _, text := range []string{
		`"><script>alert(1)</script>`,
		`' onerror='alert(1)`,
		`javascript:alert(1)`,
		`data:text/html,<script>alert(1)</script>`,
		"</title><script>alert(1)</script>",
		`{{.}}{{template "main" .}}`,
		"\x00\xff<b>",
	} {
		plain := samples("x")
		for name, s := range samples(text) {
			html, want := s.render(t, set, "en"), plain[name].render(t, set, "en")
			if got, want := tags(html), tags(want); !slices.Equal(got, want) {
				t.Errorf("%s with %q has the tags %q, want %q", name, text, got, want)
			}
			if found := regexp.MustCompile(`(?i)(href|src)="\s*(javascript|data):`).FindString(html); found != "" {
				t.Errorf("%s with %q has %q", name, text, found)
			}
		}
	}
}

// tags returns every tag of a page with the names of its attributes, without their values.
func tags(html string) []string {
	tag := regexp.MustCompile(`<[a-zA-Z/!][^>]*>`)
	value := regexp.MustCompile(`="[^"]*"`)
	var all []string
	for _, found := range tag.FindAllString(html, -1) {
		all = append(all, value.ReplaceAllString(found, ""))
	}
	return all
}

func TestClaimKinds(t *testing.T) {
	if _, ok := samples("")["userinfo"]; !ok {
		t.Skip("there is no page for claims")
	}
	set, _ := parse(t)
	for _, tt := range []struct{ kind, value, want string }{
		{"text", "<Ada>", "<td>&lt;Ada&gt;</td>"},
		{"time", "2026-11-23T19:26:00Z", `<time datetime="2026-11-23T19:26:00Z">23 November 2026, 19:26 UTC</time>`},
		{"time", "some day", `<time datetime="some day">some day</time>`},
		{"url", "https://ada.example/?a=1&b", `<a href="https://ada.example/?a=1&amp;b" rel="noreferrer noopener">`},
		{"url", "javascript:alert(1)", `<a href="#ZgotmplZ"`},
		{"image", "https://ada.example/a.png", `<span class="thumbnail"><img src="https://ada.example/a.png" alt=""`},
		{"list", "", `<code class="badge">a</code> <code class="badge">&lt;b&gt;</code>`},
		{"none", "[]", `<span class="muted">None</span>`},
		{"image", "data:image/svg+xml,x", `src="#ZgotmplZ"`},
		{"bool", "true", "✓ Yes"},
		{"bool", "false", "✗ No"},
		{"json", `{"a": 1}`, `aria-label="c"><code>{&#34;a&#34;: 1}</code></pre>`},
		{"null", "null", `<span class="muted">Requested, but not set in Logto.</span>`},
	} {
		s := sample{"userinfo", ada, userinfo{Groups: []group{{"g", []claim{{"c", tt.value, tt.kind, "both", "", []string{"a", "<b>"}}}}}}}
		if html := s.render(t, set, "en"); !strings.Contains(html, tt.want) {
			t.Errorf("claim %s %q isn't shown as %q", tt.kind, tt.value, tt.want)
		}
	}
}

func TestThai(t *testing.T) {
	set, messages := parse(t)
	if !slices.Contains(messages.Languages(), "th") {
		t.Skip("Thai is gone")
	}
	for initial, name := range map[string]string{"อ": "เอดา", "ส": "สมชาย", "A": " ada", "É": "élodie", "?": "💜"} {
		html := sample{"home", &templates.User{Name: name, Initial: templates.Initial(name)}, home{}}.render(t, set, "th")
		for _, want := range []string{"สวัสดี " + name, `aria-hidden="true">` + initial + "</span>"} {
			if !strings.Contains(html, want) {
				t.Errorf("home of %q lacks %q", name, want)
			}
		}
	}
}

// Every page in every language can be escaped, with whatever data: html/template works that out at the first execution. This
// one fails for want of data, which is not a *template.Error.
func TestEscaping(t *testing.T) {
	set, messages := parse(t)
	files, err := filepath.Glob("pages/*.html")
	if err != nil || files == nil {
		t.Fatal(files, err)
	}
	for _, file := range files {
		for _, lang := range messages.Languages() {
			err := set.Render(io.Discard, strings.TrimSuffix(filepath.Base(file), ".html"), templates.Page{Lang: lang})
			if fault, ok := errors.AsType[*template.Error](err); ok {
				t.Errorf("%s in %s: %v", file, lang, fault)
			}
		}
	}
}

// The files that pages name to developers are there.
func TestNamedFiles(t *testing.T) {
	set, messages := parse(t)
	named := 0
	for _, lang := range messages.Languages() {
		for _, s := range samples("x") {
			for _, found := range regexp.MustCompile(`<code>([\w./-]+(?:/|\.\w+))</code>`).FindAllStringSubmatch(s.render(t, set, lang), -1) {
				if _, err := os.Stat("../" + found[1]); err != nil {
					t.Errorf("%s in %s names a file that is not there: %v", s.page, lang, err)
				}
				named++
			}
		}
	}
	t.Logf("%d files", named)
}

func TestRenderUnknown(t *testing.T) {
	set, _ := parse(t)
	for _, page := range []templates.Page{{Lang: "en"}, {Lang: "xx"}, {}} {
		if err := set.Render(io.Discard, "nowhere", page); err == nil {
			t.Errorf("Render(nowhere, %q) gives no error", page.Lang)
		}
	}
}

// table is a message table with some messages missing.
type table struct {
	*i18n.Catalog
	lacks string
}

func (m table) Lookup(lang, key string, value ...any) (string, error) {
	if key == m.lacks {
		return "", io.ErrUnexpectedEOF
	}
	return m.Catalog.Lookup(lang, key, value...)
}

func TestParseFindsWhatIsMissing(t *testing.T) {
	_, messages := parse(t)
	url := func(name string) string { return "/static/" + name }
	if _, err := templates.Parse(templates.Files(), url, table{messages, "home.headline"}); err == nil {
		t.Error("Parse takes a page whose message is missing")
	}
	if _, err := templates.Parse(templates.Files(), func(string) string { return "" }, messages); err == nil {
		t.Error("Parse takes a page whose style sheet is missing")
	}
}

// Messages and URLs are text in the page, not markup.
type hostile struct{ *i18n.Catalog }

func (hostile) Name(string) string { return "<script>{{.Password}}" }

func (hostile) Lookup(string, string, ...any) (string, error) {
	return `"><script>'&{{.Password}}`, nil // which no page has: it would be an error
}

func TestConstantsAreEscaped(t *testing.T) {
	_, messages := parse(t)
	set, err := templates.Parse(templates.Files(), func(name string) string { return name }, hostile{messages})
	if err != nil {
		t.Fatal(err)
	}
	for name, s := range samples("x") {
		if html := s.render(t, set, "en"); strings.Contains(html, "<script") || !strings.Contains(html, "&#123;&#123;.Password}}") {
			t.Errorf("%s lets markup or an action in a message through", name)
		}
	}
}
