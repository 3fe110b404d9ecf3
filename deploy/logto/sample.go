package main

import (
	"slices"
	"strings"

	"example.com/logto-gin-starter/auth"
	"example.com/logto-gin-starter/static"
)

// sample is what there will be in Logto. Change it here to begin with something of your own.
type sample struct {
	app               app
	webhook           webhook
	resources         []resource
	roles             []role
	organizations     []organization
	organizationRoles []role
	people            []person // the first is the one to begin with
}

// app is this application, as Logto knows it.
type app struct {
	name           string
	redirectURI    string
	signOutURI     string
	backchannelURI string
}

// webhook is how Logto tells the application what happens to people after they have signed in.
type webhook struct {
	name, uri string
	events    []string
}

// resource is an API that tokens are for.
type resource struct {
	name, indicator string
	permissions     []string
}

// role permits its holder something. permissions are those of the organization, if it is a role in one; grants are
// those of API resources, by indicator.
type role struct {
	name, description string
	permissions       []string
	grants            map[string][]string
}

type organization struct{ name, description string }

// person is a body of POST /api/users, and what they may do.
type person struct {
	Username     string         `json:"username"`
	Password     string         `json:"password"`
	Name         string         `json:"name,omitempty"`
	PrimaryEmail string         `json:"primaryEmail,omitempty"`
	PrimaryPhone string         `json:"primaryPhone,omitempty"`
	Avatar       string         `json:"avatar,omitempty"`
	CustomData   map[string]any `json:"customData,omitempty"`
	Profile      map[string]any `json:"profile,omitempty"`

	about   string            // for the log
	roles   []string          // by name
	members map[string]string // the role in each organization, by name
}

// newSample is the same as what `go run ./demo` shows.
func newSample(baseURL, backchannelURI, webhookURI, username, password string) sample {
	const shopping, store = "https://shopping.your-app.com/api", "https://store.your-app.com/api"
	other := "grace"
	if username == other {
		other = "ada"
	}
	return sample{
		app: app{
			name:           "Gin starter",
			redirectURI:    baseURL + "/callback",
			signOutURI:     baseURL + "/",
			backchannelURI: backchannelURI,
		},
		webhook: webhook{
			name: "Gin starter", uri: webhookURI,
			events: []string{"User.SuspensionStatus.Updated", "User.Deleted", "User.Data.Updated", "PostResetPassword", "Organization.Membership.Updated"},
		},
		resources: []resource{
			{"Shopping API", shopping, []string{"read:products", "write:products", "delete:products"}},
			{"Store API", store, []string{"read:products", "write:products", "read:orders"}},
		},
		roles: []role{
			{name: "merchant", description: "Sells things", grants: map[string][]string{
				shopping: {"read:products", "write:products"},
				store:    {"read:products", "write:products", "read:orders"},
			}},
			{name: "admin", description: "Runs the application"},
		},
		organizations: []organization{{"Acme", "Everything, delivered by rocket"}, {"Initech", "Reports with a cover sheet"}},
		organizationRoles: []role{
			{
				name: "admin", description: "Runs the organization", permissions: []string{"read:members", "invite:members"},
				grants: map[string][]string{shopping: {"read:products", "delete:products"}},
			},
			{name: "member", description: "Belongs to the organization", permissions: []string{"read:members"}},
		},
		people: []person{ada(baseURL, username, password), {
			Username: other, Password: password,
			about: "who has no role", members: map[string]string{"Acme": "member"},
		}},
	}
}

func ada(baseURL, username, password string) person {
	return person{
		Username: username, Password: password,
		Name: "Ada Lovelace", PrimaryEmail: username + "@example.com", PrimaryPhone: "66812345678",
		Avatar:     baseURL + picturePath(),
		CustomData: map[string]any{"theme": "dark", "newsletter": false, "favourites": []string{"engine", "punched cards"}},
		Profile: map[string]any{
			"givenName": "Ada", "familyName": "Lovelace", "nickname": "Countess", "gender": "female",
			"birthdate": "1815-12-10", "zoneinfo": "Europe/London", "locale": "en-GB",
			"website": "https://example.com/ada", "profile": "https://example.com/people/ada",
			"address": map[string]any{
				"formatted": "12 St James's Square, London", "streetAddress": "12 St James's Square",
				"locality": "London", "postalCode": "SW1Y 4JH", "country": "United Kingdom",
			},
		},
		about: "an administrator", roles: []string{"merchant", "admin"},
		members: map[string]string{"Acme": "admin", "Initech": "member"},
	}
}

// picturePath names a picture that is there without the internet: the application's own icon.
func picturePath() string {
	assets, err := static.New(static.Files())
	if err != nil {
		return ""
	}
	return assets.URL("favicon.svg")
}

// scopes are all that the application may ask for.
func (s sample) scopes() []string {
	all := []string{
		auth.ScopeEmail, auth.ScopePhone, auth.ScopeAddress, auth.ScopeCustomData, auth.ScopeIdentities, auth.ScopeRoles,
		auth.ScopeOrganizations, auth.ScopeOrganizationRoles,
	}
	for _, r := range s.resources {
		all = append(all, r.permissions...)
	}
	return append(all, s.organizationPermissions()...)
}

func (s sample) organizationPermissions() []string {
	var all []string
	for _, r := range s.organizationRoles {
		all = append(all, r.permissions...)
	}
	return slices.Compact(slices.Sorted(slices.Values(all)))
}

func (s sample) indicators() string {
	var all []string
	for _, r := range s.resources {
		all = append(all, r.indicator)
	}
	return strings.Join(all, " ")
}
