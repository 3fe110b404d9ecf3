package authtest

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

const (
	// SignatureHeader carries the hex HMAC-SHA256 of a webhook's raw body.
	SignatureHeader = "logto-signature-sha-256"

	webhookTimeout    = 10 * time.Second
	dataUpdated       = "User.Data.Updated"
	membershipUpdated = "Organization.Membership.Updated"
)

// Webhook is an application's address that is told of changes. As at Logto each event is posted once, whatever the answer.
// Sign-ins and registrations are not announced here.
type Webhook struct {
	ID         string
	URL        string
	SigningKey string
	Events     []string // by name, such as User.Deleted; empty: all
}

// event is something to tell webhooks; to the body are added its name, when it was, and the webhook's ID.
type event struct {
	name string
	body map[string]any
}

// RegisterWebhook adds a webhook, or replaces the one with this ID: a new signing key makes the old one void.
func (s *Server) RegisterWebhook(hook Webhook) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.webhooks, func(h Webhook) bool { return h.ID == hook.ID })
	if i < 0 {
		s.webhooks = append(s.webhooks, hook)
		return
	}
	s.webhooks[i] = hook
}

// announce posts events and waits for the answers. It must not hold the lock: an application may come back with requests.
func (s *Server) announce(events ...event) {
	s.mu.Lock()
	webhooks := slices.Clone(s.webhooks)
	s.mu.Unlock()
	for _, e := range events {
		e.body["event"], e.body["createdAt"] = e.name, s.opts.Now().UTC().Format("2006-01-02T15:04:05.000Z")
		for _, hook := range webhooks {
			if len(hook.Events) > 0 && !slices.Contains(hook.Events, e.name) {
				continue
			}
			status, err := s.postWebhook(hook, e)
			if err != nil || status >= http.StatusMultipleChoices {
				s.opts.Log.Warn("webhook", "id", hook.ID, "event", e.name, "status", status, "error", err)
			}
		}
	}
}

func (s *Server) postWebhook(hook Webhook, e event) (status int, err error) {
	payload := maps.Clone(e.body)
	payload["hookId"] = hook.ID
	body, err := json.Marshal(payload)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), webhookTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, hook.URL, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	mac := hmac.New(sha256.New, []byte(hook.SigningKey))
	mac.Write(body)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "Logto (https://logto.io/)")
	request.Header.Set(SignatureHeader, hex.EncodeToString(mac.Sum(nil)))
	response, err := s.opts.Backchannel.Do(request)
	if err != nil {
		return 0, err
	}
	return response.StatusCode, response.Body.Close()
}

// byAPI adds to a body what Logto says of the Management API's request that made a change.
func byAPI(method, route string, status int, params map[string]string, body map[string]any) map[string]any {
	path := route
	if params == nil {
		params = map[string]string{}
	}
	for name, value := range params {
		path = strings.ReplaceAll(path, ":"+name, value)
	}
	maps.Copy(body, map[string]any{
		"method": method, "path": path, "matchedRoute": route, "status": status, "params": params, "ip": "127.0.0.1",
	})
	return body
}

// hookUser is a person in Logto's own terms, which are not those of claims.
func hookUser(user User) map[string]any {
	return map[string]any{
		"id": user.Subject, "username": orNull(user.Username), "name": orNull(user.Name), "avatar": orNull(user.Picture),
		"primaryEmail": orNull(user.Email), "primaryPhone": orNull(user.Phone), "isSuspended": user.Suspended,
		"customData": orEmpty(user.CustomData), "identities": orEmpty(user.Identities),
		"createdAt": user.Created.UnixMilli(), "updatedAt": user.Updated.UnixMilli(),
	}
}
