package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// maxKeys bounds how many keys a token without a usable kid is tried against.
const maxKeys = 16

// newKeyCache holds Logto's public keys. Unlike go-oidc's own set it forgets a withdrawn key, and no flood of bad tokens
// makes it fetch more often than it should.
func (v *Verifier) newKeyCache() *cached[[]jose.JSONWebKey] {
	return newCached(10*time.Minute, time.Hour, func(ctx context.Context) ([]jose.JSONWebKey, error) {
		p, err := v.provider.get(ctx) // known by now: verifySignature has asked for it
		if err != nil {
			return nil, err
		}
		var set struct {
			Keys []json.RawMessage `json:"keys"`
		}
		if err := v.fetch(ctx, p.JWKSURI, &set); err != nil {
			return nil, fmt.Errorf("fetch keys: %w", err)
		}
		return usableKeys(set.Keys)
	})
}

// verifySignature returns the payload of a token that one of Logto's keys has signed. When none fits, Logto may have begun
// to sign with a new key, or with another algorithm, so it is asked again. [ErrProvider] means that it could not be
// asked, be it by the limit, so nobody knows.
//
// A stranger's token that names a known key and was not signed by it is refused at once. For one that came from the token
// endpoint, the keys are fetched all the same: the new key may have an old one's name.
func (v *Verifier) verifySignature(ctx context.Context, raw string, h header, who caller) ([]byte, error) {
	announced := func(p *provider) bool { return slices.Contains(p.SigningAlgs, h.Algorithm) }
	p, err := v.provider.find(ctx, who, announced)
	if err != nil {
		return nil, err
	}
	if !announced(p) {
		return nil, fmt.Errorf("%w: algorithm %q is not announced", ErrInvalidToken, printable(h.Algorithm))
	}
	var payload []byte
	verified := false
	_, err = v.keys.find(ctx, who, func(keys []jose.JSONWebKey) bool {
		keys = h.fitting(keys)
		if len(keys) == 0 {
			return false
		}
		payload, verified = verifyWith(keys, raw, h.Algorithm)
		return verified || who == strangers && h.KeyID != ""
	})
	if err != nil {
		return nil, err
	}
	if !verified {
		return nil, fmt.Errorf("%w: no key verifies the signature", ErrInvalidToken)
	}
	return payload, nil
}

// fitting returns the keys that may have signed the token: those of its kid, or all of them if it names none (OpenID Connect
// Core §10.1), and of its algorithm.
func (h header) fitting(keys []jose.JSONWebKey) []jose.JSONWebKey {
	var fitting []jose.JSONWebKey
	for _, key := range keys {
		if (h.KeyID == "" || h.KeyID == key.KeyID) && (key.Algorithm == "" || key.Algorithm == h.Algorithm) {
			fitting = append(fitting, key)
		}
	}
	return fitting
}

// verifyWith tries the keys. go-jose refuses a key whose kind is not the algorithm's.
func verifyWith(keys []jose.JSONWebKey, raw, algorithm string) ([]byte, bool) {
	jws, err := jose.ParseSignedCompact(raw, []jose.SignatureAlgorithm{jose.SignatureAlgorithm(algorithm)})
	if err != nil {
		return nil, false
	}
	for _, key := range keys {
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

// fetch reads one of the documents that Logto publishes. Whatever goes wrong is ErrProvider.
func (v *Verifier) fetch(ctx context.Context, address string, document any) error {
	body, err := v.getJSON(ctx, address, "")
	if err == nil && json.Unmarshal(body, document) != nil {
		return fmt.Errorf("%w: the answer is not the JSON it should be", ErrProvider)
	}
	if answer, ok := errors.AsType[*OAuthError](err); ok {
		return fmt.Errorf("%w: %w", ErrProvider, answer)
	}
	return err
}

// getJSON fetches an address of Logto's, with a bearer token if one is given.
func (v *Verifier) getJSON(ctx context.Context, address string, bearer Secret) ([]byte, error) {
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
	return v.answer(request)
}

// answer returns the body that Logto answers with. An answer other than 200 is an *OAuthError.
func (v *Verifier) answer(request *http.Request) ([]byte, error) {
	response, err := v.http.Do(request)
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
