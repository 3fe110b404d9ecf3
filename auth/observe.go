package auth

import (
	"context"
	"errors"
)

// The events that Config.Observe is told of. Their outcomes are "completed"; "ended": Logto gives no more tokens for this
// sign-in; "refused": Logto answered with another error; "unavailable": Logto did not answer, or with a server error; and
// "failed": anything else.
const (
	ObservedRefresh      = "refresh"      // a refresh token was sent to Logto
	ObservedRevalidation = "revalidation" // Logto was asked whether a person is still who they were
)

func (c *Client) observe(ctx context.Context, event string, err error) {
	if c.config.Observe == nil {
		return
	}
	outcome := "failed"
	switch {
	case err == nil:
		outcome = "completed"
	case errors.Is(err, ErrSignInRequired), answered(err).Code == "invalid_grant":
		outcome = "ended"
	case isOutage(err):
		outcome = "unavailable"
	case answered(err) != (OAuthError{}):
		outcome = "refused"
	}
	c.config.Observe(ctx, event, outcome, 1)
}
