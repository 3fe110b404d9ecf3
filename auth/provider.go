package auth

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
)

const (
	// callTimeout bounds each request to Logto, from connecting to the last byte.
	callTimeout = 10 * time.Second
	// maxAnswer bounds the body of each answer, in bytes; a discovery document has about 3 KB.
	maxAnswer = 1 << 20
	// defaultLeeway is Config.Leeway, if that is zero.
	defaultLeeway = 30 * time.Second
)

// provider is what Logto's discovery document says (OpenID Connect Discovery 1.0 §3).
type provider struct {
	Issuer                string   `json:"issuer"`
	AuthorizationEndpoint string   `json:"authorization_endpoint"`
	TokenEndpoint         string   `json:"token_endpoint"`
	UserinfoEndpoint      string   `json:"userinfo_endpoint"`
	RevocationEndpoint    string   `json:"revocation_endpoint"`
	EndSessionEndpoint    string   `json:"end_session_endpoint"`
	JWKSURI               string   `json:"jwks_uri"`
	SigningAlgs           []string `json:"id_token_signing_alg_values_supported"`
	IssParameter          bool     `json:"authorization_response_iss_parameter_supported"`
}

// asymmetric are the signature algorithms accepted at all, whatever discovery announces: none of them lets a public
// key, or the application's secret, pass for a signing key.
var asymmetric = []string{
	oidc.ES256, oidc.ES384, oidc.ES512, oidc.RS256, oidc.RS384, oidc.RS512,
	oidc.PS256, oidc.PS384, oidc.PS512, oidc.EdDSA,
}

func (v *Verifier) newProviderCache() *cached[*provider] {
	// Addresses hardly ever change, so they serve for a day in an outage of Logto.
	return newCached(time.Hour, 24*time.Hour, func(ctx context.Context) (*provider, error) {
		// Not go-oidc's NewProvider, which puts the body of a refusal into its error.
		var p provider
		if err := v.fetch(ctx, v.issuer+"/.well-known/openid-configuration", &p); err != nil {
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
	issuer, err := url.Parse(p.Issuer)
	if err != nil {
		return fmt.Errorf("discovery: %w: issuer is not a URL", ErrProvider)
	}
	for _, endpoint := range []struct {
		field, address string
		optional       bool
	}{
		{"authorization_endpoint", p.AuthorizationEndpoint, false},
		{"token_endpoint", p.TokenEndpoint, false},
		{"userinfo_endpoint", p.UserinfoEndpoint, false},
		{"jwks_uri", p.JWKSURI, false},
		{"revocation_endpoint", p.RevocationEndpoint, true},
		{"end_session_endpoint", p.EndSessionEndpoint, true},
	} {
		if endpoint.address == "" && endpoint.optional {
			continue
		}
		if u, err := url.Parse(endpoint.address); err != nil || u.Scheme != issuer.Scheme || u.Host != issuer.Host {
			return fmt.Errorf("discovery: %w: %s is missing or not of the issuer's origin", ErrProvider, endpoint.field)
		}
	}
	p.SigningAlgs = slices.DeleteFunc(p.SigningAlgs, func(alg string) bool { return !slices.Contains(asymmetric, alg) })
	if len(p.SigningAlgs) == 0 {
		return fmt.Errorf("discovery: %w: no usable signature algorithm", ErrProvider)
	}
	return nil
}

// Ready reports whether Logto's discovery document is known, fetching it if it is not: nil, or why not.
func (v *Verifier) Ready(ctx context.Context) error {
	_, err := v.provider.get(ctx)
	return err
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
