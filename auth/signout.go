package auth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// revokeTimeout bounds how long a sign-out may wait for Logto, and a revocation in the background.
const revokeTimeout = 3 * time.Second

// maxHint bounds the ID token in the end-session URL, in bytes: servers refuse longer URLs, and the client ID will do.
const maxHint = 4 << 10

// recent is how old what Logto publishes may be at a sign-out. It is short, for who replaces a key and withdraws the old one
// does so within a minute; and the instance asks once for all who sign out meanwhile.
const recent = 5 * time.Second

// SignOutOptions say where Logto sends the browser after it ended its own session.
type SignOutOptions struct {
	// PostLogoutRedirectURI must be registered in Logto to the letter.
	PostLogoutRedirectURI string
	// State comes back as a parameter of that URI, if it is not empty.
	State string
	// UILocales are for a page that Logto may show, BCP 47.
	UILocales []string
}

// SignOut signs out in three steps: the session here is ended; the tokens are revoked at Logto (RFC 7009), for with
// offline_access they would outlive it; and the URL is returned at which Logto ends its own session (OpenID Connect
// RP-Initiated Logout 1.0 §2). Signing out when nobody is signed in is no error, and leads to that URL too.
//
// An error that is [ErrProvider] says that Logto can't be reached: the person is signed out here, but perhaps not there.
// The tokens are revoked in the background, if that is possible half a minute later, and the person has not signed in
// again by then. With any other error, the Storage's, the person is still signed in.
func (s *Session) SignOut(ctx context.Context, options SignOutOptions) (string, error) {
	r, err := s.read(ctx)
	if err != nil && !errors.Is(err, ErrNotAuthenticated) && !errors.Is(err, errUnreadable) {
		return "", fmt.Errorf("sign out: %w", err)
	}
	if err := s.storage.End(ctx); err != nil {
		return "", fmt.Errorf("sign out: %w", err)
	}
	// The person is signed out. What follows shares one bound and is not undone by a browser that goes away.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), revokeTimeout)
	defer cancel()
	p, err := s.client.provider.get(ctx)
	switch _, token := r.revocable(); {
	case err != nil:
	case token != "" && p.RevocationEndpoint != "":
		err = s.client.revoke(ctx, p, r)
	default: // nothing else tells whether the browser would find Logto
		_, err = s.client.provider.within(ctx, recent)
	}
	if err != nil {
		s.revokeSoon(ctx, r, retryRevocation)
	}
	if errors.Is(err, ErrProvider) {
		return "", fmt.Errorf("sign out: %w", err)
	}
	return s.client.endSessionURL(p, s.client.hint(ctx, r), options), nil
}

// hint returns the ID token if Logto would take it as a hint, else "". If it has withdrawn the key since, it answers an error
// that leads nowhere; the client ID alone leads back.
func (c *Client) hint(ctx context.Context, r record) string {
	idToken := r.idToken()
	_, header, err := parseToken(idToken)
	if err != nil || len(idToken) > maxHint {
		return ""
	}
	if keys, err := c.keys.within(ctx, recent); err != nil || len(fitting(header, keys)) == 0 {
		return ""
	}
	return idToken
}

// retryRevocation is how long after a failure revoking is tried once more.
const retryRevocation = 30 * time.Second

// revokeSoon revokes the tokens of a session that has ended, in the background: after a while and once more if that fails.
func (s *Session) revokeSoon(ctx context.Context, r record, after time.Duration) {
	c := s.client
	if _, token := r.revocable(); token == "" {
		return
	}
	const failure = "tokens not revoked"
	started := c.revocations.run(ctx, failure, func(ctx context.Context) (err error) {
		for _, wait := range []time.Duration{after, retryRevocation - after} {
			c.revocations.wait(wait)
			if err = s.revokeUnshared(ctx, r); err == nil {
				return nil
			}
		}
		return err
	})
	if !started {
		c.log.WarnContext(ctx, failure, "error", "too much is under way")
	}
}

// revokeUnshared revokes unless another session would end by that: Logto gives one grant to all sign-ins of a person in one
// session there, whether it asked for the password or not.
func (s *Session) revokeUnshared(ctx context.Context, r record) error {
	ctx, cancel := context.WithTimeout(ctx, revokeTimeout)
	defer cancel()
	claims, _ := r.claims() // what can't be read is nobody's
	shared, err := s.storage.HasSession(ctx, claims.Subject, claims.SessionID)
	if shared || err != nil {
		return err
	}
	p, err := s.client.provider.get(ctx)
	if err != nil {
		return err
	}
	return s.client.revoke(ctx, p, r)
}

// revocable returns the token whose revocation ends the whole grant at Logto.
func (r record) revocable() (kind, token string) {
	if r.RefreshToken != "" {
		return "refresh_token", r.RefreshToken
	}
	return "access_token", string(r.opaque())
}

// revoke ends the grant. An answer that no application of Logto's gives is as good as none: ErrProvider.
func (c *Client) revoke(ctx context.Context, p *provider, r record) error {
	kind, token := r.revocable()
	if token == "" || p.RevocationEndpoint == "" {
		return nil
	}
	err := c.post(ctx, p.RevocationEndpoint, url.Values{"token": {token}, "token_type_hint": {kind}}, nil)
	if answered(err).Status >= http.StatusInternalServerError {
		return fmt.Errorf("%w: %w", ErrProvider, err)
	}
	return err
}

func (c *Client) endSessionURL(p *provider, hint string, options SignOutOptions) string {
	address, err := url.Parse(p.EndSessionEndpoint)
	if err != nil || address.Host == "" {
		return options.PostLogoutRedirectURI
	}
	query := address.Query()
	setAll(query, map[string]string{
		"client_id":                c.config.AppID,
		"post_logout_redirect_uri": options.PostLogoutRedirectURI,
		"state":                    options.State,
		"ui_locales":               join(options.UILocales),
		"id_token_hint":            hint,
	})
	address.RawQuery = query.Encode()
	return address.String()
}
