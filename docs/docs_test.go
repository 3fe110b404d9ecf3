package docs_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestLinks: what a page links to is there, and so is the heading that it names.
func TestLinks(t *testing.T) {
	link, punctuation := regexp.MustCompile(`\]\(([^)#:\s]*)(?:#([^)\s]+))?\)`), regexp.MustCompile(`[^\w\- ]`)
	err := filepath.WalkDir("..", func(page string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(page) != ".md" {
			return err
		}
		for _, found := range link.FindAllStringSubmatch(read(t, page), -1) {
			target := page
			if found[1] != "" {
				target = filepath.Join(filepath.Dir(page), found[1])
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links to %s, which is not there", page, target)
				continue
			}
			if found[2] == "" || filepath.Base(target) == "README.md" { // which a fork writes anew
				continue
			}
			isThere := false
			for line := range strings.Lines(read(t, target)) {
				heading, ok := strings.CutPrefix(strings.TrimLeft(line, "#"), " ")
				heading = punctuation.ReplaceAllString(strings.ToLower(strings.TrimSpace(heading)), "")
				isThere = isThere || ok && line[0] == '#' && strings.ReplaceAll(heading, " ", "-") == found[2]
			}
			if !isThere {
				t.Errorf("%s links to #%s, which is no heading of %s", page, found[2], target)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
