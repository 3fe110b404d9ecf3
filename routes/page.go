package routes

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"

	"github.com/gin-gonic/gin"

	"example.com/logto-gin-starter/auth"
	"example.com/logto-gin-starter/templates"
)

// A handler answers, or returns an error and answers nothing.
type handler func(*gin.Context) error

// handle makes a handler of Gin's from one of ours.
func (app App) handle(h handler) gin.HandlerFunc {
	return func(c *gin.Context) {
		if err := h(c); err != nil {
			app.stop(c, err)
		}
	}
}

// buffers are what pages are rendered to, each by one request at a time.
var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// page renders a whole page, and only then sends it.
func (app App) page(c *gin.Context, status int, name string, data any) error {
	person, err := app.person(c)
	if err != nil {
		return err
	}
	notice := ""
	if status < http.StatusInternalServerError { // an outage changes nothing in the browser
		notice = app.notice(c, person)
	}
	lang, here := c.GetString(languageKey), here(c)
	isSame := name == "home" && here == "/" && person == nil && notice == "" // for all who speak the language
	if isSame {
		if html, ok := app.welcome.Load(lang); ok {
			return app.send(c, status, html.([]byte))
		}
	}
	html := buffers.Get().(*bytes.Buffer)
	defer buffers.Put(html)
	html.Reset()
	err = app.Pages.Render(html, name, templates.Page{
		Lang:      lang,
		Path:      c.Request.URL.Path,
		Here:      here,
		ReturnTo:  localPath(app.backTo(c)),
		RequestID: c.GetString(requestIDKey),
		Known:     app.browser(c) != nil,
		User:      app.user(c, person),
		Rights:    app.rights(c),
		Notice:    notice,
		Data:      data,
	})
	if err != nil && app.Dev {
		c.Set(failureKey, err)
		c.Header("Refresh", "1") // until it is mended
		c.String(http.StatusInternalServerError, "%v", err)
		return nil
	}
	if err != nil {
		return err
	}
	if isSame {
		app.welcome.Store(lang, bytes.Clone(html.Bytes()))
	}
	return app.send(c, status, html.Bytes())
}

func (app App) send(c *gin.Context, status int, html []byte) error {
	c.Header("Vary", "Accept, Accept-Language, Cookie")
	c.Header("Content-Length", strconv.Itoa(len(html))) // else a long page goes out in chunks
	c.Data(status, "text/html; charset=utf-8", html)
	return nil
}

// here is this page's address, if to ask for it once more does no harm and gives the same page.
func here(c *gin.Context) string {
	address := c.Request.URL.RequestURI()
	if !isRead(c.Request.Method) || isSignIn(c.FullPath()) || !isLocal(address) {
		return ""
	}
	return address
}

// person is whom the page is for; nil for nobody.
func (app App) person(c *gin.Context) (*auth.Person, error) {
	if app.browser(c) == nil {
		return nil, nil
	}
	person, err := app.session(c).Person(c.Request.Context())
	if errors.Is(err, auth.ErrNotAuthenticated) {
		return nil, nil
	}
	return &person, err
}

// user is what the page's header shows of the person.
func (app App) user(c *gin.Context, person *auth.Person) *templates.User {
	if person == nil {
		return nil
	}
	name := cmp.Or(person.DisplayName, person.Subject)
	user := &templates.User{Name: name, Initial: templates.Initial(name), Email: person.Email}
	if isWebURL(person.Picture) {
		user.Picture = person.Picture
	}
	for _, organization := range person.Organizations {
		is := organization.ID == person.Active
		user.Organizations = append(user.Organizations, templates.Organization{ID: organization.ID, Name: organization.Name, Active: is})
		if is {
			user.Organization = organization.Name
		}
	}
	user.AccountURL = app.Auth.AccountURL(auth.AccountSecurity, app.BaseURL+"/account/done", c.GetString(languageKey))
	return user
}

// readForm returns what a form sent in the body.
func readForm(c *gin.Context) (url.Values, error) {
	err := c.Request.ParseForm()
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, &statusError{http.StatusRequestEntityTooLarge, "too_large"}
	}
	if err != nil {
		return nil, &statusError{http.StatusBadRequest, "bad_request"}
	}
	return c.Request.PostForm, nil
}

// text is a message in the request's language.
func (app App) text(c *gin.Context, key string, value ...any) string {
	return app.Messages.Text(c.GetString(languageKey), key, value...)
}

// wantsHTML and wantsJSON read the Accept header: what a client names explicitly. "*/*" is neither.
func wantsHTML(c *gin.Context) bool {
	return !isAPI(c) && accepts(c, "text/html") >= accepts(c, "application/json") && accepts(c, "text/html") > 0
}

func wantsJSON(c *gin.Context) bool {
	return isAPI(c) || accepts(c, "application/json") > accepts(c, "text/html")
}

// isAPI reports whether the address is one for programs, which speaks JSON whatever a client accepts.
func isAPI(c *gin.Context) bool { return strings.HasPrefix(c.Request.URL.Path, "/api/") }

// accepts returns the weight that the client gives to a media type, from 0 to 1 (RFC 9110 §12.5.1).
func accepts(c *gin.Context, mediaType string) float64 {
	for _, line := range c.Request.Header.Values("Accept") {
		for entry := range strings.SplitSeq(line, ",") {
			name, parameters, _ := strings.Cut(entry, ";")
			if strings.EqualFold(strings.TrimSpace(name), mediaType) {
				return weight(parameters)
			}
		}
	}
	return 0
}

// weight reads the parameter q (RFC 9110 §12.4.2), which is 1 if it is missing or nonsense.
func weight(parameters string) float64 {
	for parameter := range strings.SplitSeq(parameters, ";") {
		name, value, _ := strings.Cut(parameter, "=")
		if !strings.EqualFold(strings.TrimSpace(name), "q") {
			continue
		}
		if q, err := strconv.ParseFloat(strings.TrimSpace(value), 64); err == nil && q >= 0 && q <= 1 {
			return q
		}
	}
	return 1
}

// indent lays out JSON for people.
func indent(raw []byte) string {
	var buf bytes.Buffer
	if json.Indent(&buf, raw, "", "  ") != nil {
		return string(raw)
	}
	return buf.String()
}

func isWebURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != ""
}
