//go:build unix

package e2e

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// realLogto is a Logto that others have started, seen by its Management API. What is made there is deleted after the test.
type realLogto struct {
	endpoint, token string
	password        string // of all people
	organization    string
	resources       []string
	scopes          string
	role            struct{ id, name string } // grants the scopes at the first resource
	pid             int                       // of its process; 0: not on this machine, or not to be stopped
}

// needLogto leaves the test out if these variables name no Logto, in CI too:
//
//	LOGTO_TEST_ENDPOINT LOGTO_TEST_ADMIN_ENDPOINT LOGTO_TEST_MANAGEMENT_SECRET LOGTO_TEST_PASSWORD
//	LOGTO_TEST_ORG_ID LOGTO_TEST_RESOURCES LOGTO_TEST_SCOPES   as for TestWire in auth/authtest
//	LOGTO_TEST_PID                                             its process, to be stopped for a while; without it: not tested
//
// Logto must reach this machine at 127.0.0.1. The test rotates its signing key, and makes people, a role, webhooks and
// applications of its own, which it deletes.
func needLogto(t *testing.T) *realLogto {
	t.Helper()
	for _, name := range []string{"ENDPOINT", "ADMIN_ENDPOINT", "MANAGEMENT_SECRET", "PASSWORD", "ORG_ID", "RESOURCES", "SCOPES"} {
		if os.Getenv("LOGTO_TEST_"+name) == "" {
			t.Skipf("left out: needs a real Logto, and LOGTO_TEST_%s is not set", name)
		}
	}
	l := &realLogto{
		endpoint: os.Getenv("LOGTO_TEST_ENDPOINT"), password: os.Getenv("LOGTO_TEST_PASSWORD"),
		organization: os.Getenv("LOGTO_TEST_ORG_ID"), resources: strings.Fields(os.Getenv("LOGTO_TEST_RESOURCES")),
		scopes: os.Getenv("LOGTO_TEST_SCOPES"),
	}
	l.pid, _ = strconv.Atoi(os.Getenv("LOGTO_TEST_PID"))
	response, err := management.PostForm(os.Getenv("LOGTO_TEST_ADMIN_ENDPOINT")+"/oidc/token", url.Values{
		"grant_type": {"client_credentials"}, "resource": {"https://default.logto.app/api"}, "scope": {"all"},
		"client_id": {"m-default"}, "client_secret": {os.Getenv("LOGTO_TEST_MANAGEMENT_SECRET")},
	})
	must(t, err)
	defer response.Body.Close()
	var answer struct {
		Token string `json:"access_token"`
	}
	must(t, json.NewDecoder(response.Body).Decode(&answer))
	l.token = answer.Token
	l.makeRole(t)
	return l
}

var management = &http.Client{Timeout: patience}

// object is one of Logto's, such as a person.
type object map[string]any

func (o object) text(field string) string { text, _ := o[field].(string); return text }

// call calls the API; the answer is a T.
func call[T any](t *testing.T, l *realLogto, method, path string, body any) (answer T) {
	t.Helper()
	var text []byte
	if body != nil {
		text, _ = json.Marshal(body)
	}
	request, err := http.NewRequest(method, l.endpoint+"/api"+path, bytes.NewReader(text)) // a clean-up has no context any more
	must(t, err)
	request.Header.Set("Authorization", "Bearer "+l.token)
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := management.Do(request)
	must(t, err)
	defer response.Body.Close()
	text, err = io.ReadAll(response.Body)
	if err != nil || response.StatusCode >= http.StatusMultipleChoices {
		t.Fatalf("%s %s: %s %s, %v", method, path, response.Status, text, err)
	}
	_ = json.Unmarshal(text, &answer) // some answers are empty, or text
	return answer
}

func (l *realLogto) do(t *testing.T, method, path string, body any) object {
	t.Helper()
	return call[object](t, l, method, path, body)
}

func (l *realLogto) list(t *testing.T, path string) []object {
	t.Helper()
	return call[[]object](t, l, http.MethodGet, path, nil)
}

// make makes something and deletes it after the test.
func (l *realLogto) make(t *testing.T, path string, body object) object {
	t.Helper()
	made := l.do(t, http.MethodPost, path, body)
	t.Cleanup(func() { l.do(t, http.MethodDelete, path+"/"+made.text("id"), nil) })
	return made
}

func (l *realLogto) makeRole(t *testing.T) {
	t.Helper()
	var scopes []string
	for _, resource := range l.list(t, "/resources") {
		if resource["indicator"] != l.resources[0] {
			continue
		}
		for _, scope := range l.list(t, "/resources/"+resource.text("id")+"/scopes") {
			if slices.Contains(strings.Fields(l.scopes), scope.text("name")) {
				scopes = append(scopes, scope.text("id"))
			}
		}
	}
	l.role.name = "e2e-" + randomName()
	l.role.id = l.make(t, "/roles", object{"name": l.role.name, "description": "Made by a test", "type": "User", "scopeIds": scopes}).text("id")
}

func randomName() string { return "t" + strings.ToLower(rand.Text())[:12] }

// someone is a person at Logto.
type someone struct{ id, username, name string }

// newSomeone makes a person.
func (l *realLogto) newSomeone(t *testing.T) someone {
	t.Helper()
	p := someone{username: randomName(), name: "New Comer"}
	p.id = l.do(t, http.MethodPost, "/users", object{
		"username": p.username, "password": l.password, "name": p.name, "primaryEmail": p.username + "@example.com",
	}).text("id")
	t.Cleanup(func() {
		if len(l.list(t, "/users?search="+p.username)) > 0 { // a test may have deleted it
			l.do(t, http.MethodDelete, "/users/"+p.id, nil)
		}
	})
	return p
}

func (l *realLogto) suspend(t *testing.T, p someone) {
	t.Helper()
	l.do(t, http.MethodPatch, "/users/"+p.id+"/is-suspended", object{"isSuspended": true})
}

func (l *realLogto) rename(t *testing.T, p someone, name string) {
	t.Helper()
	l.do(t, http.MethodPatch, "/users/"+p.id, object{"name": name})
}

func (l *realLogto) setPassword(t *testing.T, p someone) {
	t.Helper()
	l.do(t, http.MethodPatch, "/users/"+p.id+"/password", object{"password": l.password + "-2"})
}

// sessions are the person's, at Logto.
func (l *realLogto) sessions(t *testing.T, p someone) (ids []string) {
	t.Helper()
	sessions, _ := l.do(t, http.MethodGet, "/users/"+p.id+"/sessions", nil)["sessions"].([]any)
	for _, session := range sessions {
		payload, _ := session.(map[string]any)["payload"].(map[string]any)
		id, _ := payload["uid"].(string)
		ids = append(ids, id)
	}
	return ids
}

func (l *realLogto) deleteSessions(t *testing.T, p someone) {
	t.Helper()
	for _, id := range l.sessions(t, p) {
		l.do(t, http.MethodDelete, "/users/"+p.id+"/sessions/"+id+"?revokeGrantsTarget=all", nil)
	}
}

func (l *realLogto) deleteGrants(t *testing.T, p someone) {
	t.Helper()
	grants, _ := l.do(t, http.MethodGet, "/users/"+p.id+"/grants", nil)["grants"].([]any)
	for _, grant := range grants {
		id, _ := grant.(map[string]any)["id"].(string)
		l.do(t, http.MethodDelete, "/users/"+p.id+"/grants/"+id, nil)
	}
}

func (l *realLogto) giveRole(t *testing.T, p someone) {
	t.Helper()
	l.do(t, http.MethodPost, "/users/"+p.id+"/roles", object{"roleIds": []string{l.role.id}})
}

func (l *realLogto) takeRole(t *testing.T, p someone) {
	t.Helper()
	l.do(t, http.MethodDelete, "/users/"+p.id+"/roles/"+l.role.id, nil)
}

func (l *realLogto) join(t *testing.T, p someone) {
	t.Helper()
	l.do(t, http.MethodPost, "/organizations/"+l.organization+"/users", object{"userIds": []string{p.id}})
}

func (l *realLogto) leave(t *testing.T, p someone) {
	t.Helper()
	l.do(t, http.MethodDelete, "/organizations/"+l.organization+"/users/"+p.id, nil)
}

// giveOrganizationRole gives a member a role in the organization.
func (l *realLogto) giveOrganizationRole(t *testing.T, p someone, role string) {
	t.Helper()
	l.do(t, http.MethodPost, "/organizations/"+l.organization+"/users/"+p.id+"/roles", object{"organizationRoleIds": []string{role}})
}

// admin returns the role of this name, made for the test if there is none: at /roles, or at /organization-roles for one within
// organizations.
func (l *realLogto) admin(t *testing.T, path string) (id string) {
	t.Helper()
	for _, role := range l.list(t, path) {
		if role["name"] == "admin" && role["type"] == "User" {
			return role.text("id")
		}
	}
	return l.make(t, path, object{"name": "admin", "description": "Made by a test", "type": "User"}).text("id")
}

// rotate lets Logto sign with a new key, "EC" or "RSA", and waits until it does.
func (l *realLogto) rotate(t *testing.T, family string) {
	t.Helper()
	published := func() string {
		response, err := management.Get(l.endpoint + "/oidc/jwks")
		must(t, err)
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		must(t, err)
		return string(text)
	}
	before := published()
	call[any](t, l, http.MethodPost, "/configs/oidc/private-keys/rotate", object{"signingKeyAlgorithm": family})
	eventually(t, "Logto has another key", func() bool { return published() != before })
}

// replaceSecret returns the new one of an application; the old one is void.
func (l *realLogto) replaceSecret(t *testing.T, appID string) string {
	t.Helper()
	secrets := "/applications/" + appID + "/secrets"
	old := l.list(t, secrets)[0].text("name")
	made := l.do(t, http.MethodPost, secrets, object{"name": "second", "expiresAt": nil})
	l.do(t, http.MethodDelete, secrets+"/"+url.PathEscape(old), nil)
	return made.text("value")
}

// freeze lets Logto hang until thaw, for a minute at most.
func (l *realLogto) freeze(t *testing.T) (thaw func()) {
	t.Helper()
	limit := exec.Command("sh", "-c", `sleep 60; kill -CONT "$0"`, strconv.Itoa(l.pid)) // should this process be killed
	must(t, limit.Start())
	thaw = func() { _ = syscall.Kill(l.pid, syscall.SIGCONT) } // it runs, or there is none
	t.Cleanup(func() {
		thaw()
		_ = limit.Process.Kill() // it may have ended
		_ = limit.Wait()
	})
	must(t, syscall.Kill(l.pid, syscall.SIGSTOP))
	return thaw
}

// realSite is the application at a real Logto, as an application of its own there.
type realSite struct {
	*site
	appID, secretFile string
}

// newSite starts one, which browsers find at a host, with further settings. Logto finds it at its address.
func (l *realLogto) newSite(t *testing.T, host string, settings func(address string) []string) realSite {
	t.Helper()
	address := freeAddress(t)
	_, port, _ := net.SplitHostPort(address)
	s := realSite{site: &site{url: "http://" + host + ":" + port, provider: l.endpoint, log: &logBuffer{}}}
	s.appID = l.make(t, "/applications", object{
		"name": "Made by a test", "type": "Traditional",
		"oidcClientMetadata": object{
			"redirectUris": []string{s.url + "/callback"}, "postLogoutRedirectUris": []string{s.url + "/"},
			"backchannelLogoutUri": "http://" + address + "/backchannel-logout", "backchannelLogoutSessionRequired": true,
		},
	}).text("id")
	s.secretFile = filepath.Join(t.TempDir(), "secret")
	s.setSecret(t, l.list(t, "/applications/"+s.appID+"/secrets")[0].text("value"))
	scopes := "email phone address custom_data identities roles urn:logto:scope:organizations urn:logto:scope:organization_roles "
	s.serve(t, append([]string{
		"BASE_URL=" + s.url, "LISTEN_ADDR=" + address, "REDIS_URL=" + newRedis(t).url(), "RATE_LIMIT=off",
		"LOGTO_ENDPOINT=" + l.endpoint, "LOGTO_APP_ID=" + s.appID, "LOGTO_APP_SECRET_FILE=" + s.secretFile,
		"LOGTO_SCOPES=" + scopes + l.scopes, "LOGTO_RESOURCES=" + strings.Join(l.resources, " "),
	}, settings(address)...))
	return s
}

func (s realSite) setSecret(t *testing.T, secret string) {
	t.Helper()
	must(t, os.WriteFile(s.secretFile, []byte(secret+"\n"), 0o600))
}
