package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"unicode"
)

// What a caller may act on; test with errors.Is. Failures of the Storage come through as they are, wrapped.
var (
	// ErrNotAuthenticated: nobody is signed in in this session.
	ErrNotAuthenticated = errors.New("not authenticated")
	// ErrSignInRequired: Logto no longer gives tokens (the grant expired or was revoked, and the session has ended; or there
	// is no refresh token). Send the person to sign in again.
	ErrSignInRequired = errors.New("sign-in required")
	// ErrUnknownSignIn: the callback's state is missing, unknown, used, too old, or of another browser.
	ErrUnknownSignIn = errors.New("unknown sign-in")
	// ErrOvertaken: the person's sessions were ended from outside after the sign-in had begun, so that none was started.
	ErrOvertaken = errors.New("the sign-in was overtaken by a sign-out")
	// ErrUnmetAuthentication: the sign-in was none of SignInOptions.ACRValues: the person has no second factor, or their Logto asks
	// for none.
	ErrUnmetAuthentication = errors.New("the sign-in lacks the asked-for acr")
	// ErrInvalidCallback: the callback carries parameters that Logto does not send: repeated, missing, or the iss
	// of another issuer (RFC 9207 §2.4).
	ErrInvalidCallback = errors.New("invalid callback")
	// ErrInvalidToken: a token failed verification. What Logto sent is not used.
	ErrInvalidToken = errors.New("invalid token")
	// ErrOpaqueToken: the token is not a JWT, so it has no claims to read.
	ErrOpaqueToken = errors.New("opaque token")
	// ErrInvalidOption: an option was refused before anything was sent.
	ErrInvalidOption = errors.New("invalid option")
	// ErrUnknownResource: the resource is not among Config.Resources, so Logto would refuse it.
	ErrUnknownResource = errors.New("resource is not configured")
	// ErrOrganizationsScope: an organization token needs [ScopeOrganizations] among Config.Scopes.
	ErrOrganizationsScope = errors.New("the scope " + ScopeOrganizations + " is not configured")
	// ErrNotMember: the person is not a member of the organization.
	ErrNotMember = errors.New("not a member of the organization")
	// ErrInsufficientScope: a token is good, but does not permit what was demanded.
	ErrInsufficientScope = errors.New("insufficient scope")
	// ErrNoWebhooks: Config.WebhookKey is not set.
	ErrNoWebhooks = errors.New("no webhook key is configured")
	// ErrSignature: a webhook was not signed with Config.WebhookKey.
	ErrSignature = errors.New("wrong signature")
	// ErrProvider: Logto could not be reached, did not answer in time, or gave an answer that is none.
	// [IsTimeout] tells the second case.
	ErrProvider = errors.New("logto")
)

// OAuthError is an error that Logto answered with (RFC 6749 §4.1.2.1 and §5.2, OpenID Connect Core §3.1.2.6).
// Its text is meant for logs and developers, not for the person.
type OAuthError struct {
	Code        string // such as "access_denied"; empty if the answer held none
	Description string // for developers
	LogtoCode   string // Logto's own, such as "oidc.access_denied"; empty in a redirect
	Status      int    // of the HTTP answer; 0 in a redirect
}

func (e *OAuthError) Error() string {
	text := "logto answered"
	if e.Status != 0 {
		text += fmt.Sprintf(" %d", e.Status)
	}
	if e.Code != "" {
		text += " " + e.Code
	}
	if e.Description != "" {
		text += ": " + e.Description
	}
	return text
}

// answered returns the error that Logto answered with; a zero one if err is no such answer.
func answered(err error) OAuthError {
	if answer, ok := errors.AsType[*OAuthError](err); ok {
		return *answer
	}
	return OAuthError{}
}

// IsTimeout tells whether err comes from Logto not answering in time.
func IsTimeout(err error) bool {
	netErr, ok := errors.AsType[net.Error](err)
	return ok && netErr.Timeout() || errors.Is(err, context.DeadlineExceeded)
}

// oauthError reads the error that an answer's body holds (RFC 6749 §5.2); a body that is none gives only the status.
func oauthError(status int, body []byte) *OAuthError {
	var fields map[string]any
	_ = json.Unmarshal(body, &fields) // not JSON: there are none
	return &OAuthError{printable(fields["error"]), printable(fields["error_description"]), printable(fields["code"]), status}
}

// fault is a reason to refuse something, if it is one.
type fault struct {
	is      bool
	problem string
}

// refuse returns the first fault that is one, as an error of the kind; nil if none is.
func refuse(kind error, faults ...fault) error {
	for _, f := range faults {
		if f.is {
			return fmt.Errorf("%w: %s", kind, f.problem)
		}
	}
	return nil
}

// wrap puts the step that failed before an error.
func wrap(err *error, step string) {
	if *err != nil {
		*err = fmt.Errorf("%s: %w", step, *err)
	}
}

// printable returns s, if it is a string, cut to a length and alphabet that cannot disturb a log.
func printable(s any) string {
	text, _ := s.(string)
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, " "))
	if runes := []rune(text); len(runes) > 300 {
		return string(runes[:300]) + "…"
	}
	return text
}

// isOutage tells whether Logto gave no answer, or one that says it can't.
func isOutage(err error) bool {
	return errors.Is(err, ErrProvider) || answered(err).Status >= http.StatusInternalServerError
}

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
