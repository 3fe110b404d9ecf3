// Package static holds the style sheet and the icons. Each has a URL with a fingerprint of its content, so that
// browsers may keep it for ever and still see a change at once. Start reading at New.
package static

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strconv"
	"strings"
)

//go:embed *.css *.svg *.png
var files embed.FS

// prefix is where every URL begins.
const prefix = "/static/"

// Assets serves the embedded files under their URLs, and nothing else.
type Assets struct {
	urls  map[string]string // by name
	files map[string]file   // by URL
}

type file struct {
	contentType string
	plain, gzip []byte // gzip is nil where it would not save anything
}

// New reads, fingerprints and compresses every file once.
func New() (*Assets, error) {
	names, err := fs.Glob(files, "*")
	if err != nil {
		return nil, fmt.Errorf("list static files: %w", err)
	}
	a := &Assets{urls: make(map[string]string), files: make(map[string]file)}
	for _, name := range names {
		content, err := files.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("read static file: %w", err)
		}
		sum := sha256.Sum256(content)
		ext := path.Ext(name)
		url := prefix + strings.TrimSuffix(name, ext) + "." + hex.EncodeToString(sum[:6]) + ext
		a.urls[name] = url
		a.files[url] = file{contentType: contentType(ext), plain: content, gzip: compress(content)}
	}
	return a, nil
}

// contentType leaves nothing to what a machine happens to have in /etc/mime.types.
func contentType(ext string) string {
	switch ext {
	case ".css":
		return "text/css; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	case ".png":
		return "image/png"
	default:
		return "application/octet-stream"
	}
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
	if f.gzip != nil {
		h.Set("Vary", "Accept-Encoding")
		if acceptsGzip(r) {
			h.Set("Content-Encoding", "gzip")
			body = f.gzip
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
