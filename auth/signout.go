package auth

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// revokeTimeout bounds how long a sign-out may wait for Logto.
const revokeTimeout = 3 * time.Second

// maxHint bounds the ID token in the end-session URL, in bytes: servers refuse longer URLs, and the client ID will do.
const maxHint = 4 << 10

// SignOutOptions say where Logto sends the browser after it ended its own session.
type SignOutOptions struct {
	// PostLogoutRedirectURI must be registered in Logto to the letter.
	PostLogoutRedirectURI string
	// State comes back as a parameter of that URI, if it is not empty.
	State string
	// UILocales are for a page that Logto may show, BCP 47.
	UILocales []string
}

// SignOut signs out in three steps, of which only the first can fail: the session here is ended; the tokens are
// revoked at Logto (RFC 7009), for with offline_access they would outlive it; and the URL is returned at which Logto
// ends its own session (OpenID Connect RP-Initiated Logout 1.0 §2). While Logto's discovery document can't be
// had, that URL is PostLogoutRedirectURI itself. Signing out when nobody is signed in is no error.
func (s *Session) SignOut(ctx context.Context, options SignOutOptions) (string, error) {
	tokens, err := s.storage.Tokens(ctx)
	if err != nil {
		return "", fmt.Errorf("sign out: %w", err)
	}
	set, _ := parseTokens(tokens) // one that can't be read leaves nothing to revoke, but nobody signed in either
	identity, err := s.storage.Identity(ctx)
	if err != nil {
		return "", fmt.Errorf("sign out: %w", err)
	}
	if err := s.storage.End(ctx); err != nil {
		return "", fmt.Errorf("sign out: %w", err)
	}
	// The person is signed out. What follows shares one bound and is not undone by a browser that goes away.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), revokeTimeout)
	defer cancel()
	p, err := s.client.provider.get(ctx)
	if err != nil {
		s.client.log.WarnContext(ctx, "signed out here only", "error", err)
		return options.PostLogoutRedirectURI, nil
	}
	if err := s.client.revoke(ctx, p, set); err != nil {
		s.client.log.WarnContext(ctx, "tokens not revoked", "error", err)
	}
	return s.client.endSessionURL(p, set, identity, options), nil
}

// revoke ends the grant: at Logto, revoking the refresh or the access token ends all of its tokens.
func (c *Client) revoke(ctx context.Context, p *provider, set tokenSet) error {
	form := url.Values{"token": {set.RefreshToken}, "token_type_hint": {"refresh_token"}}
	if set.RefreshToken == "" {
		form = url.Values{"token": {set.Access[target{}.key()].Value}, "token_type_hint": {"access_token"}}
	}
	if form.Get("token") == "" || p.RevocationEndpoint == "" {
		return nil
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, p.RevocationEndpoint, strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.SetBasicAuth(url.QueryEscape(c.config.AppID), url.QueryEscape(c.secret())) // RFC 6749 §2.3.1
	response, err := c.http.Do(request)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrProvider, err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return &OAuthError{Status: response.StatusCode}
	}
	return nil
}

func (c *Client) endSessionURL(p *provider, set tokenSet, identity []byte, options SignOutOptions) string {
	address, err := url.Parse(p.EndSessionEndpoint)
	if err != nil || address.Host == "" {
		return options.PostLogoutRedirectURI
	}
	query := address.Query()
	query.Set("client_id", c.config.AppID)
	for name, value := range map[string]string{
		"post_logout_redirect_uri": options.PostLogoutRedirectURI,
		"state":                    options.State,
		"ui_locales":               join(options.UILocales),
	} {
		if value != "" {
			query.Set(name, value)
		}
	}
	if hint := set.idToken(identity); identity != nil && set.IDTokenSignature != "" && len(hint) <= maxHint {
		query.Set("id_token_hint", hint)
	}
	address.RawQuery = query.Encode()
	return address.String()
}
