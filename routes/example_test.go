package routes

import (
	"time"

	"github.com/gin-gonic/gin"

	"example.com/logto-gin-starter/auth"
)

// What a fork adds to the route table: a line for each page. In New, the groups load the session.
func ExampleApp_Authenticated() {
	var app App
	var site *gin.RouterGroup
	mine := app.handle(func(c *gin.Context) error {
		organization, _ := auth.OrganizationFrom(c)
		return app.page(c, 200, "mine", organization.Name)
	})
	site.GET("/protected/mine", app.Authenticated(), mine)
	site.GET("/protected/admin", app.Authenticated(RequireRole("admin")), mine)
	site.GET("/protected/prices", app.Authenticated(RequirePermission("https://shopping.your-app.com/api", "write:products")), mine)
	site.GET("/protected/team", app.Authenticated(RequireOrganization(), RequireOrganizationRole("admin", "owner")), mine)
	site.POST("/protected/close", app.Authenticated(RequireRecentSignIn(5*time.Minute)), mine)
	site.GET("/protected/vault", app.Authenticated(RequireMFA(), FetchUserInfo), mine)
}

// An API that our own pages call by the session's cookie, and other programs with an access token.
func ExampleApp_RequireCaller() {
	var app App
	var r *gin.Engine
	r.GET("/api/products", app.RequireCaller(Permission("https://shopping.your-app.com/api", "read:products")), func(c *gin.Context) {
		caller, _ := auth.CallerFrom(c)
		c.JSON(200, gin.H{"products of": caller.Subject})
	})
}
