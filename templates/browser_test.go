package templates_test

import (
	"context"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"example.com/logto-gin-starter/static"
	"example.com/logto-gin-starter/templates"
)

// No page scrolls sideways, on whatever screen and whatever text it must show.
func TestNoSidewaysScroll(t *testing.T) {
	set, messages := parse(t)
	ctx := browser(t)
	for _, text := range []string{strings.Repeat("unbreakable", 30), strings.Repeat("ข้อความที่ไม่มีช่องว่าง", 15)} {
		all := samples(text)
		site := serve(t, set, all)
		for _, name := range slices.Sorted(maps.Keys(all)) {
			for _, lang := range messages.Languages() {
				if err := chromedp.Do(ctx, chromedp.Navigate(site+"/page/"+lang+"/"+url.PathEscape(name))); err != nil {
					t.Fatal(err)
				}
				for _, width := range []int64{320, 375, 740, 1280} {
					if wide := widthOn(t, ctx, width); wide > width {
						t.Errorf("%s in %s is %d px wide on a screen of %d", name, lang, wide, width)
					}
				}
			}
		}
	}
}

// widthOn returns how wide the page is that the browser shows, on a screen of this width.
func widthOn(t *testing.T, ctx context.Context, screen int64) int64 {
	t.Helper()
	if err := chromedp.Do(ctx, chromedp.EmulateViewport(screen, 800)); err != nil {
		t.Fatal(err)
	}
	wide, err := chromedp.Run(ctx, chromedp.Evaluate[int64]("document.scrollingElement.scrollWidth"))
	if err != nil {
		t.Fatal(err)
	}
	return wide
}

// browser starts Chromium for this test.
func browser(t *testing.T) context.Context {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" && os.Getenv("CI") != "true" {
		t.Skip("left out: needs Chromium")
	}
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]), chromedp.ExecPath(path), chromedp.NoSandbox)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	ctx, stop := chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(stop)
	ctx, closeTab := chromedp.NewContext(ctx)
	t.Cleanup(closeTab)
	return ctx
}

// serve gives each sample an address, /page/<language>/<name>, under the application's Content-Security-Policy.
func serve(t *testing.T, set templates.Set, all map[string]sample) string {
	t.Helper()
	assets, err := static.New(static.Files())
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /static/", assets)
	mux.HandleFunc("GET /page/{lang}/{name}", func(w http.ResponseWriter, r *http.Request) {
		s, ok := all[r.PathValue("name")]
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; img-src 'self' https:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
		_, _ = w.Write([]byte(s.render(t, set, r.PathValue("lang"))))
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.URL
}
