package routes

import (
	"errors"

	"github.com/gin-gonic/gin"

	"example.com/logto-gin-starter/auth"
)

// Permission is what an API demands whose every address is for one resource; see RequireToken and RequireCaller.
func Permission(resource string, scopes ...string) func(*gin.Context) auth.Permission {
	return func(*gin.Context) auth.Permission { return auth.Permission{Resource: resource, Scopes: scopes} }
}

// RequireToken guards an API: it lets requests pass that carry an access token for what need returns, and puts the caller
// into the context (auth.CallerFrom). Anything else is answered as RFC 6750 §3 says. If need returns an empty Permission, the
// address does not exist: 404.
func (app App) RequireToken(need func(*gin.Context) auth.Permission) gin.HandlerFunc {
	return func(c *gin.Context) {
		wanted := need(c)
		authorized, err := app.Auth.Authorize(c.Request, wanted)
		if err != nil {
			if !errors.Is(err, auth.ErrNotAuthenticated) && !errors.Is(err, auth.ErrInvalidOption) { // the status says it all
				c.Set(failureKey, err)
			}
			auth.Refuse(c.Writer, wanted, err)
			c.Abort()
			return
		}
		c.Request = authorized
	}
}

// RequireCaller is RequireToken for an API that our own pages call too: who sends no token is known by the session's cookie, and
// may what their own token would permit. A request of another site's page is refused as a form's would be.
func (app App) RequireCaller(need func(*gin.Context) auth.Permission) gin.HandlerFunc {
	byToken := app.RequireToken(need)
	return func(c *gin.Context) {
		wanted := need(c)
		if c.GetHeader("Authorization") == "" && (wanted.Resource != "" || wanted.Organization != "") {
			if err := app.loadSession(c); err != nil {
				app.stop(c, err)
				return
			}
			ctx, err := app.session(c).Authorize(c.Request.Context(), wanted)
			if err == nil {
				c.Request = c.Request.WithContext(ctx)
				return
			}
			if !errors.Is(err, auth.ErrNotAuthenticated) {
				app.stop(c, lacking(wanted, err))
				return
			}
		}
		byToken(c)
	}
}
