//go:build unix

package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/chromedp/chromedp"
	"github.com/gin-gonic/gin"

	"example.com/logto-gin-starter/auth"
	"example.com/logto-gin-starter/auth/authtest"
	"example.com/logto-gin-starter/internal/i18n"
	"example.com/logto-gin-starter/routes"
	"example.com/logto-gin-starter/static"
)

// TestLooks shows every page that there is, in each language, on screens of four widths, light and dark: what the application
// registers to nobody, to ada and to mallory, and what only comes about by doing something. A machine checks what it can, with
// axe-core where AXE_CORE names its axe.min.js; the screenshots are for people to look at.
func TestLooks(t *testing.T) {
	heavy(t)
	t.Parallel()
	t.Run("with axe-core", func(t *testing.T) { needAxe(t) })
	paths := paths(t)
	chromium := startChromium(t)
	messages, err := i18n.Load(i18n.Files())
	must(t, err)
	for _, lang := range messages.Languages() {
		t.Run(lang, func(t *testing.T) {
			redis, err := miniredis.Run()
			must(t, err)
			t.Cleanup(redis.Close)
			s := newSiteOn(t, "redis://"+redis.Addr(), everything)
			l := &looker{lang, paths, map[string]bool{}, map[string]bool{}}
			open := func() *tab { return newBrowser(t, chromium, s, mode{width: 1280, lang: lang}) }

			visitor := open()
			visitor.walk(l, "visitor")
			visitor.tour(func(page string) { l.look(visitor, page) })
			visitor.provider(l)
			for _, who := range []string{"ada", "mallory"} {
				b := open()
				b.open("/sign-in")
				b.choose(who)
				b.walk(l, who)
			}
			redis.SetError("LOADING Redis is loading the dataset in memory")
			visitor.load(503, chromedp.Navigate(s.url+"/protected/sessions"))
			l.look(visitor, "unavailable")
			for file, title := range titlesOf(t, messages, lang) {
				if !l.titles[title] {
					t.Errorf("%s was not shown: register a GET route that shows it, or show it in tour", file)
				}
			}
		})
	}
	t.Run("without script", func(t *testing.T) {
		b := newBrowser(t, chromium, newSite(t), mode{width: 1280, lang: "en", noScript: true})
		b.tour(b.check)
	})
}

// everything is a provider with all that it can do, and with somebody whose data look like markup, and are long.
func everything(o *authtest.Options) {
	const markup = `<u class="injected">Mallory</u> &amp; {{.}} `
	long := markup + strings.Repeat("Wolfeschlegelsteinhausen", 4) + " مالوري"
	o.StepUp, o.AccountCenter = true, true
	o.Connectors = []authtest.Connector{{Method: "social", Target: "github", Name: "GitHub"}}
	o.Users[0].MFA = true
	o.Users = append(o.Users, authtest.User{
		Username: "mallory", Password: "trustno1", Name: long, Email: "mallory@example.com", Roles: []string{"merchant"}, MFA: true,
		Profile:    map[string]any{"nickname": markup, "website": "javascript:alert(1)", "address": map[string]any{"formatted": long}},
		CustomData: map[string]any{markup: []any{long, markup}}, Identities: map[string]any{markup: map[string]any{"userId": long}},
	})
	o.Organizations = append(o.Organizations, authtest.Organization{
		ID: "malloryscorp3", Name: long, Description: markup, Members: map[string][]string{"mallory": {}},
	})
}

// opened is where routes are opened that have parameters; "" are routes without a page. Any other GET route is opened as it is.
var opened = map[string]string{"/static/*name": "", "/healthz": "", "/readyz": "", "/callback": "/callback?state=unknown&code=x&iss=y"}

// paths returns where the application's GET routes are opened. Everything under /api/ speaks JSON only.
func paths(t *testing.T) (all []string) {
	t.Helper()
	client, err := auth.New(auth.Config{Endpoint: "https://logto.example", AppID: "app", AppSecret: "secret"})
	must(t, err)
	t.Cleanup(client.Close)
	assets, err := static.New(static.Files())
	must(t, err)
	for _, route := range routes.New(routes.App{Auth: client, Static: assets, BaseURL: "http://localhost:3000"}).(*gin.Engine).Routes() {
		path, listed := opened[route.Path]
		switch {
		case route.Method != http.MethodGet || strings.HasPrefix(route.Path, "/api/") || listed && path == "":
		case listed:
			all = append(all, path)
		case strings.ContainsAny(route.Path, ":*"):
			t.Errorf("GET %s has a parameter: add a line %q: %q to opened, with a path that shows the page", route.Path, route.Path, "/…")
		default:
			all = append(all, route.Path)
		}
	}
	slices.Sort(all)
	return all
}

// walk goes to every page that is registered, as who the browser is signed in as.
func (b *tab) walk(l *looker, who string) {
	b.t.Helper()
	for _, path := range l.paths {
		response := b.visit(chromedp.Navigate(b.site.url + path))
		if response.Status >= 500 || response.MimeType != "text/html" {
			b.t.Errorf("GET %s answers %s with %d and %s: if it is no page, add a line %q: \"\" to opened", path, who, response.Status, response.MimeType, path)
			continue
		}
		at, _, _ := strings.Cut(b.where(), "?")
		if key := who + at + within(b, chromedp.Title()); !l.seen[key] { // several lead to the sign-in page
			l.seen[key] = true
			l.look(b, who+strings.ReplaceAll(path, "/", "-"))
		}
	}
}

// titlesOf returns the title of each page's template, by its file. That of an error is computed.
func titlesOf(t *testing.T, messages *i18n.Catalog, lang string) map[string]string {
	t.Helper()
	files, err := filepath.Glob("../../templates/pages/*.html")
	must(t, err)
	titles := map[string]string{}
	for _, file := range files {
		html, err := os.ReadFile(file)
		must(t, err)
		key := regexp.MustCompile(`\[\[define "title"]]\[\[t "([^"]*)"]]\[\[end]]`).FindSubmatch(html)
		switch {
		case key != nil:
			titles[file] = messages.Text(lang, string(key[1])) + " · " + messages.Text(lang, "app.name")
		case filepath.Base(file) != "error.html":
			t.Errorf("%s: no title of the form [[define \"title\"]][[t \"…\"]][[end]]", file)
		}
	}
	return titles
}

// tour goes to the pages that come about by doing something.
func (b *tab) tour(at func(page string)) {
	b.t.Helper()
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
	if hasPage("userinfo") {
		b.site.logto.On(authtest.UserInfo, authtest.Status(503)).Times(1)
		b.load(502, chromedp.Navigate(b.site.url+"/protected/userinfo"))
		at("not-loaded")
		b.site.logto.Edit("ada", func(user *authtest.User) { user.Name = "Ada King" }) // userinfo differs from the ID token
		b.open("/protected/userinfo")
		at("userinfo")
	}
	if hasPage("tokens") {
		b.open("/protected/tokens")
		b.click(`form:has([name="organization"]) button`)
		at("tokens")
	}
	must(b.t, newPerson(b.t, b.site.url, b.site.logto).signIn(b.t.Context(), "ada"))
	b.open("/protected/sessions") // here, and in a browser that nobody knows
	at("sessions")
	b.click(`button[value="others"]`)
	at("sessions-told")
	within(b, chromedp.Click(chromedp.CSS("header summary")))
	at("menu")
	if hasPage("access") {
		b.load(403, chromedp.Navigate(b.site.url+"/protected/access/organization"))
		at("forbidden")
	}
	b.open("/sign-out")
	at("sign-out")
	b.site.logto.On(authtest.Revocation, authtest.Reset).Times(1)
	b.click(`main form[action="/sign-out"] button`)
	b.want("/sign-out")
	at("signed-out-here")
	b.click(`main form[action="/sign-out"] button`) // once more, with Logto: which asks, for want of an ID token
	b.atProvider("/oidc/session/end")
	at("provider-end-session")
	b.click("main button")
	b.want("/")
	at("home-told")
	if b.count(`main a[href="/sign-in"]`) != 1 {
		b.t.Errorf("still signed in after the tour:\n%s", b.text("main"))
	}
}

// provider goes to those of the provider's pages that nothing else leads to. Nobody is signed in.
func (b *tab) provider(l *looker) {
	b.t.Helper()
	at := func(page string) { b.t.Helper(); l.look(b, "provider-"+page) }
	press := func(status int64, button string, fields ...string) {
		b.t.Helper()
		for pair := range slices.Chunk(fields, 2) {
			b.fill(pair[0], pair[1])
		}
		b.load(status, chromedp.Click(chromedp.CSS(button)))
	}
	b.load(400, chromedp.Navigate(b.site.provider+"/sign-in?interaction=gone"))
	at("expired")
	b.open("/sign-in")
	press(422, "form:not(.accounts) button", "username", "ada", "password", "wrong")
	at("sign-in-refused")
	b.open("/sign-up")
	press(422, "form button", "username", "ada", "password", "long enough")
	at("register-refused")
	b.click(`a[href^="/direct/"]`)
	at("connector")
	b.load(422, chromedp.Navigate(b.site.url+"/sign-in?one_time_token=unknown&email=ada@example.com"))
	at("bad-link")
	b.load(200, chromedp.Navigate(b.site.provider+"/"))
	at("start")
	press(200, "form button")
	at("link")
	b.click("main .link a")
	b.want("/")
	b.load(200, chromedp.Navigate(b.site.provider+"/account/profile"))
	at("profile")
	b.load(200, chromedp.Navigate(b.site.provider+"/account/security"))
	at("security")
	press(422, "form button", "current", "wrong", "password", "long enough")
	at("security-refused")
}

// looker looks at pages in one language.
type looker struct {
	lang   string
	paths  []string        // of GET routes
	seen   map[string]bool // by whom, and what: path and title
	titles map[string]bool // of all pages
}

// look checks a page on every screen.
func (l *looker) look(b *tab, page string) {
	b.t.Helper()
	l.titles[within(b, chromedp.Title())] = true
	b.weigh(page)
	faults := map[string][]string{} // and where
	for _, dark := range []bool{false, true} {
		for _, width := range []int64{1280, 768, 375, 320} {
			b.mode.width, b.mode.dark = width, dark
			within(b, chromedp.EmulateViewport(width, 900))
			within(b, chromedp.Func(b.mode.emulate))
			screen := fmt.Sprintf("%d-%s", width, b.mode.scheme())
			for _, fault := range b.faults() {
				faults[fault] = append(faults[fault], screen)
			}
			b.screenshot(page + "-" + l.lang + "-" + screen)
		}
	}
	for fault, screens := range faults {
		b.t.Errorf("%s (%s) %s: %s", page, b.where(), screens, fault)
	}
}

// weigh wants a page to be light: what it says and how it looks, in few requests.
func (b *tab) weigh(page string) {
	b.t.Helper()
	if weight := within(b, chromedp.Evaluate[weight](weighScript)); len(weight.Requests) > 4 || weight.Bytes >= 50_000 {
		b.t.Errorf("%s takes %d bytes, and the requests %q", page, weight.Bytes, weight.Requests)
	}
}

type weight struct {
	Requests []string
	Bytes    int
}

const weighScript = `(() => {
	const all = [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
	return {Requests: [...new Set(all.map(e => e.name))], Bytes: all.reduce((sum, e) => sum + e.encodedBodySize, 0)}
})()`

// check wants a page without faults.
func (b *tab) check(page string) {
	b.t.Helper()
	for _, fault := range b.faults() {
		b.t.Errorf("%s (%s): %s", page, b.where(), fault)
	}
}

// faults are what a machine finds wrong with a page's look.
func (b *tab) faults() []string {
	b.t.Helper()
	lang := b.mode.lang
	if strings.HasPrefix(b.where(), b.site.provider) && lang != "th" { // a fork's languages are not the provider's
		lang = "en"
	}
	own := within(b, chromedp.Evaluate[[]string](fmt.Sprintf(checkScript, b.mode.width, lang)))
	return append(own, b.axe()...)
}

// checkScript returns what is wrong. Markup that came out of data has the class "injected"; what ends to the right of the block that
// it is in is wrong, unless it is scrolled there.
const checkScript = `(() => {
	const faults = [], width = %d, lang = %q
	document.getAnimations().filter(a => a instanceof CSSTransition).forEach(a => a.finish()) // from light to dark
	const wrong = (is, fault) => is && faults.push(fault)
	wrong(document.scrollingElement.scrollWidth > width, "is " + document.scrollingElement.scrollWidth + " px wide")
	wrong(document.documentElement.lang !== lang, "is in " + document.documentElement.lang)
	wrong(document.querySelectorAll("h1").length !== 1, "has not one heading of the first order")
	wrong(!document.title, "has no title")
	wrong(document.querySelector(".injected"), "text became markup")
	wrong(/&(lt|#\d+);|<no value>|%%!/.test(document.body.innerText), "markup became text: " + document.body.innerText)
	for (const e of document.querySelectorAll("body *")) {
		const box = e.getBoundingClientRect(), holder = e.parentElement.getBoundingClientRect()
		const floats = getComputedStyle(e).position === "absolute" && box.left >= 0 && box.right <= innerWidth
		wrong(box.width > 1 && box.right > holder.right + 1 && !floats && !e.closest("pre") && e.checkVisibility(),
			"sticks out of what holds it: " + e.tagName + " " + e.textContent.slice(0, 40))
	}
	return faults
})()`

// needAxe returns the source of axe-core, an npm package that finds what keeps people with disabilities out of a page.
func needAxe(t *testing.T) string {
	t.Helper()
	path := os.Getenv("AXE_CORE")
	switch {
	case path == "" && os.Getenv("CI") == "true":
		t.Fatal("needs AXE_CORE, the path of an axe.min.js")
	case path == "":
		t.Skip("left out: needs AXE_CORE, the path of an axe.min.js")
	}
	source, err := os.ReadFile(path)
	must(t, err)
	return string(source)
}

// axe returns what axe-core finds: WCAG 2.2 up to AA, and what is best practice. Without it, nothing.
func (b *tab) axe() []string {
	b.t.Helper()
	if os.Getenv("AXE_CORE") == "" || b.mode.noScript {
		return nil
	}
	if !within(b, chromedp.Evaluate[bool]("'axe' in window")) {
		within(b, chromedp.Evaluate[chromedp.Void](needAxe(b.t)))
	}
	return within(b, chromedp.Evaluate[[]string](axeScript, chromedp.EvalAwaitPromise))
}

const axeScript = `axe.run({
	runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"], resultTypes: ["violations"], preload: false,
}).then(result => result.violations.flatMap(v => v.nodes.map(n => v.id + ": " + n.target + ": " + n.failureSummary)))`
