package i18n_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2"
)

// root is the module, whose templates and packages are searched for messages.
const root = "../.."

// Load finds what one language has and another lacks; this finds what nobody uses, and what is used but not there.
//
// A template names a message as [[t "key"]] or {{count "key" …}}. Go code, in the packages that import i18n, names it by a string literal:
// the whole key, or a part that is joined to another literal, as in name+".title" where name is "error.denied" or
// in "error."+name+".title" where it is "denied".
func TestMessagesAndTheirUses(t *testing.T) {
	defined := messageKeys(t)
	templates, code := templateKeys(t), scanCode(t)
	for key, where := range templates {
		if !defined[key] {
			t.Errorf("%s uses the message %q, which is not there", where, key)
		}
	}
	for literal, where := range code.literals {
		if looksLikeKey(literal, defined) && !defined[literal] && !code.completes(literal, defined) {
			t.Errorf("%s uses the message %q, which is not there", where, literal)
		}
	}
	for key := range defined {
		if templates[key] == "" && code.literals[key] == "" && !code.joins(key) {
			t.Errorf("nothing uses the message %q", key)
		}
		if name, ok := strings.CutSuffix(key, ".title"); ok && strings.HasPrefix(key, "error.") && !defined[name+".text"] {
			t.Errorf("the error page %q has a title and no text", name)
		}
	}
}

func messageKeys(t *testing.T) map[string]bool {
	t.Helper()
	names, err := filepath.Glob("en/*.toml")
	if err != nil {
		t.Fatal(err)
	}
	keys := make(map[string]bool)
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var messages map[string]any
		if err := toml.Unmarshal(data, &messages); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for key := range messages {
			keys[key] = true
		}
	}
	return keys
}

// looksLikeKey reports whether a literal begins as messages do, such as "error.": then it should be one.
func looksLikeKey(literal string, defined map[string]bool) bool {
	first, rest, ok := strings.Cut(literal, ".")
	if !ok || !regexp.MustCompile(`^[a-z0-9_]+(\.[a-z0-9_]+)*$`).MatchString(rest) {
		return false
	}
	for key := range defined {
		if strings.HasPrefix(key, first+".") {
			return true
		}
	}
	return false
}

// templateKeys returns the messages that templates name, and where.
func templateKeys(t *testing.T) map[string]string {
	t.Helper()
	named := regexp.MustCompile(`\b(?:t|count) "([^"]*)"`)
	keys := make(map[string]string)
	walk(t, ".html", func(path string) {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range named.FindAllStringSubmatch(string(data), -1) {
			keys[match[1]] = path
		}
	})
	return keys
}

// code is what the Go code says: its string literals, and those that something computed is joined to.
type code struct {
	literals map[string]string // and where
	joints   []joint
}

// joint is before + something computed + after; before or after may be empty.
type joint struct{ before, after string }

// joins reports whether the code joins a literal of its own to make this key.
func (c code) joins(key string) bool {
	return slices.ContainsFunc(c.joints, func(j joint) bool {
		rest, hasBefore := strings.CutPrefix(key, j.before)
		middle, hasAfter := strings.CutSuffix(rest, j.after)
		return hasBefore && hasAfter && c.literals[middle] != ""
	})
}

// completes reports whether literal is a message with each ending that the code adds to names of messages.
func (c code) completes(literal string, defined map[string]bool) bool {
	found := false
	for _, j := range c.joints {
		if j.before != "" || !endsKey(j.after, defined) {
			continue
		}
		if !defined[literal+j.after] {
			return false
		}
		found = true
	}
	return found
}

func endsKey(ending string, defined map[string]bool) bool {
	for key := range defined {
		if strings.HasPrefix(ending, ".") && strings.HasSuffix(key, ending) {
			return true
		}
	}
	return false
}

// scanCode reads the packages that import this one, and this one.
func scanCode(t *testing.T) code {
	t.Helper()
	files := make(map[string][]*ast.File) // by directory
	positions := token.NewFileSet()
	walk(t, ".go", func(path string) {
		if strings.HasSuffix(path, "_test.go") {
			return
		}
		file, err := parser.ParseFile(positions, path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files[filepath.Dir(path)] = append(files[filepath.Dir(path)], file)
	})
	c := code{literals: make(map[string]string)}
	for dir, pkg := range files {
		if filepath.Base(dir) != "i18n" && !slices.ContainsFunc(pkg, importsMessages) {
			continue
		}
		for _, file := range pkg {
			ast.Inspect(file, func(n ast.Node) bool {
				if literal, ok := stringOf(n); ok {
					c.literals[literal] = positions.Position(n.Pos()).String()
				}
				if sum, ok := n.(*ast.BinaryExpr); ok && sum.Op == token.ADD {
					before, _ := stringOf(leftmost(sum))
					after, _ := stringOf(sum.Y)
					c.joints = append(c.joints, joint{before, after})
				}
				return true
			})
		}
	}
	return c
}

func importsMessages(file *ast.File) bool {
	return slices.ContainsFunc(file.Imports, func(spec *ast.ImportSpec) bool {
		path, _ := stringOf(spec.Path)
		return strings.HasSuffix(path, "/internal/i18n")
	})
}

func leftmost(sum *ast.BinaryExpr) ast.Expr {
	for {
		left, ok := sum.X.(*ast.BinaryExpr)
		if !ok {
			return sum.X
		}
		sum = left
	}
}

func stringOf(n ast.Node) (string, bool) {
	literal, ok := n.(*ast.BasicLit)
	if !ok || literal.Kind != token.STRING {
		return "", false
	}
	s, err := strconv.Unquote(literal.Value)
	return s, err == nil
}

// walk calls visit for each file of the module whose name ends so.
func walk(t *testing.T, ending string, visit func(path string)) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && path != root && (strings.HasPrefix(entry.Name(), ".") || entry.Name() == "testdata") {
			return filepath.SkipDir
		}
		if !entry.IsDir() && strings.HasSuffix(path, ending) {
			visit(path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
