package auth

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	// callTimeout bounds a request to Logto, from connecting to the last byte; a refresh has refreshTimeout.
	callTimeout = 10 * time.Second
	// maxAnswer bounds the body of each answer, in bytes; a discovery document has about 3 KB.
	maxAnswer = 1 << 20
)

// provider is what Logto's discovery document says (OpenID Connect Discovery 1.0 §3).
type provider struct {
	Issuer                string `json:"issuer"`
	AuthorizationEndpoint string `json:"authorization_endpoint"`
	TokenEndpoint         string `json:"token_endpoint"`
	UserinfoEndpoint      string `json:"userinfo_endpoint"`
	RevocationEndpoint    string `json:"revocation_endpoint"`
	EndSessionEndpoint    string `json:"end_session_endpoint"`
	JWKSURI               string `json:"jwks_uri"`
	IssParameter          bool   `json:"authorization_response_iss_parameter_supported"`

	SigningAlgs []jose.SignatureAlgorithm `json:"id_token_signing_alg_values_supported"`
}

// asymmetric are the signature algorithms accepted at all, whatever discovery announces: none of them lets a public
// key, or the application's secret, pass for a signing key.
var asymmetric = []jose.SignatureAlgorithm{
	jose.ES256, jose.ES384, jose.ES512, jose.RS256, jose.RS384, jose.RS512,
	jose.PS256, jose.PS384, jose.PS512, jose.EdDSA,
}

func (v *Verifier) newProviderCache() *cached[*provider] {
	// Addresses hardly ever change, so they serve for a day in an outage of Logto.
	return newCached(time.Hour, 24*time.Hour, func(ctx context.Context) (*provider, error) {
		// Not go-oidc's NewProvider, which puts the body of a refusal into its error.
		var p provider
		if err := v.get(ctx, v.issuer+"/.well-known/openid-configuration", "", &p); err != nil {
			return nil, fmt.Errorf("discovery: %w", err)
		}
		if p.Issuer != v.issuer { // Discovery §4.3
			return nil, fmt.Errorf("discovery: %w: the document is of another issuer", ErrProvider)
		}
		return &p, p.complete()
	})
}

// complete checks what sign-in cannot do without, and cuts the announced algorithms by our own list. Codes, tokens and the
// application's secret go to these endpoints, so a document can't send them to another origin than the issuer's.
func (p *provider) complete() error {
	issuer, _ := url.Parse(p.Issuer) // ours, which was validated
	for field, address := range map[string]string{
		"authorization_endpoint": p.AuthorizationEndpoint,
		"token_endpoint":         p.TokenEndpoint,
		"userinfo_endpoint":      p.UserinfoEndpoint,
		"jwks_uri":               p.JWKSURI,
		"revocation_endpoint":    cmp.Or(p.RevocationEndpoint, p.Issuer), // this one may be missing,
		"end_session_endpoint":   cmp.Or(p.EndSessionEndpoint, p.Issuer), // and so may this one
	} {
		if u, err := url.Parse(address); err != nil || u.Scheme != issuer.Scheme || u.Host != issuer.Host {
			return fmt.Errorf("discovery: %w: %s is missing or not of the issuer's origin", ErrProvider, field)
		}
	}
	p.SigningAlgs = slices.DeleteFunc(p.SigningAlgs, func(alg jose.SignatureAlgorithm) bool { return !slices.Contains(asymmetric, alg) })
	if len(p.SigningAlgs) == 0 {
		return fmt.Errorf("discovery: %w: no usable signature algorithm", ErrProvider)
	}
	return nil
}

// Ready reports whether Logto answers, or did in the last ten seconds: nil, or why not.
func (v *Verifier) Ready(ctx context.Context) error {
	_, err := v.provider.within(ctx, retryAfter)
	return err
}

// maxKeys bounds how many keys a token without a usable kid is tried against.
const maxKeys = 16

// newKeyCache holds Logto's public keys. Unlike go-oidc's own set it forgets a withdrawn key, and no flood of bad tokens
// makes it fetch more often than it should.
func (v *Verifier) newKeyCache() *cached[[]jose.JSONWebKey] {
	return newCached(10*time.Minute, time.Hour, func(ctx context.Context) (keys []jose.JSONWebKey, err error) {
		defer wrap(&err, "fetch keys")
		p, err := v.provider.get(ctx) // mostly known: verifySignature asks for it first
		if err != nil {
			return nil, err
		}
		var set struct {
			Keys []json.RawMessage `json:"keys"`
		}
		if err := v.get(ctx, p.JWKSURI, "", &set); err != nil {
			return nil, err
		}
		for _, raw := range set.Keys {
			var key jose.JSONWebKey // one of a kind that nobody here knows does not spoil the rest
			if key.UnmarshalJSON(raw) == nil && key.IsPublic() && key.Valid() && key.Use != "enc" && len(keys) < maxKeys {
				keys = append(keys, key)
			}
		}
		if len(keys) == 0 {
			return nil, fmt.Errorf("%w: no usable key", ErrProvider)
		}
		return keys, nil
	})
}

// verifySignature returns the payload of a token that one of Logto's keys has signed. When none fits, Logto may have begun
// to sign with a new key, or with another algorithm, so it is asked again. [ErrProvider] means that it could not be
// asked, be it by the limit, so nobody knows.
//
// A stranger's token that names a known key and was not signed by it is refused at once. For one that came from the token
// endpoint, the keys are fetched all the same: the new key may have an old one's name.
func (v *Verifier) verifySignature(ctx context.Context, jws *jose.JSONWebSignature, h jose.Header, who caller) ([]byte, error) {
	announced := func(p *provider) bool { return slices.Contains(p.SigningAlgs, jose.SignatureAlgorithm(h.Algorithm)) }
	p, err := v.provider.find(ctx, who, announced)
	if err != nil {
		return nil, err
	}
	if !announced(p) {
		return nil, fmt.Errorf("%w: algorithm %q is not announced", ErrInvalidToken, printable(h.Algorithm))
	}
	var payload []byte
	verifies := func(key jose.JSONWebKey) bool { // go-jose refuses a key whose kind is not the algorithm's
		verified, err := jws.Verify(key)
		payload = verified
		return err == nil
	}
	isVerified := false
	_, err = v.keys.find(ctx, who, func(keys []jose.JSONWebKey) bool {
		keys = fitting(h, keys)
		isVerified = slices.ContainsFunc(keys, verifies)
		return isVerified || who == strangers && h.KeyID != "" && len(keys) > 0
	})
	if err != nil {
		return nil, err
	}
	if !isVerified {
		return nil, fmt.Errorf("%w: no key verifies the signature", ErrInvalidToken)
	}
	return payload, nil
}

// fitting returns the keys that may have signed the token: those of its kid, or all of them if it names none (OpenID Connect
// Core §10.1), and of its algorithm.
func fitting(h jose.Header, keys []jose.JSONWebKey) []jose.JSONWebKey {
	return slices.DeleteFunc(slices.Clone(keys), func(key jose.JSONWebKey) bool {
		return h.KeyID != "" && h.KeyID != key.KeyID || key.Algorithm != "" && key.Algorithm != h.Algorithm
	})
}

// get reads what an address of Logto's answers into a document, with a bearer token if one is given.
func (v *Verifier) get(ctx context.Context, address string, bearer Secret, document any) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	if bearer != "" {
		request.Header.Set("Authorization", "Bearer "+string(bearer))
	}
	return v.call(request, document)
}

// post sends a form as the application, and reads what is answered into a document, if there is one.
func (c *Client) post(ctx context.Context, address string, form url.Values, document any) error {
	return c.withSecret(func(secret string) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(form.Encode()))
		if err != nil {
			return err
		}
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		request.SetBasicAuth(url.QueryEscape(c.config.AppID), url.QueryEscape(secret)) // RFC 6749 §2.3.1
		return c.call(request, document)
	})
}

// call makes a request to Logto. An answer other than 200 is an *OAuthError.
func (v *Verifier) call(request *http.Request, document any) error {
	request.Header.Set("Accept", "application/json")
	var body []byte
	response, err := v.http.Do(request)
	if err == nil {
		defer response.Body.Close()
		body, err = io.ReadAll(response.Body)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrProvider, cmp.Or(request.Context().Err(), err)) // Err, for err may be the context's cause
	}
	if response.StatusCode != http.StatusOK {
		return oauthError(response.StatusCode, body)
	}
	if claims, ok := document.(json.Unmarshaler); ok { // which looks at all of it itself
		err = claims.UnmarshalJSON(body)
	} else if document != nil {
		err = json.Unmarshal(body, document)
	}
	if err != nil {
		return fmt.Errorf("%w: the answer is not the JSON it should be", ErrProvider)
	}
	return nil
}

// newHTTPClient sends requests for Endpoint to InternalEndpoint instead, if there is one, under the same Host. It fails the
// reading of an answer past maxAnswer, and follows no redirect: no endpoint of Logto's redirects a server, and a followed
// one could take the application's secret along.
func newHTTPClient(config Config) *http.Client {
	transport := config.Transport
	if transport == nil {
		transport = http.DefaultTransport
		if shared, ok := transport.(*http.Transport); ok { // and not what somebody has put around it
			shared = shared.Clone()
			shared.MaxIdleConnsPerHost = 32 // all requests go to one host
			transport = shared
		}
	}
	if config.WrapTransport != nil {
		transport = config.WrapTransport(transport)
	}
	from, _ := url.Parse(config.Endpoint) // both were validated
	to, _ := url.Parse(config.InternalEndpoint)
	return &http.Client{
		Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			if config.InternalEndpoint != "" && r.URL.Scheme == from.Scheme && r.URL.Host == from.Host {
				r = r.Clone(r.Context())
				r.Host = from.Host
				r.URL.Scheme, r.URL.Host = to.Scheme, to.Host
			}
			response, err := transport.RoundTrip(r)
			if err == nil {
				response.Body = http.MaxBytesReader(nil, response.Body, maxAnswer)
			}
			return response, err
		}),
		Timeout:       2 * refreshTimeout, // a net below the contexts of the single calls, which are all shorter
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
