package routes

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/gin-gonic/gin"

	"example.com/logto-gin-starter/auth"
)

// RequireToken guards an API: it lets requests pass that carry an access token for audience with all of the scopes,
// and puts the token's claims into the context (auth.AccessTokenFrom). Anything else is answered as RFC 6750 §3 says. An empty audience
// is a resource that does not exist: 404.
func (app App) RequireToken(audience func(*gin.Context) string, scopes ...string) gin.HandlerFunc {
	return func(c *gin.Context) {
		wanted := audience(c)
		if wanted == "" {
			c.AbortWithStatusJSON(http.StatusNotFound, gin.H{"error": "not_found"})
			return
		}
		scheme, raw, _ := strings.Cut(c.GetHeader("Authorization"), " ")
		if !strings.EqualFold(scheme, "Bearer") || raw == "" {
			challenge(c, http.StatusUnauthorized, "", "")
			return
		}
		claims, err := app.Auth.VerifyAccessToken(c.Request.Context(), raw, wanted)
		if errors.Is(err, auth.ErrInvalidToken) {
			c.Set(failureKey, err)
			challenge(c, http.StatusUnauthorized, "invalid_token", "")
			return
		}
		if err != nil {
			c.Set(failureKey, err)
			c.Header("Retry-After", "5")
			c.AbortWithStatusJSON(http.StatusServiceUnavailable, gin.H{"error": "temporarily_unavailable"})
			return
		}
		if !claims.HasScopes(scopes...) {
			challenge(c, http.StatusForbidden, "insufficient_scope", strings.Join(scopes, " "))
			return
		}
		c.Request = c.Request.WithContext(auth.WithAccessToken(c.Request.Context(), claims))
	}
}

// challenge refuses a request; one that carried no token at all learns no error code (RFC 6750 §3.1).
func challenge(c *gin.Context, status int, code, scope string) {
	value := `Bearer realm="api"`
	body := gin.H{"error": "unauthorized"}
	if code != "" {
		value += fmt.Sprintf(`, error=%q`, code)
		body["error"] = code
	}
	if scope != "" {
		value += fmt.Sprintf(`, scope=%q`, scope)
		body["scope"] = scope
	}
	c.Header("WWW-Authenticate", value)
	c.AbortWithStatusJSON(status, body)
}

// The sample API stands for those of a product, which would be programs of their own: one for each configured
// resource, and one for each organization.

func (app App) resourceAudience(c *gin.Context) string {
	if indicator := c.Query("indicator"); slices.Contains(app.Auth.Resources(), indicator) {
		return indicator
	}
	return ""
}

func organizationAudience(c *gin.Context) string { return auth.OrganizationAudience(c.Param("id")) }

// sampleAPI says what it learned from the token.
func (app App) sampleAPI(c *gin.Context) error {
	claims, _ := auth.AccessTokenFrom(c.Request.Context())
	answer := gin.H{"subject": claims.Subject, "client": claims.ClientID, "scopes": claims.Scopes()}
	if organization := claims.Organization(); organization != "" {
		answer["organization"] = organization
	}
	c.JSON(http.StatusOK, answer)
	return nil
}
