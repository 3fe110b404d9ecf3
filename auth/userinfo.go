package auth

import (
	"context"
	"fmt"
	"net/http"
	"reflect"
	"slices"
)

// FetchUserInfo asks Logto's userinfo endpoint who the person is now (OpenID Connect Core §5.3), with the session's
// opaque access token, renewed if necessary. An answer for another sub is refused with [ErrInvalidToken] (§5.3.2).
// Other errors are those of [Session.AccessToken].
func (s *Session) FetchUserInfo(ctx context.Context) (info UserInfo, err error) {
	defer wrap(&err, "fetch user info")
	person, err := s.Person(ctx)
	if err != nil {
		return info, err
	}
	token, err := s.token(ctx, target{})
	if err != nil {
		return info, err
	}
	info, err = s.client.userInfo(ctx, person.Subject, token.Value)
	if answered(err).Status == http.StatusUnauthorized {
		// Revoked before its time; the refresh tells whether the whole grant is.
		if token, err = s.token(ctx, target{force: true}); err != nil {
			return info, err
		}
		info, err = s.client.userInfo(ctx, person.Subject, token.Value)
	}
	if err != nil {
		return info, err
	}
	// Pages show what Logto says now, before the next ID token does: but for the memberships, on which more depends.
	update := func(p Person) Person {
		p.DisplayName, p.Picture, p.Email = info.DisplayName(), info.Picture.Value(), info.Email.Value()
		p.Organizations = slices.Clone(p.Organizations)
		p.name(info.OrganizationData.Value())
		return p
	}
	if !reflect.DeepEqual(update(person), person) {
		err := s.update(ctx, func(r *record) error { r.person = update(r.person); return nil })
		if err != nil { // the answer is good all the same
			s.client.log.WarnContext(ctx, "what user info says of the person is not kept", "error", err)
		}
	}
	return info, nil
}

// userInfo asks for a person's user info, and refuses that of another.
func (c *Client) userInfo(ctx context.Context, subject string, token Secret) (UserInfo, error) {
	var info UserInfo
	p, err := c.provider.get(ctx)
	if err == nil {
		err = c.get(ctx, p.UserinfoEndpoint, token, &info)
	}
	if err == nil && (info.Subject == "" || info.Subject != subject) {
		err = fmt.Errorf("%w: user info of another sub", ErrInvalidToken)
	}
	if err != nil {
		return UserInfo{}, err
	}
	return info, nil
}
