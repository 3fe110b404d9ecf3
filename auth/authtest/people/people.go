// Package people is who the tests sign in. They are the tests' own, so that the demo's people, roles and organizations may
// change and no test with them.
package people

import (
	"strings"
	"time"

	"example.com/logto-gin-starter/auth/authtest"
)

// Options is a provider at endpoint for an application at appURL, with ada, about whom everything is known, and grace, about
// whom next to nothing is; two APIs; an organization of ada's, and one that neither is a member of.
func Options(endpoint, appURL string) authtest.Options {
	endpoint, appURL = strings.TrimSuffix(endpoint, "/"), strings.TrimSuffix(appURL, "/")
	const shopping, store = "https://shopping.your-app.com/api", "https://store.your-app.com/api"
	permissions := map[string][]string{
		shopping: {"read:products", "write:products"},
		store:    {"read:products", "write:products", "read:orders"},
	}
	return authtest.Options{
		Demo: true,
		Apps: []authtest.App{{
			ID: "demoapp0123456789abcd", Secret: "demo-secret-0123456789-only-for-this",
			RedirectURIs:             []string{appURL + "/callback"},
			PostLogoutRedirectURIs:   []string{appURL + "/", appURL},
			BackchannelLogoutURI:     appURL + "/backchannel-logout",
			BackchannelLogoutSession: true,
		}},
		Users: []authtest.User{ada(endpoint), {
			Subject: "gr4cehopp3r0", Username: "grace", Password: "cobol1959",
			Created: time.Date(2026, 2, 14, 8, 30, 0, 0, time.UTC),
		}},
		Roles: []authtest.Role{{Name: "merchant", Permissions: permissions}},
		Resources: []authtest.Resource{
			{Indicator: shopping, Scopes: []string{"read:products", "write:products", "delete:products"}},
			{Indicator: store, Scopes: []string{"read:products", "write:products", "read:orders"}},
		},
		Organizations: []authtest.Organization{
			{
				ID: "acme00corp01", Name: "Acme", Description: "Everything, delivered by rocket",
				Roles: []authtest.OrganizationRole{
					{Name: "admin", Scopes: []string{"read:members", "invite:members"}, Permissions: map[string][]string{
						shopping: {"read:products", "delete:products"},
					}},
					{Name: "member", Scopes: []string{"read:members"}},
				},
				Members: map[string][]string{"ada": {"admin"}},
			},
			{ID: "gl0bexcorp02", Name: "Globex", Description: "Nobody here is a member of it"},
		},
	}
}

func ada(endpoint string) authtest.User {
	return authtest.User{
		Subject: "4dal0velace0", Username: "ada", Password: "analytical", Name: "Ada Lovelace",
		Picture: endpoint + "/avatar/ada.svg", Email: "ada@example.com", Phone: "66812345678",
		Profile: map[string]any{
			"given_name": "Ada", "family_name": "Lovelace", "nickname": "Countess", "gender": "female",
			"birthdate": "1815-12-10", "zoneinfo": "Europe/London", "locale": "en-GB",
			"website": "https://example.com/ada", "profile": "https://example.com/people/ada",
			"address": map[string]any{
				"formatted": "12 St James's Square, London", "streetAddress": "12 St James's Square",
				"locality": "London", "postalCode": "SW1Y 4JH", "country": "United Kingdom",
			},
		},
		CustomData: map[string]any{"theme": "dark", "newsletter": false, "favourites": []any{"engine", "punched cards"}},
		Identities: map[string]any{"github": map[string]any{
			"userId":  "1815",
			"details": map[string]any{"id": "1815", "name": "Ada Lovelace", "email": "ada@example.com"},
		}},
		SSOIdentities: []any{map[string]any{
			"issuer": "https://sso.example.com", "identityId": "ada-1815", "detail": map[string]any{"department": "Engines"},
		}},
		Roles:   []string{"merchant"},
		Created: time.Date(2026, 1, 5, 9, 0, 0, 0, time.UTC),
		Updated: time.Date(2026, 10, 20, 17, 45, 0, 0, time.UTC),
	}
}
