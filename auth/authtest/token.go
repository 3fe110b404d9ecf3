package authtest

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// reuseGrace is how long a rotated refresh token still works.
const reuseGrace = 3 * time.Second

// issue is what the token endpoint decided to give, before anything is signed.
type issue struct {
	app     App
	access  map[string]any // claims; nil: an opaque token
	opaque  string
	refresh string // empty: none
	id      map[string]any
	idKind  hookKind
	scopes  []string
}

func (s *Server) token(w http.ResponseWriter, r *http.Request) error {
	app, err := s.authenticate(w, r)
	if err != nil {
		return err
	}
	if err := present(r.PostForm, "grant_type"); err != nil {
		return err
	}
	if err := single(r.PostForm, "resource"); err != nil {
		return err
	}
	var issued issue
	switch r.PostForm.Get("grant_type") {
	case "authorization_code":
		issued, err = s.exchange(app, r.PostForm)
	case "refresh_token":
		issued, err = s.refreshed(app, r.PostForm)
	default:
		err = &oauthError{http.StatusBadRequest, "unsupported_grant_type", "unsupported grant_type requested", ""}
	}
	if err != nil {
		return err
	}
	answer := map[string]any{
		"access_token": issued.opaque, "token_type": "Bearer",
		"expires_in": int(s.opts.AccessTokenLife.Seconds()), "scope": strings.Join(issued.scopes, " "),
	}
	if issued.access != nil {
		answer["access_token"] = s.mint(onAccessToken, app, map[string]any{"typ": "at+jwt"}, issued.access)
	}
	if issued.id != nil {
		answer["id_token"] = s.mint(issued.idKind, app, map[string]any{}, issued.id)
	}
	if issued.refresh != "" {
		answer["refresh_token"] = issued.refresh
	}
	return writeJSON(w, http.StatusOK, answer)
}

// authenticate accepts the secret in the header, URL-encoded, or in the form, but not in both.
func (s *Server) authenticate(w http.ResponseWriter, r *http.Request) (App, error) {
	id, secret := r.PostForm.Get("client_id"), r.PostForm.Get("client_secret")
	header := r.Header.Get("Authorization")
	if header != "" {
		if secret != "" {
			return App{}, invalidRequest("client authentication must only be provided using one mechanism")
		}
		encodedID, encodedSecret, ok := r.BasicAuth()
		if !ok {
			return App{}, invalidRequest("invalid authorization header value format")
		}
		basicID, err1 := url.QueryUnescape(encodedID)
		basicSecret, err2 := url.QueryUnescape(encodedSecret)
		if err1 != nil || err2 != nil {
			return App{}, invalidRequest("client_id and client_secret in the authorization header are not properly encoded")
		}
		if id != "" && id != basicID {
			return App{}, invalidRequest("client_id mismatch")
		}
		id, secret = basicID, basicSecret
	}
	if id == "" {
		return App{}, invalidRequest("no client authentication mechanism provided")
	}
	app, err := s.app(id)
	if err != nil {
		return App{}, err
	}
	if subtle.ConstantTimeCompare([]byte(app.Secret), []byte(secret)) != 1 {
		if header != "" {
			w.Header().Set("WWW-Authenticate", `Basic realm="`+s.Issuer+
				`", error="invalid_client", error_description="client authentication failed"`)
		}
		return App{}, &oauthError{http.StatusUnauthorized, "invalid_client", "client authentication failed", ""}
	}
	return app, nil
}

// exchange spends a code. A wrong verifier does not spend it; a second use revokes what came from the first.
func (s *Server) exchange(app App, form url.Values) (issue, error) {
	if err := present(form, "code"); err != nil {
		return issue{}, err
	}
	redirectURI := app.redirectURI(form)
	if redirectURI == "" {
		return issue{}, present(form, "redirect_uri")
	}
	verifier := form.Get("code_verifier")
	if verifier != "" {
		if err := checkPKCEText("code_verifier", verifier); err != nil {
			return issue{}, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.opts.Now()
	code := s.codes[form.Get("code")]
	if !valid(code, app, now) || !fits(code.challenge, verifier) || code.redirectURI != redirectURI {
		return issue{}, invalidGrant()
	}
	if !code.consumed.IsZero() {
		code.grant.revoked = true
		return issue{}, invalidGrant()
	}
	code.consumed = now
	issued := issue{app: app, idKind: onIDToken}
	if err := s.issueAccess(&issued, code, form, code.scopes); err != nil {
		return issue{}, err
	}
	if slices.Contains(code.scopes, "offline_access") || app.AlwaysIssueRefreshToken {
		issued.refresh = randomID(43)
		next := *code
		next.issued, next.expires, next.consumed = now, now.Add(s.opts.RefreshTokenLife), time.Time{}
		s.refresh[issued.refresh] = &next
	}
	s.issueID(&issued, code, code.scopes)
	return issued, nil
}

// refreshed uses a refresh token, and rotates it when it is due.
func (s *Server) refreshed(app App, form url.Values) (issue, error) {
	if err := present(form, "refresh_token"); err != nil {
		return issue{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.opts.Now()
	value := form.Get("refresh_token")
	token := s.refresh[value]
	if !valid(token, app, now) {
		return issue{}, invalidGrant()
	}
	scopes := token.scopes
	if asked := strings.Fields(form.Get("scope")); len(asked) > 0 {
		scopes = asked
		for _, scope := range asked {
			if !slices.Contains(token.scopes, scope) {
				return issue{}, &oauthError{http.StatusBadRequest, "invalid_scope",
					"refresh token missing requested scope", scope}
			}
		}
	}
	if !token.consumed.IsZero() && now.Sub(token.consumed) > reuseGrace {
		token.grant.revoked = true
		return issue{}, invalidGrant()
	}
	if organization := form.Get("organization_id"); organization != "" {
		if !s.member(s.user(token.grant.subject), organization) {
			return issue{}, accessDenied("user is not a member of the organization")
		}
		if !slices.Contains(token.scopes, scopeOrganizations) {
			return issue{}, &oauthError{http.StatusForbidden, "insufficient_scope",
				"refresh token missing required scope", scopeOrganizations}
		}
	}
	issued := issue{app: app, idKind: onRefreshedToken, refresh: value}
	if s.opts.RotateAlways || now.Sub(token.issued) >= s.opts.RefreshTokenLife*7/10 {
		token.consumed = now
		issued.refresh = randomID(43)
		next := *token
		next.issued, next.expires, next.consumed = now, now.Add(s.opts.RefreshTokenLife), time.Time{}
		s.refresh[issued.refresh] = &next
	}
	if err := s.issueAccess(&issued, token, form, scopes); err != nil {
		return issue{}, err
	}
	s.issueID(&issued, token, scopes)
	return issued, nil
}

// valid tells whether a code or token exists, is this application's, is fresh, and its grant stands.
func valid(t *ticket, app App, now time.Time) bool {
	return t != nil && t.grant.app == app.ID && now.Before(t.expires) && !t.grant.revoked
}

// fits tells whether a verifier is the challenge's.
func fits(challenge, verifier string) bool {
	if challenge == "" && verifier == "" {
		return true
	}
	digest := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(digest[:]) == challenge
}

// issueAccess decides which access token it is: opaque, for an API, for an organization, or for an API within one.
func (s *Server) issueAccess(issued *issue, t *ticket, form url.Values, scopes []string) error {
	organization, resource := form.Get("organization_id"), form.Get("resource")
	if form.Get("grant_type") != "refresh_token" {
		organization = ""
	}
	user := s.user(t.grant.subject)
	switch {
	case organization != "" && resource == "":
		issued.scopes = both(s.organizationScopes(user, organization), scopes)
		resource = organizationURN + organization
	case resource != "" && len(form["resource"]) == 1:
		if !slices.Contains(t.resources, resource) {
			return invalidTarget()
		}
		allowed := both(s.permissions(user, resource, organization), t.grant.resources[resource])
		issued.scopes = both(scopes, allowed)
	default: // Logto ignores several resources at once
		issued.scopes = both(scopes, t.grant.scopes)
		issued.opaque = randomID(43)
		now := s.opts.Now()
		s.access[issued.opaque] = &ticket{grant: t.grant, scopes: issued.scopes, issued: now, expires: now.Add(s.opts.AccessTokenLife)}
		return nil
	}
	issued.access = s.accessClaims(issued.app, user.Subject, resource, issued.scopes)
	if s.opts.StepUp {
		t.addContext(issued.access)
	}
	if organization != "" && form.Get("resource") != "" {
		issued.access["organization_id"] = organization
	}
	return nil
}

func (s *Server) issueID(issued *issue, t *ticket, scopes []string) {
	if !slices.Contains(scopes, "openid") {
		return
	}
	now := s.opts.Now()
	issued.id = s.claims(s.user(t.grant.subject), both(scopes, t.grant.scopes), false)
	issued.id["iss"], issued.id["aud"] = s.Issuer, issued.app.ID
	issued.id["iat"], issued.id["exp"] = now.Unix(), now.Add(s.opts.IDTokenLife).Unix()
	for name, value := range map[string]string{"nonce": t.nonce, "sid": t.sid} {
		if value != "" {
			issued.id[name] = value
		}
	}
	t.addContext(issued.id)
}
