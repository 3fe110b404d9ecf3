package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// Permission is what an address of an API demands: a token of Resource; of Resource within Organization; or, without a
// Resource, one of Organization itself. The token must have all of Scopes. The zero Permission stands for an address that
// does not exist.
type Permission struct {
	Resource, Organization string
	Scopes                 []string
}

// audience is what the token must be for; empty if nothing is demanded.
func (p Permission) audience() string {
	if p.Resource == "" && p.Organization != "" {
		return OrganizationAudience(p.Organization)
	}
	return p.Resource
}

// isWithin reports whether a token was issued within the organization that is demanded, or within none if none is: what a
// person may do in one organization they may not do elsewhere.
func (p Permission) isWithin(claims AccessTokenClaims) bool {
	if claims.OrganizationID != p.Organization && (p.Resource != "" || claims.OrganizationID != "") {
		return false
	}
	return !slices.ContainsFunc(claims.Audience, func(audience string) bool {
		id, ok := strings.CutPrefix(audience, organizationAudience)
		return ok && (id == "" || id != p.Organization)
	})
}

// Caller is who calls an API.
type Caller struct {
	Subject      string // the person, or the program that acts for nobody
	ClientID     string // the application that the person uses
	Organization string // in which the call is made; empty: in none
	Scopes       []string
	Claims       AccessTokenClaims // of the access token: the caller's own, or the one that the person has at Logto
}

type callerKey struct{}

// WithCaller returns a context that carries who calls.
func WithCaller(ctx context.Context, caller Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, caller)
}

// CallerFrom returns the caller whom an API's guard let through; false if there was no guard.
func CallerFrom(ctx context.Context) (Caller, bool) {
	caller, ok := ctx.Value(callerKey{}).(Caller)
	return caller, ok
}

// Require guards an API built on net/http: only requests that [Verifier.Authorize] lets through reach the handler, and the
// others are answered by [Refuse]. Where what is demanded depends on the request, call these two.
func (v *Verifier) Require(need Permission) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			authorized, err := v.Authorize(r, need)
			if err != nil {
				v.log.InfoContext(r.Context(), "API request refused", "error", err)
				Refuse(w, need, err)
				return
			}
			next.ServeHTTP(w, authorized)
		})
	}
}

// Authorize verifies the access token of a request's Authorization header (RFC 6750 §2.1), and that it permits what is
// demanded, there where it is. The request it returns carries the caller, for [CallerFrom]. Answer an error by [Refuse]:
// [ErrNotAuthenticated] if there is no token, [ErrInvalidToken], [ErrInsufficientScope], [ErrProvider] if nobody knows;
// [ErrInvalidOption] if nothing is demanded.
func (v *Verifier) Authorize(r *http.Request, need Permission) (_ *http.Request, err error) {
	defer wrap(&err, "authorize")
	if need.audience() == "" {
		return nil, fmt.Errorf("%w: no resource and no organization", ErrInvalidOption)
	}
	scheme, raw, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || raw == "" {
		return nil, fmt.Errorf("%w: no bearer token", ErrNotAuthenticated)
	}
	claims, err := v.VerifyAccessToken(r.Context(), raw, need.audience())
	switch {
	case err != nil:
		return nil, err
	case !need.isWithin(claims):
		return nil, fmt.Errorf("%w: issued within another organization than is demanded, or within none", ErrInvalidToken)
	case !claims.HasScopes(need.Scopes...):
		return nil, ErrInsufficientScope
	}
	return r.WithContext(withCaller(r.Context(), claims, need)), nil
}

// Authorize is the same for who is signed in and has no token to send: it asks Logto for one, which is kept, and returns a context
// that carries the person as the caller. [ErrInsufficientScope] if the token does not permit what is demanded, there where it is, or
// Logto gives none: the person is not a member of the organization, or their sign-in did not ask for the resource. Other errors are
// those of [Session.AccessToken].
func (s *Session) Authorize(ctx context.Context, need Permission) (context.Context, error) {
	var options []TokenOption
	if need.Organization != "" {
		options = append(options, WithOrganization(need.Organization))
	}
	if _, err := s.current(ctx); err != nil { // the token may be older than what Logto says now
		return nil, fmt.Errorf("authorize: %w", err)
	}
	claims, err := s.AccessTokenClaims(ctx, need.Resource, options...)
	if slices.Contains([]string{"access_denied", "invalid_target", "insufficient_scope"}, answered(err).Code) {
		err = fmt.Errorf("%w: %w", ErrInsufficientScope, err)
	}
	if err == nil && !(need.isWithin(claims) && claims.HasScopes(need.Scopes...)) {
		err = ErrInsufficientScope
	}
	if err != nil {
		return nil, fmt.Errorf("authorize: %w", err)
	}
	return withCaller(ctx, claims, need), nil
}

func withCaller(ctx context.Context, claims AccessTokenClaims, need Permission) context.Context {
	return WithCaller(ctx, Caller{claims.Subject, claims.ClientID, need.Organization, claims.Scopes(), claims})
}

// Refuse answers a request that was not authorized, as RFC 6750 §3 says: 401, without a code if there was no token; 403; 503
// if nobody knows; 404 if nothing was demanded.
func Refuse(w http.ResponseWriter, need Permission, err error) {
	status, body, challenge := http.StatusUnauthorized, map[string]string{"error": "unauthorized"}, `Bearer realm="api"`
	switch {
	case errors.Is(err, ErrNotAuthenticated):
	case errors.Is(err, ErrInvalidToken):
		body["error"] = "invalid_token"
		challenge += `, error="invalid_token"`
	case errors.Is(err, ErrInsufficientScope):
		status, body["error"], body["scope"] = http.StatusForbidden, "insufficient_scope", strings.Join(need.Scopes, " ")
		challenge += fmt.Sprintf(`, error="insufficient_scope", scope=%q`, body["scope"])
	case errors.Is(err, ErrInvalidOption):
		status, body["error"], challenge = http.StatusNotFound, "not_found", ""
	default:
		status, body["error"], challenge = http.StatusServiceUnavailable, "temporarily_unavailable", ""
		w.Header().Set("Retry-After", "5")
	}
	if challenge != "" {
		w.Header().Set("WWW-Authenticate", challenge)
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	text, _ := json.Marshal(body) // strings alone never fail
	_, _ = w.Write(text)          // who has gone away needs no answer
}
