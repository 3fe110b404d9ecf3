// Package routes says which URL does what. Start reading at New: the middleware list, then the route table; each page
// family is a file of its own, and errors.go says what a failure means in HTTP.
package routes

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"

	"github.com/gin-contrib/sessions"
	"github.com/gin-gonic/gin"
	"github.com/go-redis/redis_rate/v10"

	"example.com/logto-gin-starter/auth"
	"example.com/logto-gin-starter/internal/i18n"
	"example.com/logto-gin-starter/internal/session"
	"example.com/logto-gin-starter/static"
	"example.com/logto-gin-starter/templates"
)

// App is everything that a handler may use.
type App struct {
	Auth     *auth.Client
	Sessions *session.Store
	Pages    templates.Set
	Static   *static.Assets
	Messages *i18n.Catalog
	BaseURL  string // the public address, without a slash at its end
	Log      *slog.Logger
	Proxies  []netip.Prefix      // who may say for which client they speak
	Limit    redis_rate.Limit    // of one client's requests; zero: none
	Limiter  *redis_rate.Limiter // which counts them
	Stopping <-chan struct{}     // closed when the server is about to stop
	Dev      bool                // who sees a page is who writes it: what is wrong in a template is said there

	// Observe is told of what observe.go lists; nil: nobody is.
	Observe func(ctx context.Context, event, outcome string, count float64)

	headers     http.Header // of every answer
	crossOrigin *http.CrossOriginProtection
	engine      *gin.Engine // of all addresses
	welcome     *sync.Map   // by language: the home page of a visitor
	faults      *sync.Map   // that the operator was told of
}

// read are the methods of a page. HEAD is for monitors, and net/http leaves the body out. Sign-in and callback do something, so they
// have none.
var read = []string{http.MethodGet, http.MethodHead}

// New builds the application's handler.
func New(app App) http.Handler {
	gin.SetMode(gin.ReleaseMode)
	r := gin.New()
	r.HandleMethodNotAllowed = true
	r.ContextWithFallback = true    // auth.UserFrom(c) finds what is in the request's context
	r.RedirectTrailingSlash = false // each page has one address
	if app.Observe == nil {
		app.Observe = func(context.Context, string, string, float64) {}
	}
	app.trustProxies(r)
	app.headers = app.hardened()
	app.crossOrigin = newCrossOrigin(app.BaseURL)
	app.engine, app.welcome, app.faults = r, new(sync.Map), new(sync.Map)
	r.Use(
		app.identify,          // outermost: its ID and log line are for every request, with the final status
		app.bound,             // nothing waits for ever; before recover, whose answer must still find the request alive
		app.recover,           // covers everything below
		app.harden,            // headers for every answer, errors too
		app.limit,             // before anything reads the headers or the body
		app.chooseLanguage,    // errors are pages too
		app.keepLanguage,      // a link may choose one
		app.refuseCrossOrigin, // before anything acts on the request
	)
	r.NoRoute(app.tryLoadSession, app.handle(notFound))
	r.NoMethod(app.tryLoadSession, app.handle(methodNotAllowed))

	// For machines: no session.
	r.Match(read, "/healthz", healthz)
	r.Match(read, "/readyz", app.readyz)
	r.Match(read, "/static/*name", gin.WrapH(app.Static))
	r.POST(backchannelPath, app.throttle, app.call(ObservedLogout, app.backchannelLogout, refuseLogout))
	r.POST("/webhooks/logto", app.throttle, app.call(ObservedWebhook, app.webhook, refuseWebhook))

	// For people. Two middlewares share one session: ours loads it, and answers 503 if it can't; gin-contrib's gives
	// a handler's own values, by sessions.Default(c).
	visitors := []gin.HandlerFunc{app.handle(app.loadSession), sessions.Sessions("sid", app.Sessions)}
	signIn := r.Group("/", app.throttle).Group("/", visitors...) // who is refused costs no look for a session
	signIn.GET("/sign-in", app.handle(navigated), app.handle(app.signIn))
	signIn.GET("/sign-up", app.handle(navigated), app.handle(app.signIn))
	signIn.GET("/callback", app.handle(app.callback))
	site := r.Group("/", visitors...)
	site.Match(read, "/", app.handle(app.home))
	site.Match(read, "/sign-out", app.handle(app.askSignOut))
	site.POST("/sign-out", app.handle(app.signOut))
	r.POST("/language", app.handle(app.setLanguage))

	// For people who are signed in.
	protected := site.Group("/", app.Authenticated())
	protected.Match(read, "/protected/sessions", app.handle(app.sessions))
	protected.POST("/protected/sessions", app.handle(app.endSessions))
	protected.POST("/organization", app.handle(app.setOrganization))
	protected.GET("/account/done", app.handle(navigated), app.handle(app.accountDone))
	protected.Match(read, "/api/me", app.handle(app.me))

	// The sample. Each page is a room of its own, which goes away by its line here, its line in templates/partials/pages.html and
	// its files: for userinfo these are routes/userinfo*.go, templates/pages/userinfo.html and internal/i18n/*/userinfo.toml.
	site.Match(read, "/protected/userinfo", app.Authenticated(FetchUserInfo), app.handle(app.userInfo))
	app.tokensRoutes(r, protected)
	app.accessRoutes(site)

	// Your own: protected.GET("/protected/mine", app.handle(app.mine)). Later versions of the starter add nothing here.

	return r
}
