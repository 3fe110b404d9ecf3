package routes

import (
	"context"
	"errors"
	"net/http"

	"github.com/gin-gonic/gin"

	"example.com/logto-gin-starter/auth"
)

// backchannelLogout is called by Logto when a session ends there (OpenID Connect Back-Channel Logout 1.0 §2.5). It
// answers 200 when the person's sessions here have ended, 400 to what is no logout token, and 503 when it can't know.
func (app App) backchannelLogout(c *gin.Context) error {
	form, err := readForm(c)
	if err != nil {
		return err
	}
	tokens := form["logout_token"]
	if len(tokens) != 1 {
		return &statusError{http.StatusBadRequest, "bad_request"}
	}
	claims, err := app.Auth.VerifyLogoutToken(c.Request.Context(), tokens[0])
	if err != nil {
		return err
	}
	if claims.Subject != "" {
		c.Set(personKey, app.Sessions.Label(claims.Subject))
	}
	if _, err = app.Sessions.EndBy(c.Request.Context(), claims.Subject, claims.SessionID); err != nil {
		return err
	}
	// The sessions have ended: Logto need not know that this failed, and to end them again would do no harm.
	if err := app.Auth.LogoutDone(context.WithoutCancel(c.Request.Context()), claims); err != nil {
		c.Set(failureKey, err)
	}
	return nil
}

// refuseLogout says what to answer to a logout token that was not taken.
func refuseLogout(err error) (code int, kind string) {
	if refused, ok := errors.AsType[*statusError](err); ok {
		return refused.status, "invalid_request"
	}
	if errors.Is(err, auth.ErrInvalidToken) {
		return http.StatusBadRequest, "invalid_request"
	}
	return http.StatusServiceUnavailable, "temporarily_unavailable"
}
