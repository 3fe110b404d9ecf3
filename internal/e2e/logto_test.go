//go:build unix

package e2e

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

const (
	period = 2 * time.Second // SESSION_REVALIDATE
	// A change of which Logto tells nothing must be seen after a period, which is counted in whole seconds. The rest is what
	// Logto and the browser take on a busy machine.
	inPeriod = period + 2*time.Second
	atOnce   = 2 * time.Second
)

// TestRealLogto is what becomes of a person's sign-in when something changes at a real Logto, as the person sees it in a
// browser, and how long that takes. management_test.go says which Logto.
func TestRealLogto(t *testing.T) {
	heavy(t)
	needPage(t, "userinfo", "tokens", "access") // which show what Logto says
	l := needLogto(t)
	chromium := startChromium(t)
	after := &afterSignIn{realLogto: l, chromium: chromium}
	after.asking = l.newSite(t, "127.0.0.1", func(string) []string { return []string{"SESSION_REVALIDATE=" + period.String()} })
	after.told = l.newSite(t, "localhost", func(address string) []string { // cookies of the two must not mix
		hook := l.make(t, "/hooks", object{
			"name": "Made by a test", "config": object{"url": "http://" + address + "/webhooks/logto"}, "events": []string{
				"PostResetPassword", "User.Data.Updated", "User.SuspensionStatus.Updated", "User.Deleted", "Organization.Membership.Updated",
			},
		})
		return []string{"SESSION_REVALIDATE=1h", "LOGTO_WEBHOOK_KEY=" + hook.text("signingKey")}
	})
	for _, row := range []struct {
		name string
		run  func(*afterSignIn, *testing.T)
	}{
		{"the doctor", (*afterSignIn).doctor},
		{"another application signs out", (*afterSignIn).otherSignsOut},
		{"suspended, deleted, revoked", (*afterSignIn).dead},
		{"another password", (*afterSignIn).anotherPassword},
		{"role taken", (*afterSignIn).roleTaken},
		{"role given", (*afterSignIn).roleGiven},
		{"left an organization", (*afterSignIn).leftOrganization},
		{"name, picture, e-mail", (*afterSignIn).renamed},
		{"keys rotated", (*afterSignIn).keysRotated},
		{"secret replaced", (*afterSignIn).secretReplaced},
		{"signed out from another browser", (*afterSignIn).endedElsewhere},
		{"Logto stopped", (*afterSignIn).stopped},
		{"webhooks", (*afterSignIn).webhooks},
		{"a page for a role", (*afterSignIn).rolePage},
		{"a page for an organization and a role there", (*afterSignIn).organizationPages},
		{"a page for a permission", (*afterSignIn).permissionPage},
		{"a page for a fresh sign-in", (*afterSignIn).recentPage},
		{"a page for a second factor", (*afterSignIn).mfaPage},
		{"a magic link", (*afterSignIn).magicLink},
		{"hints for Logto's page", (*afterSignIn).hints},
		{"the API for pages and programs", (*afterSignIn).api},
		{"back from the Account Center", (*afterSignIn).account},
	} {
		t.Run(row.name, func(t *testing.T) { row.run(after, t) })
	}
	t.Logf("| %-44s | %-62s | %7s |", "at Logto", "in the browser", "after")
	for _, seen := range after.seen {
		t.Logf("| %-44s | %-62s | %7s |", seen.change, seen.page, seen.took)
	}
}

type afterSignIn struct {
	*realLogto
	chromium     context.Context
	asking, told realSite // one asks Logto each period, one relies on webhooks
	seen         []struct{ change, page, took string }
}

func (a *afterSignIn) note(change, page string, took time.Duration) {
	text := "–"
	if took > 0 {
		text = fmt.Sprintf("%.2f s", took.Seconds())
	}
	a.seen = append(a.seen, struct{ change, page, took string }{change, page, text})
}

// shows makes a change, and loads a page until it shows that; most is how long it may take.
func (a *afterSignIn) shows(b *tab, what, page string, most time.Duration, change func(), path string, holds func() bool) {
	b.t.Helper()
	a.until(b, what, page, most, change, path, func() bool { b.open(path); return holds() })
}

// answers does the same until the page comes with a status.
func (a *afterSignIn) answers(b *tab, what, page string, change func(), path string, status int64) {
	b.t.Helper()
	a.until(b, what, page, inPeriod, change, path, func() bool { return b.visit(chromedp.Navigate(b.site.url+path)).Status == status })
}

func (a *afterSignIn) until(b *tab, what, page string, most time.Duration, change func(), path string, seen func() bool) {
	b.t.Helper()
	start := time.Now()
	for change(); !seen(); time.Sleep(50 * time.Millisecond) {
		if time.Since(start) > patience {
			b.t.Fatalf("%s: %s does not show it within %v:\n%s", what, path, patience, b.text("body"))
		}
	}
	took := time.Since(start)
	if took > most {
		b.t.Errorf("%s: seen after %v, want %v at most", what, took, most)
	}
	a.note(what, page, took)
}

// says returns whether the page at which the tab is says a text.
func (b *tab) says(text string) func() bool {
	return func() bool { return strings.Contains(b.text("body"), text) }
}

// signedIn is a new person in a new browser, who has signed in.
func (a *afterSignIn) signedIn(t *testing.T, s realSite, before ...func(*testing.T, someone)) (someone, *tab) {
	t.Helper()
	p := a.newSomeone(t)
	for _, do := range before {
		do(t, p)
	}
	return p, a.inBrowser(t, s, p)
}

// inBrowser signs in with a new browser.
func (a *afterSignIn) inBrowser(t *testing.T, s realSite, p someone) *tab {
	t.Helper()
	b := newBrowser(t, a.chromium, s.site, desktop)
	b.open("/sign-in")
	a.typePassword(b, p)
	b.want("/", "Hello, "+p.name)
	return b
}

// typePassword is what a person does at Logto's page.
func (a *afterSignIn) typePassword(b *tab, p someone) {
	b.t.Helper()
	b.atProvider("/sign-in")
	b.fill("identifier", p.username)
	b.fill("password", a.password)
	within(b, chromedp.Click(chromedp.CSS(`button[type="submit"]`)))
	b.comesBack()
}

// comesBack waits until the browser is back from Logto, with a page of the application.
func (b *tab) comesBack() {
	b.t.Helper()
	eventually(b.t, "back from Logto", func() bool {
		return strings.HasPrefix(b.where(), "/") && within(b, chromedp.Evaluate[string]("document.readyState")) == "complete"
	})
}

// signOut signs out with the header's button, here and at Logto.
func (b *tab) signOut() {
	b.t.Helper()
	b.click(`header form[action="/sign-out"] button`) // by a page of Logto's that goes on by itself
	b.comesBack()
}

// asked returns the parameters of the last request to a path of Logto's.
func (b *tab) asked(path string) url.Values {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, address := range slices.Backward(b.requested) {
		if query, ok := strings.CutPrefix(address, b.site.provider+path+"?"); ok {
			parameters, err := url.ParseQuery(query)
			must(b.t, err)
			return parameters
		}
	}
	b.t.Fatalf("no request to %s", path)
	return nil
}

// wantPassword wants the next sign-in to ask for the password, and that it succeeds.
func (a *afterSignIn) wantPassword(b *tab, p someone) {
	b.t.Helper()
	b.open("/sign-in")
	b.atProvider("/sign-in")
	if asked := b.asked("/oidc/auth"); asked.Get("prompt") != "login consent" || asked.Get("max_age") == "" {
		b.t.Errorf("asked for %v", asked)
	}
	a.typePassword(b, p)
	b.want("/", "Hello, "+p.name)
	b.open("/protected/userinfo")
	if claims := b.idToken(); !strings.Contains(claims, `"auth_time"`) {
		b.t.Errorf("the ID token has no auth_time: %s", claims)
	}
}

// idToken is what the page of user info says of the ID token.
func (b *tab) idToken() string {
	b.t.Helper()
	return within(b, chromedp.Evaluate[string](`document.querySelector("#id-token").textContent`)) // it is folded
}

// card asks for a new token of a resource or an organization, and is what the page of tokens then says of it; empty if it is not
// on the page.
func (b *tab) card(name string) string {
	b.t.Helper()
	row := `article:has([value="` + name + `"])`
	if b.count(row) == 0 {
		return ""
	}
	b.click(row + ` button:not([name])`)
	return b.text(row)
}

func (a *afterSignIn) otherSignsOut(t *testing.T) {
	_, b := a.signedIn(t, a.asking)
	other := openTab(t, b.ctx, a.told.site, desktop)
	other.open("/sign-in") // without a password: Logto knows the browser
	other.want("/", "Hello, New Comer")
	a.shows(b, "another application signs out", "home: “… because your session at Logto ended”", atOnce, other.signOut,
		"/", b.says("You were signed out because your session at Logto ended."))
	other.want("/", "You are signed out.")
	b.reload()
	b.want("/", "Create account")
	if b.says("You were signed out")() {
		t.Error("it is told twice")
	}
}

func (a *afterSignIn) dead(t *testing.T) {
	for _, row := range []struct {
		change string
		make   func(*realLogto, *testing.T, someone)
	}{
		{"the person is suspended", (*realLogto).suspend},
		{"the person is deleted", func(l *realLogto, t *testing.T, p someone) { l.do(t, http.MethodDelete, "/users/"+p.id, nil) }},
		{"their session is deleted", (*realLogto).deleteSessions},
		{"their grant is deleted", (*realLogto).deleteGrants},
	} {
		p, b := a.signedIn(t, a.asking)
		a.shows(b, row.change, "home: “… because Logto no longer confirms your sign-in”", inPeriod, func() { row.make(a.realLogto, t, p) },
			"/", b.says("You were signed out because Logto no longer confirms your sign-in."))
		b.open("/protected/userinfo")
		b.atProvider("/sign-in")
	}
}

func (a *afterSignIn) anotherPassword(t *testing.T) {
	p, b := a.signedIn(t, a.told)
	a.setPassword(t, p) // which comes as User.Data.Updated
	eventually(t, "the webhook arrives", func() bool { return strings.Contains(a.told.log.String(), `"route":"/webhooks/logto","status":200`) })
	time.Sleep(period)
	b.open("/")
	b.want("/", "Hello, New Comer")
	a.note("another password", "nothing: signed in, and the next refresh works", 0)
}

func (a *afterSignIn) roleTaken(t *testing.T) {
	p, b := a.signedIn(t, a.asking, a.giveRole)
	b.open("/protected/tokens")
	if card := b.card(a.resources[0]); !strings.Contains(card, "read:products") {
		t.Fatalf("with the role: %s", card)
	}
	a.shows(b, "a role is taken", "tokens: its permissions are gone", inPeriod, func() { a.takeRole(t, p) },
		"/protected/tokens", func() bool { return !strings.Contains(b.card(a.resources[0]), "read:products") })
	b.open("/protected/userinfo")
	if claims := b.idToken(); strings.Contains(claims, a.role.name) {
		t.Errorf("the ID token still has the role: %s", claims)
	}
}

func (a *afterSignIn) roleGiven(t *testing.T) {
	p, b := a.signedIn(t, a.asking)
	a.shows(b, "a role is given", "user info: the ID token has it", inPeriod, func() { a.giveRole(t, p) },
		"/protected/userinfo", func() bool { return strings.Contains(b.idToken(), a.role.name) })
	b.open("/protected/tokens")
	if card := b.card(a.resources[0]); strings.Contains(card, "read:products") {
		t.Errorf("its permission needs no new sign-in: %s", card)
	}
	b.want("/protected/tokens", "is in your tokens after the next sign-in")
	start := time.Now()
	b.click(`main a[href="/sign-in?return_to=/protected/tokens"]`)
	b.comesBack()
	b.want("/protected/tokens")
	if card := b.card(a.resources[0]); !strings.Contains(card, "read:products") {
		t.Errorf("after a new sign-in: %s", card)
	}
	a.note("… “Sign in again to get new permissions”", "tokens: the permissions, without a password", time.Since(start))
}

func (a *afterSignIn) leftOrganization(t *testing.T) {
	p, b := a.signedIn(t, a.asking, a.join)
	b.open("/protected/tokens")
	time.Sleep(period + time.Second)
	b.open("/protected/tokens") // asks Logto, so that for the next moment it is the token alone that is refused
	a.leave(t, p)
	if card := b.card(a.organization); !strings.Contains(card, "access_denied") {
		t.Errorf("the token of an organization that the person has left: %s", card)
	}
	a.shows(b, "a member again", "tokens: a token of the organization", inPeriod, func() { a.join(t, p) }, "/protected/tokens",
		func() bool { return strings.Contains(b.card(a.organization), `"exp"`) })
	a.shows(b, "left an organization", "tokens: it is not there any more", inPeriod, func() { a.leave(t, p) },
		"/protected/tokens", func() bool { return b.card(a.organization) == "" })
}

func (a *afterSignIn) renamed(t *testing.T) {
	p, b := a.signedIn(t, a.asking)
	picture := within(b, chromedp.Evaluate[string](`document.querySelector("header img").src`))
	change := func() {
		a.do(t, http.MethodPatch, "/users/"+p.id, object{"name": "Countess", "avatar": picture, "primaryEmail": "new." + p.username + "@example.com"})
	}
	a.shows(b, "another name, picture, e-mail", "every header: name and picture; user info: e-mail", inPeriod, change, "/", b.says("Hello, Countess"))
	for _, path := range []string{"/", "/protected/userinfo", "/protected/tokens", "/protected/sessions"} {
		b.open(path)
		if name := b.text(".person-name"); name != "Countess" || b.count(`header .person img[src="`+picture+`"]`) != 1 {
			t.Errorf("the header of %s: %s", path, b.text("header"))
		}
	}
	b.open("/protected/userinfo")
	if claims := b.idToken(); !strings.Contains(claims, "new."+p.username+"@example.com") {
		t.Errorf("the ID token: %s", claims)
	}
}

func (a *afterSignIn) keysRotated(t *testing.T) {
	_, idle := a.signedIn(t, a.asking) // who then does nothing until the key of the ID token is gone
	p, b := a.signedIn(t, a.asking)
	for i, family := range []string{"EC", "RSA", "EC", "EC"} { // at the end there are only keys as at the beginning
		change := "the signing key is rotated: " + family
		a.rotate(t, family)
		name := fmt.Sprintf("After %d", i)
		a.shows(b, change, "home: nothing; a later refresh is taken over", inPeriod, func() { a.rename(t, p, name) }, "/", b.says("Hello, "+name))
		start := time.Now()
		a.signedIn(t, a.asking)
		a.note("… a new sign-in", "home: Hello", time.Since(start))
	}
	start := time.Now()
	idle.signOut()
	idle.want("/", "You are signed out.", "Create account")
	if asked := idle.asked("/oidc/session/end"); asked.Has("id_token_hint") || asked.Get("client_id") != a.asking.appID {
		t.Errorf("asked for %v", asked)
	}
	a.note("… and two later, a sign-out", "home: “You are signed out.”, without id_token_hint", time.Since(start))
	idle.open("/sign-in")
	idle.atProvider("/sign-in")
}

func (a *afterSignIn) secretReplaced(t *testing.T) {
	p, b := a.signedIn(t, a.asking)
	b.open("/protected/tokens")
	secret := a.replaceSecret(t, a.asking.appID)
	time.Sleep(period + time.Second)
	b.open("/") // Logto refuses the application, not the person
	b.want("/", "Hello, New Comer")
	b.click(`nav a[href="/protected/sessions"]`)
	b.want("/protected/sessions", "This browser")
	a.asking.setSecret(t, secret)
	a.shows(b, "the secret is replaced, and then its file", "home: nothing; a later refresh is taken over", inPeriod,
		func() { a.rename(t, p, "Later") }, "/", b.says("Hello, Later"))
	start := time.Now()
	a.signedIn(t, a.asking)
	a.note("… a new sign-in", "home: Hello", time.Since(start))
}

func (a *afterSignIn) endedElsewhere(t *testing.T) {
	p, here := a.signedIn(t, a.asking)
	there := a.inBrowser(t, a.asking, p)
	here.open("/protected/sessions")
	a.shows(there, "signed out from another browser (here only)", "home: “… from another browser”", atOnce,
		func() { here.click(`button[value="others"]`) }, "/", there.says("You were signed out from another browser."))
	there.reload()
	if there.says("another browser")() {
		t.Error("it is told twice")
	}
	if n := len(a.sessions(t, p)); n != 2 {
		t.Errorf("%d sessions at Logto, want 2", n)
	}
	start := time.Now()
	a.wantPassword(there, p)
	a.note("… its next sign-in", "Logto asks for the password; then user info", time.Since(start))
	here.open("/")
	here.want("/", "Hello, New Comer")
}

func (a *afterSignIn) stopped(t *testing.T) {
	if a.pid == 0 {
		t.Skip("left out: LOGTO_TEST_PID is not set")
	}
	p, b := a.signedIn(t, a.asking)
	_, retrying := a.signedIn(t, a.asking)
	time.Sleep(period + time.Second)
	thaw := a.freeze(t)
	for _, page := range []string{"home, the first page", "home, the next one"} {
		start := time.Now()
		b.open("/")
		b.want("/", "Hello, New Comer")
		a.note("Logto hangs", page+": Hello", time.Since(start))
	}
	for _, b := range []*tab{b, retrying} {
		start := time.Now()
		b.click(`header form[action="/sign-out"] button`)
		b.want("/sign-out", "You are signed out here", "Logto can’t be reached")
		a.note("… sign-out", "“You are signed out here”", time.Since(start))
	}
	thaw()
	a.wantPassword(b, p)
	a.note("… answers again, and the next sign-in", "Logto asks for the password", 0)
	start := time.Now()
	retrying.click(`main form[action="/sign-out"] button`)
	retrying.comesBack()
	retrying.want("/", "You are signed out.")
	a.note("… “Try again at Logto”", "home: “You are signed out.”", time.Since(start))
}

func (a *afterSignIn) webhooks(t *testing.T) {
	account := "You were signed out because your account was changed or blocked."
	p, b := a.signedIn(t, a.told)
	a.shows(b, "webhook: suspended", "home: “… because your account was changed or blocked”", atOnce, func() { a.suspend(t, p) }, "/", b.says(account))
	p, b = a.signedIn(t, a.told)
	a.shows(b, "webhook: deleted", "home: the same", atOnce, func() { a.do(t, http.MethodDelete, "/users/"+p.id, nil) }, "/", b.says(account))
	p, b = a.signedIn(t, a.told)
	a.shows(b, "webhook: another name", "home: Hello", atOnce, func() { a.rename(t, p, "Countess") }, "/", b.says("Hello, Countess"))
	a.shows(b, "webhook: joined an organization", "tokens: it is there", atOnce, func() { a.join(t, p) },
		"/protected/tokens", func() bool { return b.card(a.organization) != "" })
	a.shows(b, "webhook: left it", "tokens: it is not there any more", atOnce, func() { a.leave(t, p) },
		"/protected/tokens", func() bool { return b.card(a.organization) == "" })
}
