//go:build unix

package e2e

import (
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// TestTokens is the page of tokens in a browser.
func TestTokens(t *testing.T) {
	heavy(t)
	needPage(t, "tokens")
	t.Parallel()
	chromium, s := startChromium(t), newSite(t)
	secrets := newSecrets(s)
	b := newBrowser(t, chromium, s, desktop)
	b.signIn("ada")
	b.click(`nav a[href="/protected/tokens"]`)
	b.want("/protected/tokens", "https://shopping.your-app.com/api", "https://store.your-app.com/api", "acme00corp01")
	for _, field := range []string{`[value="https://shopping.your-app.com/api"]`, `[value="acme00corp01"]`} {
		row := `article:has(` + field + `)`
		b.click(row + ` button`)
		before := b.text(row + ` pre`)
		b.click(row + ` button:not([name])`)
		if after := b.text(row + ` pre`); after == before || !strings.Contains(before, `"exp"`) || !strings.Contains(after, `"exp"`) {
			t.Errorf("%s: asked for a new token, the page shows the claims %s, and before %s", field, after, before)
		}
		if b.count(row+":target") != 1 {
			t.Errorf("%s: after an action the page is at %s", field, b.where())
		}
		b.click(row + ` button[name="call"]`)
		if answer := b.text(row + ` h4 + pre`); !strings.Contains(answer, `"subject": "4dal0velace0"`) {
			t.Errorf("%s: the API answered %s", field, answer)
		}
	}
	secrets.addRequests(s.logto.Requests())
	secrets.wantNoneIn(t, "the page", within(b, chromedp.OuterHTML(chromedp.CSS("html"))))
}
