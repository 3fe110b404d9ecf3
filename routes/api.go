package routes

import (
	"errors"
	"net/http"
	"slices"

	"github.com/gin-gonic/gin"

	"example.com/logto-gin-starter/auth"
)

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

// The sample API stands for those of a product, which would be programs of their own: one for each configured
// resource, and one for each organization.

func (app App) resourcePermission(c *gin.Context) (need auth.Permission) {
	if indicator := c.Query("indicator"); slices.Contains(app.Auth.Resources(), indicator) {
		need.Resource = indicator
	}
	return need
}

func organizationPermission(c *gin.Context) auth.Permission {
	return auth.Permission{Organization: c.Param("id")}
}

// sampleAPI says what it learned from the token.
func (app App) sampleAPI(c *gin.Context) error {
	caller, _ := auth.CallerFrom(c.Request.Context())
	answer := gin.H{"subject": caller.Subject, "client": caller.ClientID, "scopes": caller.Scopes}
	if caller.Organization != "" {
		answer["organization"] = caller.Organization
	}
	c.JSON(http.StatusOK, answer)
	return nil
}
