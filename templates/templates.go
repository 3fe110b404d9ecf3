// Package templates holds the pages: layout/ is what surrounds every page, pages/ one file for each, partials/
// what several share. They are html/template, so whatever a page shows is escaped for the place it stands in.
// Start reading at Parse; fold.go is why a page costs only what differs from person to person.
package templates

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"io/fs"
	"path"
	"strings"
	"sync"
	"time"
	"unicode"
)

//go:embed layout partials pages
var embedded embed.FS

// Files returns what is in this folder, as it was at build time.
func Files() fs.FS { return embedded }

// Page is what every page has, whatever it is about.
type Page struct {
	Lang      string // one of Messages.Languages
	Path      string // this request's path, to mark where one is in the navigation
	ReturnTo  string // where to come back to from a form or a sign-in
	Here      string // where to come back to from a choice of language; empty: nowhere, such as from the answer to a form
	RequestID string
	Known     bool   // who is signed in, if anybody: else the header offers no sign-in
	User      *User  // who is signed in; nil: nobody
	Notice    string // what the person is told once; empty: nothing
	Data      any    // what the page is about
	Rights           // {{if .HasRole "admin"}}
}

// Rights say what the person may do, as the guards of routes do.
type Rights interface {
	HasRole(roles ...string) bool
	HasOrganizationRole(roles ...string) bool
	HasPermission(resource string, scopes ...string) bool
}

// User is the person in the header.
type User struct {
	Name    string
	Picture string // a URL; if empty, an initial is shown
	Email   string // empty: not known

	Organizations []Organization
	Organization  string // the name of the active one; empty: none
	AccountURL    string // of Logto's Account Center; empty: there is none
}

// Organization is one that the person is a member of.
type Organization struct {
	ID, Name string
	Active   bool
}

// Messages is the part of the message tables that pages need.
type Messages interface {
	Languages() []string
	Name(lang string) string
	Lookup(lang, key string, value ...any) (string, error)
	Date(lang string, t time.Time) string
}

// Set holds the pages of all languages.
type Set struct {
	languages map[string]func() (pages, error)
}

// pages are those of one language, by name: "home".
type pages map[string]*template.Template

// Parse parses every page of the folder. Asset gives the URL of a static file, empty if there is none. A page that names a
// missing message or file is an error here, not in front of a visitor: what fails in one language fails in the first, for
// all have the same messages. So the others are parsed when somebody wants them.
func Parse(folder fs.FS, asset func(name string) string, messages Messages) (Set, error) {
	set := Set{languages: make(map[string]func() (pages, error))}
	all := messages.Languages()
	for _, lang := range all {
		c := constants{lang: lang, asset: asset, messages: messages}
		set.languages[lang] = sync.OnceValues(func() (pages, error) { return c.pages(folder) })
	}
	_, err := set.languages[all[0]]()
	return set, err
}

func (c constants) pages(folder fs.FS) (pages, error) {
	files, err := fs.Glob(folder, "pages/*.html")
	if err != nil {
		return nil, fmt.Errorf("list pages: %w", err)
	}
	shared, err := c.parse(template.New("layout.html"), folder, "layout/*.html", "partials/*.html")
	if err != nil {
		return nil, fmt.Errorf("parse what pages share in %q: %w", c.lang, err)
	}
	all := make(pages)
	for _, file := range files {
		c.page = strings.TrimSuffix(path.Base(file), ".html")
		page, err := shared.Clone()
		if err == nil {
			all[c.page], err = c.parse(page, folder, file)
		}
		if err != nil {
			return nil, fmt.Errorf("parse page %s in %q: %w", c.page, c.lang, err)
		}
	}
	return all, nil
}

// parse adds files to a page.
func (c constants) parse(page *template.Template, folder fs.FS, patterns ...string) (*template.Template, error) {
	languages := c.languages()
	page.Funcs(template.FuncMap{
		"t":         c.message,
		"asset":     c.assetURL,
		"lang":      func() string { return c.lang },
		"date":      c.date,
		"initial":   initial,
		"provider":  provider,
		"languages": func() []language { return languages },
		"page":      func(name string) bool { return name == c.page },
	})
	if _, err := page.ParseFS(folder, patterns...); err != nil {
		return nil, err
	}
	for _, t := range page.Templates() {
		if err := c.fold(t.Tree.Root); err != nil {
			return nil, fmt.Errorf("%s: %w", t.Tree.ParseName, err)
		}
	}
	return page, nil
}

// Render returns a whole page. Name is that of its file in pages/, without the ending.
func (s Set) Render(name string, page Page) ([]byte, error) {
	parse, ok := s.languages[page.Lang]
	if !ok {
		return nil, fmt.Errorf("no language %q", page.Lang)
	}
	all, err := parse()
	if err != nil {
		return nil, err
	}
	t, ok := all[name]
	if !ok {
		return nil, fmt.Errorf("no page %q", name)
	}
	var buf bytes.Buffer
	buf.Grow(4 << 10) // most pages fit
	if err := t.Execute(&buf, page); err != nil {
		return nil, fmt.Errorf("render page %s: %w", name, err)
	}
	return buf.Bytes(), nil
}

// initial is the letter that stands for a person without a picture. Thai vowels that are written before
// their consonant don't stand for a name.
func initial(name string) string {
	for _, r := range name {
		if (unicode.IsLetter(r) || unicode.IsDigit(r)) && (r < 'เ' || r > 'ไ') {
			return string(unicode.ToUpper(r))
		}
	}
	return "?"
}

// provider is what an identity provider is called that people sign in with: of "social:google", Google. The ID of an enterprise
// connector would say nothing.
func provider(direct string) string {
	switch method, target, _ := strings.Cut(direct, ":"); {
	case method != "social" || target == "":
		return "SSO"
	case target == "github":
		return "GitHub"
	default:
		return strings.ToUpper(target[:1]) + target[1:]
	}
}
