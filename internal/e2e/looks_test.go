//go:build unix

package e2e

import (
	"context"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"example.com/logto-gin-starter/auth/authtest"
)

// looks shows every page in every mode: no page scrolls sideways, each text can be read on its ground, each is in the
// person's language, and all of it works without JavaScript. The screenshots are for people to look at.
func looks(t *testing.T, chromium context.Context) {
	for _, test := range []struct {
		name string
		mode mode
	}{
		{"wide-light", desktop},
		{"wide-dark", mode{width: 1280, dark: true, lang: "en"}},
		{"375-light", mode{width: 375, lang: "en"}},
		{"375-dark-thai", mode{width: 375, dark: true, lang: "th"}},
		{"320-thai", mode{width: 320, lang: "th"}},
		{"320-dark", mode{width: 320, dark: true, lang: "en"}},
		{"without-script", mode{width: 1280, lang: "en", noScript: true}},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := newBrowser(t, chromium, newSite(t), test.mode)
			b.tour(func(page string) { b.look(page); b.screenshot(test.name + "-" + page) })
		})
	}
}

// tour goes to every page there is.
func (b *tab) tour(at func(page string)) {
	b.t.Helper()
	b.open("/")
	at("home")
	b.open("/sign-out")
	at("sign-out-nobody")
	b.load(404, chromedp.Navigate(b.site.url+"/nowhere"))
	at("not-found")
	b.load(400, chromedp.Navigate(b.site.url+"/callback?state=unknown&code=x&iss=y"))
	at("unknown-sign-in")
	b.open("/sign-up")
	at("provider-register")
	b.open("/sign-in")
	at("provider-sign-in")
	b.choose("ada")
	at("home-signed-in")
	b.site.logto.Edit("ada", func(user *authtest.User) { user.Name = "Ada King" }) // userinfo differs from the ID token
	b.open("/protected/userinfo")
	at("userinfo")
	b.open("/protected/tokens")
	b.click(`form:has([name="organization"]) button`)
	at("tokens")
	must(b.t, newPerson(b.t, b.site.url, b.site.logto).signIn(b.t.Context(), "ada"))
	b.open("/protected/sessions") // here, and in a browser that nobody knows
	at("sessions")
	b.open("/protected/access")
	within(b, chromedp.Click(chromedp.CSS("header summary")))
	at("access")
	b.load(403, chromedp.Navigate(b.site.url+"/protected/access/organization"))
	at("forbidden")
	b.open("/sign-out")
	at("sign-out")
	b.site.logto.On(authtest.Revocation, authtest.Reset).Times(1)
	b.click(`main form[action="/sign-out"] button`)
	b.want("/sign-out")
	at("signed-out-here")
	b.click(`main form[action="/sign-out"] button`) // once more, with Logto: which asks, for want of an ID token
	b.atProvider("/oidc/session/end")
	b.click("main button")
	b.want("/")
	at("home-told")
	if b.count(`main a[href="/sign-in"]`) != 1 {
		b.t.Errorf("still signed in after the tour:\n%s", b.text("main"))
	}
}

// look checks what a machine can check of a page's look.
func (b *tab) look(page string) {
	b.t.Helper()
	if wide := within(b, chromedp.Evaluate[int64]("document.scrollingElement.scrollWidth")); wide > b.mode.width {
		b.t.Errorf("%s is %d px wide on a screen of %d", page, wide, b.mode.width)
	}
	if out := within(b, chromedp.Evaluate[[]string](outsideScript)); len(out) > 0 {
		b.t.Errorf("%s, on a screen of %d, has parts that stick out of what holds them: %q", page, b.mode.width, out)
	}
	if lang := b.lang(); lang != b.mode.lang {
		b.t.Errorf("%s is in %q, want %q", page, lang, b.mode.lang)
	}
	if headings := b.count("h1"); headings != 1 {
		b.t.Errorf("%s has %d headings of the first order", page, headings)
	}
	if faint := within(b, chromedp.Evaluate[[]string](contrastScript)); len(faint) > 0 {
		b.t.Errorf("%s has texts with too little contrast (WCAG 2.2, 1.4.3):\n%s", page, strings.Join(faint, "\n"))
	}
}

// outsideScript returns what ends to the right of the block that it is in, and is not scrolled there.
const outsideScript = `[...document.querySelectorAll("body *")].filter(e => {
	const box = e.getBoundingClientRect(), holder = e.parentElement.getBoundingClientRect()
	const floats = getComputedStyle(e).position === "absolute" && box.left >= 0 && box.right <= innerWidth
	return box.width > 1 && box.right > holder.right + 1 && !floats && !e.closest("pre") && e.checkVisibility()
}).map(e => e.tagName + " " + (e.name || e.innerText || "").slice(0, 40))`

// contrastScript returns the texts whose contrast with their ground is below 4.5, or 3 for large ones.
const contrastScript = `(() => {
	const pixel = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true})
	const rgba = colour => {
		pixel.clearRect(0, 0, 1, 1)
		pixel.fillStyle = colour
		pixel.fillRect(0, 0, 1, 1)
		return pixel.getImageData(0, 0, 1, 1).data
	}
	const over = (top, ground) => [0, 1, 2].map(i => top[i] * top[3] / 255 + ground[i] * (1 - top[3] / 255))
	const ground = e => {
		const layers = []
		for (; e; e = e.parentElement) layers.unshift(rgba(getComputedStyle(e).backgroundColor))
		const dark = matchMedia("(prefers-color-scheme: dark)").matches
		return layers.reduce((below, layer) => over(layer, below), dark ? [18, 18, 18] : [255, 255, 255])
	}
	const light = colour => colour.map(c => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
		.reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0)
	const faint = new Set()
	const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
	while (texts.nextNode()) {
		const e = texts.currentNode.parentElement, style = getComputedStyle(e)
		if (!texts.currentNode.data.trim() || !e.checkVisibility({visibilityProperty: true})) continue
		const below = ground(e), [a, b] = [light(over(rgba(style.color), below)), light(below)]
		const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)
		const size = parseFloat(style.fontSize), large = size >= 24 || size >= 18.66 && style.fontWeight >= 700
		if (contrast < (large ? 3 : 4.5)) faint.add(contrast.toFixed(2) + " " + texts.currentNode.data.trim())
	}
	return [...faint]
})()`
