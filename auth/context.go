package auth

import (
	"context"
	"sync"
)

// User is the person whom a guard let through.
type User struct {
	// Subject is the person's stable ID in Logto; what to key own data by.
	Subject string
	// Info is what Logto's userinfo endpoint answered for this request; nil unless the guard was asked to fetch it.
	Info *UserInfo
	// Organization is the active one, a zero one if none is: see [OrganizationFrom].
	Organization Organization

	claims func() IDTokenClaims
}

// NewUser returns the user of whom claims tell, for a test of what stands behind a guard: see [WithUser].
func NewUser(claims IDTokenClaims) *User {
	return &User{Subject: claims.Subject, claims: func() IDTokenClaims { return claims }}
}

// Claims are those of the ID token, as of sign-in or the last refresh. They are read when they are first asked for.
func (u *User) Claims() IDTokenClaims {
	if u == nil || u.claims == nil {
		return IDTokenClaims{}
	}
	return u.claims()
}

// User returns who is signed in. [ErrNotAuthenticated] if nobody is.
func (s *Session) User(ctx context.Context) (*User, error) {
	r, err := s.current(ctx)
	if err != nil {
		return nil, err
	}
	active, _ := r.person.ActiveOrganization()
	return &User{Subject: r.person.Subject, Organization: active, claims: sync.OnceValue(func() IDTokenClaims {
		claims, _ := r.claims() // it was read before, when it was verified
		return claims
	})}, nil
}

type userKey struct{}

// WithUser returns a context that carries the person.
func WithUser(ctx context.Context, user *User) context.Context {
	return context.WithValue(ctx, userKey{}, user)
}

// UserFrom returns the person whom a guard put into the context, or nil. It works in every package that gets the
// request's context, without knowing the web framework.
func UserFrom(ctx context.Context) *User {
	user, _ := ctx.Value(userKey{}).(*User)
	return user
}

// OrganizationFrom returns the active organization of the person whom a guard put into the context; false if there is none.
func OrganizationFrom(ctx context.Context) (Organization, bool) {
	if user := UserFrom(ctx); user != nil {
		return user.Organization, user.Organization.ID != ""
	}
	return Organization{}, false
}
