//go:build unix

package e2e

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// TestBrowser is what a person does in a browser. Every page that is loaded on the way must come without a complaint of
// the browser's: nothing on the console, nothing against the Content-Security-Policy, no request to anybody else.
func TestBrowser(t *testing.T) {
	heavy(t)
	t.Parallel()
	chromium := startChromium(t)
	for _, test := range []struct {
		name string
		run  func(*testing.T, context.Context, *site)
	}{
		{"sign in by account chooser", signInByChooser},
		{"sign in by password", signInByPassword},
		{"sign up", signUp},
		{"sessions", sessions},
		{"back after sign-in", backAfterSignIn},
		{"back after sign-out", backAfterSignOut},
		{"two tabs", twoTabs},
		{"language", language},
		{"keyboard", keyboard},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, chromium, newSite(t)) })
	}
}

func signInByChooser(t *testing.T, chromium context.Context, s *site) {
	b := newBrowser(t, chromium, s, desktop)
	b.open("/")
	b.want("/", "Sign in with Logto", "Create account")
	b.click(`main a[href="/sign-in"]`)
	b.choose("ada")
	b.want("/", "Hello, Ada Lovelace", "You are signed in")
	b.click(`header form[action="/sign-out"] button`)
	b.want("/", "You are signed out.", "Create account")
	if text := b.text("body"); strings.Contains(text, "Ada") {
		t.Errorf("signed out, the page says:\n%s", text)
	}
	b.click(`main a[href="/sign-in"]`)
	b.atProvider("/sign-in") // it has signed out there too
}

func signInByPassword(t *testing.T, chromium context.Context, s *site) {
	b := newBrowser(t, chromium, s, desktop)
	b.open("/protected/sessions")
	b.atProvider("/sign-in")
	b.fill("username", "ada")
	b.fill("password", "wrong")
	b.load(422, chromedp.Click(chromedp.CSS("form:not(.accounts) button")))
	b.atProvider("/sign-in")
	if problem := b.text(`[role="alert"]`); !strings.Contains(problem, "Wrong username or password.") {
		t.Errorf("after a wrong password the page says %q", problem)
	}
	b.fill("password", "analytical")
	b.click("form:not(.accounts) button")
	b.want("/protected/sessions", "Ada Lovelace")
}

func signUp(t *testing.T, chromium context.Context, s *site) {
	b := newBrowser(t, chromium, s, desktop)
	b.open("/")
	b.click(`main a[href="/sign-up"]`)
	b.atProvider("/register")
	b.fill("username", "mary")
	b.fill("name", "Mary <b>Jackson</b> & Co")
	b.fill("email", "mary@example.com")
	b.fill("password", "windtunnel")
	b.click("form button")
	b.want("/", "Hello, Mary <b>Jackson</b> & Co")
	b.open("/protected/sessions")
	b.want("/protected/sessions", "Mary <b>Jackson</b> & Co")
}

func sessions(t *testing.T, chromium context.Context, s *site) {
	here, there, third := newBrowser(t, chromium, s, desktop), newBrowser(t, chromium, s, desktop), newBrowser(t, chromium, s, desktop)
	for _, b := range []*tab{here, there, third} {
		b.signIn("ada")
	}
	here.click(`nav a[href="/protected/sessions"]`)
	here.want("/protected/sessions", "This browser", "Chrome on Linux")
	if rows := here.count("table tbody tr"); rows != 3 {
		t.Fatalf("%d sessions, want 3", rows)
	}
	here.click(`table button[name="end"]`) // the one seen last: the third
	here.want("/protected/sessions")
	if rows := here.count("table tbody tr"); rows != 2 {
		t.Errorf("%d sessions, want 2", rows)
	}
	third.reload()
	third.want("/", "You were signed out from another browser.", "Create account")
	third.screenshot("told")
	third.reload()
	if text := third.text("body"); strings.Contains(text, "another browser") {
		t.Errorf("it is told twice:\n%s", text)
	}
	there.open("/protected/sessions")
	there.want("/protected/sessions", "This browser")

	here.click(`button[value="others"]`)
	here.want("/protected/sessions", "You’re not signed in anywhere else")
	there.open("/protected/sessions")
	there.choose("ada") // the provider still knows that browser, but is asked for a sign-in all the same
	there.want("/protected/sessions", "You were signed out from another browser.", "This browser")
}

func backAfterSignIn(t *testing.T, chromium context.Context, s *site) {
	b := newBrowser(t, chromium, s, desktop)
	b.signIn("ada")
	i := slices.IndexFunc(b.requested, func(address string) bool { return strings.HasPrefix(address, s.url+"/callback?") })
	if i < 0 {
		t.Fatalf("no callback among %q", b.requested)
	}
	callback := strings.TrimPrefix(b.requested[i], s.url)
	b.open(callback)
	b.want("/", "Hello, Ada Lovelace")
	b.open("/protected/sessions")
	b.back()
	b.want("/", "Hello, Ada Lovelace")

	// All the way back through the history: each entry is a page, and the first one knows who is signed in.
	for range within(b, chromedp.NavigationEntries()).CurrentIndex - 1 {
		b.back()
	}
	b.want("/", "Hello, Ada Lovelace")
}

func backAfterSignOut(t *testing.T, chromium context.Context, s *site) {
	b := newBrowser(t, chromium, s, desktop)
	b.signIn("ada")
	b.open("/protected/sessions")
	b.click(`header form[action="/sign-out"] button`)
	b.want("/", "Create account")
	b.back() // to the sessions, which is asked for anew
	b.atProvider("/sign-in")
	b.back() // to the home page as it was
	b.want("/", "Create account")
	if text := b.text("body"); strings.Contains(text, "Ada") {
		t.Errorf("after the sign-out, back shows:\n%s", text)
	}
}

func twoTabs(t *testing.T, chromium context.Context, s *site) {
	one := newBrowser(t, chromium, s, desktop)
	two := one.another()
	one.open("/protected/sessions")
	two.open("/protected/sessions?a=b")
	one.atProvider("/sign-in")
	two.choose("ada")
	two.want("/protected/sessions?a=b", "This browser")
	one.choose("ada")
	one.want("/protected/sessions", "This browser")

	one.click(`header form[action="/sign-out"] button`)
	two.open("/protected/sessions?a=b")
	two.atProvider("/sign-in")
}

func language(t *testing.T, chromium context.Context, s *site) {
	if _, err := os.Stat("../i18n/th"); err != nil {
		t.Skip("left out: Thai is gone")
	}
	thai := desktop
	thai.lang = "th,en"
	b := newBrowser(t, chromium, s, thai)
	b.open("/")
	if lang := b.lang(); lang != "th" {
		t.Errorf("the home page is in %q", lang)
	}
	b.click(`footer button[value="en"]`)
	b.want("/", "Sign in with Logto")
	b.click(`main a[href="/sign-in"]`)
	b.atProvider("/sign-in")
	if lang := b.lang(); lang != "en" {
		t.Errorf("the provider's page is in %q, after the person chose English here", lang)
	}
	b.choose("ada")
	b.want("/", "Hello, Ada Lovelace") // the choice stays
	b.open("/protected/sessions?a=b")
	b.click(`footer button[value="th"]`)
	b.want("/protected/sessions?a=b")
	if lang := b.lang(); lang != "th" {
		t.Errorf("the sessions page is in %q", lang)
	}
}

func keyboard(t *testing.T, chromium context.Context, s *site) {
	b := newBrowser(t, chromium, s, desktop)
	b.open("/")
	b.tabTo("Skip to content")
	within(b, chromedp.KeyEvent(kb.Enter))
	if id := within(b, chromedp.Evaluate[string]("document.activeElement.id")); id != "main" {
		t.Errorf("the skip link leads to %q", id)
	}
	b.tabTo("Sign in")
	b.load(200, chromedp.KeyEvent(kb.Enter))
	b.tabTo("Ada Lovelace")
	b.load(200, chromedp.KeyEvent(kb.Enter))
	b.want("/", "Hello, Ada Lovelace")
	b.tabTo("Sessions")
	b.load(200, chromedp.KeyEvent(kb.Enter))
	b.want("/protected/sessions")
	b.tabTo("Sign out")
	b.load(200, chromedp.KeyEvent(kb.Enter))
	b.want("/", "Create account")
}

// tabTo presses Tab until something with this label has the focus. One must see where the focus is, at each step.
func (b *tab) tabTo(label string) {
	b.t.Helper()
	var passed []string
	for range 60 {
		within(b, chromedp.KeyEvent(kb.Tab))
		focus := within(b, chromedp.Evaluate[struct {
			Label  string
			Inside bool // of the window
			Ring   bool
		}](focusScript))
		if focus.Label != "" && (!focus.Inside || !focus.Ring) {
			b.t.Errorf("%s: the focus on %q can't be seen: %+v", b.where(), focus.Label, focus)
		}
		if strings.Contains(focus.Label, label) {
			return
		}
		passed = append(passed, focus.Label)
	}
	b.t.Fatalf("%s: Tab never comes to %q, but to %q", b.where(), label, passed)
}

const focusScript = `(() => {
	const e = document.activeElement
	if (!e || e === document.body) return {Label: "", Inside: false, Ring: false}
	const style = getComputedStyle(e), box = e.getBoundingClientRect()
	return {
		Label: (e.innerText || e.name || e.getAttribute("aria-label") || e.tagName).trim(),
		Inside: box.width > 0 && box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth,
		Ring: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2,
	}
})()`
