package routes

import (
	"context"
	"errors"
	"io"
	"net/http"

	"github.com/gin-gonic/gin"

	"example.com/logto-gin-starter/auth"
)

// onEvent does what an event of Logto's calls for. An event of your own goes here. It may come twice, or never: what must not
// be missed is found out by revalidation.
func (app App) onEvent(ctx context.Context, event auth.WebhookEvent) (err error) {
	ends, signIns, changed := false, true, event.Members
	switch event.Name {
	case auth.EventUserSuspension:
		ends = event.Suspended
	case auth.EventUserDeleted:
		ends = true
	case auth.EventPasswordReset:
		ends, signIns = true, false // who forgot it while signing in goes on with the new one
	case auth.EventUserData:
		changed = []string{event.UserID}
	}
	if ends && event.UserID != "" {
		_, err = app.Sessions.EndBefore(ctx, event.UserID, event.CreatedAt, signIns)
	}
	for i := 0; i < len(changed) && err == nil; i++ {
		_, err = app.Sessions.MarkDue(ctx, changed[i])
	}
	return err
}

// webhook is called by Logto when something has changed there. Without a key the address does not exist.
func (app App) webhook(c *gin.Context) error {
	body, err := io.ReadAll(c.Request.Body)
	if _, isLarge := errors.AsType[*http.MaxBytesError](err); isLarge {
		return err
	}
	// What is cut off has another signature.
	event, err := app.Auth.VerifyWebhook(body, c.GetHeader("logto-signature-sha-256"))
	if err != nil {
		return err
	}
	if event.UserID != "" {
		c.Set(personKey, app.Sessions.Label(event.UserID))
	}
	return app.onEvent(c.Request.Context(), event)
}

// refuseWebhook says what to answer to a webhook that was not taken.
func refuseWebhook(err error) (code int, kind string) {
	_, isLarge := errors.AsType[*http.MaxBytesError](err)
	switch {
	case errors.Is(err, auth.ErrNoWebhooks):
		return http.StatusNotFound, "not_found"
	case errors.Is(err, auth.ErrSignature):
		code = http.StatusUnauthorized
	case errors.Is(err, auth.ErrInvalidOption):
		code = http.StatusBadRequest
	case isLarge:
		code = http.StatusRequestEntityTooLarge
	default:
		code = http.StatusServiceUnavailable
	}
	return code, http.StatusText(code)
}
