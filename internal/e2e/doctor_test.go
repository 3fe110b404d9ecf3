//go:build unix

package e2e

import (
	"strings"
	"testing"
)

// The binary checks the settings against Logto and Redis, and its exit code says whether anything failed.
func TestDoctor(t *testing.T) {
	heavy(t)
	t.Parallel()
	i, logto := startOne(t)
	if code, output := runProgram(t, build(t, "."), i.environ, "-check"); code != 0 || failedChecks(output) != "" {
		t.Errorf("where all is right: exit code %d\n%s", code, output)
	}
	logto.Close()
	if code, output := runProgram(t, build(t, "."), i.environ, "-check"); code != 1 || failedChecks(output) != "Logto" {
		t.Errorf("without Logto: exit code %d\n%s", code, output)
	}
}

// failedChecks returns what the lines that say FAIL are about.
func failedChecks(output string) string {
	var about []string
	for line := range strings.Lines(output) {
		if text, ok := strings.CutPrefix(line, "FAIL"); ok {
			name, _, _ := strings.Cut(strings.TrimSpace(text), "  ")
			about = append(about, name)
		}
	}
	return strings.Join(about, ", ")
}

// doctor is what -check says of a real Logto.
func (a *afterSignIn) doctor(t *testing.T) {
	s := a.asking
	environ := []string{
		"BASE_URL=" + s.url, "REDIS_URL=" + newRedis(t).url(), "LOGTO_ENDPOINT=" + a.endpoint, "LOGTO_APP_ID=" + s.appID,
		"LOGTO_APP_SECRET_FILE=" + s.secretFile, "LOGTO_SCOPES=" + a.scopes, "LOGTO_RESOURCES=" + strings.Join(a.resources, " "),
	}
	application := func(kind string, redirectURIs ...string) string {
		return a.make(t, "/applications", object{
			"name": "Made by a test", "type": kind, "oidcClientMetadata": object{"redirectUris": append([]string{}, redirectURIs...), "postLogoutRedirectUris": []string{}},
		}).text("id")
	}
	for _, row := range []struct{ wrong, setting, fails string }{
		{"nothing", "", ""},
		{"the endpoint", "LOGTO_ENDPOINT=" + strings.Replace(a.endpoint, "localhost", "127.0.0.1", 1), "Logto"},
		{"the app ID", "LOGTO_APP_ID=nobody", "app ID"},
		{"the secret", "LOGTO_APP_SECRET=wrong", "app secret"},
		{"the redirect URI", "BASE_URL=http://localhost:1", "redirect URI"},
		{"no redirect URI", "LOGTO_APP_ID=" + application("Traditional"), "redirect URI"},
		{"no sign-out URI", "LOGTO_APP_ID=" + application("Traditional", s.url+"/callback"), "sign-out URI, app secret"}, // it has another secret
		{"a single-page application", "LOGTO_APP_ID=" + application("SPA", s.url+"/callback"), "sign-out URI, app secret"},
		{"a machine", "LOGTO_APP_ID=" + application("MachineToMachine", s.url+"/callback"), "sign-out URI, app secret"},
		{"a resource", "LOGTO_RESOURCES=" + a.resources[0] + "/", "resource"},
	} {
		t.Run(row.wrong, func(t *testing.T) {
			code, output := runProgram(t, build(t, "."), append(environ, row.setting), "-check")
			if failedChecks(output) != row.fails || (code != 0) != (row.fails != "") {
				t.Errorf("exit code %d\n%s", code, output)
			}
		})
	}
}
