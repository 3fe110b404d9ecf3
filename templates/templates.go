// Package templates holds the pages: layout/ is what surrounds every page, pages/ one file for each, partials/
// what several share. A page is put together twice:
//
//	[[t "home.headline"]]  in double square brackets is what one page always says in one language: it is done when the program
//	                       starts, and a message or a file that is not there is an error then. So are layout and partials:
//	                       [[template "avatar"]] puts a part where it stands.
//	{{.User.Name}}         in braces is what differs from person to person: it is done for each request, by html/template,
//	                       which sees the whole page and escapes whatever it shows for the place it stands in.
//
// Start reading at Parse.
package templates

import (
	"embed"
	"fmt"
	"html/template"
	"io"
	"io/fs"
	"path"
	"strings"
	"sync"
	text "text/template"
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
	Initial string // of the name; see Initial
	Picture string // a URL; if empty, the initial is shown
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
type Set map[string]func() (pages, error)

// pages are those of one language, by name: "home".
type pages map[string]*template.Template

// Parse parses every page of the folder. Asset gives the URL of a static file, empty if there is none. A page that names a
// missing message or file is an error here, not in front of a visitor: what fails in one language fails in the first, for
// all have the same messages. So the others are parsed when somebody wants them.
func Parse(folder fs.FS, asset func(name string) string, messages Messages) (Set, error) {
	set, all := make(Set), messages.Languages()
	for _, lang := range all {
		c := constants{lang, asset, messages}
		set[lang] = sync.OnceValues(func() (pages, error) { return c.pages(folder) })
	}
	_, err := set[all[0]]()
	return set, err
}

// constants are what the pages in one language can say before anybody asks for them.
type constants struct {
	lang     string
	asset    func(name string) string
	messages Messages
}

func (c constants) pages(folder fs.FS) (pages, error) {
	files, _ := fs.Glob(folder, "pages/*.html") // the pattern is valid
	languages := c.languages()
	shared, err := text.New("").Delims("[[", "]]").Funcs(text.FuncMap{
		"t":         c.message,
		"asset":     c.assetURL,
		"lang":      func() string { return c.lang },
		"languages": func() []language { return languages },
		"page":      func(string) bool { return false }, // page gives each its own
	}).ParseFS(folder, "layout/*.html", "partials/*.html")
	if err != nil {
		return nil, fmt.Errorf("parse what pages share: %w", err)
	}
	all := make(pages)
	for _, file := range files {
		name := strings.TrimSuffix(path.Base(file), ".html")
		if all[name], err = c.page(folder, file, name, shared); err != nil {
			return nil, fmt.Errorf("parse page %s in %q: %w", name, c.lang, err)
		}
	}
	return all, nil
}

// page puts a page's constant parts together, and parses what comes out.
func (c constants) page(folder fs.FS, file, name string, shared *text.Template) (*template.Template, error) {
	t := text.Must(shared.Clone()) // which text/template always can
	t.Funcs(text.FuncMap{"page": func(other string) bool { return other == name }})
	if _, err := t.ParseFS(folder, file); err != nil {
		return nil, err
	}
	for _, part := range []string{"title", "main"} {
		if t.Lookup(part) == nil {
			return nil, fmt.Errorf("%s lacks [[define %q]]", file, part)
		}
	}
	var source strings.Builder
	if err := t.ExecuteTemplate(&source, "layout.html", nil); err != nil {
		return nil, err
	}
	page, err := c.parse(name, source.String())
	if err != nil {
		return nil, c.locate(folder, err)
	}
	return page, nil
}

func (c constants) parse(name, source string) (*template.Template, error) {
	return template.New(name).Funcs(template.FuncMap{"count": c.count, "date": c.date, "provider": provider}).Parse(source)
}

// locate returns the fault of the file that has it, for the lines of a page put together are nobody's. A file may not be
// complete alone: only the same fault counts.
func (c constants) locate(folder fs.FS, err error) error {
	what := func(err error) string {
		parts := strings.Split(err.Error(), ": ")
		return parts[len(parts)-1]
	}
	files, _ := fs.Glob(folder, "*/*.html") // the pattern is valid
	for _, file := range files {
		source, _ := fs.ReadFile(folder, file) // it was read before
		if _, fault := c.parse(file, string(source)); fault != nil && what(fault) == what(err) {
			return fault
		}
	}
	return err
}

// plain escapes text for elements and quoted attributes, the only places where templates may have it, and for html/template: a
// brace in it begins no action.
func plain(text string) string {
	return strings.ReplaceAll(template.HTMLEscapeString(text), "{", "&#123;")
}

// message is what [[t "key"]] says. The value that it takes is an action, such as "{{.Name}}": html/template finds it within the text.
func (c constants) message(key string, action ...string) (string, error) {
	const gap = "\x00"
	var value []any
	for range action {
		value = append(value, gap)
	}
	said, err := c.messages.Lookup(c.lang, key, value...)
	parts := strings.Split(said, gap)
	for i, part := range parts {
		parts[i] = plain(part)
	}
	return strings.Join(parts, strings.Join(action, "")), err
}

// count is the message for a number, in the singular or the plural of the language.
func (c constants) count(key string, number int) (string, error) {
	return c.messages.Lookup(c.lang, key, number)
}

func (c constants) assetURL(name string) (string, error) {
	url := c.asset(name)
	if url == "" {
		return "", fmt.Errorf("no static file %q", name)
	}
	return plain(url), nil
}

// language is one to choose.
type language struct {
	Code, Name string
	IsSpoken   bool // by this page
}

// languages are all that there are; none if there is no choice.
func (c constants) languages() (all []language) {
	codes := c.messages.Languages()
	if len(codes) == 1 {
		return nil
	}
	for _, code := range codes {
		all = append(all, language{code, plain(c.messages.Name(code)), code == c.lang})
	}
	return all
}

// date shows a time in words; what is no time is shown as it is.
func (c constants) date(value string) string {
	t, err := time.Parse(time.RFC3339, value)
	if err != nil {
		return value
	}
	return c.messages.Date(c.lang, t)
}

// Render writes a page. Name is that of its file in pages/, without the ending. After an error, what is written is a part.
func (s Set) Render(w io.Writer, name string, page Page) error {
	parse, ok := s[page.Lang]
	if !ok {
		return fmt.Errorf("no language %q", page.Lang)
	}
	all, err := parse()
	if err != nil {
		return err
	}
	t, ok := all[name]
	if !ok {
		return fmt.Errorf("no page %q", name)
	}
	if err := t.Execute(w, page); err != nil {
		return fmt.Errorf("render page %s: %w", name, err)
	}
	return nil
}

// Initial is the letter that stands for a person without a picture. Thai vowels that are written before
// their consonant don't stand for a name.
func Initial(name string) string {
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
