package auth

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"net/url"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// CallbackResult is what became of a sign-in.
type CallbackResult struct {
	Claims   IDTokenClaims
	ReturnTo string // as given to SignIn; also with an error, once the sign-in is known, so that one can try again
}

// HandleSignInCallback ends the sign-in that the callback's query belongs to: it spends the code for tokens, verifies the
// ID token, and starts a session under a new ID.
//
// Errors: [ErrUnknownSignIn] and [ErrInvalidCallback] are the person's or an attacker's doing; an [*OAuthError] with
// Status 0 is Logto's refusal in the redirect, such as access_denied; one with a Status comes from the token endpoint
// (invalid_grant: the code is bad, used or expired); [ErrInvalidToken] and [ErrProvider] are Logto's fault; others are the
// Storage's.
func (s *Session) HandleSignInCallback(ctx context.Context, query url.Values) (CallbackResult, error) {
	pending, err := s.takeSignIn(ctx, query)
	if err != nil {
		return CallbackResult{}, fmt.Errorf("sign-in callback: %w", err)
	}
	result := CallbackResult{ReturnTo: pending.ReturnTo}
	if result.Claims, err = s.finishSignIn(ctx, query, pending); err != nil {
		return result, fmt.Errorf("sign-in callback: %w", err)
	}
	return result, nil
}

func (s *Session) finishSignIn(ctx context.Context, query url.Values, pending pendingSignIn) (IDTokenClaims, error) {
	var none IDTokenClaims
	p, err := s.client.provider.get(ctx)
	if err != nil {
		return none, err
	}
	if err := s.client.checkResponse(p, query); err != nil {
		return none, err
	}
	token, err := s.client.exchange(ctx, p, query.Get("code"), pending)
	if err != nil {
		return none, err
	}
	raw, _ := token.Extra("id_token").(string)
	if raw == "" {
		return none, fmt.Errorf("%w: no ID token came", ErrInvalidToken)
	}
	claims, identity, err := s.client.verifyIDToken(ctx, raw, token.AccessToken, pending.Nonce)
	if err != nil {
		return none, fmt.Errorf("ID token: %w", err)
	}
	if oldest := time.Now().Add(-pending.MaxAge - s.client.config.Leeway); pending.MaxAge > 0 && claims.AuthTime.Time().Before(oldest) {
		return none, fmt.Errorf("ID token: %w: auth_time is missing or older than max_age", ErrInvalidToken)
	}
	set := tokenSet{
		RefreshToken: token.RefreshToken,
		Access:       map[string]storedToken{target{}.key(): stored(token)},
	}
	set.setIDToken(raw)
	tokens, err := json.Marshal(set)
	if err != nil {
		return none, err
	}
	if err := s.storage.Start(ctx, claims.Subject, claims.SessionID, identity, tokens); err != nil {
		return none, fmt.Errorf("start session: %w", err)
	}
	return claims, nil
}

// takeSignIn comes before anything else is looked at: whatever the query says, its sign-in is used up.
func (s *Session) takeSignIn(ctx context.Context, query url.Values) (pendingSignIn, error) {
	var pending pendingSignIn
	states := query["state"]
	if len(states) != 1 || states[0] == "" {
		return pending, fmt.Errorf("%w: no single state", ErrUnknownSignIn)
	}
	value, err := s.storage.TakeSignIn(ctx, states[0])
	if err != nil {
		return pending, fmt.Errorf("take sign-in: %w", err)
	}
	if value == nil {
		return pending, ErrUnknownSignIn
	}
	if err := json.Unmarshal(value, &pending); err != nil {
		return pending, fmt.Errorf("take sign-in: %w", err)
	}
	if subtle.ConstantTimeCompare([]byte(pending.State), []byte(states[0])) != 1 {
		return pending, ErrUnknownSignIn
	}
	return pending, nil
}

// checkResponse checks the authorization response before its code is spent: each parameter once, from the issuer that was
// asked (RFC 9207 §2.4), and no error.
func (c *Client) checkResponse(p *provider, query url.Values) error {
	for _, name := range []string{"code", "iss", "error", "error_description"} {
		if len(query[name]) > 1 {
			return fmt.Errorf("%w: %s is repeated", ErrInvalidCallback, name)
		}
	}
	if issuer := query.Get("iss"); issuer != c.issuer && (p.IssParameter || query.Has("iss")) {
		return fmt.Errorf("%w: iss is not the issuer that was asked", ErrInvalidCallback)
	}
	if query.Has("error") {
		return &OAuthError{Code: printable(query.Get("error")), Description: printable(query.Get("error_description"))}
	}
	if query.Get("code") == "" {
		return fmt.Errorf("%w: no code", ErrInvalidCallback)
	}
	return nil
}

// exchange spends the code (RFC 6749 §4.1.3).
func (c *Client) exchange(ctx context.Context, p *provider, code string, pending pendingSignIn) (*oauth2.Token, error) {
	ctx, cancel := context.WithTimeout(oidc.ClientContext(ctx, c.http), callTimeout)
	defer cancel()
	config := c.oauth(p)
	config.RedirectURL = pending.RedirectURI
	token, err := config.Exchange(ctx, code, oauth2.VerifierOption(pending.Verifier))
	if err != nil {
		return nil, providerError(ctx, "exchange code", err)
	}
	return token, nil
}
