package routes

import (
	"github.com/gin-gonic/gin"

	"example.com/logto-gin-starter/auth"
	"example.com/logto-gin-starter/internal/session"
)

const (
	browserKey = "browser"
	sessionKey = "session"
)

// loadSession reads the request's session before anything else does, and answers 503 if that fails: gin-contrib's
// middleware alone would go on with an empty session, and an outage would look like a sign-out.
func (app App) loadSession(c *gin.Context) error {
	load := app.Sessions.Browser
	if c.FullPath() == "/" { // home says in how many browsers the person is signed in
		load = app.Sessions.CountedBrowser
	}
	browser, err := load(c.Writer, c.Request)
	if err == nil {
		c.Set(browserKey, browser)
	}
	return err
}

// tryLoadSession is for pages that must not fail without one: their header shows who is signed in, if that can be known.
func (app App) tryLoadSession(c *gin.Context) { _ = app.loadSession(c) }

// browser is the session of the request's browser; nil where no middleware loaded it.
func (app App) browser(c *gin.Context) *session.Browser {
	browser, _ := c.Value(browserKey).(*session.Browser)
	return browser
}

// session is what the request's person does with Logto, the same one for the whole request.
func (app App) session(c *gin.Context) *auth.Session {
	session, ok := c.Value(sessionKey).(*auth.Session)
	if !ok {
		session = app.Auth.Session(app.browser(c))
		c.Set(sessionKey, session)
	}
	return session
}
