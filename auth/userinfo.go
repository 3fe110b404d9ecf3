package auth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"
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
	info, err := s.client.userInfoOf(ctx, person.Subject, token.Value)
	if isUnauthorized(err) {
		// Revoked before its time; the refresh tells whether the whole grant is.
		if token, err = s.token(ctx, target{}, true); err != nil {
			return UserInfo{}, err
		}
		info, err = s.client.userInfoOf(ctx, person.Subject, token.Value)
	}
	if err != nil {
		return UserInfo{}, err
	}
	// Pages show what Logto says now, before the next ID token does: but for the memberships, on which more depends.
	now := person
	now.DisplayName, now.Picture, now.Email = info.DisplayName(), info.Picture.Value(), info.Email.Value()
	now.Organizations = slices.Clone(person.Organizations)
	now.name(info.OrganizationData.Value())
	if !reflect.DeepEqual(now, person) {
		err := s.update(ctx, func(r *record) error {
			r.person.DisplayName, r.person.Picture, r.person.Email = now.DisplayName, now.Picture, now.Email
			r.person.name(info.OrganizationData.Value())
			return nil
		})
		if err != nil { // the answer is good all the same
			s.client.log.WarnContext(ctx, "what user info says of the person is not kept", "error", err)
		}
	}
	return info, nil
}

// userInfoOf asks for a person's user info, and refuses that of another.
func (c *Client) userInfoOf(ctx context.Context, subject string, token Secret) (UserInfo, error) {
	body, err := c.userInfo(ctx, token)
	if err != nil {
		return UserInfo{}, err
	}
	var info UserInfo
	if err := info.UnmarshalJSON(body); err != nil {
		return UserInfo{}, fmt.Errorf("%w: the answer is not a JSON object of claims", ErrProvider)
	}
	if info.Subject == "" || info.Subject != subject {
		return UserInfo{}, fmt.Errorf("%w: user info of another sub", ErrInvalidToken)
	}
	return info, nil
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
