package auth

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/tidwall/gjson"
)

const (
	// refreshTimeout bounds a refresh from the lock to the save. It is long, for giving one up loses a rotated token.
	refreshTimeout = 30 * time.Second
	// renewEarly is how long before its end an access token is renewed, so that it does not expire on its way.
	renewEarly = 30 * time.Second
	// unknownLife is assumed of a token that came without expires_in.
	unknownLife = 5 * time.Minute
)

// Token is an access token for a request. It redacts itself; string(token.Value) is what to send.
type Token struct {
	Value  Secret
	Scopes []string  // granted
	Expiry time.Time // as Logto said
}

// A TokenOption changes which token is asked for.
type TokenOption func(*target)

// target is what an access token is for. The zero target is the opaque token for Logto itself.
type target struct {
	resource, organization string
	scopes                 []string
	force                  bool // Logto is asked, whatever is stored
}

// key names the target in the token record. Neither a resource nor an ID holds a space.
func (t target) key() string {
	return strings.Join(append([]string{t.resource, t.organization}, t.scopes...), " ")
}

// WithScopes asks for fewer scopes than were granted at sign-in.
func WithScopes(scopes ...string) TokenOption {
	return func(t *target) { t.scopes = slices.Compact(slices.Sorted(slices.Values(scopes))) }
}

// WithOrganization asks for a resource's token within an organization: its scopes are those of the person's roles there.
func WithOrganization(id string) TokenOption {
	return func(t *target) { t.organization = cmp.Or(id, " ") } // none is refused: it would be a token within none
}

// ForceRefresh asks Logto even if there is a token that has not expired, for example after a role has changed.
func ForceRefresh() TokenOption {
	return func(t *target) { t.force = true }
}

// AccessToken returns a token for an API resource of Config.Resources, or, for "", the opaque one for Logto's
// userinfo endpoint. It is kept until shortly before it expires and then renewed with the refresh token, by one
// request at a time for the whole session.
//
// Errors: [ErrNotAuthenticated]; [ErrSignInRequired]; [ErrUnknownResource], [ErrOrganizationsScope] and [ErrInvalidOption]
// before any request; an [*OAuthError] (access_denied: not a member of the organization; invalid_target: the
// resource does not exist at Logto); [ErrInvalidToken] (a bad ID token came with it); [ErrProvider]. Of these only
// ErrSignInRequired ends the session, if Logto said so.
func (s *Session) AccessToken(ctx context.Context, resource string, options ...TokenOption) (_ Token, err error) {
	defer wrap(&err, "access token")
	t := target{resource: resource}
	for _, option := range options {
		option(&t)
	}
	if err := s.client.allowed(t); err != nil {
		return Token{}, err
	}
	return s.token(ctx, t)
}

// OrganizationToken returns a token within an organization, whose audience is the organization itself. It needs
// [ScopeOrganizations]. Errors as for [Session.AccessToken].
func (s *Session) OrganizationToken(ctx context.Context, id string, options ...TokenOption) (Token, error) {
	return s.AccessToken(ctx, "", append(options, WithOrganization(id))...)
}

// AccessTokenClaims returns the claims of the token that [Session.AccessToken] returns; [ErrOpaqueToken] if it has none.
func (s *Session) AccessTokenClaims(ctx context.Context, resource string, options ...TokenOption) (AccessTokenClaims, error) {
	token, err := s.AccessToken(ctx, resource, options...)
	if err != nil {
		return AccessTokenClaims{}, err
	}
	return token.Claims()
}

// OrganizationTokenClaims returns the claims of the token that [Session.OrganizationToken] returns.
func (s *Session) OrganizationTokenClaims(ctx context.Context, id string, options ...TokenOption) (AccessTokenClaims, error) {
	return s.AccessTokenClaims(ctx, "", append(options, WithOrganization(id))...)
}

// Claims reads the token without verifying it, which is the API's part: this one came from Logto's token endpoint.
// A token that is no JWT is [ErrOpaqueToken].
func (t Token) Claims() (AccessTokenClaims, error) {
	parts := strings.Split(string(t.Value), ".")
	if len(parts) != 3 {
		return AccessTokenClaims{}, ErrOpaqueToken
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return AccessTokenClaims{}, ErrOpaqueToken
	}
	var claims AccessTokenClaims
	if err := claims.UnmarshalJSON(payload); err != nil {
		return AccessTokenClaims{}, fmt.Errorf("access token: %w", err)
	}
	return claims, nil
}

// ClearAccessTokens forgets the access tokens, so that the next call asks Logto again. With a refresh token the person stays signed in.
func (s *Session) ClearAccessTokens(ctx context.Context) (err error) {
	defer wrap(&err, "clear tokens")
	return s.update(ctx, func(r *record) error { clear(r.Access); return nil })
}

// allowed refuses what Logto would refuse, or answer with another token than was meant.
func (c *Client) allowed(t target) error {
	if t.resource != "" && !slices.Contains(c.config.Resources, t.resource) {
		return fmt.Errorf("%w: %s", ErrUnknownResource, printable(t.resource))
	}
	if t.organization != "" && !slices.Contains(c.config.Scopes, ScopeOrganizations) {
		return ErrOrganizationsScope
	}
	isBad := func(r rune) bool { return r <= ' ' || r > '~' }
	return refuse(ErrInvalidOption,
		fault{strings.ContainsFunc(t.organization, isBad), "organization ID"},
		fault{!every(t.scopes, isScope), "scope"},
	)
}

// token returns a usable token: the stored one, or a new one. Only the holder of the session's lock refreshes; who
// waited for it looks again first. docs/how-it-works.md#refresh has a picture.
func (s *Session) token(ctx context.Context, t target) (Token, error) {
	before, err := s.stored(ctx, t)
	if err != nil {
		return Token{}, err
	}
	if !t.force && before.usable(time.Now()) {
		return before.token(), nil
	}
	// A request that is over need not wait for the lock any longer; but once it has it, it must go on to the end, for
	// Logto may have rotated the refresh token by the time a browser goes away.
	request := ctx
	ctx, cancel := context.WithTimeout(context.WithoutCancel(request), refreshTimeout)
	defer cancel()
	stopWatching := context.AfterFunc(request, cancel)
	held, release, err := s.storage.Lock(ctx)
	if err != nil {
		return Token{}, fmt.Errorf("lock session: %w", cmp.Or(request.Err(), err))
	}
	defer release()
	if !stopWatching() { // it is over, and ctx may end at any moment: before anything was sent is the time to give up
		return Token{}, fmt.Errorf("lock session: %w", request.Err())
	}
	r, err := s.read(held)
	if err != nil {
		return Token{}, err
	}
	if now := r.Access[t.key()]; now.usable(time.Now()) && (!t.force || now.Value != before.Value) {
		return now.token(), nil // somebody else has refreshed meanwhile
	}
	token, err := s.refresh(ctx, held, t, r)
	if answered(err).Code == "access_denied" && t.organization != "" {
		err = errors.Join(err, s.dropOrganization(held, t.organization)) // the others would work at an API until they end
	}
	return token, err
}

// stored returns the token that is kept for a target, or its zero. It decodes no other: most calls need no more.
func (s *Session) stored(ctx context.Context, t target) (token storedToken, err error) {
	tokens, err := s.storage.Tokens(ctx)
	if err != nil {
		return token, fmt.Errorf("read tokens: %w", err)
	}
	if tokens == nil {
		return token, ErrNotAuthenticated
	}
	gjson.GetBytes(tokens, "a").ForEach(func(key, value gjson.Result) bool {
		is := key.Str == t.key()
		if is {
			err = json.Unmarshal([]byte(value.Raw), &token)
		}
		return !is
	})
	return token, err
}

// dropOrganization forgets every token within an organization that the person has left.
func (s *Session) dropOrganization(held context.Context, id string) error {
	return s.update(held, func(r *record) error {
		maps.DeleteFunc(r.Access, func(key string, _ storedToken) bool {
			return strings.Split(key, " ")[1] == id
		})
		return nil
	})
}

// refresh asks Logto for a token and saves what came. The lock is held as long as held lives; should it be lost, the
// request to Logto still goes on, for its answer may be the only good refresh token. A grant that is dead ends the session.
func (s *Session) refresh(ctx, held context.Context, t target, r record) (Token, error) {
	p, err := s.client.provider.get(ctx)
	if err != nil {
		s.client.outage.note(isOutage(err))
	}
	if err == nil && held.Err() != nil { // until now: somebody else may have refreshed, and Logto ends a grant whose old token is used
		err = fmt.Errorf("refresh: %w", context.Cause(held))
	}
	if err != nil {
		return Token{}, err
	}
	token, err := s.client.refresh(ctx, p, r.RefreshToken, t)
	if answered(err).Code == "invalid_grant" {
		// Perhaps a holder whose lock had run out was faster. Then its token is the one to use; Update is sure to see it.
		used := r.RefreshToken
		if err := s.update(ctx, func(now *record) error { r = *now; return nil }); err != nil {
			return Token{}, fmt.Errorf("read tokens: %w", err)
		}
		if r.RefreshToken != used {
			token, err = s.client.refresh(ctx, p, r.RefreshToken, t)
		}
	}
	if answered(err).Code == "invalid_grant" {
		return Token{}, s.endDead(held, err)
	}
	if err != nil {
		return Token{}, err
	}
	if token.RefreshToken != "" && token.RefreshToken != r.RefreshToken {
		if err := s.saveRotated(ctx, held, r.RefreshToken, token.RefreshToken); err != nil {
			return Token{}, fmt.Errorf("save refresh token: %w", err)
		}
		r.RefreshToken = token.RefreshToken
		if held.Err() != nil {
			held = ctx // ours is the successor of the one that was stored, so nobody else was faster
		}
	}
	return s.adopt(ctx, held, t, token, r)
}

// endDead ends the session whose grant is dead: that of the lock, even if it was lost.
func (s *Session) endDead(held context.Context, cause error) error {
	if err := s.storage.EndDead(context.WithoutCancel(held)); err != nil {
		return fmt.Errorf("end session: %w", err)
	}
	return fmt.Errorf("%w: %w", ErrSignInRequired, cause)
}

// saveRotated comes before anything else can fail. A rotated refresh token is the only one that is still good, so a
// storage that is away is given the rest of the refresh's time, and a lost lock is no reason to lose the token too: what
// keeps an older token from overwriting a newer one is then that ours must be the successor of the stored one. With the lock,
// it is saved in a storage that is full, too.
func (s *Session) saveRotated(ctx, held context.Context, used, rotated string) error {
	for {
		if held.Err() != nil {
			held = ctx
		}
		err := s.update(held, func(r *record) error {
			if r.RefreshToken == used {
				r.RefreshToken = rotated
			}
			return nil
		})
		if err == nil {
			return nil
		}
		if identity, readErr := s.storage.Identity(ctx); readErr == nil && identity == nil {
			return ErrNotAuthenticated // signed out meanwhile: there is nothing to save it in
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// adopt takes over what a refresh brought, unless somebody was faster. An ID token among it must be of the same person and
// application as before (OpenID Connect Core §12.2), or else nothing of the answer is used; if it is another person's,
// the session ends.
func (s *Session) adopt(ctx, held context.Context, t target, token tokenAnswer, used record) (_ Token, err error) {
	var claims IDTokenClaims
	var names []Organization
	raw := token.IDToken.Value()
	if raw != "" {
		if claims, err = s.client.verifyIDToken(ctx, raw, token.AccessToken, ""); err != nil {
			return Token{}, fmt.Errorf("ID token of a refresh: %w", err)
		}
		if t.key() == (target{}).key() { // the token for userinfo
			names = s.client.organizationNames(ctx, claims, used.person, Secret(token.AccessToken))
		}
	}
	fresh := token.stored()
	err = s.update(held, func(r *record) error {
		if r.RefreshToken != used.RefreshToken {
			return nil
		}
		if raw != "" {
			before, err := r.claims()
			if err == nil {
				err = claims.continues(before)
			}
			if err != nil {
				return err
			}
			if t.scopes == nil { // else it has only the claims of these
				if !claims.sameRights(before) { // tokens that were got with others must not outlive them
					clear(r.Access)
				}
				r.setIDToken(raw)
				r.asked, r.person = time.Now(), claims.person(claims.Subject, r.person, names)
			}
		}
		maps.DeleteFunc(r.Access, func(_ string, old storedToken) bool { return !old.usable(time.Now()) })
		r.Access[t.key()] = fresh
		return nil
	})
	if errors.Is(err, errOtherSubject) {
		return Token{}, s.endDead(held, err)
	}
	if err != nil {
		return Token{}, fmt.Errorf("save tokens: %w", err)
	}
	return fresh.token(), nil
}

var errOtherSubject = fmt.Errorf("%w: of another sub", ErrInvalidToken)

// continues compares a refreshed ID token with the claims of the one before (OpenID Connect Core §12.2). A nonce and an
// auth_time may be left out, but not be others.
func (c IDTokenClaims) continues(before IDTokenClaims) error {
	if c.Subject != before.Subject {
		return errOtherSubject
	}
	return refuse(ErrInvalidToken,
		fault{c.Nonce != "" && before.Nonce != "" && c.Nonce != before.Nonce, "of another nonce"},
		fault{c.AuthTime != 0 && before.AuthTime != 0 && c.AuthTime != before.AuthTime, "of another auth_time"},
	)
}

// sameRights compares the claims from which Logto derives what a person may do.
func (p Profile) sameRights(q IDTokenClaims) bool {
	return p.Roles == q.Roles && p.Organizations == q.Organizations && p.OrganizationRoles == q.OrganizationRoles
}

// refresh is the request (RFC 6749 §6, with RFC 8707's resource and Logto's organization_id).
func (c *Client) refresh(ctx context.Context, p *provider, refreshToken string, t target) (tokenAnswer, error) {
	if refreshToken == "" {
		return tokenAnswer{}, fmt.Errorf("%w: no refresh token", ErrSignInRequired)
	}
	parameters := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refreshToken}}
	setAll(parameters, map[string]string{
		"resource":        t.resource,
		"organization_id": t.organization,
		"scope":           strings.Join(t.scopes, " "),
	})
	var token tokenAnswer
	err := c.outage.watch(ctx, func() (err error) {
		token, err = c.requestToken(ctx, p, "refresh", parameters)
		return err
	})
	c.observe(ctx, ObservedRefresh, err)
	return token, err
}

// tokenAnswer is what the token endpoint answers (RFC 6749 §5.1).
type tokenAnswer struct {
	AccessToken  string         `json:"access_token"`
	TokenType    string         `json:"token_type"`
	RefreshToken string         `json:"refresh_token"`
	IDToken      Claim[string]  `json:"id_token"`
	Scope        Claim[string]  `json:"scope"`
	ExpiresIn    Claim[float64] `json:"expires_in"` // in seconds
	Error        Claim[string]  `json:"error"`      // there must be none
}

// requestToken asks the token endpoint. x/oauth2 has no place for what Logto wants at a refresh.
func (c *Client) requestToken(ctx context.Context, p *provider, step string, form url.Values) (token tokenAnswer, err error) {
	defer wrap(&err, step)
	err = c.post(ctx, p.TokenEndpoint, form, &token)
	switch {
	case err != nil:
	case token.AccessToken == "" || !token.Error.IsZero() && !token.Error.IsNull():
		err = fmt.Errorf("%w: an error under status 200", ErrProvider)
	case token.TokenType != "" && !strings.EqualFold(token.TokenType, "Bearer"): // RFC 6749 §7.1
		err = fmt.Errorf("%w: a token of type %q", ErrProvider, printable(token.TokenType))
	}
	return token, err
}

// stored gives a token that came just now the times until which it is used.
func (t tokenAnswer) stored() storedToken {
	now, life := time.Now(), unknownLife
	if seconds := t.ExpiresIn.Value(); seconds != 0 {
		life = time.Duration(min(seconds, math.MaxInt32)) * time.Second
	}
	return storedToken{
		Value:   t.AccessToken,
		Scope:   t.Scope.Value(),
		Expires: now.Add(life).Unix(),
		Renew:   now.Add(life - min(renewEarly, life/5)).Unix(),
	}
}
