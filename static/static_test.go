package static_test

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

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
	a, err := static.New()
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
