package auth

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/tidwall/gjson"
)

// A Claim is one claim that may be absent (it was not asked for), null (the person lacks it), or have a value. A value
// of a type that it should not have is kept for the JSON, but not given out: one odd claim must not cost a person their
// sign-in.
type Claim[T any] struct {
	raw string // the JSON as it came, read when it is asked for; empty: absent
}

// ClaimOf returns a claim that has a value.
func ClaimOf[T any](value T) Claim[T] {
	raw, _ := json.Marshal(value) // what has no JSON is absent
	return Claim[T]{raw: string(raw)}
}

// Get returns the value, if there is one.
func (c Claim[T]) Get() (value T, ok bool) {
	var read T
	if c.raw == "" || c.IsNull() || json.Unmarshal([]byte(c.raw), &read) != nil {
		return value, false
	}
	return read, true
}

// Value returns the value, or the zero value of its type if there is none.
func (c Claim[T]) Value() T {
	value, _ := c.Get()
	return value
}

// IsZero reports whether the claim is absent; encoding/json asks it for `omitzero`.
func (c Claim[T]) IsZero() bool { return c.raw == "" }

// IsNull reports whether the claim is there without a value.
func (c Claim[T]) IsNull() bool { return c.raw == "null" }

// MarshalJSON returns what came from Logto.
func (c Claim[T]) MarshalJSON() ([]byte, error) { return []byte(cmp.Or(c.raw, "null")), nil }

// UnmarshalJSON never fails.
func (c *Claim[T]) UnmarshalJSON(raw []byte) error { c.read(string(raw)); return nil }

func (c *Claim[T]) read(raw string) { c.raw = raw }

// Profile is what Logto knows of a person, by the scope that was asked for (OpenID Connect Core §5.1, Logto's docs on
// user claims). The claims marked "userinfo" are never in an ID token by default.
type Profile struct {
	// Scope profile.
	Name              Claim[string] `json:"name,omitzero"`
	GivenName         Claim[string] `json:"given_name,omitzero"`
	FamilyName        Claim[string] `json:"family_name,omitzero"`
	MiddleName        Claim[string] `json:"middle_name,omitzero"`
	Nickname          Claim[string] `json:"nickname,omitzero"`
	PreferredUsername Claim[string] `json:"preferred_username,omitzero"`
	ProfileURL        Claim[string] `json:"profile,omitzero"`
	Picture           Claim[string] `json:"picture,omitzero"`
	Website           Claim[string] `json:"website,omitzero"`
	Gender            Claim[string] `json:"gender,omitzero"`
	Birthdate         Claim[string] `json:"birthdate,omitzero"`
	Zoneinfo          Claim[string] `json:"zoneinfo,omitzero"`
	Locale            Claim[string] `json:"locale,omitzero"`
	Username          Claim[string] `json:"username,omitzero"`   // Logto's
	CreatedAt         Claim[Millis] `json:"created_at,omitzero"` // Logto's
	UpdatedAt         Claim[Millis] `json:"updated_at,omitzero"` // milliseconds, where OpenID Connect has seconds

	// Scope email, phone, address.
	Email               Claim[string]  `json:"email,omitzero"`
	EmailVerified       Claim[bool]    `json:"email_verified,omitzero"`
	PhoneNumber         Claim[string]  `json:"phone_number,omitzero"`
	PhoneNumberVerified Claim[bool]    `json:"phone_number_verified,omitzero"`
	Address             Claim[Address] `json:"address,omitzero"`

	// Scope custom_data: what the application stored with the person; userinfo.
	CustomData Claim[map[string]any] `json:"custom_data,omitzero"`
	// Scope identities: social and enterprise accounts; userinfo.
	Identities    Claim[map[string]Identity] `json:"identities,omitzero"`
	SSOIdentities Claim[[]SSOIdentity]       `json:"sso_identities,omitzero"`
	// Scope roles: names of the person's API resource roles.
	Roles Claim[[]string] `json:"roles,omitzero"`
	// ScopeOrganizations: IDs, and, in userinfo, what they are called.
	Organizations    Claim[[]string]       `json:"organizations,omitzero"`
	OrganizationData Claim[[]Organization] `json:"organization_data,omitzero"`
	// ScopeOrganizationRoles: each "<organization ID>:<role>".
	OrganizationRoles Claim[[]string] `json:"organization_roles,omitzero"`
}

// HasRole reports whether the person has one of the roles.
func (p Profile) HasRole(roles ...string) bool { return shareOne(p.Roles.Value(), roles) }

// HasOrganizationRole reports whether the person has one of the roles in an organization.
func (p Profile) HasOrganizationRole(organization string, roles ...string) bool {
	return shareOne(p.RolesIn(organization), roles)
}

func shareOne(a, b []string) bool {
	return slices.ContainsFunc(a, func(s string) bool { return slices.Contains(b, s) })
}

// RolesIn returns the person's roles in an organization.
func (p Profile) RolesIn(organization string) []string {
	roles := []string{}
	for _, both := range p.OrganizationRoles.Value() {
		if id, role, _ := strings.Cut(both, ":"); id == organization && id != "" {
			roles = append(roles, role)
		}
	}
	return roles
}

// DisplayName is how to call the person: their name, or the next best claim; empty if there is none.
func (p Profile) DisplayName() string {
	for _, claim := range []Claim[string]{p.Name, p.Username, p.Email, p.PhoneNumber} {
		if claim.Value() != "" {
			return claim.Value()
		}
	}
	return ""
}

// Millis is a time in milliseconds since 1970, as Logto writes it.
type Millis int64

// Time returns it as a time.
func (m Millis) Time() time.Time { return time.UnixMilli(int64(m)) }

// Address is a postal address (OpenID Connect Core §5.1.1). Logto writes two of the keys as streetAddress and postalCode,
// which are read too; the JSON of the claim has what came.
type Address struct {
	Formatted     string `json:"formatted,omitempty"`
	StreetAddress string `json:"street_address,omitempty"`
	Locality      string `json:"locality,omitempty"`
	Region        string `json:"region,omitempty"`
	PostalCode    string `json:"postal_code,omitempty"`
	Country       string `json:"country,omitempty"`
}

// UnmarshalJSON reads both spellings.
func (a *Address) UnmarshalJSON(data []byte) error {
	type plain Address
	var logto struct {
		plain
		Street string `json:"streetAddress"`
		Code   string `json:"postalCode"`
	}
	err := json.Unmarshal(data, &logto)
	*a = Address(logto.plain)
	a.StreetAddress, a.PostalCode = cmp.Or(a.StreetAddress, logto.Street), cmp.Or(a.PostalCode, logto.Code)
	return err
}

// Identity is an account of the person at a social identity provider.
type Identity struct {
	UserID  string         `json:"userId"`
	Details map[string]any `json:"details,omitempty"`
}

// SSOIdentity is an account of the person at an enterprise identity provider.
type SSOIdentity struct {
	Issuer     string         `json:"issuer"`
	IdentityID string         `json:"identityId"`
	Detail     map[string]any `json:"detail,omitempty"`
}

// Organization is one that the person is a member of.
type Organization struct {
	ID          string        `json:"id"`
	Name        string        `json:"name"`
	Description Claim[string] `json:"description,omitzero"`
}

// Audience is one or several audiences: a string or an array in JSON (RFC 7519 §4.1.3).
type Audience []string

// UnmarshalJSON accepts both forms.
func (a *Audience) UnmarshalJSON(raw []byte) error {
	if !bytes.HasPrefix(raw, []byte(`"`)) { // null is none
		return json.Unmarshal(raw, (*[]string)(a))
	}
	*a = make(Audience, 1)
	return json.Unmarshal(raw, &(*a)[0])
}

// MarshalJSON writes a single audience as a string, as Logto does.
func (a Audience) MarshalJSON() ([]byte, error) {
	if len(a) == 1 {
		return json.Marshal(a[0])
	}
	return json.Marshal([]string(a))
}

// NumericDate is a time in seconds since 1970, possibly with a fraction (RFC 7519 §2); zero if absent.
type NumericDate float64

// Time returns it as a time. What lies beyond the year 9999 is that year's end, and likewise before the year 1: a number
// that overflows must not turn a date in the future into one of the past.
func (d NumericDate) Time() time.Time {
	const first, last = -62135596800, 253402300799
	return time.UnixMilli(int64(min(max(float64(d), first), last) * 1000))
}

// IDTokenClaims are the claims of a verified ID token (OpenID Connect Core §2).
type IDTokenClaims struct {
	Issuer          string      `json:"iss"`
	Subject         string      `json:"sub"`
	Audience        Audience    `json:"aud"`
	Expiry          NumericDate `json:"exp"`
	IssuedAt        NumericDate `json:"iat"`
	AuthTime        NumericDate `json:"auth_time,omitzero"`
	Nonce           string      `json:"nonce,omitzero"`
	AuthorizedParty string      `json:"azp,omitzero"`
	AccessTokenHash string      `json:"at_hash,omitzero"`
	SessionID       string      `json:"sid,omitzero"` // of the session at Logto
	// How the person signed in, such as [ACRMFA] and the methods of RFC 8176; Logto 1.46 and newer.
	ACR Claim[string]   `json:"acr,omitzero"`
	AMR Claim[[]string] `json:"amr,omitzero"`
	Profile

	// Extra are the claims that this package does not know, such as a tenant's custom claims.
	Extra map[string]json.RawMessage `json:"-"`
}

// UnmarshalJSON keeps unknown claims in Extra.
func (c *IDTokenClaims) UnmarshalJSON(data []byte) error { return unmarshalClaims(data, c, &c.Extra) }

// MarshalJSON writes known and unknown claims.
func (c IDTokenClaims) MarshalJSON() ([]byte, error) {
	type plain IDTokenClaims
	return marshalClaims(plain(c), c.Extra)
}

// AboutToken are the claims that are about an ID token and not about the person.
var AboutToken = []string{"iss", "aud", "exp", "iat", "nbf", "nonce", "at_hash", "c_hash", "azp", "sid", "jti", "auth_time", "acr", "amr"}

// UserInfo is the answer of the userinfo endpoint (OpenID Connect Core §5.3.2).
type UserInfo struct {
	Subject string `json:"sub"`
	Profile

	// Extra are the claims that this package does not know.
	Extra map[string]json.RawMessage `json:"-"`
	// Raw is the answer as it came, to pass on.
	Raw json.RawMessage `json:"-"`
}

// UnmarshalJSON keeps unknown claims in Extra, and all of them in Raw.
func (u *UserInfo) UnmarshalJSON(data []byte) error {
	defer func() { u.Raw = slices.Clone(data) }()
	return unmarshalClaims(data, u, &u.Extra)
}

// MarshalJSON writes known and unknown claims.
func (u UserInfo) MarshalJSON() ([]byte, error) {
	type plain UserInfo
	return marshalClaims(plain(u), u.Extra)
}

// AccessTokenClaims are the claims of a JWT access token (RFC 9068 §2.2).
type AccessTokenClaims struct {
	ID             string        `json:"jti,omitzero"`
	Issuer         string        `json:"iss"`
	Subject        string        `json:"sub"`
	Audience       Audience      `json:"aud"`
	ClientID       string        `json:"client_id"`
	Expiry         NumericDate   `json:"exp"`
	IssuedAt       NumericDate   `json:"iat"`
	NotBefore      NumericDate   `json:"nbf,omitzero"`
	Scope          Claim[string] `json:"scope,omitzero"`
	OrganizationID string        `json:"organization_id,omitzero"` // of a resource's token within an organization

	// Extra are the claims that this package does not know, such as those of Logto's custom JWT.
	Extra map[string]json.RawMessage `json:"-"`
}

// UnmarshalJSON keeps unknown claims in Extra.
func (c *AccessTokenClaims) UnmarshalJSON(data []byte) error {
	return unmarshalClaims(data, c, &c.Extra)
}

// MarshalJSON writes known and unknown claims.
func (c AccessTokenClaims) MarshalJSON() ([]byte, error) {
	type plain AccessTokenClaims
	return marshalClaims(plain(c), c.Extra)
}

// Scopes returns the granted scopes; none is a token that permits nothing.
func (c AccessTokenClaims) Scopes() []string { return strings.Fields(c.Scope.Value()) }

// HasScopes reports whether all of them were granted.
func (c AccessTokenClaims) HasScopes(scopes ...string) bool {
	return areAmong(scopes, c.Scopes()...)
}

const organizationAudience = "urn:logto:organization:"

// OrganizationAudience is the audience of an organization's own tokens, for [Verifier.VerifyAccessToken].
func OrganizationAudience(id string) string { return organizationAudience + id }

// Organization returns the organization that the token is for, in either of Logto's forms; empty if for none.
func (c AccessTokenClaims) Organization() string {
	if c.OrganizationID != "" {
		return c.OrganizationID
	}
	for _, audience := range c.Audience {
		if id, ok := strings.CutPrefix(audience, organizationAudience); ok {
			return id
		}
	}
	return ""
}

// unmarshalClaims fills the fields of the struct that v points to, by their exact names, and puts the others into rest. It
// does not leave that to encoding/json, which takes "SUB" for "sub".
func unmarshalClaims(data []byte, v any, rest *map[string]json.RawMessage) (err error) {
	object := gjson.ParseBytes(data)
	if !json.Valid(data) || !object.IsObject() {
		return fmt.Errorf("%w: the claims are not a JSON object", ErrInvalidToken)
	}
	target := reflect.ValueOf(v).Elem()
	target.SetZero()
	fields := fieldsOf(target.Type())
	object.ForEach(func(key, value gjson.Result) bool {
		name := key.Str
		if !utf8.ValidString(name) {
			name = string([]rune(name)) // what is not UTF-8 becomes U+FFFD, as with encoding/json
		}
		index, ok := fields[name]
		if !ok {
			if *rest == nil {
				*rest = map[string]json.RawMessage{}
			}
			(*rest)[name] = json.RawMessage(value.Raw)
			return true
		}
		field := target.FieldByIndex(index)
		field.SetZero() // null would leave what a member of the same name said before
		if claim, ok := field.Addr().Interface().(interface{ read(raw string) }); ok {
			claim.read(value.Raw)
		} else if json.Unmarshal([]byte(value.Raw), field.Addr().Interface()) != nil {
			err = fmt.Errorf("%w: claim %s has the wrong type", ErrInvalidToken, name)
		}
		return err == nil
	})
	return err
}

var knownFields sync.Map // by type, what fieldsOf returns

// fieldsOf returns where the fields of a struct are, by their names in JSON.
func fieldsOf(t reflect.Type) map[string][]int {
	if known, ok := knownFields.Load(t); ok {
		return known.(map[string][]int)
	}
	fields := map[string][]int{}
	for _, field := range reflect.VisibleFields(t) {
		if name, _, _ := strings.Cut(field.Tag.Get("json"), ","); name != "" && name != "-" {
			fields[name] = field.Index
		}
	}
	knownFields.Store(t, fields)
	return fields
}

func marshalClaims(known any, extra map[string]json.RawMessage) ([]byte, error) {
	data, err := json.Marshal(known)
	if err != nil || len(extra) == 0 {
		return data, err
	}
	all := map[string]json.RawMessage{}
	if err := json.Unmarshal(data, &all); err != nil {
		return nil, err
	}
	maps.Copy(all, extra)
	return json.Marshal(all)
}
