package i18n_test

import (
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"example.com/logto-gin-starter/internal/i18n"
)

func load(t testing.TB) *i18n.Catalog {
	t.Helper()
	c, err := i18n.Load(i18n.Files())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// speaks reports whether a language is there: a fork may have taken it away.
func speaks(c *i18n.Catalog, lang string) bool { return slices.Contains(c.Languages(), lang) }

// What is wrong with the messages is said at the start: which file, which line or which message.
func TestLoadFaults(t *testing.T) {
	for name, test := range map[string]struct{ en, de, want string }{
		"no TOML":       {"\"a.b\" = \"x\"\nnonsense", "", "read en/a.toml: line 2: "},
		"missing":       {`"a.b" = "x"`, `"a.c" = "x"`, `message "a.b" is in "en" and missing in "de"`},
		"another value": {`"a.b" = "x {{.}}"`, `"a.b" = "x {{.Name}}"`, `message "a.b" takes another value in "de" than in "en"`},
		"no value":      {`"a.b" = "x {{.}}"`, `"a.b" = "x"`, `message "a.b" takes another value in "de" than in "en"`},
		"no plural":     {`"a.b" = { one = "one", other = "{{.}}" }`, `"a.b" = { other = "x" }`, `message "a.b" takes another value in "de" than in "en"`},
		"right":         {`"a.b" = { one = "one", other = "{{.}}" }`, `"a.b" = { other = "x {{.}}" }`, ""},
		"twice":         {`"a.b" = "x"`, `"a.b" = "x"`, `message "a.b" is there twice`},
		"no text":       {`"a.b" = 1`, `"a.b" = "x"`, `read en/a.toml: message "a.b": neither a text nor texts`},
		"no such form":  {`"a.b" = { one = "x", more = "y", other = "z" }`, `"a.b" = "z"`, `message "a.b": neither`},
		"no other":      {`"a.b" = { one = "x" }`, `"a.b" = "z"`, `message "a.b": neither`},
		"no action":     {`"a.b" = "{{.Name"`, `"a.b" = "{{.Name}}"`, `message "a.b": template: `},
	} {
		folder := fstest.MapFS{"en/a.toml": {Data: []byte(test.en)}, "de/a.toml": {Data: []byte(test.de)}}
		if name == "twice" {
			folder["en/b.toml"] = folder["en/a.toml"]
		}
		_, err := i18n.Load(folder)
		if got := fmt.Sprint(err); (err == nil) != (test.want == "") || !strings.Contains(got, test.want) {
			t.Errorf("%s: %v, want %s", name, err, test.want)
		}
	}
}

func TestNoMessages(t *testing.T) {
	if _, err := i18n.Load(fstest.MapFS{}); err == nil {
		t.Error("no messages, and no error")
	}
	if _, err := i18n.Load(fstest.MapFS{"no language/a.toml": {Data: []byte(`"a" = "x"`)}}); err == nil {
		t.Error("a folder whose name is no language, and no error")
	}
}

// Each language has its plural forms; one that a message lacks is said as the others.
func TestPluralForms(t *testing.T) {
	c, err := i18n.Load(fstest.MapFS{"pl/a.toml": {Data: []byte(`
[box]
all = { one = "{{.}} one", few = "{{.}} few", many = "{{.}} many", other = "{{.}} other" }
some = { one = "{{.}} one", other = "{{.}} other" }
`)}})
	if err != nil {
		t.Fatal(err)
	}
	for number, want := range map[int][2]string{1: {"1 one", "1 one"}, 3: {"3 few", "3 other"}, 5: {"5 many", "5 other"}} {
		if all, some := c.Text("pl", "box.all", number), c.Text("pl", "box.some", number); all != want[0] || some != want[1] {
			t.Errorf("%d: %q, %q, want %q", number, all, some, want)
		}
	}
}

// A form of a message may write the place of its number in another way than the others.
func TestOddPlace(t *testing.T) {
	c, err := i18n.Load(fstest.MapFS{"en/a.toml": {Data: []byte(`"a.b" = { one = "{{ . }} thing", other = "{{.}} things" }`)}})
	if err != nil {
		t.Fatal(err)
	}
	for number, want := range map[int]string{1: "1 thing", 2: "2 things"} {
		if got := c.Text("en", "a.b", number); got != want {
			t.Errorf("%d: %q, want %q", number, got, want)
		}
	}
}

func TestMatch(t *testing.T) {
	c := load(t)
	for _, tt := range []struct{ name, accept, choice, want string }{
		{"nothing", "", "", "en"},
		{"english", "en-GB,en;q=0.9", "", "en"},
		{"thai", "th-TH,th;q=0.9,en;q=0.8", "", "th"},
		{"thai by weight", "en;q=0.3, th;q=0.7", "", "th"},
		{"thai refused", "th;q=0, en", "", "en"},
		{"a language there is not", "sw", "", "en"},
		{"second wish", "sw, th;q=0.5", "", "th"},
		{"choice wins", "en", "th", "th"},
		{"unknown choice", "th", "xx", "th"},
		{"hostile choice", "th", "../../etc/passwd", "th"},
		{"not a language tag", "\x00\xff;;;q=,,th-", "", "en"},
		{"first in a long header", "th," + strings.Repeat("sw;q=0.1,", 1000), "", "th"},
		{"one long word", strings.Repeat("a", 1<<20), "", "en"},
		{"a million parts", strings.Repeat("en-", 1<<20), "", "en"},
	} {
		if !speaks(c, tt.want) {
			continue
		}
		if got := c.Match(tt.accept, tt.choice); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// A language of a region is more than the language, where there is one.
func TestMatchRegion(t *testing.T) {
	message := &fstest.MapFile{Data: []byte(`"language" = "x"`)}
	c, err := i18n.Load(fstest.MapFS{"en/a.toml": message, "en-GB/a.toml": message, "th/a.toml": message})
	if err != nil {
		t.Fatal(err)
	}
	for accept, want := range map[string]string{
		"en-GB,en;q=0.9": "en-GB", "en-US,en;q=0.9": "en", "en-GB-oxendict": "en-GB", "th-TH": "th", "en-GB;q=0.1, th;q=0.9": "th", "-": "en",
	} {
		if got := c.Match(accept, ""); got != want {
			t.Errorf("Match(%q) = %q, want %q", accept, got, want)
		}
	}
}

func FuzzMatch(f *testing.F) {
	c := load(f)
	f.Add("th-TH,th;q=0.9,en;q=0.8", "")
	f.Add("x-a-a-a-a-a-a;q=1e9", "th")
	f.Add("en-u-co-phonebk-x-private,*;q=-1", "TH")
	f.Fuzz(func(t *testing.T, accept, choice string) {
		if got := c.Match(accept, choice); !slices.Contains(c.Languages(), got) {
			t.Errorf("Match(%q, %q) = %q", accept, choice, got)
		}
	})
}

func TestLookup(t *testing.T) {
	c := load(t)
	for _, tt := range []struct {
		lang, key string
		value     []any
		want      string // empty: an error
	}{
		{"en", "nav.sign_in", nil, "Sign in"},
		{"th", "nav.sign_in", nil, "ลงชื่อเข้า\u2060ใช้"},
		{"en", "home.hello", []any{"Ada"}, "Hello, Ada"},
		{"en", "home.hello", []any{"{{.}}"}, "Hello, {{.}}"},
		{"en", "error.number", []any{1}, "Error 1"},
		{"en", "home.hello", nil, ""},
		{"en", "time.minutes", []any{1}, "1 minute"},
		{"th", "time.minutes", []any{1}, "1\u00a0นาที"},
		{"en", "time.minutes", []any{1001}, "1001 minutes"},
		{"en", "time.minutes", []any{math.MinInt}, fmt.Sprint(math.MinInt, " minutes")},
		{"en", "time.minutes", []any{"a few"}, ""},
		{"en", "no.such.key", nil, ""},
		{"en", "", nil, ""},
		{"xx", "nav.sign_in", nil, ""},
	} {
		if tt.want != "" && !speaks(c, tt.lang) {
			continue
		}
		got, err := c.Lookup(tt.lang, tt.key, tt.value...)
		if got != tt.want || (err != nil) != (tt.want == "") {
			t.Errorf("Lookup(%q, %q, %v) = %q, %v, want %q", tt.lang, tt.key, tt.value, got, err, tt.want)
		}
		if text := c.Text(tt.lang, tt.key, tt.value...); err != nil && text != tt.key {
			t.Errorf("Text(%q, %q) = %q, want the key", tt.lang, tt.key, text)
		}
	}
}

func TestAgo(t *testing.T) {
	c := load(t)
	now := time.Date(2026, time.November, 23, 19, 26, 0, 0, time.UTC)
	for ago, want := range map[time.Duration][2]string{
		-time.Hour:          {"just now", "เมื่อสักครู่"},
		59 * time.Second:    {"just now", "เมื่อสักครู่"},
		time.Minute:         {"1 minute ago", "1\u00a0นาทีที่แล้ว"},
		179 * time.Second:   {"2 minutes ago", "2\u00a0นาทีที่แล้ว"},
		time.Hour:           {"1 hour ago", "1\u00a0ชั่วโมงที่แล้ว"},
		23 * time.Hour:      {"23 hours ago", "23\u00a0ชั่วโมงที่แล้ว"},
		24 * time.Hour:      {"1 day ago", "1\u00a0วันที่แล้ว"},
		30 * 24 * time.Hour: {"30 days ago", "30\u00a0วันที่แล้ว"},
		31 * 24 * time.Hour: {"23 October 2026, 19:26 UTC", "23 ตุลาคม 2569 เวลา 19:26 น. (UTC)"},
	} {
		for i, lang := range []string{"en", "th"} {
			if !speaks(c, lang) {
				continue
			}
			if got := c.Ago(lang, now.Add(-ago), now); got != want[i] {
				t.Errorf("%v ago in %s: %q, want %q", ago, lang, got, want[i])
			}
		}
	}
}

func TestSpan(t *testing.T) {
	c := load(t)
	for d, want := range map[time.Duration][2]string{
		-time.Second:      {"less than a minute", "ไม่ถึง 1\u00a0นาที"},
		59 * time.Second:  {"less than a minute", "ไม่ถึง 1\u00a0นาที"},
		time.Minute:       {"1 minute", "1\u00a0นาที"},
		59 * time.Minute:  {"59 minutes", "59\u00a0นาที"},
		119 * time.Minute: {"1 hour", "1\u00a0ชั่วโมง"},
		49 * time.Hour:    {"2 days", "2\u00a0วัน"},
	} {
		for i, lang := range []string{"en", "th"} {
			if !speaks(c, lang) {
				continue
			}
			if got := c.Span(lang, d); got != want[i] {
				t.Errorf("%v in %s: %q, want %q", d, lang, got, want[i])
			}
		}
	}
}

func TestDate(t *testing.T) {
	c := load(t)
	bangkok := time.FixedZone("Asia/Bangkok", 7*60*60)
	newYear := time.Date(2027, time.January, 1, 2, 5, 0, 0, bangkok)
	for lang, want := range map[string]string{"en": "31 December 2026, 19:05 UTC", "th": "31 ธันวาคม 2569 เวลา 19:05 น. (UTC)"} {
		if !speaks(c, lang) {
			continue
		}
		if got := c.Date(lang, newYear); got != want {
			t.Errorf("Date in %s = %q, want %q", lang, got, want)
		}
	}
	for _, lang := range c.Languages() {
		months := make(map[string]bool)
		for month := time.January; month <= time.December; month++ {
			months[c.Date(lang, time.Date(2026, month, 1, 0, 0, 0, 0, time.UTC))] = true
		}
		if len(months) != 12 {
			t.Errorf("some months have the same name in %s: %q", lang, slices.Sorted(maps.Keys(months)))
		}
	}
}

// TestThaiLines: a line does not end within "เข้าใช้", nor between a number and its unit. In Thai, browsers may break it there
// unless U+2060 and U+00A0 say that they must not.
func TestThaiLines(t *testing.T) {
	names, err := filepath.Glob("th/*.toml")
	if err != nil {
		t.Fatal(err)
	}
	breaks := regexp.MustCompile(`เข้าใช้|(\d|\}\}) (นาที|ชั่วโมง|วัน)`)
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(data)) {
			if found := breaks.FindString(line); found != "" {
				t.Errorf("%s: a line may end within %q: %s", name, found, line)
			}
		}
	}
}

func BenchmarkMatch(b *testing.B) {
	c := load(b)
	for b.Loop() {
		c.Match("th-TH,th;q=0.9,en-US;q=0.8,en;q=0.7", "")
	}
}
