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

// call makes a handler of Gin's from one that takes a call of Logto's. If that fails, refuse says what to answer: 503, after which
// Logto may call again, or what is wrong with the call.
func (app App) call(event string, take handler, refuse func(error) (code int, kind string)) gin.HandlerFunc {
	return func(c *gin.Context) {
		outcome := "completed"
		if err := take(c); err != nil {
			code, kind := refuse(err)
			if outcome = "refused"; code == http.StatusServiceUnavailable {
				outcome = "failed"
				c.Header("Retry-After", "5")
			}
			c.Set(failureKey, err)
			c.JSON(code, gin.H{"error": kind})
		}
		app.Observe(c.Request.Context(), event, outcome, 1)
	}
}
