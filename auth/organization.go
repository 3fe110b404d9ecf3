package auth

import (
	"cmp"
	"context"
	"slices"
	"strings"
)

// The organizations of a person are those of the ID token. Only IDs are in it: their names come with user info, and are kept
// beside the other little that every page shows. One of them may be active: it is the person's choice for this session, and lasts
// until they choose another, or are no member any more.

// ActiveOrganization returns the active one; false if there is none.
func (p Person) ActiveOrganization() (Organization, bool) {
	i := slices.IndexFunc(p.Organizations, func(o Organization) bool { return o.ID == p.Active })
	if i < 0 {
		return Organization{}, false
	}
	return p.Organizations[i], true
}

// SetOrganization makes one of the person's organizations the active one; an empty ID: none. It stays so over the same person's
// next sign-ins in this session. [ErrNotAuthenticated]; [ErrNotMember] if it is none of theirs; other errors are the Storage's.
func (s *Session) SetOrganization(ctx context.Context, id string) (err error) {
	if _, err := s.current(ctx); err != nil {
		return err
	}
	defer wrap(&err, "set organization")
	return s.update(ctx, func(r *record) error {
		r.person.Active, r.person.Left = id, ""
		if _, ok := r.person.ActiveOrganization(); !ok && id != "" {
			return ErrNotMember
		}
		return nil
	})
}

// LeftOrganization returns the name of the organization that was active until the person lost the membership, once; then it is
// empty.
func (s *Session) LeftOrganization(ctx context.Context) (name string, err error) {
	person, err := s.Person(ctx)
	if err != nil || person.Left == "" {
		return "", err
	}
	err = s.update(ctx, func(r *record) error {
		name, r.person.Left = r.person.Left, ""
		return nil
	})
	return name, err
}

// person is what pages show of whom the claims are about. What they do not say is as it was before: what the organizations are
// called, and which one is active.
func (p Profile) person(subject string, before Person, names []Organization) Person {
	now := before
	now.Subject, now.Organizations = subject, nil
	now.DisplayName, now.Picture, now.Email = p.DisplayName(), p.Picture.Value(), p.Email.Value()
	for _, id := range p.Organizations.Value() {
		now.Organizations = append(now.Organizations, Organization{ID: id, Name: id})
	}
	now.name(slices.Concat(before.Organizations, p.OrganizationData.Value(), names))
	if _, ok := now.ActiveOrganization(); !ok && now.Active != "" {
		left, _ := before.ActiveOrganization()
		now.Active, now.Left = "", left.Name
	}
	return now
}

// name gives the organizations the names that are known, and their order.
func (p *Person) name(known []Organization) {
	names := map[string]string{}
	for _, o := range known {
		names[o.ID] = cmp.Or(o.Name, names[o.ID])
	}
	for i, o := range p.Organizations {
		p.Organizations[i].Name = cmp.Or(names[o.ID], o.Name)
	}
	slices.SortStableFunc(p.Organizations, func(a, b Organization) int {
		return strings.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name))
	})
}

// organizationNames asks user info what the organizations of the claims are called, if that is not known yet. Without an answer
// they go by their IDs until Logto is asked again.
func (c *Client) organizationNames(ctx context.Context, claims IDTokenClaims, before Person, token Secret) []Organization {
	isNameless := func(o Organization) bool { return o.Name == o.ID }
	if !slices.ContainsFunc(claims.person(claims.Subject, before, nil).Organizations, isNameless) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, revalidateWait) // somebody waits for a page
	defer cancel()
	info, err := c.userInfo(ctx, claims.Subject, token)
	if err != nil {
		c.log.WarnContext(ctx, "names of organizations are not known", "error", err)
	}
	return info.OrganizationData.Value()
}
