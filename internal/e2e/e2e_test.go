//go:build unix

// Package e2e tests the whole application from outside: with a real browser, on real Redis processes, and as several
// instances. It needs Unix, for it stops and freezes processes by signals.
//
// Start reading at site_test.go: what a test starts. person_test.go is somebody who uses it over HTTP, chromium_test.go
// somebody with a browser. The tests are in the other files; those of load_test.go can run for as long as one wants.
package e2e

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience is for what should take a moment: it only ends a test that hangs.
const patience = 20 * time.Second

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(1)
	}
	binaries.dir = dir
	code := m.Run()
	_ = os.RemoveAll(dir) // what is left is in the system's temporary directory
	os.Exit(code)
}

// need returns where a program is. Without it the test is left out, except in CI.
func need(t *testing.T, names ...string) string {
	t.Helper()
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("needs %s", names[0])
	}
	t.Skipf("left out: needs %s", names[0])
	return ""
}

// heavy leaves a test out of a short run.
func heavy(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("left out: -short")
	}
}

// hasPage reports whether the application has a page of the sample: a fork may have taken it away.
func hasPage(name string) bool {
	_, err := os.Stat(filepath.Join("..", "..", "templates", "pages", name+".html"))
	return err == nil
}

// needPage leaves out a test about pages of the sample that a fork has taken away.
func needPage(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		if !hasPage(name) {
			t.Skipf("left out: there is no page %s", name)
		}
	}
}

// binaries are the programs of this module, built once for all tests as the Dockerfile does. The application has the tests' own
// pages too.
var binaries struct {
	dir   string
	mu    sync.Mutex
	built map[string]string
}

// build returns the path of a program, by its package in this module: "." or "demo".
func build(t *testing.T, pkg string) string {
	t.Helper()
	binaries.mu.Lock()
	defer binaries.mu.Unlock()
	if path := binaries.built[pkg]; path != "" {
		return path
	}
	path := filepath.Join(binaries.dir, "program"+strconv.Itoa(len(binaries.built)))
	command := exec.Command("go", "build", "-overlay", withOwnPages(t), "-tags", "nomsgpack", "-o", path, "./"+pkg)
	command.Dir = filepath.Join("..", "..")
	if output, err := command.CombinedOutput(); err != nil {
		t.Fatalf("go build ./%s: %v\n%s", pkg, err, output)
	}
	if binaries.built == nil {
		binaries.built = map[string]string{}
	}
	binaries.built[pkg] = path
	return path
}

// Pages of the tests' own: the first asks Logto for user info, the second for an access token, and for a new one by POST.
const (
	ownUserInfo = "/own/userinfo"
	ownToken    = "/own/token"
)

// withOwnPages writes a file for go build -overlay, which adds routes/own_test.go to the application.
func withOwnPages(t *testing.T) string {
	t.Helper()
	routes, err := filepath.Abs(filepath.Join("..", "..", "routes"))
	must(t, err)
	table, err := os.ReadFile(filepath.Join(routes, "routes.go"))
	must(t, err)
	const end = "\treturn r\n}\n"
	if strings.Count(string(table), end) != 1 {
		t.Fatal("routes.New does not end with return r")
	}
	changed, overlay := filepath.Join(binaries.dir, "routes.go"), filepath.Join(binaries.dir, "overlay.json")
	must(t, os.WriteFile(changed, []byte(strings.Replace(string(table), end, "\tapp.ownPages(r)\n"+end, 1)), 0o600))
	replace, err := json.Marshal(map[string]map[string]string{"Replace": {
		filepath.Join(routes, "routes.go"): changed, filepath.Join(routes, "own_pages.go"): filepath.Join(routes, "own_test.go"),
	}})
	must(t, err)
	must(t, os.WriteFile(overlay, replace, 0o600))
	return overlay
}

// freeAddress returns an address of this machine's at which nobody listens, below the ports that systems give to outgoing
// connections: a server that was killed gets the same one again.
func freeAddress(t *testing.T) string {
	t.Helper()
	for range 100 {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(20_000+rand.IntN(12_000)))
		if listener, err := net.Listen("tcp", address); err == nil {
			_ = listener.Close()
			return address
		}
	}
	t.Fatal("no port is free")
	return ""
}

// eventually waits until something holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// must ends the test at an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
