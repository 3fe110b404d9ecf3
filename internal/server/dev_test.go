package server

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestSource: with -dev a change of a file is in the next answer. A mistake is said there, with the place, until it is mended.
func TestSource(t *testing.T) {
	cfg, _, _ := settings(t)
	cfg.Server.SourceDir = t.TempDir()
	for _, name := range []string{"internal/i18n", "static", "templates"} {
		if err := os.CopyFS(filepath.Join(cfg.Server.SourceDir, name), os.DirFS(filepath.Join("..", "..", name))); err != nil {
			t.Fatal(err)
		}
	}
	url, _, _ := serve(t, cfg, time.Second)
	messages, err := filepath.Glob(filepath.Join(cfg.Server.SourceDir, "internal/i18n/en/home.*"))
	if err != nil || len(messages) != 1 {
		t.Fatal(messages, err)
	}
	page, style := filepath.Join(cfg.Server.SourceDir, "templates/pages/home.html"), filepath.Join(cfg.Server.SourceDir, "static/app.css")
	header := filepath.Join(cfg.Server.SourceDir, "templates/partials/header.html")
	home := func() (int, string) { return get(t, url+"/", "Accept", "text/html", "Accept-Language", "en") }
	const title = `[[define "title"]]Home[[end]][[define "main"]]` + "\n"
	for _, test := range []struct {
		name, file, text string
		status           int
		says             []string
	}{
		{"a template", page, title + "A new template[[end]]", 200, []string{"A new template"}},
		{"a template that can't be parsed", page, title + "{{if}}{{end}}[[end]]", 500, []string{"pages/home.html:2:", "missing value for if"}},
		{"one that can't be executed", page, title + "{{.Nothing}}[[end]]", 500, []string{"page home", "<.Nothing>"}},
		{"one that names no message", page, title + `[[t "no.message"]][[end]]`, 500, []string{"home.html:2:", "no.message"}},
		{"one with an open end", page, title + "{{if .User}}[[end]]", 500, []string{"pages/home.html:2:", "unexpected EOF"}},
		{"one with an unknown function", page, title + "{{t `x`}}[[end]]", 500, []string{"pages/home.html:2:", `function "t" not defined`}},
		{"a part of every page", header, "[[define \"header\"]]\n{{if .User}}[[end]]", 500, []string{"partials/header.html:2:", "unexpected EOF"}},
		{"one without a title", page, `[[define "main"]][[end]]`, 500, []string{`home.html lacks [[define "title"]]`}},
		{"messages that can't be read", messages[0], "nonsense", 500, []string{"en/" + filepath.Base(messages[0])}},
		{"a style sheet", style, "/* new */", 200, []string{"/static/app."}},
	} {
		before, err := os.ReadFile(test.file)
		if err != nil {
			t.Fatal(err)
		}
		_, unchanged := home()
		write(t, test.file, []byte(test.text))
		status, body := home()
		for _, text := range test.says {
			if status != test.status || !strings.Contains(body, text) || body == unchanged {
				t.Errorf("%s: %d %s, want %d and %q", test.name, status, body, test.status, text)
			}
		}
		if strings.Contains(body, "secret") || strings.Contains(body, cfg.Server.SourceDir) || status == http.StatusInternalServerError && strings.Contains(body, "<html") {
			t.Errorf("%s: more than what is wrong: %s", test.name, body)
		}
		write(t, test.file, before)
		if status, body := home(); status != http.StatusOK || strings.Contains(body, "A new") {
			t.Errorf("%s, mended: %d %s", test.name, status, body)
		}
	}
}

func write(t *testing.T, name string, text []byte) {
	t.Helper()
	if err := os.WriteFile(name, text, 0o600); err != nil {
		t.Fatal(err)
	}
}
