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

	"github.com/nicksnyder/go-i18n/v2/i18n"
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
	tag       language.Tag
	messages  map[string]message
	localizer *i18n.Localizer
}

// message is what is known of one at start-up: most take no value, so that their text can be given out as it stands.
type message struct {
	text   string
	forms  [plural.Many + 1]string // of it, where they differ
	takes  string                  // {{.}} if it takes a value, {{ if that has parts
	plural bool                    // it takes a number
}

// Load reads the messages of the folder. A message that not every language has is an error, and so is one that is there twice.
func Load(folder fs.FS) (*Catalog, error) {
	bundle := i18n.NewBundle(language.English)
	bundle.RegisterUnmarshalFunc("toml", unmarshal)
	names, err := fs.Glob(folder, "*/*.toml")
	if err != nil {
		return nil, fmt.Errorf("list messages: %w", err)
	}
	c := &Catalog{tables: make(map[string]table)}
	for _, name := range names {
		data, err := fs.ReadFile(folder, name)
		if err != nil {
			return nil, fmt.Errorf("read messages: %w", err)
		}
		file, err := bundle.ParseMessageFileBytes(data, path.Dir(name)+".toml") // go-i18n takes the language from the name
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		lang := file.Tag.String()
		if _, known := c.tables[lang]; !known {
			c.tables[lang] = table{file.Tag, make(map[string]message), i18n.NewLocalizer(bundle, lang)}
		}
		for _, m := range file.Messages {
			if _, known := c.tables[lang].messages[m.ID]; known {
				return nil, fmt.Errorf("read %s: message %q is there twice", name, m.ID)
			}
			c.tables[lang].messages[m.ID] = newMessage(m)
		}
	}
	for _, tag := range bundle.LanguageTags() { // the default first
		c.languages = append(c.languages, tag.String())
	}
	c.matcher = language.NewMatcher(bundle.LanguageTags())
	return c, c.complete()
}

// unmarshal is toml.Unmarshal, and says where a fault is.
func unmarshal(data []byte, v any) error {
	err := toml.Unmarshal(data, v)
	if fault, ok := errors.AsType[*toml.DecodeError](err); ok {
		line, _ := fault.Position()
		return fmt.Errorf("line %d: %w", line, err)
	}
	return err
}

func newMessage(m *i18n.Message) message {
	takes, all := "", m.Zero+m.One+m.Two+m.Few+m.Many+m.Other
	switch {
	case strings.Contains(strings.ReplaceAll(all, "{{.}}", ""), "{{"):
		takes = "{{"
	case strings.Contains(all, "{{.}}"):
		takes = "{{.}}"
	}
	return message{
		text: m.Other, takes: takes, plural: m.One != "",
		forms: [...]string{plural.Zero: m.Zero, plural.One: m.One, plural.Two: m.Two, plural.Few: m.Few, plural.Many: m.Many},
	}
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

// Lookup returns a message. A value, if the message takes one, stands in it as {{.}}, and if the message
// has plural forms, the value is the number that selects one.
func (c *Catalog) Lookup(lang, key string, value ...any) (string, error) {
	m, ok := c.tables[lang].messages[key]
	if !ok {
		return "", fmt.Errorf("no message %q in language %q", key, lang)
	}
	if m.takes == "" && !m.plural {
		return m.text, nil
	}
	if len(value) != 1 {
		return "", fmt.Errorf("message %q takes one value, not %d", key, len(value))
	}
	switch v := value[0].(type) { // nearly all are one of these, and a template would cost ten times as much
	case string:
		if !m.plural {
			return strings.ReplaceAll(m.text, "{{.}}", v), nil
		}
	case int:
		if m.takes != "{{" {
			form := plural.Cardinal.MatchPlural(c.tables[lang].tag, max(v, -v, 0), 0, 0, 0, 0)
			return strings.ReplaceAll(cmp.Or(m.forms[form], m.text), "{{.}}", strconv.Itoa(v)), nil
		}
	}
	config := &i18n.LocalizeConfig{MessageID: key, TemplateData: value[0]}
	if m.plural {
		config.PluralCount = value[0]
	}
	text, err := c.tables[lang].localizer.Localize(config)
	if err != nil {
		return "", fmt.Errorf("message %q: %w", key, err)
	}
	return text, nil
}

// Text is Lookup for callers that name a message which is there: should it be missing after all, the person reads its key.
func (c *Catalog) Text(lang, key string, value ...any) string {
	text, err := c.Lookup(lang, key, value...)
	if err != nil {
		return key
	}
	return text
}
