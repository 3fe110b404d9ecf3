package authtest

import (
	"cmp"
	"slices"
)

const (
	scopeOrganizations     = "urn:logto:scope:organizations"
	scopeOrganizationRoles = "urn:logto:scope:organization_roles"
	resourceOrganizations  = "urn:logto:resource:organizations"
	organizationURN        = "urn:logto:organization:"
	logoutEvent            = "http://schemas.openid.net/event/backchannel-logout"
)

// profileClaims are what the scope profile gives beside name, username, picture, created_at and updated_at.
func profileClaims() []string {
	return []string{
		"family_name", "given_name", "middle_name", "nickname", "preferred_username", "profile", "website",
		"gender", "birthdate", "zoneinfo", "locale",
	}
}

func oidcScopes() []string {
	return []string{
		"openid", "offline_access", "profile", "email", "phone", "address", "custom_data", "identities", "roles",
		scopeOrganizations, scopeOrganizationRoles,
	}
}

func claimNames() []string {
	names := append(profileClaims(), "sub", "name", "username", "picture", "created_at", "updated_at",
		"email", "email_verified", "phone_number", "phone_number_verified", "address", "custom_data", "identities",
		"sso_identities", "roles", "organizations", "organization_data", "organization_roles", "sid", "auth_time", "iss")
	slices.Sort(names)
	return names
}

// claims are what the scopes say about a person, in an ID token or, with all that ID tokens leave out, in userinfo.
// It needs the lock.
func (s *Server) claims(user User, scopes []string, userinfo bool) map[string]any {
	claims := map[string]any{"sub": user.Subject}
	for _, scope := range scopes {
		switch scope {
		case "profile":
			s.addProfile(claims, user)
		case "email":
			claims["email"], claims["email_verified"] = orNull(user.Email), user.Email != ""
		case "phone":
			claims["phone_number"], claims["phone_number_verified"] = orNull(user.Phone), user.Phone != ""
		case "address":
			if address, ok := user.Profile["address"]; ok {
				claims["address"] = address
			}
		case "roles":
			claims["roles"] = append([]string{}, user.Roles...)
		case scopeOrganizations, scopeOrganizationRoles:
			s.addOrganizations(claims, user, scope, userinfo)
		}
		if userinfo && scope == "custom_data" {
			claims["custom_data"] = orEmpty(user.CustomData)
		}
		if userinfo && scope == "identities" {
			claims["identities"] = orEmpty(user.Identities)
			claims["sso_identities"] = append([]any{}, user.SSOIdentities...)
		}
	}
	return claims
}

func (s *Server) addProfile(claims map[string]any, user User) {
	for _, name := range profileClaims() {
		if value, ok := user.Profile[name]; ok {
			claims[name] = value
		}
	}
	if username := user.Username; username != "" && claims["preferred_username"] == nil {
		claims["preferred_username"] = username
	}
	claims["name"], claims["username"], claims["picture"] = orNull(user.Name), orNull(user.Username), orNull(user.Picture)
	claims["created_at"], claims["updated_at"] = user.Created.UnixMilli(), user.Updated.UnixMilli()
}

func (s *Server) addOrganizations(claims map[string]any, user User, scope string, userinfo bool) {
	ids, roles, data := []string{}, []string{}, []map[string]any{}
	for _, o := range s.opts.Organizations {
		names, member := o.Members[user.key()]
		if !member {
			continue
		}
		ids = append(ids, o.ID)
		data = append(data, map[string]any{"id": o.ID, "name": o.Name, "description": orNull(o.Description)})
		for _, name := range names {
			roles = append(roles, o.ID+":"+name)
		}
	}
	if scope == scopeOrganizationRoles {
		claims["organization_roles"] = roles
		return
	}
	claims["organizations"] = ids
	if userinfo {
		claims["organization_data"] = data
	}
}

func orNull(text string) any {
	if text == "" {
		return nil
	}
	return text
}

func orEmpty(object map[string]any) map[string]any {
	if object == nil {
		return map[string]any{}
	}
	return object
}

// resource tells whether an indicator is known.
func (s *Server) resource(indicator string) bool {
	return indicator == resourceOrganizations ||
		slices.ContainsFunc(s.opts.Resources, func(r Resource) bool { return r.Indicator == indicator })
}

// permissions are what a person may do at an API resource: by their roles, and by their roles in this organization, or in
// all of theirs if none is given. At the resource of organizations it is every scope that an organization knows.
func (s *Server) permissions(user User, indicator, organization string) []string {
	var granted []string
	for _, role := range s.opts.Roles {
		if slices.Contains(user.Roles, role.Name) {
			granted = append(granted, role.Permissions[indicator]...)
		}
	}
	for _, o := range s.opts.Organizations {
		for _, role := range o.Roles {
			if indicator == resourceOrganizations {
				granted = append(granted, role.Scopes...)
			} else if cmp.Or(organization, o.ID) == o.ID && slices.Contains(o.Members[user.key()], role.Name) {
				granted = append(granted, role.Permissions[indicator]...)
			}
		}
	}
	known := granted
	for _, r := range s.opts.Resources {
		if r.Indicator == indicator {
			known = r.Scopes
		}
	}
	return both(known, granted)
}

// organizationScopes are what a person may do within an organization.
func (s *Server) organizationScopes(user User, id string) []string {
	var scopes []string
	for _, o := range s.opts.Organizations {
		for _, role := range o.Roles {
			if o.ID == id && slices.Contains(o.Members[user.key()], role.Name) {
				scopes = append(scopes, role.Scopes...)
			}
		}
	}
	return both(scopes, scopes)
}

func (s *Server) member(user User, id string) bool {
	return slices.ContainsFunc(s.opts.Organizations, func(o Organization) bool {
		_, ok := o.Members[user.key()]
		return ok && o.ID == id
	})
}

// both returns what is in a and in b, in the order of a, each once.
func both(a, b []string) []string {
	var result []string
	for _, text := range a {
		if slices.Contains(b, text) && !slices.Contains(result, text) {
			result = append(result, text)
		}
	}
	return result
}
