// Package auth signs people in with Logto: it is a relying party of OpenID Connect that knows Logto's own
// parameters, claims and tokens, and nothing of any web framework, session store or template.
//
// Start reading at [New] for what is built once, and at [Session] for what a request does with it:
//
//	client, err := auth.New(auth.Config{Endpoint: "https://tenant.logto.app", AppID: …, AppSecret: …})
//
//	session := client.Session(storage)                     // in each request; see [Storage]
//	url, err := session.SignIn(ctx, auth.SignInOptions{…}) // GET /sign-in: redirect there
//	result, err := session.HandleSignInCallback(ctx, r.URL.Query())
//	claims, err := session.IDTokenClaims(ctx)              // who it is, without a request
//	info, err := session.FetchUserInfo(ctx)                // what Logto says now
//	token, err := session.AccessToken(ctx, "https://shopping.your-app.com/api")
//	url, err = session.SignOut(ctx, auth.SignOutOptions{…})
//
// An API that receives such a token is guarded by [Verifier.Require], with a Client or, in a program that signs nobody in,
// with [NewVerifier]. Logto's back-channel logout request is checked by [Client.VerifyLogoutToken].
package auth

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Scopes of Logto beyond those that are always asked for (openid, profile, offline_access).
// Each adds claims; see [Profile] for which, and where they are found.
const (
	ScopeEmail             = "email"
	ScopePhone             = "phone"
	ScopeAddress           = "address"
	ScopeCustomData        = "custom_data"
	ScopeIdentities        = "identities"
	ScopeRoles             = "roles"
	ScopeOrganizations     = "urn:logto:scope:organizations"
	ScopeOrganizationRoles = "urn:logto:scope:organization_roles"
)

// resourceOrganizations must be among the requested resources for organization tokens; Client adds it by itself.
const resourceOrganizations = "urn:logto:resource:organizations"

// Config names the Logto and the application in it.
type Config struct {
	// Endpoint is Logto's base URL, such as https://tenant.logto.app; the issuer is Endpoint + "/oidc". A discovery
	// document (OpenID Connect Discovery 1.0 §4) whose endpoints are of another origin is refused.
	Endpoint string `yaml:"endpoint" env:"LOGTO_ENDPOINT"`
	// InternalEndpoint, if set, is where connections to Endpoint really go, for a Logto that has another
	// address inside a container network. Tokens are still checked against Endpoint.
	InternalEndpoint string `yaml:"internal_endpoint" env:"LOGTO_INTERNAL_ENDPOINT"`
	// AppID and AppSecret are the credentials of an application of the type "Traditional web".
	AppID     string `yaml:"app_id" env:"LOGTO_APP_ID"`
	AppSecret Secret `yaml:"app_secret" env:"LOGTO_APP_SECRET"`
	// Scopes are asked for in addition to openid, profile and offline_access: the constants above, and the
	// permissions of Resources and of organizations. Every scope is asked of every resource (RFC 8707 §2.2); Logto
	// ignores those that a resource does not have.
	Scopes []string `yaml:"scopes" env:"LOGTO_SCOPES" envSeparator:" "`
	// Resources are the API resource indicators, to the letter as registered in Logto, that AccessToken may ask for.
	Resources []string `yaml:"resources" env:"LOGTO_RESOURCES" envSeparator:" "`

	// WebhookKey is the signing key of Logto's webhook, or two with a space between while it is replaced. Empty: no webhooks.
	WebhookKey Secret `yaml:"webhook_key" env:"LOGTO_WEBHOOK_KEY"`

	// DirectSignIn are the identity providers to which a person may go without Logto's own page between, each as Logto's
	// parameter direct_sign_in has it: "social:google", "sso:<connector ID>".
	DirectSignIn []string `yaml:"direct_sign_in" env:"LOGTO_DIRECT_SIGN_IN" envSeparator:" "`
	// AccountCenter says that Logto's Account Center is enabled, where people change their own profile and password.
	AccountCenter bool `yaml:"account_center" env:"LOGTO_ACCOUNT_CENTER"`

	// Revalidate is how long what Logto said about a person is believed before it is asked again; 0: for as long as the
	// session lasts.
	Revalidate time.Duration `yaml:"-"`
	// SecretAgain, if set, is asked when Logto refuses AppSecret: it returns the secret as it is now, which may be another.
	SecretAgain func() (Secret, error) `yaml:"-"`
	// Leeway is how far Logto's clock and ours may differ, either way; 30 s if zero.
	Leeway time.Duration `yaml:"-"`
	// Replays remembers used logout tokens. Nil: in this process only, which is not enough for several instances.
	Replays Replays `yaml:"-"`
	// Transport makes the connections; http.DefaultTransport if nil.
	Transport http.RoundTripper `yaml:"-"`
	// Observe, if set, is told how often something happened, and what became of it; see [ObservedRefresh].
	Observe func(ctx context.Context, event, outcome string, count float64) `yaml:"-"`
	// WrapTransport, if set, wraps what makes the connections, Transport or the default.
	WrapTransport func(http.RoundTripper) http.RoundTripper `yaml:"-"`
	// Log receives what goes wrong without failing a call; slog.Default if nil.
	Log *slog.Logger `yaml:"-"`
}

// Validate reports every fault, joined. The text of each begins with the name of the field, and holds no secret.
func (c Config) Validate() error {
	faults := c.endpointFaults()
	faults.add(c.AppID == "", "AppID", "is required: the App ID of a traditional web application in Logto")
	faults.add(c.AppSecret == "", "AppSecret", "is required: an app secret of the same application")
	faults.addValues("Scopes", c.Scopes, isScope, "which is not a scope (RFC 6749 §3.3)")
	faults.addValues("Resources", c.Resources, isResource, "which is not an absolute URI without fragment (RFC 8707 §2)")
	faults.addValues("DirectSignIn", c.DirectSignIn, isDirectSignIn, "which is neither social:<target> nor sso:<connector ID>")
	return errors.Join(faults...)
}

// endpointFaults are those of the settings that a Verifier has too.
func (c Config) endpointFaults() (faults settingFaults) {
	const notURL = "must be an http or https URL without user, query or fragment, with a port up to 65535 if it has one"
	faults.add(c.Endpoint == "", "Endpoint", "is required, such as https://your-tenant.logto.app")
	faults.add(c.Endpoint != "" && !isBaseURL(c.Endpoint), "Endpoint", notURL)
	faults.add(isBaseURL(c.Endpoint) && strings.HasSuffix(strings.TrimRight(c.Endpoint, "/"), "/oidc"), "Endpoint",
		"must be the base URL, without /oidc at the end: that is the issuer, which is made from it")
	faults.add(c.InternalEndpoint != "" && !isBaseURL(c.InternalEndpoint), "InternalEndpoint", notURL)
	return faults
}

type settingFaults []error

func (f *settingFaults) add(is bool, setting, problem string) {
	if is {
		*f = append(*f, errors.New(setting+" "+problem))
	}
}

func (f *settingFaults) addValues(setting string, values []string, isGood func(string) bool, problem string) {
	for _, value := range values {
		f.add(!isGood(value), setting, fmt.Sprintf("holds %q, %s", value, problem))
	}
}

// A Secret is a string that does not show itself in logs, by fmt, or as JSON. Convert it to a string to use it.
type Secret string

const redacted = "[redacted]"

func (Secret) String() string               { return redacted }
func (Secret) Format(f fmt.State, _ rune)   { _, _ = f.Write([]byte(redacted)) } // %d and %#v too
func (Secret) LogValue() slog.Value         { return slog.StringValue(redacted) }
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// Client is one Logto application, for all requests and people. It does not change and may be used concurrently.
type Client struct {
	*Verifier

	config    Config                  // without secrets
	secret    *atomic.Pointer[string] // pointers, for fmt prints the fields of unexported fields without asking their methods
	webhooks  *[]string
	resources []string // with that of organizations

	revocations, revalidations *background
	outage                     outage
}

// New checks the configuration and makes no request: Logto's discovery document and keys are fetched when they are
// first needed, so an application starts and recovers without Logto.
func New(config Config) (*Client, error) {
	if err := config.Validate(); err != nil {
		return nil, fmt.Errorf("logto: %w", err)
	}
	config.Scopes = union([]string{"openid", "profile", "offline_access"}, config.Scopes)
	config.Resources = union(config.Resources, nil)
	if config.Replays == nil {
		config.Replays = &memoryReplays{}
	}
	secret, webhookKeys := string(config.AppSecret), strings.Fields(string(config.WebhookKey))
	config.AppSecret, config.WebhookKey = "", ""
	c := &Client{
		Verifier:  newVerifier(config),
		config:    config,
		secret:    new(atomic.Pointer[string]),
		webhooks:  &webhookKeys,
		resources: config.Resources,
	}
	c.secret.Store(&secret)
	if slices.Contains(config.Scopes, ScopeOrganizations) {
		c.resources = union(config.Resources, []string{resourceOrganizations})
	}
	c.revocations, c.revalidations = newBackground(c.log, 64), newBackground(c.log, 256)
	return c, nil
}

// Resources returns the API resources that AccessToken may ask for, as configured.
func (c *Client) Resources() []string { return slices.Clone(c.config.Resources) }

// Scopes returns all that are asked for: openid, profile, offline_access, and Config.Scopes.
func (c *Client) Scopes() []string { return slices.Clone(c.config.Scopes) }

// DirectSignIns returns Config.DirectSignIn.
func (c *Client) DirectSignIns() []string { return slices.Clone(c.config.DirectSignIn) }

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
	query := url.Values{"redirect": {redirect}, "ui_locales": {locale}}
	return strings.TrimSuffix(c.issuer, "/oidc") + "/account/" + page + "?" + query.Encode()
}

// withSecret makes a call with the application's secret, and once more if Logto refuses it and there is another by now.
func (c *Client) withSecret(call func(secret string) error) error {
	used := c.secret.Load()
	err := call(*used)
	if answered(err).Code != "invalid_client" || c.config.SecretAgain == nil {
		return err
	}
	again, readErr := c.config.SecretAgain()
	if fresh := string(again); readErr == nil && fresh != "" && fresh != *used {
		c.secret.CompareAndSwap(used, &fresh)
	}
	if now := c.secret.Load(); *now != *used {
		return call(*now)
	}
	return errors.Join(err, readErr)
}

// Session is what one person's browser does with Logto, as one request sees it. It is cheap: make one per request,
// on that request's storage. A refresh may outlive the request, and so do the values of its context: give its methods
// the request's own context, not an object that a framework uses again.
func (c *Client) Session(storage Storage) *Session { return &Session{client: c, storage: storage} }

// union returns the distinct strings of both lists in order.
func union(a, b []string) []string {
	var all []string
	for _, s := range slices.Concat(a, b) {
		if !slices.Contains(all, s) {
			all = append(all, s)
		}
	}
	return all
}

func isBaseURL(s string) bool {
	u, err := url.Parse(s)
	if err != nil {
		return false
	}
	_, err = strconv.ParseUint(cmp.Or(u.Port(), "80"), 10, 16)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Hostname() != "" &&
		u.User == nil && u.RawQuery == "" && !strings.ContainsAny(s, "#?")
}

func isResource(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.IsAbs() && !strings.ContainsAny(s, "# ")
}

var (
	isScope = regexp.MustCompile(`^[\x21\x23-\x5B\x5D-\x7E]+$`).MatchString // RFC 6749 §3.3
	// isDirectSignIn tells whether text is what Logto's parameter direct_sign_in takes: a connector's target, or its ID.
	isDirectSignIn = regexp.MustCompile(`^(social|sso):[^ :]+$`).MatchString
	isLanguageTag  = regexp.MustCompile(`^[A-Za-z0-9-]+$`).MatchString // it may be one (RFC 5646 §2.1)
)
