//go:build unix

package e2e

import (
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// TestUserInfo is the page of user info in a browser.
func TestUserInfo(t *testing.T) {
	heavy(t)
	needPage(t, "userinfo")
	t.Parallel()
	chromium, s := startChromium(t), newSite(t)
	b := newBrowser(t, chromium, s, desktop)
	b.signIn("ada")
	b.click(`nav a[href="/protected/userinfo"]`)
	b.want("/protected/userinfo")
	rows := map[string]string{}
	for _, row := range within(b, chromedp.Evaluate[[]string](`[...document.querySelectorAll("table tbody tr")].map(tr => tr.cells[0].textContent + "\t" + tr.cells[1].textContent)`)) {
		name, rest, _ := strings.Cut(row, "\t")
		rows[strings.TrimSpace(name)] = rest
	}
	const both, onlyUserInfo = "", "Userinfo only" // what needs no word has none
	for name, want := range map[string]struct{ value, origin string }{
		"sub":                   {"4dal0velace0", both},
		"email":                 {"ada@example.com", both},
		"email_verified":        {"Yes", both},
		"phone_number":          {"66812345678", both},
		"phone_number_verified": {"Yes", both},
		"roles":                 {"merchant", both},
		"created_at":            {"2026", both},
		"custom_data":           {`"theme": "dark"`, onlyUserInfo},
		"identities":            {`"github"`, onlyUserInfo},
		"organization_data":     {"Everything, delivered by rocket", onlyUserInfo},
	} {
		if row := rows[name]; !strings.Contains(row, want.value) || !strings.HasSuffix(row, want.origin) || want.origin == both && strings.Contains(row, "only") {
			t.Errorf("%s: %q, want %q, found in %q", name, row, want.value, want.origin)
		}
	}
	if loaded := within(b, chromedp.Evaluate[bool](`[...document.images].every(i => i.complete && i.naturalWidth > 0)`)); !loaded {
		t.Error("a picture is missing")
	}

	g := newBrowser(t, chromium, s, desktop)
	g.signIn("grace") // about whom next to nothing is known
	g.open("/protected/userinfo")
	g.want("/protected/userinfo", "Requested, but not set in Logto.")
}
