package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestDev: a change of a template is there at the next request, one of Go code after a restart, which signs nobody out.
func TestDev(t *testing.T) {
	if testing.Short() {
		t.Skip("left out: -short")
	}
	dir := t.TempDir()
	for _, name := range []string{"auth", "internal", "routes", "static", "templates"} {
		if err := os.CopyFS(filepath.Join(dir, name), os.DirFS(filepath.Join("..", name))); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"go.mod", "go.sum", "main.go"} {
		edit(t, filepath.Join("..", name), filepath.Join(dir, name), "", "")
	}
	t.Chdir(dir)
	t.Setenv("GOFLAGS", os.Getenv("GOFLAGS")+" -trimpath") // so that Go's cache knows the packages in whatever folder they are
	app, provider := free(t), free(t)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- demo{app: app, provider: provider, dev: true}.run(ctx, io.Discard) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("ended with %v", err)
		}
		if response, err := http.Get("http://" + app); err == nil {
			_ = response.Body.Close()
			t.Error("the application runs on without the demo")
		}
	}()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	person, address := &http.Client{Jar: jar}, "http://"+app+"/protected/sessions"
	waitFor(t, app)
	visit(t, person, "http://"+provider+"/sign-in", ada(t, visit(t, person, address, nil)))
	person.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse } // to sign in again would be no feat

	edit(t, "templates/layout/layout.html", "templates/layout/layout.html", "</body>", "A new template.</body>")
	if page := visit(t, person, address, nil); !strings.Contains(page, "A new template.") || !strings.Contains(page, "Ada") {
		t.Errorf("after the change of a template\n%s", page)
	}
	second := free(t)
	code := fmt.Sprintf("package main\n\nimport \"net/http\"\n\nfunc init() { go http.ListenAndServe(%q, nil) }\n", second)
	if err := os.WriteFile("second.go", []byte(code), 0o600); err != nil {
		t.Fatal(err)
	}
	waitFor(t, second)
	waitFor(t, app)
	if page := visit(t, person, address, nil); !strings.Contains(page, "Ada") {
		t.Errorf("after the change of code\n%s", page)
	}
}

// edit writes a file with a change.
func edit(t *testing.T, from, to, old, replacement string) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err == nil && !strings.Contains(string(text), old) {
		t.Fatalf("no %s in %s", old, from)
	}
	if err == nil {
		err = os.WriteFile(to, []byte(strings.Replace(string(text), old, replacement, 1)), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// waitFor waits until somebody answers there.
func waitFor(t *testing.T, address string) {
	t.Helper()
	for end := time.Now().Add(5 * time.Minute); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if response, err := http.Get("http://" + address); err == nil {
			_ = response.Body.Close()
			return
		}
	}
	t.Fatalf("nobody answers at %s", address)
}
