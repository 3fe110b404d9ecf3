package auth

import (
	"cmp"
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
	"github.com/tidwall/gjson"
)

// Verifier verifies tokens of one Logto, for all requests. It needs no credentials, does not change, and may be used
// concurrently.
type Verifier struct {
	issuer   string
	leeway   time.Duration
	http     *http.Client
	provider *cached[*provider]
	keys     *cached[[]jose.JSONWebKey]
	log      *slog.Logger
}

// NewVerifier is for a program that only receives tokens. Of the configuration it needs the Endpoint, and uses what is about
// connections, time and the log. It makes no request: what Logto publishes is fetched when the first token comes. A [Client] is
// a Verifier too.
func NewVerifier(config Config) (*Verifier, error) {
	if err := errors.Join(config.endpointFaults()...); err != nil {
		return nil, fmt.Errorf("logto: %w", err)
	}
	return newVerifier(config), nil
}

func newVerifier(config Config) *Verifier {
	config.Endpoint = strings.TrimRight(config.Endpoint, "/")
	v := &Verifier{
		issuer: config.Endpoint + "/oidc",
		leeway: cmp.Or(config.Leeway, 30*time.Second),
		http:   newHTTPClient(config),
		log:    cmp.Or(config.Log, slog.Default()),
	}
	v.provider = v.newProviderCache()
	v.keys = v.newKeyCache()
	return v
}

// Issuer is the issuer identifier that tokens must carry: the endpoint + "/oidc".
func (v *Verifier) Issuer() string { return v.issuer }

const (
	maxToken  = 64 << 10 // bytes of a token; Logto's have about 1 KB
	maxHeader = 2 << 10  // bytes of its first part; Logto's have about 120
)

// verify checks what all of Logto's tokens have in common: a signature by one of its keys and an allowed algorithm,
// typ, iss, aud (by go-oidc), and exp, iat and nbf with leeway. It returns the payload, and the token as go-oidc sees it.
// A failure is ErrInvalidToken if it is the token's fault, ErrProvider if Logto's keys can't be had. types are the allowed
// values of typ, in lower case; "" is none.
func (v *Verifier) verify(ctx context.Context, raw, audience string, from caller, types ...string) ([]byte, *oidc.IDToken, error) {
	jws, header, err := parseToken(raw)
	if err != nil {
		return nil, nil, err
	}
	value, hasType := header.ExtraHeaders[jose.HeaderType]
	typ, isText := value.(string)
	if hasType != isText || !slices.Contains(types, strings.ToLower(typ)) { // a media type: case does not count (RFC 7515 §4.1.9)
		return nil, nil, fmt.Errorf("%w: typ %q", ErrInvalidToken, printable(typ))
	}
	payload, err := v.verifySignature(ctx, jws, header, from)
	if err != nil {
		return nil, nil, err
	}
	token, err := oidc.NewVerifier(v.issuer, verified(payload), &oidc.Config{
		ClientID:             audience,
		SupportedSigningAlgs: []string{header.Algorithm},
		SkipExpiryCheck:      true, // go-oidc knows no leeway
	}).Verify(ctx, raw)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %s", ErrInvalidToken, printable(err.Error()))
	}
	return payload, token, v.check(payload, audience)
}

// parseToken reads a JWT and what it says about its signature (RFC 7515 §4.1), if it is of an algorithm that is accepted at all.
func parseToken(raw string) (*jose.JSONWebSignature, jose.Header, error) {
	first, _, _ := strings.Cut(raw, ".")
	if len(raw) > maxToken || len(first) > maxHeader {
		return nil, jose.Header{}, fmt.Errorf("%w: too long", ErrInvalidToken)
	}
	jws, err := jose.ParseSignedCompact(raw, asymmetric)
	if err != nil {
		return nil, jose.Header{}, fmt.Errorf("%w: %s", ErrInvalidToken, printable(err.Error()))
	}
	return jws, jws.Signatures[0].Header, nil
}

// verified is the payload of a token whose signature was checked. It stands in for the keys where go-oidc would ask them.
type verified []byte

// VerifySignature implements oidc.KeySet.
func (v verified) VerifySignature(context.Context, string) ([]byte, error) { return v, nil }

// check compares what every token says about itself: iss and aud once more, for go-oidc takes "AUD" for "aud", as
// encoding/json does, and the times, of which exp and iat are required (RFC 7519 §4.1).
func (v *Verifier) check(payload []byte, audience string) error {
	var claims struct {
		Issuer    string      `json:"iss"`
		Audience  Audience    `json:"aud"`
		Expiry    NumericDate `json:"exp"`
		IssuedAt  NumericDate `json:"iat"`
		NotBefore NumericDate `json:"nbf"`
	}
	if err := unmarshalClaims(payload, &claims, new(map[string]json.RawMessage)); err != nil {
		return err
	}
	earliest, latest := time.Now().Add(-v.leeway), time.Now().Add(v.leeway)
	return refuse(ErrInvalidToken,
		fault{claims.Issuer != v.issuer || !slices.Contains(claims.Audience, audience), "iss or aud is missing"},
		fault{claims.Expiry == 0 || claims.IssuedAt == 0, "exp or iat is missing"},
		fault{!earliest.Before(claims.Expiry.Time()), "expired"},
		fault{claims.IssuedAt.Time().After(latest), "issued in the future"},
		fault{claims.NotBefore.Time().After(latest), "not valid yet"},
	)
}

// verifyIDToken verifies an ID token (OpenID Connect Core §3.1.3.7) that came with accessToken. nonce is compared if
// it is given: an ID token from a refresh carries none, or the old one.
func (c *Client) verifyIDToken(ctx context.Context, raw, accessToken, nonce string) (claims IDTokenClaims, err error) {
	payload, token, err := c.verify(ctx, raw, c.config.AppID, ours, "", "jwt") // others than Logto send "JWT" (RFC 7519 §5.1)
	if err != nil {
		return IDTokenClaims{}, err
	}
	if err := claims.UnmarshalJSON(payload); err != nil {
		return IDTokenClaims{}, err
	}
	err = refuse(ErrInvalidToken,
		fault{claims.Subject == "", "sub is missing"},
		fault{len(claims.Audience) != 1, "has further audiences, which are not trusted"},
		fault{claims.AuthorizedParty != "" && claims.AuthorizedParty != c.config.AppID, "azp is another application"},
		fault{nonce != "" && subtle.ConstantTimeCompare([]byte(nonce), []byte(claims.Nonce)) != 1, "nonce is another"},
		fault{claims.AccessTokenHash != "" && token.VerifyAccessToken(accessToken) != nil, "at_hash does not fit the access token"},
	)
	if err != nil {
		return IDTokenClaims{}, err
	}
	return claims, nil
}

// VerifyAccessToken verifies a token that an API has received (RFC 9068 §4): signature, iss, exp, iat, nbf, typ, and
// that it is for audience, the API's own resource indicator. It does not look at what the token permits, and where: ask
// [AccessTokenClaims.HasScopes], and [AccessTokenClaims.Organization], for the permissions of a token that was issued within
// an organization hold there and nowhere else. [Verifier.Authorize] asks both.
//
// A refusal is [ErrInvalidToken]; [ErrProvider] means that nobody knows, because Logto's keys can't be had, or tokens with
// unknown keys have used up how often they are asked for: the caller may try again in a second.
func (v *Verifier) VerifyAccessToken(ctx context.Context, raw, audience string) (claims AccessTokenClaims, err error) {
	defer wrap(&err, "verify access token")
	if audience == "" {
		return AccessTokenClaims{}, fmt.Errorf("%w: no audience", ErrInvalidOption)
	}
	payload, _, err := v.verify(ctx, raw, audience, strangers, "at+jwt", "application/at+jwt") // the spellings of RFC 9068 §4
	if err == nil {
		err = claims.UnmarshalJSON(payload)
	}
	if err != nil {
		return AccessTokenClaims{}, err
	}
	hasOrganization := gjson.GetBytes(payload, "organization_id").Exists()
	err = refuse(ErrInvalidToken,
		fault{hasOrganization && claims.OrganizationID == "", "organization_id is empty"}, // null is not to pass for "in none"
		fault{claims.Subject == "" || claims.ClientID == "", "sub or client_id is missing"},
	)
	if err != nil {
		return AccessTokenClaims{}, err
	}
	return claims, nil
}
