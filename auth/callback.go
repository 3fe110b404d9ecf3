package auth

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"time"
)

// CallbackResult is what became of a sign-in.
type CallbackResult struct {
	Claims   IDTokenClaims
	ReturnTo string // as given to SignIn; also with an error, once the sign-in is known, so that one can try again
}

// codeLife is for how long a code can be exchanged at most (RFC 6749 §4.1.2 recommends ten times that, Logto has this).
const codeLife = time.Minute

// A CallbackOption changes which sign-ins are accepted.
type CallbackOption int

// OnlyAfterLogin accepts a sign-in only if it began with PromptLogin: any other is overtaken.
const OnlyAfterLogin CallbackOption = 0

// HandleSignInCallback ends the sign-in that the callback's query belongs to: it spends the code for tokens, verifies the
// ID token, and starts a session under a new ID.
//
// Errors: [ErrUnknownSignIn], [ErrOvertaken] and [ErrInvalidCallback] are the person's or an attacker's doing; an [*OAuthError]
// with Status 0 is Logto's refusal in the redirect, such as access_denied; one with a Status comes from the token endpoint
// (invalid_grant: the code is bad, used or expired); [ErrUnmetAuthentication]; [ErrInvalidToken] and [ErrProvider] are Logto's
// fault; others are the Storage's.
func (s *Session) HandleSignInCallback(ctx context.Context, query url.Values, options ...CallbackOption) (CallbackResult, error) {
	pending, err := s.takeSignIn(ctx, query)
	result := CallbackResult{ReturnTo: pending.ReturnTo}
	if err == nil && slices.Contains(options, OnlyAfterLogin) && !pending.Login {
		err = ErrOvertaken
	}
	if err == nil {
		result.Claims, err = s.finishSignIn(ctx, query, pending)
	}
	if err != nil {
		return result, fmt.Errorf("sign-in callback: %w", err)
	}
	// Until now it was noted for as long as its code can live. That this fails lets nobody in twice: a code is for once too.
	_, _ = s.storage.UseSignIn(ctx, pending.state, time.Until(pending.began().Add(SignInLife+s.client.leeway)))
	return result, nil
}

func (s *Session) finishSignIn(ctx context.Context, query url.Values, pending pendingSignIn) (claims IDTokenClaims, err error) {
	p, err := s.client.provider.get(ctx)
	if err != nil {
		return claims, err
	}
	if err := s.client.checkResponse(p, query); err != nil {
		return claims, err
	}
	exchanging, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	token, err := s.client.requestToken(exchanging, p, "exchange code", url.Values{ // RFC 6749 §4.1.3
		"grant_type": {"authorization_code"}, "code": {query.Get("code")},
		"redirect_uri": {pending.RedirectURI}, "code_verifier": {pending.verifier()},
	})
	if err != nil {
		return claims, err
	}
	raw := token.IDToken.Value()
	if raw == "" {
		return claims, fmt.Errorf("%w: no ID token came", ErrInvalidToken)
	}
	claims, err = s.client.verifyIDToken(ctx, raw, token.AccessToken, pending.nonce())
	if err != nil {
		return claims, fmt.Errorf("ID token: %w", err)
	}
	if err := s.client.checkAuthentication(claims, pending); err != nil {
		return IDTokenClaims{}, fmt.Errorf("ID token: %w", err)
	}
	access := map[string]storedToken{target{}.key(): token.stored()}
	r := record{asked: time.Now(), RefreshToken: token.RefreshToken, Access: access}
	r.setIDToken(raw)
	return claims, s.start(ctx, claims, r, pending)
}

// start starts the session. The active organization is as in the one before, if it was the same person's; what another person had
// granted in the same browser is revoked, as at a sign-out.
func (s *Session) start(ctx context.Context, claims IDTokenClaims, r record, pending pendingSignIn) error {
	before, _ := s.read(ctx) // what can't be read is neither kept nor revoked
	var replaced record
	if before.person.Subject != claims.Subject {
		before, replaced = record{}, before
	}
	names := s.client.organizationNames(ctx, claims, before.person, r.opaque())
	r.person = claims.person(claims.Subject, before.person, names)
	identity, tokens, err := r.encode()
	if err != nil {
		return err
	}
	started, err := s.storage.Start(ctx, claims.Subject, claims.SessionID, pending.began(), identity, tokens)
	if err != nil {
		return err
	}
	if !started {
		// Not in the background: Logto gives the next sign-in of this browser the same grant.
		if err := s.revokeUnshared(ctx, r); err != nil {
			s.client.log.WarnContext(ctx, "tokens not revoked", "error", err)
		}
		return ErrOvertaken
	}
	s.revokeSoon(ctx, replaced, 0)
	return nil
}

// takeSignIn comes before anything else is looked at: whatever the query says, its sign-in is used up. A sign-in that is
// known, but used or too old, comes with the error.
func (s *Session) takeSignIn(ctx context.Context, query url.Values) (pendingSignIn, error) {
	var pending pendingSignIn
	states := query["state"]
	if len(states) != 1 || states[0] == "" {
		return pending, fmt.Errorf("%w: no single state", ErrUnknownSignIn)
	}
	value, secret := s.storage.OpenSignIn(states[0])
	if value == nil {
		return pending, ErrUnknownSignIn
	}
	if err := json.Unmarshal(value, &pending); err != nil {
		return pending, fmt.Errorf("read sign-in: %w", err)
	}
	pending.state, pending.secret = states[0], secret
	if age := time.Since(pending.began()); age > SignInLife || age < -s.client.leeway {
		return pending, fmt.Errorf("%w: too old", ErrUnknownSignIn)
	}
	first, err := s.storage.UseSignIn(ctx, pending.state, codeLife)
	if err != nil {
		return pending, fmt.Errorf("use sign-in: %w", err)
	}
	if !first {
		return pending, fmt.Errorf("%w: used", ErrUnknownSignIn)
	}
	return pending, nil
}

// checkAuthentication compares when and how the person signed in at Logto with what the sign-in asked for (OpenID Connect Core
// §3.1.2.1).
func (c *Client) checkAuthentication(claims IDTokenClaims, pending pendingSignIn) error {
	signedIn := claims.AuthTime.Time().Add(c.leeway)
	switch {
	case pending.MaxAge > 0 && signedIn.Before(time.Now().Add(-pending.MaxAge)):
		return fmt.Errorf("%w: auth_time is missing or older than max_age", ErrInvalidToken)
	case pending.Login && signedIn.Before(pending.began()):
		return fmt.Errorf("%w: auth_time is missing or from before prompt=login", ErrInvalidToken)
	case len(pending.ACRValues) > 0 && !slices.Contains(pending.ACRValues, claims.ACR.Value()):
		return ErrUnmetAuthentication
	}
	return nil
}

// SignedInWithin reports whether the person has signed in at Logto at most so long ago, give or take Config.Leeway. Claims without
// auth_time say no: ask for it with SignInOptions.MaxAge.
func (c *Client) SignedInWithin(age time.Duration, claims IDTokenClaims) bool {
	passed := time.Since(claims.AuthTime.Time())
	return claims.AuthTime > 0 && passed <= age+c.leeway && passed >= -c.leeway
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
