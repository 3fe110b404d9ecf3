package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/time/rate"
)

// maxKeys bounds how many keys a token without a usable kid is tried against.
const maxKeys = 16

// keySet is Logto's public keys, as go-oidc's verifier wants them. Unlike go-oidc's own it forgets a withdrawn key, and
// no flood of bad tokens makes it fetch more than five times at once and then once in ten seconds.
type keySet struct {
	keys     *cached[[]jose.JSONWebKey]
	provider *cached[*provider]
}

func newKeySet(client *http.Client, discovery *cached[*provider]) *keySet {
	return &keySet{
		provider: discovery,
		keys: &cached[[]jose.JSONWebKey]{
			fresh: 10 * time.Minute,
			stale: time.Hour,
			limit: rate.NewLimiter(rate.Every(10*time.Second), 5),
			fetch: func(ctx context.Context) ([]jose.JSONWebKey, error) {
				p, err := discovery.get(ctx)
				if err != nil {
					return nil, err
				}
				var set struct {
					Keys []json.RawMessage `json:"keys"`
				}
				if err := fetch(ctx, client, p.JWKSURI, &set); err != nil {
					return nil, fmt.Errorf("fetch keys: %w", err)
				}
				return usableKeys(set.Keys)
			},
		},
	}
}

// VerifySignature implements oidc.KeySet. When no key fits, the keys are fetched again, for Logto may have begun to
// sign with a new one.
func (s *keySet) VerifySignature(ctx context.Context, jwt string) ([]byte, error) {
	p, err := s.provider.get(ctx)
	if err != nil {
		return nil, err
	}
	var algorithms []jose.SignatureAlgorithm
	for _, alg := range p.SigningAlgs {
		algorithms = append(algorithms, jose.SignatureAlgorithm(alg))
	}
	jws, err := jose.ParseSignedCompact(jwt, algorithms)
	if err != nil {
		return nil, fmt.Errorf("parse token: %w", err)
	}
	keys, err := s.keys.get(ctx)
	if err != nil {
		return nil, err
	}
	if payload, ok := verifyWith(keys, jws); ok {
		return payload, nil
	}
	if s.keys.exhausted() { // do not let a bad token wait
		return nil, errors.New("no key verifies the signature")
	}
	if keys, err = s.keys.renew(ctx); err != nil {
		return nil, err
	}
	if payload, ok := verifyWith(keys, jws); ok {
		return payload, nil
	}
	return nil, errors.New("no key verifies the signature")
}

// verifyWith tries the keys of the token's kid, or all of them if it names none (OpenID Connect Core §10.1).
// go-jose refuses an algorithm that is not the key's.
func verifyWith(keys []jose.JSONWebKey, jws *jose.JSONWebSignature) ([]byte, bool) {
	if len(jws.Signatures) != 1 {
		return nil, false
	}
	header := jws.Signatures[0].Protected
	for _, key := range keys {
		if header.KeyID != "" && key.KeyID != header.KeyID {
			continue
		}
		if key.Algorithm != "" && key.Algorithm != header.Algorithm {
			continue
		}
		if payload, err := jws.Verify(key); err == nil {
			return payload, true
		}
	}
	return nil, false
}

// usableKeys keeps the keys that can verify a signature; one of a kind that nobody here knows does not spoil the rest.
func usableKeys(set []json.RawMessage) ([]jose.JSONWebKey, error) {
	var keys []jose.JSONWebKey
	for _, raw := range set {
		var key jose.JSONWebKey
		if key.UnmarshalJSON(raw) != nil || !key.IsPublic() || !key.Valid() || key.Use == "enc" {
			continue
		}
		if keys = append(keys, key); len(keys) == maxKeys {
			break
		}
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("fetch keys: %w: no usable key", ErrProvider)
	}
	return keys, nil
}

// fetch reads one of the documents that Logto publishes into v. Whatever goes wrong is ErrProvider.
func fetch(ctx context.Context, client *http.Client, address string, v any) error {
	body, err := getJSON(ctx, client, address, "")
	if err == nil && json.Unmarshal(body, v) != nil {
		return fmt.Errorf("%w: the answer is not the JSON it should be", ErrProvider)
	}
	if answer, ok := errors.AsType[*OAuthError](err); ok {
		return fmt.Errorf("%w: %w", ErrProvider, answer)
	}
	return err
}

// getJSON fetches an address of Logto's, with a bearer token if one is given. An answer other than 200 is an *OAuthError.
func getJSON(ctx context.Context, client *http.Client, address string, bearer Secret) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/json")
	if bearer != "" {
		request.Header.Set("Authorization", "Bearer "+string(bearer))
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrProvider, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrProvider, err)
	}
	if response.StatusCode != http.StatusOK {
		return nil, oauthError(response.StatusCode, body)
	}
	return body, nil
}
