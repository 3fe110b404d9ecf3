//go:build unix

package e2e

import (
	"bytes"
	"context"
	"flag"
	"image/png"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// TestDemoAccess is what the demo shows of guards, organizations, and the ways into sign-in: to ada, who may do everything, and
// to grace, who may do next to nothing.
func TestDemoAccess(t *testing.T) {
	heavy(t)
	needPage(t, "access")
	t.Parallel()
	chromium, s := startChromium(t), startDemo(t)
	for name, run := range map[string]func(*testing.T, context.Context, *site){
		"administrator": administrator, "nobody in particular": nobodyInParticular, "continue with Google": continueWithGoogle,
		"magic link": magicLink, "account and step-up": ownAccount,
	} {
		t.Run(name, func(t *testing.T) { run(t, chromium, s) })
	}
}

// startDemo starts the demo as somebody who types its command.
func startDemo(t *testing.T) *site {
	t.Helper()
	app, provider := freeAddress(t), freeAddress(t)
	demo := exec.Command(build(t, "demo"), "-app", app, "-provider", provider)
	demo.Env = []string{}
	endWithTest(demo)
	must(t, demo.Start())
	t.Cleanup(func() { _ = demo.Process.Kill(); _ = demo.Wait() })
	eventually(t, "the demo serves", func() bool {
		status, err := get(t.Context(), "http://"+app+"/readyz")
		return err == nil && status == http.StatusOK
	})
	return &site{url: "http://" + app, provider: "http://" + provider}
}

var writeScreenshot = flag.Bool("screenshot", false, "TestScreenshot: write the README's picture")

// TestScreenshot makes the README's picture: user info, as the demo shows it. After a change of looks:
//
//	go test ./internal/e2e -run TestScreenshot -screenshot
func TestScreenshot(t *testing.T) {
	heavy(t)
	needPage(t, "userinfo")
	t.Parallel()
	b := newBrowser(t, startChromium(t), startDemo(t), mode{width: 1200, lang: "en"})
	b.signIn("ada")
	b.open("/protected/userinfo")
	within(b, chromedp.EmulateViewport(b.mode.width, 620))
	picture := within(b, chromedp.CaptureScreenshot())
	if *writeScreenshot {
		must(t, os.WriteFile("../../demo/screenshot.png", picture, 0o644))
	}
	if size, err := png.DecodeConfig(bytes.NewReader(picture)); err != nil || size.Width != 1200 || size.Height != 620 || len(picture) > 200_000 {
		t.Errorf("%d bytes, %+v, %v", len(picture), size, err)
	}
}

// try opens one of the guarded pages.
func (b *tab) try(guard string, status int64) {
	b.t.Helper()
	b.open("/protected/access")
	b.load(status, chromedp.Click(chromedp.CSS(`a[href="/protected/access/`+guard+`"]`)))
}

// switchTo takes an organization from the menu in the header.
func (b *tab) switchTo(name string) {
	b.t.Helper()
	within(b, chromedp.Click(chromedp.CSS("header summary")))
	b.check("menu")
	b.screenshot("menu-" + name)
	within(b, chromedp.Evaluate[chromedp.Void](`[...document.querySelectorAll("header option")].find(o => o.text === "`+name+`").selected = true`))
	b.click("header .switcher button")
	if shown := b.text("header .person-name"); !strings.Contains(shown, name) && name != "None" {
		b.t.Errorf("after the switch to %s the header says %q", name, shown)
	}
}

const passed = "You passed this guard"

func administrator(t *testing.T, chromium context.Context, s *site) {
	b := newBrowser(t, chromium, s, desktop)
	b.signIn("ada")
	for _, guard := range []string{"role", "permission"} {
		b.try(guard, 200)
		b.want("/protected/access/"+guard, passed)
	}
	b.try("organization", 403)
	b.want("/protected/access/organization", "Choose an organization")
	b.screenshot("forbidden-organization")
	b.load(403, chromedp.Click(chromedp.CSS("main .switcher button"))) // none is chosen
	b.want("/protected/access/organization", "Choose an organization")
}

func nobodyInParticular(t *testing.T, chromium context.Context, s *site) {
	narrow := desktop
	narrow.width = 375
	b := newBrowser(t, chromium, s, narrow)
	b.signIn("grace")
	b.open("/protected/access")
	b.screenshot("access-grace")
	b.check("access")
	b.try("role", 403)
	b.want("/protected/access/role", "You don’t have access to this page", "admin", "Ask an administrator")
	b.screenshot("forbidden-role")
	b.check("forbidden")
	b.try("permission", 403)
	b.want("/protected/access/permission", "You lack a permission", "write:products", "Sign in again")
	b.open("/protected/access")
	b.switchTo("Acme")
	b.try("organization", 200)
	b.want("/protected/access/organization", passed)
	b.try("organization-role", 403)
	b.want("/protected/access/organization-role", "You don’t have access in this organization")
	b.check("forbidden in an organization")
	b.try("mfa", 403) // she has no second factor
	if !strings.Contains(b.text("main"), "A second factor is needed") {
		t.Errorf("%s says %s", b.where(), b.text("main"))
	}
}

func continueWithGoogle(t *testing.T, chromium context.Context, s *site) {
	b := newBrowser(t, chromium, s, desktop)
	b.open("/")
	b.screenshot("home-direct")
	b.click(`main a[href*="direct=social%3agoogle"]`)
	b.atProvider("/direct/social/google")
	b.screenshot("provider-google")
	b.click(`button[value="ada"]`)
	b.want("/", "Hello, Ada Lovelace")
}

func magicLink(t *testing.T, chromium context.Context, s *site) {
	b := newBrowser(t, chromium, s, desktop)
	b.load(200, chromedp.Navigate(s.provider+"/"))
	b.click("form[action='/magic-link'] button")
	b.click("a[href*='one_time_token=']")
	b.want("/", "Hello, Ada Lovelace")
}

func ownAccount(t *testing.T, chromium context.Context, s *site) {
	b := newBrowser(t, chromium, s, desktop)
	b.signIn("ada")
	within(b, chromedp.Click(chromedp.CSS("header summary")))
	b.screenshot("menu")
	b.click(`header a[href*="/account/"]`)
	b.atProvider("/account/security")
	b.screenshot("provider-account")

	// Step-up: within a minute of the sign-in there is nothing to ask; a second factor is asked for.
	b.try("recent", 200)
	b.try("mfa", 200)
	b.atProvider("/step-up")
	b.screenshot("provider-step-up")
	b.click("main form button")
	b.want("/protected/access/mfa", passed)

	b.switchTo("Initech")
	b.want("/protected/access/mfa", passed)
	b.try("organization-role", 403)
	b.switchTo("Acme")
	b.want("/protected/access/organization-role", passed) // the switch leads back to where one was
	b.screenshot("access-ada")
	within(b, chromedp.Click(chromedp.CSS("header summary")))
	b.click(`header a[href*="prompt=login"]`)
	b.atProvider("/sign-in")
	b.load(403, chromedp.Click(chromedp.CSS(`button[value="grace"]`))) // who may not see it
	b.want("/protected/access/organization-role", "Choose an organization")
}
