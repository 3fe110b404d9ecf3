package authtest_test

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/logto-gin-starter/auth/authtest"
)

// testAfter is what becomes of a sign-in when something changes at the provider.
func (p *provider) testAfter(t *testing.T) {
	if p.admin == nil {
		t.Skip("set LOGTO_TEST_ADMIN_ENDPOINT and LOGTO_TEST_MANAGEMENT_SECRET to test what Logto does after a sign-in")
	}
	t.Run("suspended", p.testSuspended)
	t.Run("suspended with a code on the way", p.testSuspendedCode)
	t.Run("deleted", p.testDeleted)
	t.Run("sessions deleted", p.testSessionsDeleted)
	t.Run("grants revoked", p.testGrantsRevoked)
	t.Run("another password", p.testPasswordChanged)
	t.Run("role taken and given", p.testRoleChanged)
	t.Run("organization left and joined", p.testMembershipChanged)
	t.Run("permissions by both kinds of roles", p.testBothRoles)
	t.Run("name, e-mail and picture", p.testDataChanged)
	t.Run("secret replaced", p.testSecretReplaced)
	t.Run("another application signs out", p.testOtherSignsOut)
	t.Run("a one-time token", p.testOneTimeToken)
	t.Run("webhooks", p.testWebhooks)
	t.Run("key rotated", p.testKeyRotated) // the last ones: they change what all tokens are signed with
	t.Run("key rotated to another algorithm", p.testAlgorithmRotated)
}

// randomName is fit for usernames.
func randomName() string { return "t" + strings.ToLower(rand.Text())[:12] }

// newcomer is the provider as somebody uses it who was made for this test.
func (p *provider) newcomer(t *testing.T) (person *provider, id string) {
	t.Helper()
	other := *p
	other.username = randomName()
	id = p.admin.add(t, other.username, p.password)
	deleted := false
	remove := p.admin.remove
	t.Cleanup(func() {
		if !deleted {
			remove(t, id)
		}
	})
	other.admin = deleter{p.admin, &deleted}
	return &other, id
}

// deleter remembers that the person was deleted.
type deleter struct {
	admin
	deleted *bool
}

func (d deleter) remove(t *testing.T, id string) {
	d.admin.remove(t, id)
	*d.deleted = true
}

func (p *provider) wantEnded(t *testing.T, a answer) {
	t.Helper()
	wantError(t, p.refresh(t, a.body["refresh_token"]), 400, "invalid_grant", "grant request is invalid")
	wantError(t, p.userinfo(t, a.body["access_token"]), 401, "invalid_token", "invalid token provided")
}

func (p *provider) wantAlive(t *testing.T, a answer) {
	t.Helper()
	if got := p.refresh(t, a.body["refresh_token"]); got.status != http.StatusOK {
		t.Errorf("refresh: %d %s", got.status, got.text)
	}
	if got := p.userinfo(t, a.body["access_token"]); got.status != http.StatusOK {
		t.Errorf("userinfo: %d %s", got.status, got.text)
	}
}

// wantSession tells whether the provider would let the browser in without a password.
func (b *browser) wantSession(t *testing.T, alive bool) {
	t.Helper()
	got := b.visit(t, b.p.authURL("prompt", "none"), true).callback
	if alive && got.Get("code") == "" || !alive && got.Get("error") != "login_required" {
		t.Errorf("the session at the provider: %v, want it alive: %v", got, alive)
	}
}

// testOneTimeToken: it signs in who has the e-mail address, without a password and once.
func (p *provider) testOneTimeToken(t *testing.T) {
	person, id := p.newcomer(t)
	email := person.username + "@example.com"
	token := p.admin.oneTimeToken(t, email)
	redeem := func(email string) (subject any, refused bool) {
		t.Helper()
		next := person.browser().redeem(t, person.authURL("one_time_token", token, "login_hint", email, "prompt", "login consent"), token, email)
		if next.callback.Get("code") == "" {
			return nil, true
		}
		_, claims := p.token(t, p.exchange(t, next.callback.Get("code")).body["id_token"])
		return claims["sub"], false
	}
	if _, refused := redeem("another@example.com"); !refused {
		t.Error("a token of another e-mail address signs in")
	}
	if subject, refused := redeem(email); refused || subject != id {
		t.Errorf("signed in is %v, refused %v, want %s", subject, refused, id)
	}
	if _, refused := redeem(email); !refused {
		t.Error("a used token signs in")
	}
}

// redeem follows a link with a one-time token, as the pages of the provider do.
func (b *browser) redeem(t *testing.T, address, token, email string) outcome {
	t.Helper()
	if b.p.local != nil {
		return b.visit(t, address, true)
	}
	asked := b.visit(t, address, true).asked
	next, err := b.experience(t, asked, "/verification/one-time-token/verify", map[string]any{
		"token": token, "identifier": map[string]any{"type": "email", "value": email},
	})
	if err != nil {
		return outcome{}
	}
	return b.visit(t, next, true)
}

func wantNoCall(t *testing.T, calls <-chan *http.Request) {
	t.Helper()
	select {
	case call := <-calls:
		t.Errorf("the back channel was called: %v", call.PostForm)
	case <-time.After(300 * time.Millisecond):
	}
}

func (p *provider) testSuspended(t *testing.T) {
	person, id := p.newcomer(t)
	b := person.browser()
	a := person.signedIn(t, b)
	person.wantAlive(t, a)
	calls := p.listen(t)
	p.admin.suspend(t, id, true)
	wantNoCall(t, calls)
	person.wantEnded(t, a)
	b.wantSession(t, false)
	if b.canSignIn(t) {
		t.Error("a suspended person signed in")
	}
	p.admin.suspend(t, id, false)
	person.wantEnded(t, a)
	b.wantSession(t, false)
	person.wantAlive(t, person.signedIn(t, b))
}

// testSuspendedCode shows a gap of Logto 1.42, which 1.43 closes: a code outlives the suspension.
func (p *provider) testSuspendedCode(t *testing.T) {
	person, id := p.newcomer(t)
	code := person.browser().visit(t, person.authURL(), false).callback.Get("code")
	bound := person.browser().visit(t, person.authURL("prompt", ""), false).callback.Get("code") // to the session
	p.admin.suspend(t, id, true)
	a := person.exchange(t, code)
	if a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.text)
	}
	person.wantAlive(t, a)
	wantError(t, person.exchange(t, bound), 400, "invalid_grant", "grant request is invalid")
}

func (p *provider) testDeleted(t *testing.T) {
	person, id := p.newcomer(t)
	b := person.browser()
	a := person.signedIn(t, b)
	code := b.visit(t, person.authURL(), true).callback.Get("code")
	calls := p.listen(t)
	person.admin.remove(t, id)
	wantNoCall(t, calls)
	person.wantEnded(t, a)
	wantError(t, person.exchange(t, code), 400, "invalid_grant", "grant request is invalid")
	b.wantSession(t, false)
	if b.canSignIn(t) {
		t.Error("a deleted person signed in")
	}
}

func (p *provider) testSessionsDeleted(t *testing.T) {
	person, id := p.newcomer(t)
	b := person.browser()
	a, other := person.signedIn(t, b), person.signedIn(t, person.browser(), "prompt", "")
	calls := p.listen(t)
	p.admin.deleteSessions(t, id, false)
	wantNoCall(t, calls)
	b.wantSession(t, false)
	person.wantAlive(t, a)     // by offline_access
	person.wantEnded(t, other) // without it
	b = person.browser()
	a = person.signedIn(t, b)
	p.admin.deleteSessions(t, id, true)
	wantNoCall(t, calls)
	b.wantSession(t, false)
	person.wantEnded(t, a)
}

func (p *provider) testGrantsRevoked(t *testing.T) {
	person, id := p.newcomer(t)
	b := person.browser()
	a := person.signedIn(t, b)
	calls := p.listen(t)
	p.admin.revokeGrants(t, id)
	wantNoCall(t, calls)
	person.wantEnded(t, a)
	b.wantSession(t, false) // newer versions of Logto keep it
}

func (p *provider) testPasswordChanged(t *testing.T) {
	person, id := p.newcomer(t)
	b := person.browser()
	a := person.signedIn(t, b)
	p.admin.setPassword(t, id, p.password+"-2")
	person.wantAlive(t, a)
	b.wantSession(t, true)
	if person.browser().canSignIn(t) {
		t.Error("the old password is as good as the new one")
	}
}

// claims are those of a refreshed ID token and of userinfo.
func (p *provider) claims(t *testing.T, a answer) map[string]map[string]any {
	t.Helper()
	_, id := p.token(t, p.refresh(t, a.body["refresh_token"]).body["id_token"])
	return map[string]map[string]any{"the refreshed ID token": id, "userinfo": p.userinfo(t, a.body["access_token"]).body}
}

func (p *provider) wantClaim(t *testing.T, a answer, name string, count int) {
	t.Helper()
	for what, claims := range p.claims(t, a) {
		if list, ok := claims[name].([]any); !ok || len(list) != count {
			t.Errorf("%s: %s = %v, want %d", what, name, claims[name], count)
		}
	}
}

func (p *provider) testRoleChanged(t *testing.T) {
	person, id := p.newcomer(t)
	p.admin.setRole(t, id, true)
	a := person.signedIn(t, person.browser())
	permissions := func(a answer) string {
		scope, _ := person.refresh(t, a.body["refresh_token"], "resource", p.resources[0]).body["scope"].(string)
		return scope
	}
	person.wantClaim(t, a, "roles", 1)
	before := permissions(a)
	if before == "" {
		t.Error("the role grants nothing")
	}
	p.admin.setRole(t, id, false)
	person.wantClaim(t, a, "roles", 0)
	if got := permissions(a); got != "" {
		t.Errorf("without the role: %q", got)
	}
	without := person.signedIn(t, person.browser())
	p.admin.setRole(t, id, true)
	person.wantClaim(t, without, "roles", 1)
	if got := permissions(without); got != "" {
		t.Errorf("a role given after the sign-in: %q", got)
	}
	if got := permissions(a); got != before {
		t.Errorf("the role given back to a sign-in that had it: %q, want %q", got, before)
	}
	if got := permissions(person.signedIn(t, person.browser())); got != before {
		t.Errorf("after a new sign-in: %q, want %q", got, before)
	}
}

// testBothRoles: what a role within an organization permits at an API is in the tokens of no organization too, and what the person's
// own role permits is in those within an organization.
func (p *provider) testBothRoles(t *testing.T) {
	person, id := p.newcomer(t)
	p.admin.join(t, id, "admin")
	permitted := func(change ...string) (scope string) {
		t.Helper()
		refresh := person.signedIn(t, person.browser()).body["refresh_token"]
		_, claims := p.token(t, person.refresh(t, refresh, append(change, "resource", p.resources[0])...).body["access_token"])
		scope, _ = claims["scope"].(string)
		return scope
	}
	if scope := permitted(); scope != "read:products" {
		t.Errorf("by the role in the organization, outside of it: %q", scope)
	}
	p.admin.leave(t, id)
	p.admin.join(t, id)
	p.admin.setRole(t, id, true)
	if scope := permitted("organization_id", p.member); !sameWords(scope, "read:products write:products") {
		t.Errorf("by a role of the person's own, within the organization: %q", scope)
	}
}

func (p *provider) testMembershipChanged(t *testing.T) {
	person, id := p.newcomer(t)
	p.admin.join(t, id)
	a := person.signedIn(t, person.browser())
	refresh := func() answer { return person.refresh(t, a.body["refresh_token"], "organization_id", p.member) }
	person.wantClaim(t, a, "organizations", 1)
	person.wantClaim(t, a, "organization_roles", 0)
	if got := refresh(); got.status != http.StatusOK || got.body["scope"] != "" {
		t.Errorf("a member without a role: %d %s", got.status, got.text)
	}
	p.admin.join(t, id, "admin")
	person.wantClaim(t, a, "organization_roles", 1)
	got := refresh()
	if scope, _ := got.body["scope"].(string); scope == "" || !subset(scope, p.scopes) {
		t.Errorf("a role in the organization, given after the sign-in: %d %s", got.status, got.text)
	}
	kept := got.body["access_token"]
	p.admin.leave(t, id)
	person.wantClaim(t, a, "organizations", 0)
	person.wantClaim(t, a, "organization_roles", 0)
	wantError(t, refresh(), 403, "access_denied", "user is not a member of the organization")
	if _, claims := p.token(t, kept); claims["aud"] != "urn:logto:organization:"+p.member {
		t.Errorf("the token of before: %v", claims)
	}
	p.admin.join(t, id)
	if got := refresh(); got.status != http.StatusOK || got.body["scope"] != "" {
		t.Errorf("a member again: %d %s", got.status, got.text)
	}
}

func (p *provider) testDataChanged(t *testing.T) {
	person, id := p.newcomer(t)
	a := person.signedIn(t, person.browser())
	before := person.userinfo(t, a.body["access_token"]).body
	email := "new." + person.username + "@example.com"
	time.Sleep(2 * time.Millisecond) // updated_at is in milliseconds
	p.admin.update(t, id, "Another Name", email, "https://example.com/new.png")
	for what, claims := range person.claims(t, a) {
		if claims["name"] != "Another Name" || claims["email"] != email || claims["picture"] != "https://example.com/new.png" ||
			claims["sub"] != before["sub"] || claims["updated_at"].(float64) <= before["updated_at"].(float64) {
			t.Errorf("%s: %v", what, claims)
		}
	}
}

func (p *provider) testSecretReplaced(t *testing.T) {
	person, _ := p.newcomer(t)
	person.appID, person.secret = p.admin.addApp(t, p.redirectURI)
	b := person.browser()
	a := person.signedIn(t, b)
	code := b.visit(t, person.authURL(), true).callback.Get("code")
	secret := p.admin.replaceSecret(t, person.appID)
	wantError(t, person.refresh(t, a.body["refresh_token"]), 401, "invalid_client", "client authentication failed")
	wantError(t, person.exchange(t, code), 401, "invalid_client", "client authentication failed")
	if got := person.userinfo(t, a.body["access_token"]); got.status != http.StatusOK {
		t.Errorf("userinfo: %d", got.status)
	}
	person.secret = secret
	person.wantAlive(t, a)
	if got := person.exchange(t, code); got.status != http.StatusOK {
		t.Errorf("the code, with the new secret: %d %s", got.status, got.text)
	}
}

func (p *provider) testOtherSignsOut(t *testing.T) {
	calls := p.listen(t)
	person, _ := p.newcomer(t)
	other := *person
	other.appID, other.secret = p.admin.addApp(t, p.redirectURI)
	for _, offline := range []bool{true, false} {
		b := person.browser()
		prompt := map[bool]string{true: "consent", false: ""}[offline]
		a := person.signedIn(t, b, "prompt", prompt)
		other.signedIn(t, b)
		b.visit(t, p.endURL("client_id", other.appID), false)
		select {
		case call := <-calls:
			_, id := p.token(t, a.body["id_token"])
			if _, claims := p.token(t, call.PostForm.Get("logout_token")); claims["sid"] != id["sid"] {
				t.Errorf("the logout token's sid is %v, want %v", claims["sid"], id["sid"])
			}
		case <-time.After(10 * time.Second):
			t.Fatal("the back channel was not called")
		}
		wantNoCall(t, calls)
		b.wantSession(t, false)
		if offline {
			person.wantAlive(t, a)
		} else {
			person.wantEnded(t, a)
		}
	}
}

// published returns the key IDs and the algorithms that the provider announces.
func (p *provider) published(t *testing.T) (kids, algs []string) {
	t.Helper()
	get := func(path string, into any) {
		if _, body := p.browser().do(t, http.MethodGet, p.issuer+path, "", nil); json.Unmarshal(body, into) != nil {
			t.Fatalf("%s: %s", path, body)
		}
	}
	var keys struct {
		Keys []struct{ Kid, Kty, Alg string }
	}
	get("/jwks", &keys)
	for _, key := range keys.Keys {
		kids = append(kids, key.Kid)
		if (key.Kty == "RSA") != (key.Alg == "") {
			t.Errorf("a key of type %s has the algorithm %q", key.Kty, key.Alg)
		}
	}
	var discovery struct {
		Algs []string `json:"id_token_signing_alg_values_supported"`
	}
	get("/.well-known/openid-configuration", &discovery)
	return kids, discovery.Algs
}

// rotate waits until the new key signs.
func (p *provider) rotate(t *testing.T, alg string) (kid string) {
	t.Helper()
	before, _ := p.published(t)
	p.admin.rotate(t, alg)
	kids := p.otherKeys(t, before)
	if len(kids) != 2 || kids[1] != before[0] || kids[0] == before[0] {
		t.Errorf("the keys were %v and are %v: want the new one and the one before", before, kids)
	}
	return kids[0]
}

// otherKeys waits until the published ones differ: Logto takes a moment.
func (p *provider) otherKeys(t *testing.T, before []string) []string {
	t.Helper()
	for range 100 {
		if kids, _ := p.published(t); !slices.Equal(kids, before) {
			return kids
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatal("the keys are the same after 10 s")
	return nil
}

func (p *provider) testKeyRotated(t *testing.T) {
	person, _ := p.newcomer(t)
	b := person.browser()
	a := person.signedIn(t, b)
	hint, _ := a.body["id_token"].(string)
	kid := p.rotate(t, "ES384")
	p.token(t, hint) // still verifies
	header, _ := p.token(t, person.refresh(t, a.body["refresh_token"]).body["id_token"])
	if header["kid"] != kid || header["alg"] != "ES384" {
		t.Errorf("the new ID token has %v, want kid %s", header, kid)
	}
	person.wantAlive(t, a)
	both, _ := p.published(t)
	p.admin.withdraw(t)
	if kids := p.otherKeys(t, both); !slices.Equal(kids, []string{kid}) {
		t.Errorf("published after a withdrawal: %v, want %s", kids, kid)
	}
	person.wantAlive(t, a)
	p.rotate(t, "ES384")
	got := b.visit(t, p.endURL("id_token_hint", hint, "post_logout_redirect_uri", p.home()), true)
	var body map[string]any
	if err := json.Unmarshal(got.body, &body); err != nil {
		t.Fatalf("%v: %+v", err, got)
	}
	wantError(t, answer{got.status, nil, body, string(got.body)}, 400, "invalid_request", "could not validate id_token_hint")
	b.wantSession(t, true)
	if got := b.visit(t, p.endURL("client_id", p.appID, "post_logout_redirect_uri", p.home()), false); got.target != p.home() {
		t.Errorf("without the hint led to %q", got.target)
	}
}

func (p *provider) testAlgorithmRotated(t *testing.T) {
	person, _ := p.newcomer(t)
	a := person.signedIn(t, person.browser())
	p.rotate(t, "RS256")
	if _, algs := p.published(t); !slices.Equal(algs, []string{"PS256", "RS256", "ES384"}) {
		t.Errorf("announced: %v", algs)
	}
	header, _ := p.token(t, person.refresh(t, a.body["refresh_token"]).body["id_token"])
	if header["alg"] != "RS256" {
		t.Errorf("the ID token's header: %v", header)
	}
	api := person.refresh(t, a.body["refresh_token"], "resource", p.resources[0]).body["access_token"]
	if header, _ := p.token(t, api); header["alg"] != "RS256" {
		t.Errorf("the access token's header: %v", header)
	}
	person.wantAlive(t, a)
	p.rotate(t, "ES384")
	if _, algs := p.published(t); !slices.Equal(algs, []string{"ES384", "PS256", "RS256"}) {
		t.Errorf("announced after the way back: %v", algs)
	}
	p.rotate(t, "ES384")
	if _, algs := p.published(t); !slices.Equal(algs, []string{"ES384"}) {
		t.Errorf("announced when the RSA key is gone: %v", algs)
	}
	person.wantAlive(t, a)
}

// posted is a webhook's request.
type posted struct {
	header http.Header
	raw    []byte
	body   map[string]any
}

// receiver is an application's address for webhooks. It answers with an error, which must not bring the request again.
func receiver(t *testing.T) (address string, posts <-chan posted) {
	t.Helper()
	all := make(chan posted, 100)
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got := posted{header: r.Header}
		got.raw, _ = io.ReadAll(r.Body)
		_ = json.Unmarshal(got.raw, &got.body)
		w.WriteHeader(http.StatusInternalServerError)
		all <- got
	}))
	t.Cleanup(app.Close)
	return app.URL + "/webhooks/logto", all
}

func wantPost(t *testing.T, posts <-chan posted, hook authtest.Webhook, event string) map[string]any {
	t.Helper()
	select {
	case got := <-posts:
		mac := hmac.New(sha256.New, []byte(hook.SigningKey))
		mac.Write(got.raw)
		if got.header.Get(authtest.SignatureHeader) != hex.EncodeToString(mac.Sum(nil)) || !strings.HasPrefix(got.header.Get("Content-Type"), "application/json") {
			t.Errorf("header %v", got.header)
		}
		created, _ := got.body["createdAt"].(string)
		if at, err := time.Parse(time.RFC3339, created); err != nil || time.Since(at).Abs() > time.Minute {
			t.Errorf("createdAt = %v", got.body["createdAt"])
		}
		if got.body["event"] != event || got.body["hookId"] != hook.ID {
			t.Errorf("posted %s, want %s", got.raw, event)
		}
		return got.body
	case <-time.After(10 * time.Second):
		t.Fatalf("no %s", event)
	}
	return nil
}

func wantNoPost(t *testing.T, posts <-chan posted, after string) {
	t.Helper()
	select {
	case got := <-posts:
		t.Errorf("%s was posted: %s", after, got.raw)
	case <-time.After(300 * time.Millisecond):
	}
}

// wantUser checks what a webhook's body says of the person.
func (p *provider) wantUser(t *testing.T, body map[string]any, id, name string, suspended bool) {
	t.Helper()
	data, _ := body["data"].(map[string]any)
	if data["id"] != id || data["username"] != p.username || data["name"] != name || data["isSuspended"] != suspended {
		t.Errorf("want %s, suspended: %v: %v", name, suspended, body)
	}
	if params, ok := body["params"].(map[string]any); ok && len(params) > 0 && params["userId"] != id {
		t.Errorf("params: %v", body)
	}
	for _, field := range []string{"primaryEmail", "primaryPhone", "avatar", "customData", "identities", "createdAt", "updatedAt"} {
		if _, ok := data[field]; !ok {
			t.Errorf("data has no %s: %v", field, body)
		}
	}
}

func (p *provider) testWebhooks(t *testing.T) {
	address, posts := receiver(t)
	hook := p.admin.addWebhook(t, address, "PostResetPassword", "User.Created", "User.Data.Updated", "User.SuspensionStatus.Updated",
		"User.Deleted", "Organization.Membership.Updated")
	person, id := p.newcomer(t)
	a := person.signedIn(t, person.browser())
	for _, step := range []struct {
		event     string
		do        func()
		name      string
		suspended bool
	}{
		{"User.Created", func() {}, "New Comer", false},
		{"User.Data.Updated", func() { p.admin.rename(t, id, a.body["access_token"].(string), "Own Choice") }, "Own Choice", false},
		{"User.Data.Updated", func() { p.admin.update(t, id, "Another Name", person.username+"@example.com", "") }, "Another Name", false},
		{"User.SuspensionStatus.Updated", func() { p.admin.suspend(t, id, true) }, "Another Name", true},
		{"User.SuspensionStatus.Updated", func() { p.admin.suspend(t, id, false) }, "Another Name", false},
		{"User.Data.Updated", func() { p.admin.setPassword(t, id, p.password+"-2") }, "Another Name", false},
	} {
		step.do()
		body := wantPost(t, posts, hook, step.event)
		person.wantUser(t, body, id, step.name, step.suspended)
		if (body["params"] == nil) != (step.name == "Own Choice") {
			t.Errorf("%s: params are for what came through the Management API: %v", step.event, body)
		}
	}
	for _, step := range []struct {
		field string
		do    func()
	}{
		{"addedUserIds", func() { p.admin.join(t, id) }},
		{"removedUserIds", func() { p.admin.leave(t, id) }},
	} {
		step.do()
		body := wantPost(t, posts, hook, "Organization.Membership.Updated")
		if list, _ := body[step.field].([]any); body["organizationId"] != p.member || !slices.Equal(list, []any{id}) || body["data"] != nil {
			t.Errorf("%s: %v", step.field, body)
		}
	}
	p.admin.setRole(t, id, true)
	p.admin.setRole(t, id, false)
	wantNoPost(t, posts, "a change of roles")
	p.admin.deleteSessions(t, id, true)
	wantNoPost(t, posts, "the end of the sessions")
	person.admin.remove(t, id)
	person.wantUser(t, wantPost(t, posts, hook, "User.Deleted"), id, "Another Name", false)
	wantNoPost(t, posts, "an event again, which was answered 500,")
}

// canSignIn tries with a new authorization request.
func (b *browser) canSignIn(t *testing.T) bool {
	t.Helper()
	page := b.visit(t, b.p.authURL("prompt", "login consent"), true).asked
	if page == nil {
		t.Fatal("the provider does not ask for a password")
	}
	if b.p.local != nil {
		form := url.Values{
			"interaction": {page.Query().Get("interaction")}, "username": {b.p.username}, "password": {b.p.password},
		}
		w, _ := b.do(t, http.MethodPost, b.p.local.URL+"/sign-in", "application/x-www-form-urlencoded", []byte(form.Encode()))
		return w.StatusCode == http.StatusSeeOther
	}
	_, err := b.byPassword(t, page)
	return err == nil
}
