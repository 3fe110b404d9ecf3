package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
)

// FetchUserInfo asks Logto's userinfo endpoint who the person is now (OpenID Connect Core §5.3), with the session's
// opaque access token, renewed if necessary. An answer for another sub is refused with [ErrInvalidToken] (§5.3.2).
// Other errors are those of [Session.AccessToken].
func (s *Session) FetchUserInfo(ctx context.Context) (UserInfo, error) {
	info, err := s.userInfo(ctx)
	if err != nil {
		return UserInfo{}, fmt.Errorf("fetch user info: %w", err)
	}
	return info, nil
}

func (s *Session) userInfo(ctx context.Context) (UserInfo, error) {
	person, err := s.Person(ctx)
	if err != nil {
		return UserInfo{}, err
	}
	token, err := s.token(ctx, target{}, false)
	if err != nil {
		return UserInfo{}, err
	}
	body, err := s.client.userInfo(ctx, token.Value)
	if isUnauthorized(err) {
		// Revoked before its time; the refresh tells whether the whole grant is.
		if token, err = s.token(ctx, target{}, true); err != nil {
			return UserInfo{}, err
		}
		body, err = s.client.userInfo(ctx, token.Value)
	}
	if err != nil {
		return UserInfo{}, err
	}
	var info UserInfo
	if err := json.Unmarshal(body, &info); err != nil {
		return UserInfo{}, fmt.Errorf("%w: the answer is not a JSON object of claims", ErrProvider)
	}
	if info.Subject == "" || info.Subject != person.Subject {
		return UserInfo{}, fmt.Errorf("%w: user info of another sub", ErrInvalidToken)
	}
	if now := (Person{info.Subject, info.DisplayName(), info.Picture.Value()}); now != person {
		if err := s.keepPerson(ctx, now); err != nil { // the answer is good all the same
			s.client.log.WarnContext(ctx, "what user info says of the person is not kept", "error", err)
		}
	}
	return info, nil
}

// keepPerson lets pages show what Logto says now, before the next ID token does.
func (s *Session) keepPerson(ctx context.Context, now Person) error {
	return s.storage.Update(ctx, func(identity, tokens []byte) ([]byte, []byte, error) {
		identity, err := identityOf(askedOf(identity), now, payloadOf(identity))
		return identity, tokens, err
	})
}

// userInfo is the request.
func (c *Client) userInfo(ctx context.Context, token Secret) ([]byte, error) {
	p, err := c.provider.get(ctx)
	if err != nil {
		return nil, err
	}
	return c.getJSON(ctx, p.UserinfoEndpoint, token)
}

func isUnauthorized(err error) bool {
	answer, ok := errors.AsType[*OAuthError](err)
	return ok && answer.Status == http.StatusUnauthorized
}
