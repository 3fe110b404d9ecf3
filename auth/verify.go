package auth

import (
	"context"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
)

// maxToken bounds a token's length in bytes; Logto's have about 1 KB.
const maxToken = 64 << 10

// checks are what distinguishes one kind of token from another.
type checks struct {
	audience string
	types    []string // allowed values of the header's typ, in lower case; "" is none
}

// verify checks what all of Logto's tokens have in common: a signature by one of its keys and an allowed algorithm,
// typ, iss, aud (by go-oidc), and exp, iat and nbf with leeway. It returns the payload, and the token as go-oidc sees it.
// A failure is ErrInvalidToken if it is the token's fault, ErrProvider if Logto's keys can't be had.
func (c *Client) verify(ctx context.Context, raw string, want checks) ([]byte, *oidc.IDToken, error) {
	if len(raw) > maxToken {
		return nil, nil, fmt.Errorf("%w: longer than %d bytes", ErrInvalidToken, maxToken)
	}
	if typ, err := headerType(raw); err != nil || !slices.Contains(want.types, typ) {
		return nil, nil, fmt.Errorf("%w: typ %q", ErrInvalidToken, printable(typ))
	}
	p, err := c.provider.get(ctx)
	if err != nil {
		return nil, nil, err
	}
	keys := &causeKeeper{keySet: c.keys}
	token, err := oidc.NewVerifier(c.issuer, keys, &oidc.Config{
		ClientID:             want.audience,
		SupportedSigningAlgs: p.SigningAlgs,
		SkipExpiryCheck:      true, // go-oidc knows no leeway
	}).Verify(ctx, raw)
	if errors.Is(keys.err, ErrProvider) {
		return nil, nil, keys.err
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %s", ErrInvalidToken, printable(err.Error()))
	}
	var payload json.RawMessage
	if err := token.Claims(&payload); err != nil {
		return nil, nil, fmt.Errorf("%w: %s", ErrInvalidToken, printable(err.Error()))
	}
	return payload, token, c.check(payload, want.audience)
}

// causeKeeper remembers why a signature could not be verified, which go-oidc reduces to a text.
type causeKeeper struct {
	*keySet
	err error
}

func (k *causeKeeper) VerifySignature(ctx context.Context, jwt string) (payload []byte, err error) {
	payload, k.err = k.keySet.VerifySignature(ctx, jwt)
	return payload, k.err
}

// check compares what every token says about itself: iss and aud once more, for go-oidc takes "AUD" for "aud", as
// encoding/json does, and the times, of which exp and iat are required (RFC 7519 §4.1).
func (c *Client) check(payload []byte, audience string) error {
	var claims struct {
		Issuer    string       `json:"iss"`
		Audience  Audience     `json:"aud"`
		Expiry    *NumericDate `json:"exp"`
		IssuedAt  *NumericDate `json:"iat"`
		NotBefore *NumericDate `json:"nbf"`
	}
	if _, err := unmarshalClaims(payload, &claims); err != nil {
		return err
	}
	if claims.Issuer != c.issuer || !slices.Contains(claims.Audience, audience) {
		return fmt.Errorf("%w: iss or aud is missing", ErrInvalidToken)
	}
	if claims.Expiry == nil || claims.IssuedAt == nil {
		return fmt.Errorf("%w: exp or iat is missing", ErrInvalidToken)
	}
	earliest, latest := time.Now().Add(-c.config.Leeway), time.Now().Add(c.config.Leeway)
	switch {
	case !earliest.Before(claims.Expiry.Time()):
		return fmt.Errorf("%w: expired", ErrInvalidToken)
	case claims.IssuedAt.Time().After(latest):
		return fmt.Errorf("%w: issued in the future", ErrInvalidToken)
	case claims.NotBefore != nil && claims.NotBefore.Time().After(latest):
		return fmt.Errorf("%w: not valid yet", ErrInvalidToken)
	}
	return nil
}

// idTokenTypes: Logto sends none; "JWT" is what others send (RFC 7519 §5.1).
var idTokenTypes = []string{"", "jwt"}

// verifyIDToken verifies an ID token (OpenID Connect Core §3.1.3.7) that came with accessToken. nonce is compared if
// it is given: an ID token from a refresh carries none, or the old one. It returns the claims and the identity record.
func (c *Client) verifyIDToken(ctx context.Context, raw, accessToken, nonce string) (claims IDTokenClaims, identity []byte, err error) {
	payload, token, err := c.verify(ctx, raw, checks{audience: c.config.AppID, types: idTokenTypes})
	if err != nil {
		return IDTokenClaims{}, nil, err
	}
	if err := json.Unmarshal(payload, &claims); err != nil {
		return IDTokenClaims{}, nil, err
	}
	switch {
	case claims.Subject == "":
		err = errors.New("sub is missing")
	case len(claims.Audience) != 1:
		err = errors.New("has further audiences, which are not trusted")
	case claims.AuthorizedParty != "" && claims.AuthorizedParty != c.config.AppID:
		err = errors.New("azp is another application")
	case nonce != "" && subtle.ConstantTimeCompare([]byte(nonce), []byte(claims.Nonce)) != 1:
		err = errors.New("nonce is not the one that was sent")
	case claims.AccessTokenHash != "" && token.VerifyAccessToken(accessToken) != nil:
		err = errors.New("at_hash does not fit the access token")
	}
	if err != nil {
		return IDTokenClaims{}, nil, fmt.Errorf("%w: %w", ErrInvalidToken, err)
	}
	identity, err = identityOf(claims, payload)
	return claims, identity, err
}

// accessTokenTypes are the two spellings of RFC 9068 §4.
var accessTokenTypes = []string{"at+jwt", "application/at+jwt"}

// VerifyAccessToken verifies a token that an API has received (RFC 9068 §4): signature, iss, exp, iat, nbf, typ, and
// that it is for audience, the API's own resource indicator. Then ask the claims for [AccessTokenClaims.HasScopes]
// and [AccessTokenClaims.Organization]. A refusal is [ErrInvalidToken]; [ErrProvider] is Logto's keys not to be had.
func (c *Client) VerifyAccessToken(ctx context.Context, raw, audience string) (AccessTokenClaims, error) {
	if audience == "" {
		return AccessTokenClaims{}, fmt.Errorf("verify access token: %w: no audience", ErrInvalidOption)
	}
	payload, _, err := c.verify(ctx, raw, checks{audience: audience, types: accessTokenTypes})
	if err != nil {
		return AccessTokenClaims{}, fmt.Errorf("verify access token: %w", err)
	}
	var claims AccessTokenClaims
	if err := json.Unmarshal(payload, &claims); err != nil {
		return AccessTokenClaims{}, fmt.Errorf("verify access token: %w", err)
	}
	if claims.Subject == "" || claims.ClientID == "" {
		return AccessTokenClaims{}, fmt.Errorf("verify access token: %w: sub or client_id is missing", ErrInvalidToken)
	}
	return claims, nil
}

// headerType returns the typ of a JWT's header in lower case (RFC 7515 §4.1.9: a media type, so case does not count).
func headerType(raw string) (string, error) {
	encoded, _, _ := strings.Cut(raw, ".")
	decoded, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil {
		return "", err
	}
	var header struct {
		Type string `json:"typ"`
	}
	err = json.Unmarshal(decoded, &header)
	return strings.ToLower(header.Type), err
}
