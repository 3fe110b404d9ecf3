// Package templates holds the pages: layout/ is what surrounds every page, pages/ one file for each, partials/
// what several share. They are html/template, so whatever a page shows is escaped for the place it stands in.
// Start reading at Parse; fold.go is why a page costs only what differs from person to person.
package templates

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"io"
	"io/fs"
	"path"
	"strings"
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

// Set holds the parsed pages of all languages.
type Set struct {
	pages map[string]*template.Template // by language and name: "en/home"
}

// Parse parses every page of the folder in every language, once, at start-up. Asset gives the URL of a static file, empty
// if there is none. A page that names a missing message or file is an error here, not in front of a visitor.
func Parse(folder fs.FS, asset func(name string) string, messages Messages) (Set, error) {
	names, err := fs.Glob(folder, "pages/*.html")
	if err != nil {
		return Set{}, fmt.Errorf("list pages: %w", err)
	}
	set := Set{pages: make(map[string]*template.Template)}
	for _, lang := range messages.Languages() {
		c := constants{lang: lang, asset: asset, messages: messages}
		shared, err := c.parse(template.New("layout.html"), folder, "layout/*.html", "partials/*.html")
		if err != nil {
			return Set{}, fmt.Errorf("parse what pages share in %q: %w", lang, err)
		}
		for _, file := range names {
			name := strings.TrimSuffix(path.Base(file), ".html")
			page, err := c.parsePage(shared, folder, file)
			if err != nil {
				return Set{}, fmt.Errorf("parse page %s in %q: %w", name, lang, err)
			}
			set.pages[lang+"/"+name] = page
		}
	}
	return set, nil
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
	})
	if _, err := page.ParseFS(folder, patterns...); err != nil {
		return nil, err
	}
	for _, t := range page.Templates() {
		if err := c.fold(t.Tree.Root); err != nil {
			return nil, err
		}
	}
	return page, nil
}

func (c constants) parsePage(shared *template.Template, folder fs.FS, file string) (*template.Template, error) {
	page, err := shared.Clone()
	if err == nil {
		page, err = c.parse(page, folder, file)
	}
	if err != nil {
		return nil, err
	}
	// The first execution works out the escaping. This one fails for want of data, but a page that can't be
	// escaped is found out, and no visitor waits for it.
	if fault, ok := errors.AsType[*template.Error](page.Execute(io.Discard, Page{})); ok {
		return nil, fault
	}
	return page, nil
}

// Render returns a whole page. Name is that of its file in pages/, without the ending.
func (s Set) Render(name string, page Page) ([]byte, error) {
	t, ok := s.pages[page.Lang+"/"+name]
	if !ok {
		return nil, fmt.Errorf("no page %q in language %q", name, page.Lang)
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
