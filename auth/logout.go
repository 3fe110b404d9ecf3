package auth

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"
)

// logoutEvent is the member of events that makes a JWT a logout token.
const logoutEvent = "http://schemas.openid.net/event/backchannel-logout"

// maxLogoutLife bounds for how long used logout tokens are remembered; Logto's live for two minutes.
const maxLogoutLife = 24 * time.Hour

// LogoutTokenClaims say whose session ended at Logto (OpenID Connect Back-Channel Logout 1.0 §2.4). At least one of
// Subject and SessionID is set.
type LogoutTokenClaims struct {
	ID        string      `json:"jti"`
	Expiry    NumericDate `json:"exp"`
	Subject   string      `json:"sub,omitzero"`
	SessionID string      `json:"sid,omitzero"`

	Nonce  json.RawMessage            `json:"nonce,omitzero"` // prohibited: an ID token must not pass for a logout token
	Events map[string]json.RawMessage `json:"events"`
}

// VerifyLogoutToken verifies the logout token of a back-channel logout request (§2.6) and that it was not used before.
// Then end the sessions, and say so by [Client.LogoutDone]. A refusal is [ErrInvalidToken]; other errors are Logto's keys,
// or Config.Replays, not to be had, and worth a second try by Logto. docs/how-it-works.md#sign-outs-from-logto has a picture.
func (c *Client) VerifyLogoutToken(ctx context.Context, raw string) (claims LogoutTokenClaims, err error) {
	defer wrap(&err, "verify logout token")
	// It should say what it is, but some say nothing (§2.4).
	payload, _, err := c.verify(ctx, raw, c.config.AppID, strangers, "", "logout+jwt", "application/logout+jwt")
	if err != nil {
		return LogoutTokenClaims{}, err
	}
	if err := unmarshalClaims(payload, &claims, new(map[string]json.RawMessage)); err != nil {
		return LogoutTokenClaims{}, err
	}
	var event map[string]json.RawMessage
	err = refuse(ErrInvalidToken,
		fault{claims.ID == "", "jti is missing"},
		fault{claims.Subject == "" && claims.SessionID == "", "sub and sid are missing"},
		fault{claims.Nonce != nil, "a nonce is prohibited"},
		fault{time.Until(claims.Expiry.Time()) > maxLogoutLife, "exp is too far ahead to remember the token until then"},
		fault{json.Unmarshal(claims.Events[logoutEvent], &event) != nil || event == nil, "the logout event is missing"},
	)
	if err != nil {
		return LogoutTokenClaims{}, err
	}
	used, err := c.config.Replays.Noted(ctx, claims.ID)
	if err != nil {
		return LogoutTokenClaims{}, err
	}
	if used {
		return LogoutTokenClaims{}, fmt.Errorf("%w: used before", ErrInvalidToken)
	}
	return claims, nil
}

// LogoutDone notes that a logout token was used, for as long as it could be accepted again. Call it when the sessions have
// ended, not before: what ended twice is no harm, but a logout that failed must find its token good at Logto's next try.
// So an error here is no reason to refuse the request.
func (c *Client) LogoutDone(ctx context.Context, claims LogoutTokenClaims) error {
	life := time.Until(claims.Expiry.Time()) + c.leeway
	return c.config.Replays.Note(ctx, claims.ID, max(life, time.Second))
}

// memoryReplays is a Replays for one process: the IDs.
type memoryReplays struct{ sync.Map }

func (m *memoryReplays) Note(_ context.Context, id string, life time.Duration) error {
	m.Store(id, nil)
	time.AfterFunc(life, func() { m.Delete(id) })
	return nil
}

func (m *memoryReplays) Noted(_ context.Context, id string) (bool, error) {
	_, noted := m.Load(id)
	return noted, nil
}
