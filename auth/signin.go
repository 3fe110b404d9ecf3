package auth

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/oauth2"
)

// SignInLife is how long a person may take at Logto's pages: as long as Logto's own interaction lives.
const SignInLife = time.Hour

// Prompt asks Logto for a page that it would otherwise skip (OpenID Connect Core §3.1.2.1).
type Prompt string

const (
	PromptNone    Prompt = "none"    // no page at all: an error if one is needed
	PromptLogin   Prompt = "login"   // the sign-in page, even with a live session at Logto
	PromptConsent Prompt = "consent" // needed for offline_access; Logto shows no page for an application of its own tenant
)

// FirstScreen is the page of Logto's that the person sees first (Logto's docs, "First screen").
type FirstScreen string

const (
	FirstScreenSignIn             FirstScreen = "sign_in"
	FirstScreenRegister           FirstScreen = "register"
	FirstScreenResetPassword      FirstScreen = "reset_password"
	FirstScreenIdentifierSignIn   FirstScreen = "identifier:sign_in"
	FirstScreenIdentifierRegister FirstScreen = "identifier:register"
	FirstScreenSingleSignOn       FirstScreen = "single_sign_on"
)

// InteractionMode is what Logto had before FirstScreen.
//
// Deprecated: use FirstScreen; this is for a Logto before 1.17.
type InteractionMode string

const (
	InteractionModeSignIn InteractionMode = "signIn"
	InteractionModeSignUp InteractionMode = "signUp"
)

// ACRMFA is a sign-in with a second factor, as an authentication context class (OpenID Connect Core §2) of Logto's.
const ACRMFA = "urn:logto:acr:mfa"

// Identifier is a kind of name that Logto's page asks for, with the "identifier:…" first screens.
type Identifier string

const (
	IdentifierUsername Identifier = "username"
	IdentifierEmail    Identifier = "email"
	IdentifierPhone    Identifier = "phone"
)

// SignInOptions say how a sign-in goes. Only RedirectURI is required.
type SignInOptions struct {
	// RedirectURI is the callback's address, as registered in Logto to the letter.
	RedirectURI string
	// ReturnTo comes back in CallbackResult: where the person wanted to go, at most 1 KB. Nobody else can read it.
	ReturnTo string

	// Prompt is PromptConsent if empty, so that there is a refresh token; with PromptLogin add it. After PromptLogin only
	// an ID token whose auth_time is of this sign-in is accepted, for a browser could leave the parameter out.
	Prompt          []Prompt
	FirstScreen     FirstScreen
	InteractionMode InteractionMode
	Identifiers     []Identifier
	DirectSignIn    string        // the identity provider whose page comes instead of Logto's; see Config.DirectSignIn
	LoginHint       string        // fills in the identifier on Logto's page
	OneTimeToken    string        // of a magic link; needs LoginHint, the e-mail it was sent to
	OrganizationID  string        // whose branding Logto's page shows
	UILocales       []string      // BCP 47, in the order of preference
	MaxAge          time.Duration // if not zero, the person must have signed in at Logto this recently; whole seconds
	// ACRValues are the authentication context classes of which the sign-in must have one, such as [ACRMFA]. A Logto before 1.46
	// does not know them, so that the callback fails.
	ACRValues []string
	// Extra are further parameters; those that this package sets are refused.
	Extra url.Values
}

// maxReturnTo keeps the state, which holds it, within what servers take as a URL.
const maxReturnTo = 1 << 10

// reserved are the parameters that decide the security of a sign-in, or that have an option of their own.
var reserved = []string{
	"client_id", "client_secret", "redirect_uri", "response_type", "response_mode", "scope", "state", "nonce",
	"code_challenge", "code_challenge_method", "resource", "request", "request_uri", "claims", "registration",
	"prompt", "max_age", "acr_values", "first_screen", "interaction_mode", "identifier", "direct_sign_in", "login_hint",
	"one_time_token", "organization_id", "ui_locales", "id_token_hint",
}

// validate refuses what Logto would answer with an error, or by discarding all of its own parameters.
func (o SignInOptions) validate() error {
	u, err := url.Parse(o.RedirectURI)
	screens := []FirstScreen{"", FirstScreenSignIn, FirstScreenRegister, FirstScreenResetPassword,
		FirstScreenIdentifierSignIn, FirstScreenIdentifierRegister, FirstScreenSingleSignOn}
	modes := []InteractionMode{"", InteractionModeSignIn, InteractionModeSignUp}
	return refuse(ErrInvalidOption,
		fault{err != nil || !u.IsAbs() || u.Fragment != "", "redirect URI is not absolute"},
		fault{!areAmong(o.Prompt, PromptNone, PromptLogin, PromptConsent), "unknown prompt"},
		fault{slices.Contains(o.Prompt, PromptNone) && len(o.Prompt) > 1, "prompt none goes with no other"},
		fault{!slices.Contains(screens, o.FirstScreen), "unknown first screen"},
		fault{!slices.Contains(modes, o.InteractionMode), "unknown interaction mode"},
		fault{!areAmong(o.Identifiers, IdentifierUsername, IdentifierEmail, IdentifierPhone), "unknown identifier"},
		fault{o.DirectSignIn != "" && !isDirectSignIn(o.DirectSignIn), "direct sign-in is not social or sso with a target"},
		fault{!every(o.UILocales, isLanguageTag), "a UI locale is not a language tag"},
		fault{!every(o.ACRValues, isScope), "an acr value is empty or has a character that none has"}, // a scope's alphabet
		fault{o.OneTimeToken != "" && o.LoginHint == "", "a one-time token needs the login hint"},
		fault{len(o.ReturnTo) > maxReturnTo, "return to is too long"},
		fault{o.MaxAge < 0 || o.MaxAge%time.Second != 0, "max age is not in whole seconds"},
		fault{slices.ContainsFunc(reserved, o.Extra.Has), "an extra parameter is reserved"},
	)
}

func every[T any](values []T, is func(T) bool) bool {
	return !slices.ContainsFunc(values, func(value T) bool { return !is(value) })
}

func areAmong[S ~string](values []S, known ...S) bool {
	return every(values, func(value S) bool { return slices.Contains(known, value) })
}

// pendingSignIn is what a sign-in must remember until its callback.
type pendingSignIn struct {
	Began       int64         `json:"b"` // ms since 1970
	RedirectURI string        `json:"u"`
	ReturnTo    string        `json:"r,omitempty"`
	MaxAge      time.Duration `json:"a,omitempty"`
	Login       bool          `json:"l,omitempty"` // the person must have signed in anew
	ACRValues   []string      `json:"c,omitempty"`

	state  string
	secret []byte
}

func (p pendingSignIn) began() time.Time { return time.UnixMilli(p.Began) }

// nonce and verifier follow from the secret, which only the browser that began has a part of.
func (p pendingSignIn) nonce() string    { return p.derive("nonce") }
func (p pendingSignIn) verifier() string { return p.derive("verifier") } // 43 characters (RFC 7636 §4.1)

func (p pendingSignIn) derive(purpose string) string {
	mac := hmac.New(sha256.New, p.secret)
	mac.Write([]byte(purpose)) // never fails, by its documentation
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// SignIn begins a sign-in and returns the URL at Logto to redirect the browser to: an authorization code request with
// PKCE (RFC 7636), state and nonce. Sign-ins are independent of each other; each must end within [SignInLife].
// Errors: [ErrInvalidOption], [ErrProvider]. docs/how-it-works.md#sign-in has a picture.
func (s *Session) SignIn(ctx context.Context, options SignInOptions) (string, error) {
	if err := options.validate(); err != nil {
		return "", fmt.Errorf("sign in: %w", err)
	}
	p, err := s.client.provider.get(ctx)
	if err != nil {
		return "", fmt.Errorf("sign in: %w", err)
	}
	address, _ := url.Parse(p.AuthorizationEndpoint) // discovery has done so
	pending := pendingSignIn{
		Began:       time.Now().UnixMilli(),
		RedirectURI: options.RedirectURI,
		ReturnTo:    options.ReturnTo,
		MaxAge:      options.MaxAge,
		Login:       slices.Contains(options.Prompt, PromptLogin),
		ACRValues:   options.ACRValues,
	}
	var value bytes.Buffer
	encoder := json.NewEncoder(&value)
	encoder.SetEscapeHTML(false) // which would make six bytes of "&"
	if err := encoder.Encode(pending); err != nil {
		return "", fmt.Errorf("sign in: %w", err)
	}
	pending.state, pending.secret = s.storage.SealSignIn(value.Bytes())
	query := address.Query()
	maps.Copy(query, s.client.authorizationRequest(options, pending))
	address.RawQuery = query.Encode()
	return address.String(), nil
}

// authorizationRequest builds the parameters. x/oauth2's AuthCodeURL can't: it keeps only one resource.
func (c *Client) authorizationRequest(o SignInOptions, pending pendingSignIn) url.Values {
	query := url.Values{
		"client_id":             {c.config.AppID},
		"response_type":         {"code"},
		"redirect_uri":          {o.RedirectURI},
		"scope":                 {strings.Join(c.config.Scopes, " ")},
		"state":                 {pending.state},
		"nonce":                 {pending.nonce()},
		"code_challenge":        {oauth2.S256ChallengeFromVerifier(pending.verifier())},
		"code_challenge_method": {"S256"},
		"resource":              c.resources,
	}
	if len(o.Prompt) == 0 {
		o.Prompt = []Prompt{PromptConsent}
	}
	if pending.Login && o.MaxAge == 0 {
		o.MaxAge = SignInLife // asks for nothing more, but for auth_time in the ID token (OpenID Connect Core §2)
	}
	if o.MaxAge > 0 {
		query.Set("max_age", strconv.Itoa(int(o.MaxAge/time.Second)))
	}
	setAll(query, map[string]string{
		"prompt":           join(o.Prompt),
		"first_screen":     string(o.FirstScreen),
		"interaction_mode": string(o.InteractionMode),
		"identifier":       join(o.Identifiers),
		"direct_sign_in":   o.DirectSignIn,
		"login_hint":       o.LoginHint,
		"one_time_token":   o.OneTimeToken,
		"organization_id":  o.OrganizationID,
		"ui_locales":       join(o.UILocales),
		"acr_values":       join(o.ACRValues),
	})
	maps.Copy(query, o.Extra)
	return query
}

// setAll sets the parameters that have a value.
func setAll(query url.Values, parameters map[string]string) {
	for name, value := range parameters {
		if value != "" {
			query.Set(name, value)
		}
	}
}

// join writes a list as OAuth does, separated by spaces.
func join[S ~string](list []S) string {
	words := make([]string, len(list))
	for i, s := range list {
		words[i] = string(s)
	}
	return strings.Join(words, " ")
}
