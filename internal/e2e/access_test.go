//go:build unix

package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// These rows of TestRealLogto are the pages behind guards, the ways into sign-in, and the API.

// refused wants a page that says no, and why.
func (b *tab) refused(path, title string) {
	b.t.Helper()
	b.load(http.StatusForbidden, chromedp.Navigate(b.site.url+path))
	b.want(path, title)
}

func (a *afterSignIn) rolePage(t *testing.T) {
	const path = "/protected/access/role"
	admin := a.admin(t, "/roles")
	p, b := a.signedIn(t, a.asking)
	b.refused(path, "You don’t have access to this page")
	a.answers(b, "the role admin is given", "its page: passes", func() {
		a.do(t, http.MethodPost, "/users/"+p.id+"/roles", object{"roleIds": []string{admin}})
	}, path, http.StatusOK)
	b.want(path, passed)
	a.answers(b, "… and taken", "its page: 403 “You don’t have access to this page”", func() {
		a.do(t, http.MethodDelete, "/users/"+p.id+"/roles/"+admin, nil)
	}, path, http.StatusForbidden)
}

func (a *afterSignIn) organizationPages(t *testing.T) {
	const path, rolePath = "/protected/access/organization", "/protected/access/organization-role"
	admin := a.admin(t, "/organization-roles")
	name := a.do(t, http.MethodGet, "/organizations/"+a.organization, nil).text("name")
	p, b := a.signedIn(t, a.asking, a.join)
	b.refused(rolePath, "Choose an organization")
	b.refused(path, "Choose an organization")
	b.chooseHere(a.organization)
	b.want(path, passed, name)
	b.refused(rolePath, "You don’t have access in this organization")
	a.answers(b, "a role in the organization is given", "its page: passes",
		func() { a.giveOrganizationRole(t, p, admin) }, rolePath, http.StatusOK)
	a.answers(b, "… and taken", "its page: 403 “You don’t have access in this organization”", func() {
		a.do(t, http.MethodDelete, "/organizations/"+a.organization+"/users/"+p.id+"/roles/"+admin, nil)
	}, rolePath, http.StatusForbidden)

	b.open("/sign-in?prompt=login") // the choice stays
	a.typePassword(b, p)
	b.open(path)
	b.want(path, passed, name)
	b.open("/protected/access")
	b.switchTo("None")
	if b.refused(path, "Choose an organization"); strings.Contains(b.text("header .person-name"), name) {
		t.Errorf("no organization is chosen: %s", b.text("header"))
	}
	b.chooseHere(a.organization)

	left := "You are no longer a member of " + name
	a.shows(b, "left the active organization", "home: “You are no longer a member of …”", inPeriod, func() { a.leave(t, p) }, "/", b.says(left))
	if b.reload(); b.says(left)() || b.count(".switcher") != 0 {
		t.Errorf("told twice, or still a choice: %s", b.text("body"))
	}
	b.refused(path, "Choose an organization")
}

// chooseHere uses the switcher of a page that asks for an organization.
func (b *tab) chooseHere(id string) {
	b.t.Helper()
	within(b, chromedp.Evaluate[string](fmt.Sprintf("document.querySelector('main .switcher select').value = %q", id)))
	b.click("main .switcher button")
}

func (a *afterSignIn) permissionPage(t *testing.T) {
	const path = "/protected/access/permission"
	p, b := a.signedIn(t, a.asking, a.join)
	b.refused(path, "You lack a permission")
	a.giveRole(t, p)
	time.Sleep(period + time.Second)
	b.refused(path, "You lack a permission") // the grant's scopes are those of the last sign-in
	start := time.Now()
	b.click(`main a[href^="/sign-in?"]`)
	b.want(path, passed)
	a.note("a permission is given; “Sign in again …”", "its page: passes, without a password", time.Since(start))
	b.open("/protected/access")
	b.switchTo(a.do(t, http.MethodGet, "/organizations/"+a.organization, nil).text("name"))
	b.open(path) // also within an organization, for the role is the person’s everywhere
	b.want(path, passed)
	b.switchTo("None")
	a.answers(b, "… and taken", "its page: 403 “You lack a permission”", func() { a.takeRole(t, p) }, path, http.StatusForbidden)
}

func (a *afterSignIn) recentPage(t *testing.T) {
	const path, form = "/protected/access/recent", `main form[action="/protected/access/recent"] button`
	p, b := a.signedIn(t, a.asking)
	b.open("/protected/access")
	b.load(http.StatusForbidden, chromedp.Click(chromedp.CSS(form))) // nothing says when the sign-in was
	b.want(path, "Confirm that it is you", "Nothing was changed.")
	start := time.Now()
	b.click(`main a[href^="/sign-in?max_age=60"]`)
	b.want("/protected/access", "What you may do")
	b.click(form)
	b.want(path, passed)
	a.note("“Confirm that it is you”, just signed in", "back at the form, without a password; it passes", time.Since(start))

	before := b.claims()
	time.Sleep(period + time.Second)
	b.open(path)
	if after := b.claims(); after["iat"] == before["iat"] || after["auth_time"] != before["auth_time"] || after["auth_time"] == nil {
		t.Errorf("before a refresh auth_time %v, iat %v; after it %v, %v", before["auth_time"], before["iat"], after["auth_time"], after["iat"])
	}
	b.open(path)
	b.want(path, passed)
	a.note("Logto is asked again", "the same auth_time; the page still passes", 0)

	b.open("/sign-in?max_age=1&return_to=" + path)
	a.typePassword(b, p)
	b.want(path, passed)
	a.note("a sign-in that is older than max_age", "Logto asks for the password; the page passes", 0)
}

// claims are those of the ID token.
func (b *tab) claims() (claims object) {
	b.t.Helper()
	b.open("/protected/userinfo")
	must(b.t, json.Unmarshal([]byte(b.idToken()), &claims))
	return claims
}

// mfaPage: this Logto knows no acr_values, or the person has no second factor. Either way they are told, and not sent round.
func (a *afterSignIn) mfaPage(t *testing.T) {
	const path = "/protected/access/mfa"
	_, b := a.signedIn(t, a.asking)
	for _, way := range []chromedp.Action[chromedp.Void]{
		chromedp.Navigate(b.site.url + path),
		chromedp.Click(chromedp.CSS(`main a[href^="/sign-in?"]`)), // Try again
	} {
		before := b.countRequests("/oidc/auth?")
		b.load(http.StatusForbidden, way)
		if !strings.HasPrefix(b.where(), "/callback?") || !b.says("A second factor is needed")() || b.asked("/oidc/auth").Get("acr_values") != "urn:logto:acr:mfa" {
			t.Errorf("at %s, after asking for %v:\n%s", b.where(), b.asked("/oidc/auth"), b.text("body"))
		}
		if n := b.countRequests("/oidc/auth?") - before; n > 2 {
			t.Errorf("%d requests to Logto", n)
		}
	}
	b.open("/")
	b.want("/", "Hello, New Comer")
	a.note("acr_values=urn:logto:acr:mfa", "403 “A second factor is needed”; not round, still signed in", 0)
}

// countRequests is how many there were to a path of Logto's.
func (b *tab) countRequests(path string) (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, address := range b.requested {
		if strings.HasPrefix(address, b.site.provider+path) {
			n++
		}
	}
	return n
}

func (a *afterSignIn) magicLink(t *testing.T) {
	p := a.newSomeone(t)
	email := p.username + "@example.com"
	token := a.make(t, "/one-time-tokens", object{"email": email}).text("token")
	link := "/sign-in?" + url.Values{"one_time_token": {token}, "email": {email}, "return_to": {"/protected/userinfo"}}.Encode()
	_, b := a.signedIn(t, a.asking) // somebody else
	start := time.Now()
	b.open(link)
	b.comesBack()
	b.want("/protected/userinfo", email)
	a.note("a one-time token, somebody else signed in", "user info, without a question", time.Since(start))

	other := newBrowser(t, a.chromium, a.asking.site, desktop)
	other.open(link)
	eventually(t, "Logto refuses a used token", other.says("The token has been consumed."))
	other.open("/")
	other.want("/", "Create account")
	a.note("… used again, in another browser", "Logto's page says so; not signed in", 0)
	if strings.Contains(a.asking.log.String(), token) || strings.Contains(a.asking.log.String(), email) {
		t.Error("the log says too much")
	}
}

func (a *afterSignIn) hints(t *testing.T) {
	p := a.newSomeone(t)
	b := newBrowser(t, a.chromium, a.asking.site, desktop)
	b.open("/sign-in?return_to=/protected/access&login_hint=" + p.username + "&organization_id=" + a.organization)
	b.atProvider("/sign-in")
	if asked := b.asked("/sign-in"); asked.Get("organization_id") != a.organization || asked.Get("login_hint") != p.username {
		t.Errorf("Logto's page has %v", asked)
	}
	eventually(t, "the name is filled in", func() bool {
		return within(b, chromedp.Evaluate[string](`document.querySelector('[name="identifier"]')?.value ?? ""`)) == p.username
	})
	b.fill("password", a.password)
	within(b, chromedp.Click(chromedp.CSS(`button[type="submit"]`)))
	b.comesBack()
	b.want("/protected/access", "What you may do")
	a.note("/sign-in?login_hint=…&organization_id=…", "Logto's page: the name is filled in", 0)
}

// account does not use Logto's own pages: they differ from version to version.
func (a *afterSignIn) account(t *testing.T) {
	s := a.newSite(t, "127.0.0.1", func(string) []string { return []string{"SESSION_REVALIDATE=1h", "LOGTO_ACCOUNT_CENTER=true"} })
	p, b := a.signedIn(t, s)
	if back := url.QueryEscape(s.url + "/account/done"); b.count(`header a[href^="`+a.endpoint+`/account/security?redirect=`+back+`"]`) != 1 {
		t.Errorf("no way to the Account Center: %s", within(b, chromedp.Evaluate[string](`document.querySelector("header .menu").innerHTML`)))
	}
	a.rename(t, p, "Countess")
	b.open("/")
	b.want("/", "Hello, New Comer")
	a.shows(b, "another name; back by /account/done", "home: Hello", atOnce, func() {}, "/account/done", b.says("Hello, Countess"))
}

func (a *afterSignIn) api(t *testing.T) {
	admin := a.admin(t, "/roles")
	p, b := a.signedIn(t, a.asking, a.join)
	var me struct {
		Sub, Name     string
		Roles         []string
		Organizations []struct{ ID, Name string }
		Organization  *string
		Session       struct{ Since, Expires time.Time }
	}
	read := func() { t.Helper(); must(t, json.Unmarshal([]byte(b.text("body")), &me)) }
	b.open("/api/me")
	if read(); me.Sub != p.id || me.Name != p.name || len(me.Roles) != 0 || len(me.Organizations) != 1 || me.Organizations[0].ID != a.organization ||
		me.Organizations[0].Name == a.organization || me.Organization != nil || !me.Session.Expires.After(me.Session.Since) {
		t.Errorf("/api/me: %s", b.text("body"))
	}
	a.shows(b, "a role is given", "/api/me has it", inPeriod, func() {
		a.do(t, http.MethodPost, "/users/"+p.id+"/roles", object{"roleIds": []string{admin}})
	}, "/api/me", func() bool { read(); return len(me.Roles) == 1 && me.Roles[0] == "admin" })

	resource := "/api/resource?" + url.Values{"indicator": a.resources[:1]}.Encode()
	b.load(http.StatusForbidden, chromedp.Navigate(b.site.url+resource))
	b.want(resource, `"error":"forbidden"`, "read:products")
	a.giveRole(t, p)
	b.open("/sign-in")
	b.open(resource)
	b.want(resource, `"subject":"`+p.id+`"`, "read:products")
	a.note("the session's cookie at /api/resource", "403 JSON; with the permission 200, as the person", 0)

	appID, refused, token := a.program(t)
	for _, row := range []struct {
		name, token string
		status      int
		says        string
	}{
		{"a program without the permission", refused, http.StatusForbidden, `"error":"insufficient_scope"`},
		{"a program with it", token, http.StatusOK, `"subject":"` + appID + `"`},
		{"nobody", "", http.StatusUnauthorized, `"error":`},
	} {
		if status, body := a.callAPI(t, resource, row.token); status != row.status || !strings.Contains(body, row.says) {
			t.Errorf("%s: %d %s", row.name, status, body)
		}
	}
	a.note("a program's bearer token there", "403 JSON; with the permission 200, as the program", 0)
}

// program makes one with an account of its own, and returns tokens that it has for the first resource, before it has the
// permission and after.
func (a *afterSignIn) program(t *testing.T) (appID, before, after string) {
	t.Helper()
	app := a.make(t, "/applications", object{"name": "Made by a test", "type": "MachineToMachine"})
	var scopes []string
	for _, scope := range a.list(t, "/roles/"+a.role.id+"/scopes") {
		scopes = append(scopes, scope.text("id"))
	}
	role := a.make(t, "/roles", object{"name": randomName(), "description": "Made by a test", "type": "MachineToMachine", "scopeIds": scopes})
	secret := a.list(t, "/applications/"+app.text("id")+"/secrets")[0].text("value")
	token := func() string {
		response, err := management.PostForm(a.endpoint+"/oidc/token", url.Values{
			"grant_type": {"client_credentials"}, "resource": a.resources[:1], "scope": {"read:products"},
			"client_id": {app.text("id")}, "client_secret": {secret},
		})
		must(t, err)
		defer response.Body.Close()
		var answer struct {
			Token string `json:"access_token"`
		}
		must(t, json.NewDecoder(response.Body).Decode(&answer))
		return answer.Token
	}
	before = token()
	a.do(t, http.MethodPost, "/applications/"+app.text("id")+"/roles", object{"roleIds": []string{role.text("id")}})
	return app.text("id"), before, token()
}

// callAPI calls the application as a program does.
func (a *afterSignIn) callAPI(t *testing.T, path, token string) (status int, body string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, a.asking.url+path, http.NoBody)
	must(t, err)
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := management.Do(request)
	must(t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	must(t, err)
	return response.StatusCode, string(text)
}
