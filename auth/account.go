package auth

import (
	"net/url"
	"time"
)

// The pages of Logto's Account Center that [Client.AccountURL] leads to.
const (
	AccountProfile  = "profile"
	AccountSecurity = "security"
)

// AccountURL returns the address of a page of Logto's Account Center, where people change what Logto keeps of them. Empty if
// Config.AccountCenter is false.
//
// Logto 1.42 leads back to redirect only from its pages for one task, such as "password", "username" or "email", when that is done.
// It has the page "profile" only where the Account Center's settings name profile fields.
func (c *Client) AccountURL(page, redirect, locale string) string {
	if !c.config.AccountCenter {
		return ""
	}
	return c.config.Endpoint + "/account/" + page + "?" + url.Values{"redirect": {redirect}, "ui_locales": {locale}}.Encode()
}

// SignedInWithin reports whether the person has signed in at Logto at most so long ago, give or take Config.Leeway. Claims without
// auth_time say no: ask for it with SignInOptions.MaxAge.
func (c *Client) SignedInWithin(age time.Duration, claims IDTokenClaims) bool {
	passed := time.Since(claims.AuthTime.Time())
	return claims.AuthTime > 0 && passed <= age+c.config.Leeway && passed >= -c.config.Leeway
}
