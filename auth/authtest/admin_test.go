package authtest_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"

	"example.com/logto-gin-starter/auth/authtest"
)

// admin is what an administrator does at the provider while people are signed in. A person is named by ID. "The role"
// grants permissions at the first of the provider's resources.
type admin interface {
	add(t *testing.T, username, password string) (id string)
	remove(t *testing.T, id string)
	suspend(t *testing.T, id string, suspended bool)
	update(t *testing.T, id, name, email, picture string)
	rename(t *testing.T, id, accessToken, name string) // by the person, in the Account Center
	oneTimeToken(t *testing.T, email string) string
	setPassword(t *testing.T, id, password string)
	deleteSessions(t *testing.T, id string, grantsToo bool)
	revokeGrants(t *testing.T, id string)
	setRole(t *testing.T, id string, has bool)
	join(t *testing.T, id string, role ...string) // none, or admin
	leave(t *testing.T, id string)
	rotate(t *testing.T, alg string) // ES384 or RS256
	withdraw(t *testing.T)           // the key before the current one
	addApp(t *testing.T, redirectURI string) (id, secret string)
	replaceSecret(t *testing.T, appID string) (secret string)
	addWebhook(t *testing.T, address string, events ...string) authtest.Webhook
}

// localAdmin is authtest's.
type localAdmin struct {
	*authtest.Server
	app, organization string
}

func (a localAdmin) add(_ *testing.T, username, password string) string {
	a.SetUser(authtest.User{Username: username, Password: password, Name: "New Comer", Email: username + "@example.com"})
	return a.User(username).Subject
}

func (a localAdmin) remove(_ *testing.T, id string) { a.DeleteUser(id) }

func (a localAdmin) suspend(_ *testing.T, id string, suspended bool) {
	if suspended {
		a.Suspend(id)
	} else {
		a.Unsuspend(id)
	}
}

func (a localAdmin) update(_ *testing.T, id, name, email, picture string) {
	user := a.User(id)
	user.Name, user.Email, user.Picture = name, email, picture
	a.SetUser(user)
}

func (a localAdmin) rename(_ *testing.T, id, _, name string) {
	a.Edit(id, func(user *authtest.User) { user.Name = name })
}

func (a localAdmin) setPassword(_ *testing.T, id, password string) {
	user := a.User(id)
	user.Password = password
	a.SetUser(user)
}

func (a localAdmin) oneTimeToken(_ *testing.T, email string) string { return a.OneTimeToken(email) }

func (a localAdmin) deleteSessions(_ *testing.T, id string, grantsToo bool) {
	a.DeleteSessions(id)
	if grantsToo {
		a.RevokeGrants(id)
	}
}

func (a localAdmin) revokeGrants(_ *testing.T, id string) { a.RevokeGrants(id) }

func (a localAdmin) setRole(_ *testing.T, id string, has bool) {
	if has {
		a.SetRoles(id, "merchant")
	} else {
		a.SetRoles(id)
	}
}

func (a localAdmin) join(_ *testing.T, id string, role ...string) {
	a.Join(id, a.organization, role...)
}

func (a localAdmin) leave(_ *testing.T, id string) { a.Leave(id, a.organization) }

func (a localAdmin) rotate(_ *testing.T, alg string) { a.RotateKey(alg) }

func (a localAdmin) withdraw(t *testing.T) {
	for _, key := range published(t, a.Server).Keys {
		if key.KeyID != a.KeyID() {
			a.WithdrawKey(key.KeyID)
		}
	}
}

func (a localAdmin) addApp(_ *testing.T, redirectURI string) (id, secret string) {
	a.Register(authtest.App{ID: "another", Secret: "first", RedirectURIs: []string{redirectURI}, AlwaysIssueRefreshToken: true})
	return "another", "first"
}

func (a localAdmin) replaceSecret(_ *testing.T, appID string) string {
	a.SetSecret(appID, "second")
	return "second"
}

func (a localAdmin) addWebhook(_ *testing.T, address string, events ...string) authtest.Webhook {
	hook := authtest.Webhook{ID: "hook", URL: address, SigningKey: "signing key", Events: events}
	a.RegisterWebhook(hook)
	return hook
}

// management is the Management API of a Logto.
type management struct {
	endpoint, token string
	organization    string
	role, organizer string // the ID of the role, and of the organization's role admin
}

// newManagement returns nil if no Management API is named.
func newManagement(t *testing.T, p *provider) admin {
	t.Helper()
	endpoint, secret := os.Getenv("LOGTO_TEST_ADMIN_ENDPOINT"), os.Getenv("LOGTO_TEST_MANAGEMENT_SECRET")
	if endpoint == "" || secret == "" {
		return nil
	}
	form := url.Values{
		"grant_type": {"client_credentials"}, "resource": {"https://default.logto.app/api"}, "scope": {"all"},
		"client_id": {"m-default"}, "client_secret": {secret},
	}
	response, err := p.client.PostForm(endpoint+"/oidc/token", form)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var answer struct {
		Token string `json:"access_token"`
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil || answer.Token == "" {
		t.Fatalf("the Management API gives no token: %s %v", response.Status, err)
	}
	m := &management{endpoint: strings.TrimSuffix(p.issuer, "/oidc"), token: answer.Token, organization: p.member}
	m.organizer = m.find(t, "/organization-roles", "name", "admin")
	resource := m.find(t, "/resources", "indicator", p.resources[0])
	var scopes []string
	for _, scope := range m.list(t, "/resources/"+resource+"/scopes") {
		if name, _ := scope["name"].(string); slices.Contains(strings.Fields(p.scopes), name) {
			scopes = append(scopes, scope["id"].(string))
		}
	}
	role := m.do(t, http.MethodPost, "/roles", map[string]any{
		"name": "wire-" + randomName(), "description": "Made by a test", "type": "User", "scopeIds": scopes,
	})
	m.role, _ = role["id"].(string)
	t.Cleanup(func() { m.do(t, http.MethodDelete, "/roles/"+m.role, nil) })
	return m
}

// raw calls the API. The context is not the test's: a clean-up calls too.
func (m *management) raw(t *testing.T, method, path string, body any) []byte {
	t.Helper()
	var text []byte
	if body != nil {
		text, _ = json.Marshal(body)
	}
	r, err := http.NewRequest(method, m.endpoint+"/api"+path, bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+m.token)
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode >= http.StatusMultipleChoices {
		t.Fatalf("%s %s: %s %s %v", method, path, response.Status, answer, err)
	}
	return answer
}

func (m *management) do(t *testing.T, method, path string, body any) (object map[string]any) {
	t.Helper()
	_ = json.Unmarshal(m.raw(t, method, path, body), &object) // some answers are empty, or text
	return object
}

func (m *management) list(t *testing.T, path string) (list []map[string]any) {
	t.Helper()
	if err := json.Unmarshal(m.raw(t, http.MethodGet, path, nil), &list); err != nil {
		t.Fatal(err)
	}
	return list
}

func (m *management) find(t *testing.T, path, field, value string) string {
	t.Helper()
	for _, object := range m.list(t, path) {
		if object[field] == value {
			return object["id"].(string)
		}
	}
	t.Fatalf("%s has none whose %s is %s", path, field, value)
	return ""
}

func (m *management) add(t *testing.T, username, password string) string {
	id, _ := m.do(t, http.MethodPost, "/users", map[string]any{
		"username": username, "password": password, "name": "New Comer", "primaryEmail": username + "@example.com",
	})["id"].(string)
	return id
}

func (m *management) remove(t *testing.T, id string) { m.do(t, http.MethodDelete, "/users/"+id, nil) }

func (m *management) suspend(t *testing.T, id string, suspended bool) {
	m.do(t, http.MethodPatch, "/users/"+id+"/is-suspended", map[string]any{"isSuspended": suspended})
}

func (m *management) update(t *testing.T, id, name, email, picture string) {
	m.do(t, http.MethodPatch, "/users/"+id, map[string]any{"name": name, "primaryEmail": email, "avatar": picture})
}

// rename opens the Account API for as long as it takes.
func (m *management) rename(t *testing.T, _, accessToken, name string) {
	before := m.do(t, http.MethodGet, "/account-center", nil)
	m.do(t, http.MethodPatch, "/account-center", map[string]any{"enabled": true, "fields": map[string]string{"name": "Edit"}})
	person := *m
	person.token = accessToken
	person.do(t, http.MethodPatch, "/my-account", map[string]any{"name": name})
	m.do(t, http.MethodPatch, "/account-center", map[string]any{"enabled": before["enabled"], "fields": before["fields"]})
}

func (m *management) oneTimeToken(t *testing.T, email string) string {
	token, _ := m.do(t, http.MethodPost, "/one-time-tokens", map[string]any{"email": email})["token"].(string)
	return token
}

func (m *management) setPassword(t *testing.T, id, password string) {
	m.do(t, http.MethodPatch, "/users/"+id+"/password", map[string]any{"password": password})
}

func (m *management) deleteSessions(t *testing.T, id string, grantsToo bool) {
	query := ""
	if grantsToo {
		query = "?revokeGrantsTarget=all"
	}
	sessions, _ := m.do(t, http.MethodGet, "/users/"+id+"/sessions", nil)["sessions"].([]any)
	for _, session := range sessions {
		payload, _ := session.(map[string]any)["payload"].(map[string]any)
		uid, _ := payload["uid"].(string)
		m.do(t, http.MethodDelete, "/users/"+id+"/sessions/"+uid+query, nil)
	}
}

func (m *management) revokeGrants(t *testing.T, id string) {
	grants, _ := m.do(t, http.MethodGet, "/users/"+id+"/grants", nil)["grants"].([]any)
	for _, grant := range grants {
		grantID, _ := grant.(map[string]any)["id"].(string)
		m.do(t, http.MethodDelete, "/users/"+id+"/grants/"+grantID, nil)
	}
}

func (m *management) setRole(t *testing.T, id string, has bool) {
	if has {
		m.do(t, http.MethodPost, "/users/"+id+"/roles", map[string]any{"roleIds": []string{m.role}})
	} else {
		m.do(t, http.MethodDelete, "/users/"+id+"/roles/"+m.role, nil)
	}
}

func (m *management) join(t *testing.T, id string, role ...string) {
	m.do(t, http.MethodPost, "/organizations/"+m.organization+"/users", map[string]any{"userIds": []string{id}})
	if len(role) > 0 {
		m.do(t, http.MethodPost, "/organizations/"+m.organization+"/users/"+id+"/roles", map[string]any{"organizationRoleIds": []string{m.organizer}})
	}
}

func (m *management) leave(t *testing.T, id string) {
	m.do(t, http.MethodDelete, "/organizations/"+m.organization+"/users/"+id, nil)
}

func (m *management) rotate(t *testing.T, alg string) {
	family := map[string]string{"ES384": "EC", "RS256": "RSA"}[alg]
	m.raw(t, http.MethodPost, "/configs/oidc/private-keys/rotate", map[string]any{"signingKeyAlgorithm": family})
}

func (m *management) withdraw(t *testing.T) {
	for _, key := range m.list(t, "/configs/oidc/private-keys") {
		if id, _ := key["id"].(string); key["status"] == "Previous" {
			m.raw(t, http.MethodDelete, "/configs/oidc/private-keys/"+id, nil)
		}
	}
}

func (m *management) addApp(t *testing.T, redirectURI string) (id, secret string) {
	app := m.do(t, http.MethodPost, "/applications", map[string]any{
		"name": "Made by a test", "type": "Traditional",
		"oidcClientMetadata":   map[string]any{"redirectUris": []string{redirectURI}, "postLogoutRedirectUris": []string{}},
		"customClientMetadata": map[string]any{"alwaysIssueRefreshToken": true},
	})
	id, _ = app["id"].(string)
	t.Cleanup(func() { m.do(t, http.MethodDelete, "/applications/"+id, nil) })
	secret, _ = m.list(t, "/applications/"+id+"/secrets")[0]["value"].(string)
	return id, secret
}

func (m *management) replaceSecret(t *testing.T, appID string) string {
	old, _ := m.list(t, "/applications/"+appID+"/secrets")[0]["name"].(string)
	made := m.do(t, http.MethodPost, "/applications/"+appID+"/secrets", map[string]any{"name": "second", "expiresAt": nil})
	m.do(t, http.MethodDelete, "/applications/"+appID+"/secrets/"+url.PathEscape(old), nil)
	secret, _ := made["value"].(string)
	return secret
}

func (m *management) addWebhook(t *testing.T, address string, events ...string) authtest.Webhook {
	made := m.do(t, http.MethodPost, "/hooks", map[string]any{
		"name": "Made by a test", "events": events, "config": map[string]any{"url": address},
	})
	hook := authtest.Webhook{URL: address, Events: events}
	hook.ID, _ = made["id"].(string)
	hook.SigningKey, _ = made["signingKey"].(string)
	t.Cleanup(func() { m.do(t, http.MethodDelete, "/hooks/"+hook.ID, nil) })
	return hook
}
