package doctor

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"example.com/logto-gin-starter/auth"
)

const (
	inConsole = "in Logto's Console, Applications > your application > Settings, "
	challenge = "nobody-is-to-be-signed-in-with-this-challenge" // and verifier
)

func (d *doctor) logto() []check {
	base := d.Server.BaseURL
	// A sign-in in which nobody may be asked anything ends with an error, and which one says what is wrong.
	signIn := func(resources ...string) url.Values {
		return url.Values{
			"client_id": {d.Logto.AppID}, "redirect_uri": {base + "/callback"}, "response_type": {"code"}, "scope": {"openid"}, "prompt": {"none"},
			"code_challenge": {challenge}, "code_challenge_method": {"S256"}, "resource": resources,
		}
	}
	signOut := url.Values{"client_id": {d.Logto.AppID}, "post_logout_redirect_uri": {base + "/"}}
	exchange := url.Values{"grant_type": {"authorization_code"}, "code": {"impossible"}, "code_verifier": {challenge}, "redirect_uri": {base + "/callback"}}
	const mayGoOn, otherType = "login_required", "invalid_request" // of the application, as the secret's check tells
	checks := []check{
		{"Logto", gate, d.issuer},
		{"clock", fail, d.clock},
		{"app ID", gate, d.asks(d.Logto.AppID, "/auth", signIn(), nil, "set LOGTO_APP_ID to the App ID that the Console shows for your application", mayGoOn, otherType, "invalid_redirect_uri")},
		{"redirect URI", gate, d.asks(base+"/callback", "/auth", signIn(), nil, inConsole+"add it to the Redirect URIs", mayGoOn, otherType)},
		{"sign-out URI", fail, d.asks(base+"/", "/session/end", signOut, nil, inConsole+"add it to the Post sign-out redirect URIs", "")},
		{"app secret", fail, d.asks("LOGTO_APP_SECRET", "/token", nil, exchange, inConsole+"copy an app secret to it; if there is none, the application is not of the type Traditional web", "invalid_grant")},
		{"scopes", warn, d.dropped},
	}
	for _, indicator := range d.Logto.Resources {
		checks = append(checks, check{"resource", fail, d.asks(indicator, "/auth", signIn(indicator), nil,
			"in the Console, API resources, create it, or copy its API identifier to LOGTO_RESOURCES (a slash at the end counts)", mayGoOn, otherType)})
	}
	return append(checks, check{"back-channel", warn, func(context.Context) (found, do string) {
		return "Logto does not tell its URI", inConsole + "see that it is " + base + "/backchannel-logout"
	}})
}

// issuer reads the discovery document.
func (d *doctor) issuer(ctx context.Context) (found, do string) {
	var document struct {
		Issuer string   `json:"issuer"`
		Scopes []string `json:"scopes_supported"`
	}
	issuer := strings.TrimRight(d.Logto.Endpoint, "/") + "/oidc"
	response, text, err := d.send(ctx, issuer+"/.well-known/openid-configuration", nil)
	switch {
	case err != nil:
		return fmt.Sprintf("%s does not answer (%v)", cmp.Or(d.Logto.InternalEndpoint, d.Logto.Endpoint), err),
			"check LOGTO_ENDPOINT; in a container, localhost is the container: set LOGTO_INTERNAL_ENDPOINT too"
	case response.StatusCode != http.StatusOK || json.Unmarshal([]byte(text), &document) != nil || document.Issuer == "":
		return fmt.Sprintf("what answers at %s is no Logto (%s)", d.Logto.Endpoint, response.Status), "set LOGTO_ENDPOINT to the Logto endpoint that the Console shows for your application"
	case document.Issuer != issuer:
		return d.Logto.Endpoint + " calls itself " + document.Issuer, "set LOGTO_ENDPOINT to that without /oidc; if it can't be reached from here, LOGTO_INTERNAL_ENDPOINT to the address that can"
	}
	d.scopes = document.Scopes
	d.date, _ = http.ParseTime(response.Header.Get("Date")) // a server without it is from long ago
	return d.Logto.Endpoint, ""
}

func (d *doctor) clock(context.Context) (found, do string) {
	apart := time.Since(d.date).Abs().Round(time.Second)
	if found = fmt.Sprintf("%v apart from Logto's", apart); apart > 20*time.Second { // 30 s are tolerated: auth.Config.Leeway
		do = "set the clocks of both machines by NTP, or ID tokens will be refused"
	}
	return found, do
}

// dropped looks for scopes that Logto drops, which it does in silence.
func (d *doctor) dropped(context.Context) (found, do string) {
	found = strings.Join(slices.DeleteFunc(slices.Clone(d.Logto.Scopes), func(scope string) bool { return slices.Contains(d.scopes, scope) }), " ")
	switch {
	case found == "":
		return strings.Join(append([]string{"openid profile offline_access"}, d.Logto.Scopes...), " "), ""
	case len(d.Logto.Resources) == 0 && !slices.Contains(d.Logto.Scopes, auth.ScopeOrganizations):
		return found + " will be dropped", "remove it from LOGTO_SCOPES, or set LOGTO_RESOURCES to the API resource that has it as a permission"
	}
	return found + " will be dropped where it is no permission", "see API resources > Permissions and Organization template in the Console, and that a role gives it to people"
}

// asks sends a request, a form with the app secret. All is right if Logto refuses it for one of these reasons, by JSON or
// by a redirect to the application.
func (d *doctor) asks(about, path string, query, form url.Values, do string, right ...string) func(context.Context) (string, string) {
	return func(ctx context.Context) (string, string) {
		response, text, err := d.send(ctx, strings.TrimRight(d.Logto.Endpoint, "/")+"/oidc"+path+"?"+query.Encode(), form)
		if err != nil {
			return about, err.Error()
		}
		refused := map[string]string{"error_description": response.Status}
		if to, err := response.Location(); err == nil {
			refused["error"], refused["error_description"] = to.Query().Get("error"), to.Query().Get("error_description")
		} else if response.StatusCode >= http.StatusBadRequest && json.Unmarshal([]byte(text), &refused) != nil {
			refused["error"] = response.Status
		}
		if slices.Contains(right, refused["error"]) {
			return about, ""
		}
		return about + " (Logto says: " + refused["error_description"] + ")", do
	}
}
