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
	p, err := s.client.provider.get(ctx)
	if err != nil {
		return UserInfo{}, err
	}
	body, err := getJSON(ctx, s.client.http, p.UserinfoEndpoint, token.Value)
	if answer, ok := errors.AsType[*OAuthError](err); ok && answer.Status == http.StatusUnauthorized {
		// Revoked before its time; the refresh tells whether the whole grant is.
		if token, err = s.token(ctx, target{}, true); err != nil {
			return UserInfo{}, err
		}
		body, err = getJSON(ctx, s.client.http, p.UserinfoEndpoint, token.Value)
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
	return info, nil
}
