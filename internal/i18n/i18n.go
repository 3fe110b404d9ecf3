// Package i18n holds every text that a person reads: a folder for each language, in it a file for each family of pages.
// Another language is another folder, and one less is a folder less. Start reading at Load; Match picks a person's
// language, Text a message.
package i18n

import (
	"cmp"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"text/template"

	"github.com/pelletier/go-toml/v2"
	"golang.org/x/text/feature/plural"
	"golang.org/x/text/language"
)

//go:embed */*.toml
var embedded embed.FS

// Files returns what is in this folder, as it was at build time.
func Files() fs.FS { return embedded }

// maxAccept bounds the work on an Accept-Language header; browsers send far less.
const maxAccept = 256

// Catalog holds the messages of all languages. It never changes, so any number of goroutines may use it.
type Catalog struct {
	languages []string // as the folders are named; the first is for whoever asks for none of them
	matcher   language.Matcher
	tables    map[string]table
}

// table is one language.
type table struct {
	tag      language.Tag
	messages map[string]message
}

// message is what is known of one at start-up: most take no value, so that their text can be given out as it stands.
type message struct {
	forms  [plural.Many + 1]string // most have the other alone
	takes  string                  // {{.}} if it takes a value, {{ if that has parts
	plural bool                    // it takes a number, which selects the form
}

// Load reads the messages of the folder. A message that not every language has is an error, and so is one that is there twice.
func Load(folder fs.FS) (*Catalog, error) {
	names, _ := fs.Glob(folder, "*/*.toml") // the pattern is valid
	c := &Catalog{tables: make(map[string]table)}
	for _, name := range names {
		if err := c.read(folder, name); err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
	}
	if len(c.languages) == 0 {
		return nil, errors.New("no messages: there is no file like en/site.toml")
	}
	if i := slices.Index(c.languages, "en"); i > 0 { // the default, where it is there
		c.languages = slices.Insert(slices.Delete(c.languages, i, i+1), 0, "en")
	}
	var tags []language.Tag
	for _, lang := range c.languages {
		tags = append(tags, c.tables[lang].tag)
	}
	c.matcher = language.NewMatcher(tags)
	return c, c.complete()
}

// read reads the messages of one file.
func (c *Catalog) read(folder fs.FS, name string) error {
	tag, err := language.Parse(path.Dir(name))
	if err != nil {
		return err
	}
	data, err := fs.ReadFile(folder, name)
	if err != nil {
		return err
	}
	var entries map[string]any
	err = toml.Unmarshal(data, &entries)
	if fault, ok := errors.AsType[*toml.DecodeError](err); ok {
		line, _ := fault.Position()
		err = fmt.Errorf("line %d: %w", line, err)
	}
	if err != nil {
		return err
	}
	lang := tag.String()
	if _, known := c.tables[lang]; !known {
		c.languages, c.tables[lang] = append(c.languages, lang), table{tag, make(map[string]message)}
	}
	return c.tables[lang].add("", entries)
}

// add adds messages. What is in a table, as title in [home], is named after that: home.title.
func (t table) add(prefix string, entries map[string]any) (err error) {
	for key, entry := range entries {
		key = prefix + key
		if inner, ok := entry.(map[string]any); ok && !haveForms(inner) {
			if err := t.add(key+".", inner); err != nil {
				return err
			}
			continue
		}
		if _, known := t.messages[key]; known {
			return fmt.Errorf("message %q is there twice", key)
		}
		if t.messages[key], err = newMessage(entry); err != nil {
			return fmt.Errorf("message %q: %w", key, err)
		}
	}
	return nil
}

var formNames = map[string]plural.Form{
	"zero": plural.Zero, "one": plural.One, "two": plural.Two, "few": plural.Few, "many": plural.Many, "other": plural.Other,
}

// haveForms reports whether a table is of the plural forms of one message.
func haveForms(entries map[string]any) bool {
	for name := range entries {
		if _, ok := formNames[name]; ok {
			return true
		}
	}
	return false
}

// newMessage makes a message of a text, or of one for each plural form.
func newMessage(entry any) (m message, err error) {
	forms, ok := entry.(map[string]any)
	if !ok {
		forms = map[string]any{"other": entry}
	}
	_, isWhole := forms["other"]
	for name, text := range forms {
		form, isForm := formNames[name]
		m.forms[form], ok = text.(string)
		isWhole = isWhole && isForm && ok
	}
	if !isWhole {
		return m, errors.New("neither a text nor texts for plural forms: zero, one, two, few, many, and always other")
	}
	all := strings.Join(m.forms[:], "")
	switch {
	case strings.Contains(strings.ReplaceAll(all, "{{.}}", ""), "{{"):
		m.takes = "{{"
		_, err = template.New("").Parse(all)
	case strings.Contains(all, "{{.}}"):
		m.takes = "{{.}}"
	}
	m.plural = m.forms[plural.One] != ""
	return m, err
}

// complete reports each message that one language has and another lacks, or that takes another value there.
func (c *Catalog) complete() error {
	var faults []error
	for _, has := range c.languages {
		for _, lacks := range c.languages {
			for _, key := range slices.Sorted(maps.Keys(c.tables[has].messages)) {
				other, ok := c.tables[lacks].messages[key]
				if !ok {
					faults = append(faults, fmt.Errorf("message %q is in %q and missing in %q: add it, or remove internal/i18n/%s", key, has, lacks, lacks))
				} else if has == c.languages[0] && c.tables[has].messages[key].takes != other.takes {
					faults = append(faults, fmt.Errorf("message %q takes another value in %q than in %q", key, lacks, has))
				}
			}
		}
	}
	return errors.Join(faults...)
}

// Languages lists the languages there are, such as "en"; the first is the default.
func (c *Catalog) Languages() []string { return slices.Clone(c.languages) }

// Name returns what people who speak a language call it.
func (c *Catalog) Name(lang string) string { return c.Text(lang, "language") }

// Match returns the language to speak: the person's choice if there is such a language, else what suits the
// Accept-Language header best, else the default. Both may be anything that a client sends.
func (c *Catalog) Match(acceptLanguage, choice string) string {
	if slices.Contains(c.languages, choice) {
		return choice
	}
	if len(acceptLanguage) > maxAccept {
		acceptLanguage = acceptLanguage[:strings.LastIndexByte(acceptLanguage[:maxAccept], ',')+1]
	}
	// Without a weight, nothing is wanted more than the first (RFC 4647 §3.4); and the matcher takes a while.
	first, _, _ := strings.Cut(acceptLanguage, ",")
	for ; first != "" && !strings.Contains(first, ";"); first = first[:max(0, strings.LastIndexByte(first, '-'))] {
		if slices.Contains(c.languages, first) {
			return first
		}
	}
	_, i := language.MatchStrings(c.matcher, acceptLanguage)
	return c.languages[i]
}

// Lookup returns a message. A value, if the message takes one, stands in it as {{.}}, or its fields as {{.Day}}; and if the
// message has plural forms, the value is the whole number that selects one.
func (c *Catalog) Lookup(lang, key string, value ...any) (string, error) {
	m, ok := c.tables[lang].messages[key]
	if !ok {
		return "", fmt.Errorf("no message %q in language %q", key, lang)
	}
	if m.takes == "" && !m.plural {
		return m.forms[plural.Other], nil
	}
	if len(value) != 1 {
		return "", fmt.Errorf("message %q takes one value, not %d", key, len(value))
	}
	said, form := fmt.Sprint(value[0]), plural.Other
	if m.plural {
		n, err := strconv.Atoi(said)
		if err != nil {
			return "", fmt.Errorf("message %q: %w", key, err)
		}
		form = plural.Cardinal.MatchPlural(c.tables[lang].tag, max(n, -n, 0), 0, 0, 0, 0)
	}
	text := cmp.Or(m.forms[form], m.forms[plural.Other])
	if m.takes != "{{" {
		return strings.ReplaceAll(text, "{{.}}", said), nil
	}
	var filled strings.Builder
	parsed, err := template.New(key).Parse(text)
	if err == nil {
		err = parsed.Execute(&filled, value[0])
	}
	return filled.String(), err
}

// Text is Lookup for callers that name a message which is there: should it be missing after all, the person reads its key.
func (c *Catalog) Text(lang, key string, value ...any) string {
	text, err := c.Lookup(lang, key, value...)
	if err != nil {
		return key
	}
	return text
}
