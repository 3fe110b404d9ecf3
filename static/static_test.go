package static_test

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"

	"example.com/logto-gin-starter/static"
)

func get(t *testing.T, a *static.Assets, method, path, encoding string) *http.Response {
	t.Helper()
	r := httptest.NewRequest(method, "/", nil)
	r.URL.Path = path
	r.Header.Set("Accept-Encoding", encoding)
	w := httptest.NewRecorder()
	a.ServeHTTP(w, r)
	return w.Result()
}

func load(t *testing.T) *static.Assets {
	t.Helper()
	a, err := static.New(static.Files())
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func body(t *testing.T, r io.Reader) string {
	t.Helper()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestServe(t *testing.T) {
	a := load(t)
	for name, contentType := range map[string]string{
		"app.css":              "text/css; charset=utf-8",
		"favicon.svg":          "image/svg+xml",
		"apple-touch-icon.png": "image/png",
	} {
		res := get(t, a, http.MethodGet, a.URL(name), "")
		if res.StatusCode != http.StatusOK || body(t, res.Body) == "" {
			t.Errorf("%s: status %d, or nothing in it", name, res.StatusCode)
		}
		for header, want := range map[string]string{
			"Content-Type":     contentType,
			"Cache-Control":    "public, max-age=31536000, immutable",
			"Content-Encoding": "",
		} {
			if got := res.Header.Get(header); got != want {
				t.Errorf("%s: %s %q, want %q", name, header, got, want)
			}
		}
	}
}

// A file of any kind, in any folder, is served as what it is; a style sheet finds it by its name.
func TestFolder(t *testing.T) {
	a, err := static.New(fstest.MapFS{
		"fonts/a.woff2": {Data: []byte("font")}, "b.webp": {Data: []byte("picture")}, "app.js": {Data: []byte("script")}, "x.bin": {Data: []byte("?")},
		"a.css": {Data: []byte(`x{src:url("fonts/a.woff2")}y{background:url(b.webp),url('b.webp'),url("/other.webp"),url(data:x),url(#y)}`)}, "static.go": {},
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"fonts/a.woff2": "font/woff2", "b.webp": "image/webp", "app.js": "text/javascript; charset=utf-8", "x.bin": "application/octet-stream",
	} {
		if got := get(t, a, http.MethodGet, a.URL(name), "").Header.Get("Content-Type"); got != want {
			t.Errorf("%s at %s is %q", name, a.URL(name), got)
		}
	}
	picture := a.URL("b.webp")
	want := "x{src:url(" + a.URL("fonts/a.woff2") + ")}y{background:url(" + picture + "),url(" + picture + "),url(\"/other.webp\"),url(data:x),url(#y)}"
	if got := body(t, get(t, a, http.MethodGet, a.URL("a.css"), "").Body); got != want || a.URL("static.go") != "" {
		t.Errorf("the style sheet is %s, want %s", got, want)
	}
}

// A style sheet that names a file which is not there says so at the start.
func TestUnknownFile(t *testing.T) {
	for _, css := range []string{`x{src:url(b.woff2)}`, `x{src: url( "../b.woff2" )}`, `x{src:url('./a.woff2?v')}`} {
		_, err := static.New(fstest.MapFS{"b.woff2": {}, "fonts/a.woff2": {}, "fonts/a.css": {Data: []byte(css)}})
		if want := css != `x{src: url( "../b.woff2" )}`; (err != nil) != want || want && !strings.Contains(err.Error(), "fonts/a.css: no static file") {
			t.Errorf("%s: %v", css, err)
		}
	}
}

func TestNotFound(t *testing.T) {
	a := load(t)
	url := a.URL("app.css")
	for _, path := range []string{
		"", "/", "/static", "/static/", "/static/app.css", "/static/static.go", "/static/../static.go",
		strings.ToUpper(url), url + "/", url + ".gz", "/static/app.000000000000.css", strings.Replace(url, "/static/", "/static//", 1),
	} {
		res := get(t, a, http.MethodGet, path, "gzip")
		if res.StatusCode != http.StatusNotFound || res.Header.Get("Cache-Control") != "" {
			t.Errorf("GET %q = %d, Cache-Control %q, want 404 and none", path, res.StatusCode, res.Header.Get("Cache-Control"))
		}
	}
	if url := a.URL("nothing.css"); url != "" {
		t.Errorf("URL of a file there is not: %q", url)
	}
}

func TestCompression(t *testing.T) {
	a := load(t)
	plain := body(t, get(t, a, http.MethodGet, a.URL("app.css"), "").Body)
	for encoding, compressed := range map[string]bool{
		"gzip": true, "br, gzip": true, "deflate,gzip ,br": true, "": false, "br": false, "gzip;q=0": false, "x-gzip": false, "identity": false,
	} {
		res := get(t, a, http.MethodGet, a.URL("app.css"), encoding)
		if res.Header.Get("Vary") != "Accept-Encoding" {
			t.Errorf("Accept-Encoding %q: no Vary", encoding)
		}
		if got := res.Header.Get("Content-Encoding") == "gzip"; got != compressed {
			t.Errorf("Accept-Encoding %q: compressed %v, want %v", encoding, got, compressed)
			continue
		}
		reader := io.Reader(res.Body)
		if compressed {
			unzipped, err := gzip.NewReader(res.Body)
			if err != nil {
				t.Fatal(err)
			}
			reader = unzipped
		}
		if body(t, reader) != plain {
			t.Errorf("Accept-Encoding %q: another content", encoding)
		}
	}
}
