// Package static holds the style sheet, the icons, and whatever else browsers load: fonts, pictures, scripts. Each has a URL
// with a fingerprint of its content, so that browsers may keep it for ever and still see a change at once. Start reading at
// New.
package static

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"regexp"
	"strconv"
	"strings"
	"sync"
)

//go:embed *
var embedded embed.FS

// Files returns what is in this folder, as it was at build time.
func Files() fs.FS { return embedded }

// prefix is where every URL begins.
const prefix = "/static/"

// Assets serves the files under their URLs, and nothing else.
type Assets struct {
	urls  map[string]string // by name
	files map[string]file   // by URL
}

type file struct {
	contentType string
	plain       []byte
	gzip        func() []byte // made when it is first asked for; nil where it would not save anything
}

// New reads and fingerprints every file of the folder, but for Go's. A style sheet may name others of them by
// url("name.woff2"), from where it is itself, also in a comment, and gets their URLs; one that is not
// there is an error. Style sheets can't name each other.
func New(folder fs.FS) (*Assets, error) {
	a := &Assets{urls: make(map[string]string), files: make(map[string]file)}
	for _, isStyle := range []bool{false, true} { // style sheets are last, for they name the others
		err := fs.WalkDir(folder, ".", func(name string, entry fs.DirEntry, err error) error {
			ext := path.Ext(name)
			if err != nil || entry.IsDir() || ext == ".go" || (ext == ".css") != isStyle {
				return err
			}
			return a.add(folder, name)
		})
		if err != nil {
			return nil, fmt.Errorf("read static files: %w", err)
		}
	}
	return a, nil
}

// reference is to a file beside a style sheet, and not to an address: that has a colon, or begins with a slash or a number sign.
var reference = regexp.MustCompile(`url\(\s*["']?([^"')/#:\s][^"'):\s]*)["']?\s*\)`)

func (a *Assets) add(folder fs.FS, name string) error {
	content, err := fs.ReadFile(folder, name)
	if err != nil {
		return err
	}
	ext := path.Ext(name)
	if ext == ".css" {
		content = reference.ReplaceAllFunc(content, func(found []byte) []byte {
			other := string(reference.FindSubmatch(found)[1])
			url, known := a.urls[path.Join(path.Dir(name), other)]
			if !known {
				err = fmt.Errorf("%s: no static file %q", name, other)
			}
			return []byte("url(" + url + ")")
		})
		if err != nil {
			return err
		}
	}
	sum := sha256.Sum256(content)
	url := prefix + strings.TrimSuffix(name, ext) + "." + hex.EncodeToString(sum[:6]) + ext
	a.urls[name] = url
	a.files[url] = file{
		contentType: cmp.Or(contentTypes[ext], "application/octet-stream"), plain: content,
		gzip: sync.OnceValue(func() []byte { return compress(content) }),
	}
	return nil
}

// contentTypes leave nothing to what a machine happens to have in /etc/mime.types.
var contentTypes = map[string]string{
	".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".json": "application/json", ".txt": "text/plain; charset=utf-8",
	".svg": "image/svg+xml", ".png": "image/png", ".jpg": "image/jpeg", ".webp": "image/webp", ".avif": "image/avif", ".ico": "image/x-icon",
	".woff2": "font/woff2", ".webmanifest": "application/manifest+json",
}

func compress(content []byte) []byte {
	var buf bytes.Buffer
	w, _ := gzip.NewWriterLevel(&buf, gzip.BestCompression) // the level is valid
	_, _ = w.Write(content)                                 // a buffer takes everything
	_ = w.Close()
	if buf.Len() >= len(content)*9/10 {
		return nil
	}
	return buf.Bytes()
}

// URL returns the address of the file called name, such as "app.css"; it is empty if there is none.
func (a *Assets) URL(name string) string { return a.urls[name] }

// Has reports whether there is a file of a kind, such as ".woff2".
func (a *Assets) Has(ext string) bool {
	for name := range a.urls {
		if path.Ext(name) == ext {
			return true
		}
	}
	return false
}

// ServeHTTP answers with the file that has exactly this URL, or 404.
func (a *Assets) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f, ok := a.files[r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", f.contentType)
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	body := f.plain
	if short := f.gzip(); short != nil {
		h.Set("Vary", "Accept-Encoding")
		if acceptsGzip(r) {
			h.Set("Content-Encoding", "gzip")
			body = short
		}
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body) // a client that went away needs no answer
}

// acceptsGzip takes only a plain "gzip" for a yes, which is what browsers send; who sends a weight gets the file as it is.
func acceptsGzip(r *http.Request) bool {
	for coding := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		if strings.TrimSpace(coding) == "gzip" {
			return true
		}
	}
	return false
}
