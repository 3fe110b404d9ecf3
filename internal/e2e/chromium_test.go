//go:build unix

package e2e

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/audits"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// startChromium starts one, with a new and empty profile, that asks for nothing by itself.
func startChromium(t *testing.T, more ...chromedp.ExecAllocatorOption) context.Context {
	t.Helper()
	path := need(t, "chromium", "chromium-browser", "google-chrome", "chrome")
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]),
		chromedp.ExecPath(path),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("no-sandbox", os.Geteuid() == 0), // it refuses to have one for root
	)
	ctx, stop := chromedp.NewExecAllocator(t.Context(), append(options, more...)...)
	t.Cleanup(stop)
	ctx, stop = chromedp.NewContext(ctx)
	t.Cleanup(stop)
	must(t, chromedp.Do(ctx))
	return ctx
}

// mode is what a person's browser is like.
type mode struct {
	width    int64
	dark     bool
	lang     string // Accept-Language
	noScript bool
}

var desktop = mode{width: 1280, lang: "en"}

// tab is one of a browser, on a site. It notes what the browser complains about.
type tab struct {
	t    *testing.T
	ctx  context.Context
	site *site
	mode mode

	mu         sync.Mutex
	complaints []string
	requested  []string // addresses
	isForeign  bool     // the page is a real Logto's, whose faults are not ours
}

// newBrowser opens a tab of a browser that shares nothing with others.
func newBrowser(t *testing.T, chromium context.Context, s *site, m mode) *tab {
	t.Helper()
	return openTab(t, chromium, s, m, chromedp.WithNewBrowserContext())
}

// another opens another tab of the same browser.
func (b *tab) another() *tab {
	b.t.Helper()
	return openTab(b.t, b.ctx, b.site, b.mode)
}

func openTab(t *testing.T, parent context.Context, s *site, m mode, options ...chromedp.ContextOption) *tab {
	t.Helper()
	b := &tab{t: t, site: s, mode: m}
	ctx, closeTab := chromedp.NewContext(parent, append(options, chromedp.WithListener(b.listen))...)
	t.Cleanup(closeTab)
	b.ctx = ctx
	must(t, chromedp.Do(ctx, chromedp.EmulateViewport(m.width, 900), chromedp.Func(m.emulate)))
	return b
}

func (m mode) scheme() string { return map[bool]string{false: "light", true: "dark"}[m.dark] }

func (m mode) emulate(ctx context.Context, target *chromedp.Target) error {
	calls := []func() error{
		func() error {
			_, err := cdp.Call(ctx, target, audits.Enable, cdp.Empty{})
			return err
		},
		func() error {
			_, err := cdp.Call(ctx, target, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
				Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: m.scheme()}},
			})
			return err
		},
		func() error {
			_, err := cdp.Call(ctx, target, emulation.SetUserAgentOverride, emulation.SetUserAgentOverrideParams{
				UserAgent:      "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/150.0.0.0 Safari/537.36",
				AcceptLanguage: m.lang,
			})
			return err
		},
		func() error {
			_, err := cdp.Call(ctx, target, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: m.noScript})
			return err
		},
	}
	for _, call := range calls {
		if err := call(); err != nil {
			return err
		}
	}
	return nil
}

// listen notes complaints: of the console, of what Chromium calls issues, and requests to anybody else.
func (b *tab) listen(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	complain := func(format string, args ...any) {
		if !b.isForeign {
			b.complaints = append(b.complaints, fmt.Sprintf(format, args...))
		}
	}
	switch e := event.(type) {
	case *log.EventEntryAdded:
		isFault := e.Entry.Level == log.EntryLevelWarning || e.Entry.Level == log.EntryLevelError
		if strings.HasSuffix(e.Entry.URL, "/favicon.ico") { // asked for where a page of JSON can't name an icon
			isFault = false
		}
		if isFault && !strings.Contains(e.Entry.Text, "ERR_NETWORK_CHANGED") { // the machine's doing, not the page's
			complain("%s: %s (%s)", e.Entry.Level, e.Entry.Text, e.Entry.URL)
		}
	case *runtime.EventConsoleAPICalled:
		complain("console: %s", e.Type)
	case *runtime.EventExceptionThrown:
		complain("exception: %s", e.ExceptionDetails.Text)
	case *audits.EventIssueAdded:
		// To sign in means to be sent away and back, which looks like tracking.
		if e.Issue.Code != audits.InspectorIssueCodeBounceTrackingIssue {
			complain("issue: %s", e.Issue.Code)
		}
	case *network.EventRequestWillBeSent:
		b.requested = append(b.requested, e.Request.URL)
		if e.Type == network.ResourceTypeDocument {
			b.isForeign = b.site.logto == nil && !strings.HasPrefix(e.Request.URL, b.site.url+"/")
		}
		if address := e.Request.URL; !strings.HasPrefix(address, b.site.url+"/") && !strings.HasPrefix(address, b.site.provider+"/") {
			complain("request to %s", address)
		}
	}
}

// within runs something in the tab, within bounds.
func within[T any](b *tab, action chromedp.Action[T]) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	value, err := chromedp.Run(ctx, action)
	if err != nil {
		b.t.Fatalf("at %s: %v", b.where(), err)
	}
	return value
}

// load does something that loads a page, and wants that page to come with a status and without complaints.
func (b *tab) load(status int64, action chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if response := b.visit(action); response != nil && response.Status != status {
		b.t.Errorf("%s: %d, want %d", response.URL, response.Status, status)
	}
}

// visit does the same, whatever the status is. There is no response if the page was there already.
func (b *tab) visit(action chromedp.Action[chromedp.Void]) *network.Response {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	response, err := chromedp.RunResponse(ctx, action)
	if err != nil {
		b.t.Fatalf("from %s: %v", b.where(), err)
	}
	b.mu.Lock()
	complaints := b.complaints
	b.complaints = nil
	b.mu.Unlock()
	for _, complaint := range complaints {
		if response == nil || response.Status < 400 || !strings.Contains(complaint, fmt.Sprintf("responded with a status of %d", response.Status)) {
			b.t.Errorf("on the way to %s: %s", b.where(), complaint)
		}
	}
	return response
}

// open goes to a path of the application.
func (b *tab) open(path string) { b.t.Helper(); b.load(200, chromedp.Navigate(b.site.url+path)) }

// click clicks what a CSS selector finds and waits for the page to which that leads.
func (b *tab) click(selector string) {
	b.t.Helper()
	b.load(200, chromedp.Click(chromedp.CSS(selector)))
}

func (b *tab) reload() { b.t.Helper(); b.load(200, chromedp.Reload()) }

// back presses the browser's button. The page may come from the network or out of the browser's memory.
func (b *tab) back() {
	b.t.Helper()
	before := within(b, chromedp.NavigationEntries()).CurrentIndex
	within(b, chromedp.Evaluate[chromedp.Void]("history.back()"))
	eventually(b.t, "back from "+b.where(), func() bool {
		return within(b, chromedp.NavigationEntries()).CurrentIndex == before-1 &&
			within(b, chromedp.Evaluate[string]("document.readyState")) == "complete"
	})
}

// fill types into a field.
func (b *tab) fill(name, text string) {
	b.t.Helper()
	within(b, chromedp.SendKeys(chromedp.CSS(`[name="`+name+`"]`), text))
}

// where is the path at which the tab is, after the application's address, or the whole address elsewhere; without a fragment.
func (b *tab) where() string {
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	address, err := chromedp.Run(ctx, chromedp.Location())
	if err != nil {
		return err.Error()
	}
	address, _, _ = strings.Cut(address, "#")
	return strings.TrimPrefix(address, b.site.url)
}

// text is what the page says, or the part of it that a CSS selector finds first.
func (b *tab) text(selector string) string {
	b.t.Helper()
	return within(b, chromedp.Evaluate[string](fmt.Sprintf("document.querySelector(%q)?.innerText ?? ''", selector)))
}

// count is how many parts a CSS selector finds.
func (b *tab) count(selector string) int {
	b.t.Helper()
	return within(b, chromedp.Evaluate[int](fmt.Sprintf("document.querySelectorAll(%q).length", selector)))
}

// lang is the language that the page says it is in.
func (b *tab) lang() string {
	b.t.Helper()
	return within(b, chromedp.Evaluate[string]("document.documentElement.lang"))
}

// want wants the page at a path, with texts on it.
func (b *tab) want(path string, texts ...string) {
	b.t.Helper()
	if at := b.where(); at != path {
		b.t.Fatalf("at %s, want %s:\n%s", at, path, b.text("body"))
	}
	page := b.text("body")
	for _, text := range texts {
		if !strings.Contains(page, text) {
			b.t.Errorf("%s does not say %q:\n%s", path, text, page)
		}
	}
}

// atProvider wants the page to be one of the provider's.
func (b *tab) atProvider(path string) {
	b.t.Helper()
	at, err := url.Parse(b.where())
	if err != nil || "http://"+at.Host != b.site.provider || at.Path != path {
		b.t.Fatalf("at %s, want the provider's %s:\n%s", at, path, b.text("body"))
	}
}

// choose takes a ready account on the provider's sign-in page.
func (b *tab) choose(username string) {
	b.t.Helper()
	b.atProvider("/sign-in")
	b.click(`button[name="account"][value="` + username + `"]`)
}

// signIn signs in from the home page.
func (b *tab) signIn(username string) {
	b.t.Helper()
	b.open("/")
	b.click(`main a[href="/sign-in"]`)
	b.choose(username)
	b.want("/", "Hello, ")
}

// screenshot writes one of the whole page to the directory that E2E_SCREENSHOTS names, if it names one.
func (b *tab) screenshot(name string) {
	b.t.Helper()
	dir := os.Getenv("E2E_SCREENSHOTS")
	if dir == "" {
		return
	}
	must(b.t, os.MkdirAll(dir, 0o755))
	must(b.t, os.WriteFile(filepath.Join(dir, name+".png"), within(b, chromedp.FullScreenshot(100)), 0o644))
}
