package server

import (
	"io/fs"
	"net/http"
	"os"
	"path/filepath"

	"example.com/logto-gin-starter/internal/i18n"
	"example.com/logto-gin-starter/routes"
	"example.com/logto-gin-starter/static"
	"example.com/logto-gin-starter/templates"
)

// site builds the handler from the folders of messages, static files and templates.
func site(app routes.App, messages, files, pages fs.FS) (handler http.Handler, err error) {
	if app.Messages, err = i18n.Load(messages); err != nil {
		return nil, err
	}
	if app.Static, err = static.New(files); err != nil {
		return nil, err
	}
	if app.Pages, err = templates.Parse(pages, app.Static.URL, app.Messages); err != nil {
		return nil, err
	}
	return routes.New(app), nil
}

// fromSource builds the site anew for each request, so that a change is seen at the next one. What has state is in app,
// and stays. A mistake in a file is the answer, and the browser looks again until it is mended.
func fromSource(app routes.App, dir string) http.HandlerFunc {
	folder := func(name string) fs.FS { return os.DirFS(filepath.Join(dir, name)) }
	build := func() (http.Handler, error) {
		return site(app, folder("internal/i18n"), folder("static"), folder("templates"))
	}
	_, _ = build() // what panics, such as an address that is there twice, does so now
	return func(w http.ResponseWriter, r *http.Request) {
		handler, err := build()
		if err != nil {
			w.Header().Set("Refresh", "1")
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		handler.ServeHTTP(w, r)
	}
}
