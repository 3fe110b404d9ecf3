package routes

import (
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"example.com/logto-gin-starter/auth"
)

// accessRoutes are a page for each guard that there is: what may be seen only by those who have a role, and so on.
func (app App) accessRoutes(site *gin.RouterGroup) {
	site.Match(read, "/protected/access", app.Authenticated(), app.handle(app.access))
	for path, guard := range map[string]GuardOption{
		"role":              RequireRole("admin"),
		"organization":      RequireOrganization(),
		"organization-role": RequireOrganizationRole("admin"),
		"permission":        RequirePermission("https://shopping.your-app.com/api", "write:products"),
		"recent":            RequireRecentSignIn(time.Minute),
		"mfa":               RequireMFA(),
	} {
		site.Match(append(read, http.MethodPost), "/protected/access/"+path, app.Authenticated(guard), app.handle(app.access))
	}
}

// access is behind each of the guards; the page itself asks what they ask.
func (app App) access(c *gin.Context) error {
	if !wantsJSON(c) {
		return app.page(c, http.StatusOK, "access", nil)
	}
	_, isActive := auth.OrganizationFrom(c.Request.Context())
	may := app.rights(c)
	c.JSON(http.StatusOK, gin.H{"role": may.HasRole("admin"), "organization": isActive, "organization_role": may.HasOrganizationRole("admin")})
	return nil
}
