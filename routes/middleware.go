package routes

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gin-gonic/gin"

	"example.com/logto-gin-starter/static"
)

const (
	maxURI  = 8 << 10  // bytes; longer: 414
	maxBody = 64 << 10 // bytes; more: 413
)

// maxHeaders bounds the headers that are parsed, in bytes over all lines of each; more: 431. All headers together have their
// limit in the server.
var maxHeaders = map[string]int{
	"Accept":          2 << 10,
	"Accept-Language": 1 << 10,
	"Authorization":   16 << 10,
	"Content-Type":    1 << 10,
	"Cookie":          16 << 10,
}

// requestTime bounds what a request may wait for in all. What it has begun by then may take a little longer.
const requestTime = 30 * time.Second

// Keys of what a request carries through the chain.
const (
	requestIDKey = "request-id"
	languageKey  = "language"
	failureKey   = "failure"
	personKey    = "person"    // of a request without a session: the label of whom it is about
	returnToKey  = "return-to" // of a sign-in that failed
)

// requestID is what an ID of a proxy's may look like, for it goes into a log.
var requestID = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`) })

// identify gives a request an ID, or keeps that of a trusted proxy, and logs it when it is done. The line has the route and not
// the path or the query, and the kind of a failure but nothing of a person's.
func (app App) identify(c *gin.Context) {
	start := time.Now()
	id := c.GetHeader("X-Request-Id")
	if !app.Trusts(c.Request) || !requestID().MatchString(id) {
		id = rand.Text()[:16]
	}
	c.Set(requestIDKey, id)
	c.Header("X-Request-Id", id)
	if app.isStopping() {
		c.Header("Connection", "close") // the next request goes to another instance
	}
	c.Request.Pattern = c.FullPath() // tells who wraps the engine, as http.ServeMux would
	c.Next()

	level, attributes := slog.LevelInfo, []slog.Attr{
		slog.String("id", id),
		slog.String("method", method(c.Request)),
		slog.String("route", c.FullPath()),
		slog.Int("status", c.Writer.Status()),
		slog.Float64("duration_ms", float64(time.Since(start).Microseconds())/1000),
	}
	attributes = append(attributes, app.about(c)...)
	if err, failed := c.Value(failureKey).(error); failed {
		attributes = append(attributes, slog.Any("error", err))
		if c.Writer.Status() >= http.StatusInternalServerError || errors.Is(err, errSetting) {
			level = slog.LevelError
		}
	}
	if c.FullPath() == "/healthz" || c.FullPath() == "/readyz" {
		level = slog.LevelDebug // asked every few seconds, for ever
	}
	if ctx, handler := context.WithoutCancel(c.Request.Context()), app.Log.Handler(); handler.Enabled(ctx, level) {
		record := slog.NewRecord(time.Now(), level, "request", 0) // where in the source this is says nothing, and takes time to find out
		record.AddAttrs(attributes...)
		_ = handler.Handle(ctx, record) // as slog does
	}
}

// about names the person and the session by short hashes, so that one person's trouble can be followed without a name.
func (app App) about(c *gin.Context) (attributes []slog.Attr) {
	person, session := c.GetString(personKey), ""
	if browser := app.browser(c); browser != nil {
		person, session = browser.Label()
	}
	if person != "" {
		attributes = append(attributes, slog.String("person", person))
	}
	if session != "" {
		attributes = append(attributes, slog.String("session", session))
	}
	return attributes
}

// method is for the log: a client may send any word as a method.
func method(r *http.Request) string {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return r.Method
	}
	return "other"
}

// recover turns a panic into an error page. One that means to break the connection still does.
func (app App) recover(c *gin.Context) {
	defer func() {
		switch cause := recover(); cause {
		case nil:
		case http.ErrAbortHandler:
			panic(cause)
		default:
			app.Log.ErrorContext(c.Request.Context(), "panic", "id", c.GetString(requestIDKey), "cause", fmt.Sprint(cause), "stack", string(debug.Stack()))
			c.Abort()
			switch {
			case c.Writer.Written():
			case app.Dev:
				c.Set(failureKey, errPanic)
				c.String(http.StatusInternalServerError, "panic: %v\n\n%s", cause, debug.Stack())
			default:
				app.fail(c, errPanic)
			}
		}
	}()
	c.Next()
}

// harden sets the headers that every answer has. A page's own may replace them.
func (app App) harden(c *gin.Context) { maps.Copy(c.Writer.Header(), app.headers) }

// hardened are these headers, by their canonical names.
func (app App) hardened() http.Header {
	headers := http.Header{
		"Content-Security-Policy":      {contentSecurityPolicy(app.Auth.Issuer(), app.Static)},
		"X-Content-Type-Options":       {"nosniff"},
		"Referrer-Policy":              {"same-origin"}, // not no-referrer: then browsers send forms with "Origin: null"
		"Cross-Origin-Opener-Policy":   {"same-origin"},
		"Cross-Origin-Resource-Policy": {"same-origin"},
		"Cache-Control":                {"no-store"},
	}
	if app.secure() {
		headers.Set("Strict-Transport-Security", "max-age=31536000; includeSubDomains")
	}
	return headers
}

// contentSecurityPolicy allows scripts and fonts of our own only, and only if there are any in static/. A form may end at
// Logto, for browsers apply form-action to the redirects that follow a sign-out too. Pictures of persons may be anywhere,
// over https.
func contentSecurityPolicy(issuer string, files *static.Assets) string {
	logto, pictures := originOf(issuer), "'self' https:"
	if !strings.HasPrefix(logto, "https:") {
		pictures += " " + logto
	}
	policy := "default-src 'none'; style-src 'self'; img-src " + pictures + "; form-action 'self' " + logto + "; frame-ancestors 'none'; base-uri 'none'"
	if files.Has(".js") {
		policy += "; script-src 'self'; connect-src 'self'" // a script asks our API
	}
	if files.Has(".woff2") {
		policy += "; font-src 'self'"
	}
	return policy
}

// limit refuses what is too large before it is read (RFC 9110 §15.5.14 and §15.5.15, RFC 6585 §5).
func (app App) limit(c *gin.Context) {
	code := 0
	switch {
	case dropLarge(c.Request.Header):
		code = http.StatusRequestHeaderFieldsTooLarge
	case len(c.Request.RequestURI) > maxURI:
		code = http.StatusRequestURITooLong
	case c.Request.ContentLength > maxBody:
		code = http.StatusRequestEntityTooLarge
	default:
		c.Request.Body = http.MaxBytesReader(c.Writer, c.Request.Body, maxBody)
		return
	}
	app.chooseLanguage(c) // of the page that says so
	app.stop(c, &statusError{code, "too_large"})
}

// dropLarge reports whether a header is beyond its limit, and takes it out, so that the answer does not read it either.
func dropLarge(header http.Header) (dropped bool) {
	for name, limit := range maxHeaders {
		if len(strings.Join(header[name], "")) > limit {
			delete(header, name)
			dropped = true
		}
	}
	return dropped
}

// bound gives a request its time.
func (app App) bound(c *gin.Context) {
	ctx, cancel := context.WithTimeout(c.Request.Context(), requestTime)
	defer cancel()
	c.Request = c.Request.WithContext(ctx)
	c.Next()
}

// backchannelPath is where Logto calls. That is no browser's doing, and carries its own proof.
const backchannelPath = "/backchannel-logout"

// refuseCrossOrigin refuses a POST that another site's page sent.
func (app App) refuseCrossOrigin(c *gin.Context) {
	if app.crossOrigin.Check(c.Request) != nil || app.foreignReferer(c.Request) {
		app.stop(c, &statusError{http.StatusForbidden, "forbidden"})
	}
}

// newCrossOrigin trusts the public address, for behind a proxy it need not be the Host that we see.
func newCrossOrigin(baseURL string) *http.CrossOriginProtection {
	protection := http.NewCrossOriginProtection()
	_ = protection.AddTrustedOrigin(originOf(baseURL)) // a valid origin: the configuration was checked
	protection.AddInsecureBypassPattern("POST " + backchannelPath)
	return protection
}

// foreignReferer is for old browsers, which send neither of the headers that CrossOriginProtection looks at: it reports
// whether the Referer (RFC 9110 §10.1.3) says that another site's page sent an unsafe request.
func (app App) foreignReferer(r *http.Request) bool {
	referer, isSafe := r.Header.Get("Referer"), isRead(r.Method) || r.Method == http.MethodOptions
	if isSafe || referer == "" || r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Site") != "" || r.URL.Path == backchannelPath {
		return false
	}
	u, err := url.Parse(referer)
	return err != nil || !app.isOurs(u, r)
}

// isOurs reports whether an address is of this site, by the public address or by the Host that the request names.
func (app App) isOurs(u *url.URL, r *http.Request) bool {
	return u.Host != "" && (u.Host == r.Host || u.Scheme+"://"+u.Host == originOf(app.BaseURL))
}

// originOf returns the scheme and host of a URL, which is valid: the configuration was checked.
func originOf(address string) string {
	u, _ := url.Parse(address)
	return u.Scheme + "://" + u.Host
}

const (
	languageCookie = "lang"
	languageLife   = 365 * 24 * time.Hour
)

// chooseLanguage takes the language that the person chose, or what the browser prefers.
func (app App) chooseLanguage(c *gin.Context) {
	chosen, _ := c.Cookie(app.cookieName(languageCookie))
	c.Set(languageKey, app.Messages.Match(c.GetHeader("Accept-Language"), chosen))
}

// keepLanguage keeps the language of a link to a page, ?lang=th, and leads to the page without it.
func (app App) keepLanguage(c *gin.Context) {
	language := c.Query("lang")
	if language == "" {
		return
	}
	address, query := *c.Request.URL, c.Request.URL.Query()
	query.Del("lang")
	address.RawQuery = query.Encode()
	page := address.RequestURI()
	if isSignIn(c.FullPath()) || !isRead(c.Request.Method) || !wantsHTML(c) || !isLocal(page) || !slices.Contains(app.Messages.Languages(), language) {
		return
	}
	app.setCookie(c, languageCookie, language, languageLife)
	c.Redirect(http.StatusSeeOther, page)
	c.Abort()
}

// setLanguage keeps what the person chose in the footer, and leads back to their page. It needs no session.
func (app App) setLanguage(c *gin.Context) error {
	form, err := readForm(c)
	if err != nil {
		return err
	}
	language, page := form.Get("lang"), form.Get("return_to")
	if !slices.Contains(app.Messages.Languages(), language) || !isLocal(page) {
		return &statusError{http.StatusBadRequest, "bad_request"}
	}
	app.setCookie(c, languageCookie, language, languageLife)
	c.Redirect(http.StatusSeeOther, page)
	return nil
}

func (app App) secure() bool { return strings.HasPrefix(app.BaseURL, "https:") }
