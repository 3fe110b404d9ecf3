package auth

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tidwall/gjson"
)

// Events of Logto that this application knows what to do with (Logto's docs, "Webhooks events").
const (
	EventUserDeleted       = "User.Deleted"
	EventUserSuspension    = "User.SuspensionStatus.Updated"
	EventUserData          = "User.Data.Updated"
	EventPasswordReset     = "PostResetPassword"
	EventOrganizationUsers = "Organization.Membership.Updated"
)

// WebhookEvent is what Logto tells by a webhook. A field that the event lacks is empty.
type WebhookEvent struct {
	Name           string    `json:"event"`
	CreatedAt      time.Time `json:"createdAt"`
	UserID         string    `json:"userId"`         // the person's subject
	Suspended      bool      `json:"-"`              // of EventUserSuspension: not lifted
	OrganizationID string    `json:"organizationId"` // of EventOrganizationUsers
	Members        []string  `json:"-"`              // of EventOrganizationUsers: the subjects of those who were added or removed

	Body json.RawMessage `json:"-"` // all of it
}

// VerifyWebhook checks a webhook's signature over the raw body, from the header logto-signature-sha-256: the hex of an
// HMAC-SHA256 (Logto's docs, "Secure your webhooks"). Logto signs no time of delivery, so the same request may come twice:
// do nothing that the event's CreatedAt does not justify. Errors: [ErrNoWebhooks]; [ErrSignature]; [ErrInvalidOption] for a
// signed body that is no event.
func (c *Client) VerifyWebhook(body []byte, signature string) (WebhookEvent, error) {
	if len(*c.webhooks) == 0 {
		return WebhookEvent{}, ErrNoWebhooks
	}
	given, err := hex.DecodeString(signature)
	isSignedWith := func(key string) bool {
		mac := hmac.New(sha256.New, []byte(key))
		mac.Write(body) // never fails, by its documentation
		return hmac.Equal(mac.Sum(nil), given)
	}
	if err != nil || !slices.ContainsFunc(*c.webhooks, isSignedWith) {
		return WebhookEvent{}, fmt.Errorf("webhook: %w", ErrSignature)
	}
	var event struct {
		WebhookEvent
		Added   []string `json:"addedUserIds"`
		Removed []string `json:"removedUserIds"`
	}
	if err := json.Unmarshal(body, &event); err != nil || event.Name == "" || event.CreatedAt.IsZero() {
		return WebhookEvent{}, fmt.Errorf("webhook: %w: not an event", ErrInvalidOption)
	}
	// What has changed may be the person, or only what is stored with them; then the call that did it names them.
	concerned, person := gjson.GetBytes(body, "params.userId").String(), gjson.GetBytes(body, "data")
	event.Suspended, event.Body = person.Get("isSuspended").Bool(), body
	switch {
	case strings.HasPrefix(event.Name, "User."):
		event.UserID = cmp.Or(event.UserID, concerned, person.Get("id").String())
	case event.Name == EventOrganizationUsers:
		event.Members = append(append(event.Added, event.Removed...), concerned)
		event.Members = slices.DeleteFunc(event.Members, func(id string) bool { return id == "" })
	}
	return event.WebhookEvent, nil
}
