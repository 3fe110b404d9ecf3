package routes

import (
	"context"
	"errors"
	"net/http"

	"github.com/gin-gonic/gin"
)

// The events that App.Observe is told of.
const (
	// ObservedSignIn: a browser came back from Logto. The outcome is "completed", "canceled" by a browser that went away, or the
	// name of the page that the person reads; see status.
	ObservedSignIn = "sign_in"
	// ObservedLogout and ObservedWebhook: Logto called. The outcome is "completed", "refused", or "failed", which is ours.
	ObservedLogout  = "backchannel_logout"
	ObservedWebhook = "webhook"
	// ObservedLimit: a request was beyond RATE_LIMIT. It has no outcome.
	ObservedLimit = "limit"
)

func (app App) observeSignIn(ctx context.Context, err error) {
	outcome := "completed"
	if errors.Is(ctx.Err(), context.Canceled) {
		outcome = "canceled"
	} else if err != nil {
		_, outcome = status(err)
	}
	app.Observe(ctx, ObservedSignIn, outcome, 1)
}

// observeCall tells what became of a call of Logto's.
func (app App) observeCall(event string) gin.HandlerFunc {
	return func(c *gin.Context) {
		c.Next()
		outcome := "completed"
		if code := c.Writer.Status(); code >= http.StatusInternalServerError {
			outcome = "failed"
		} else if code >= http.StatusBadRequest {
			outcome = "refused"
		}
		app.Observe(c.Request.Context(), event, outcome, 1)
	}
}
