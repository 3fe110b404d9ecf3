package routes

import (
	"net/http"

	"github.com/gin-contrib/sessions"
	"github.com/gin-gonic/gin"

	"example.com/logto-gin-starter/auth"
)

// ownPages are the tests' own: pages that ask Logto, and an API. A fork may have taken away those of the sample. package e2e
// builds them into the application that it starts as a process.
func (app App) ownPages(engine *gin.Engine) {
	app.engine = engine
	resource := "" // the first one; of none there is no token, and no API
	if all := app.Auth.Resources(); len(all) > 0 {
		resource = all[0]
	}
	show := func(c *gin.Context, data any) error {
		if wantsJSON(c) {
			c.JSON(http.StatusOK, data)
			return nil
		}
		return app.page(c, http.StatusOK, "signout", nil) // every fork has this one; its header shows the person
	}
	own := engine.Group("/own", app.handle(app.loadSession), sessions.Sessions("sid", app.Sessions))
	own.Match(read, "/userinfo", app.Authenticated(FetchUserInfo), app.handle(func(c *gin.Context) error {
		return show(c, auth.UserFrom(c).Info.Raw)
	}))
	own.Match(append(read, http.MethodPost), "/token", app.Authenticated(), app.handle(func(c *gin.Context) error {
		if _, err := readForm(c); err != nil {
			return err
		}
		var options []auth.TokenOption
		if c.Request.Method == http.MethodPost {
			options = append(options, auth.ForceRefresh())
		}
		token, err := app.session(c).AccessToken(c, resource, options...)
		if err != nil {
			return err
		}
		claims, err := token.Claims()
		if err != nil {
			return err
		}
		return show(c, claims)
	}))
	api := func(c *gin.Context) {
		caller, _ := auth.CallerFrom(c)
		c.JSON(http.StatusOK, gin.H{"subject": caller.Subject, "client": caller.ClientID})
	}
	engine.Match(read, "/api/own", app.RequireCaller(Permission(resource, "read:products")), api)
	engine.Match(read, "/api/own/:id", app.RequireCaller(func(c *gin.Context) auth.Permission {
		return auth.Permission{Organization: matching(isID(), c.Param("id"))}
	}), api)
}
