package routes

import (
	"net/http"
	"slices"

	"github.com/gin-gonic/gin"

	"example.com/logto-gin-starter/auth"
)

// A GuardOption changes what Authenticated does.
type GuardOption int

const (
	// FetchUserInfo asks Logto who the person is now; without it, the ID token's claims must do.
	FetchUserInfo GuardOption = iota
	// AlwaysRedirect sends everybody who is not signed in to sign in; without it and NeverRedirect, who accepts text/html.
	AlwaysRedirect
	// NeverRedirect answers everybody who is not signed in with 401.
	NeverRedirect
)

const guardKey = "guard"

// Authenticated lets only signed-in people pass, and puts the person into the request's context:
//
//	site.GET("/protected/mine", app.Authenticated(), func(c *gin.Context) {
//		user := auth.UserFrom(c.Request.Context())
//		…
//	})
//
// Anybody else is answered here: with a redirect to sign in and back, or with 401 and {"error":"Not authenticated"}.
func (app App) Authenticated(options ...GuardOption) gin.HandlerFunc {
	return app.handle(func(c *gin.Context) error {
		c.Set(guardKey, options)
		ctx, session := c.Request.Context(), app.session(c)
		claims, err := session.IDTokenClaims(ctx)
		if err != nil {
			return err
		}
		user := &auth.User{Subject: claims.Subject, Claims: claims}
		if slices.Contains(options, FetchUserInfo) {
			info, err := session.FetchUserInfo(ctx)
			if err != nil {
				return err
			}
			user.Info = &info
		}
		c.Request = c.Request.WithContext(auth.WithUser(ctx, user))
		return nil
	})
}

// askToSignIn answers who is not signed in, or not any more.
func (app App) askToSignIn(c *gin.Context) {
	options, _ := c.Value(guardKey).([]GuardOption)
	redirect := slices.Contains(options, AlwaysRedirect) || wantsHTML(c) && !slices.Contains(options, NeverRedirect)
	if !redirect {
		c.JSON(http.StatusUnauthorized, gin.H{"error": "Not authenticated"})
		return
	}
	wanted := c.Request.URL.Path // a form's address is that of its page
	if c.Request.Method == http.MethodGet {
		wanted = c.Request.URL.RequestURI()
	}
	c.Redirect(http.StatusSeeOther, signInPath(wanted))
}
