package authtest

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	codeLife        = time.Minute
	interactionLife = time.Hour
	sessionLife     = 14 * 24 * time.Hour
	sessionCookie   = "_session"
)

// session is a browser's, with or without a person in it. It gets a new ID when one signs in.
type session struct {
	id       string
	subject  string
	authTime time.Time
	acr      string   // how well they proved who they are, in Logto's words
	amr      []string // and how
	expires  time.Time
	sids     map[string]string // by application: the session's ID towards it
	grants   map[string]*grant // by application
}

// grant is what a person allowed an application. Codes and tokens are worth nothing without it.
type grant struct {
	app, subject string
	scopes       []string            // OpenID Connect's
	resources    map[string][]string // an API's, by indicator
	persists     bool                // outlives the session: offline_access was granted
	revoked      bool
}

// allows returns what of these scopes was granted, at any of the resources.
func (g *grant) allows(scopes, resources []string) []string {
	granted := slices.Clone(g.scopes)
	for _, indicator := range resources {
		granted = append(granted, g.resources[indicator]...)
	}
	return both(scopes, granted)
}

// ticket is what a code, a refresh token or an opaque access token stands for.
type ticket struct {
	grant       *grant
	scopes      []string
	resources   []string
	nonce       string
	sid         string
	challenge   string // of a code
	redirectURI string // of a code
	authTime    int64  // 0: not in tokens
	acr         string
	amr         []string
	issued      time.Time
	expires     time.Time
	consumed    time.Time // zero: not yet
}

// interaction is a request that waits for a person, in the browser that brought it.
type interaction struct {
	id      string
	session *session
	request authRequest
	expires time.Time
	stepUp  bool     // only a second factor is missing
	amr     []string // what was proved in it
}

type authRequest struct {
	app          App
	redirectURI  string
	state        []string // empty if there was none
	nonce        string
	challenge    string
	scopes       []string
	resources    []string
	prompts      []string
	maxAge       time.Duration
	hasMaxAge    bool
	hint         string // the subject of id_token_hint
	screen       string // the page to show: /sign-in, /register, or a connector's
	loginHint    string
	oneTimeToken string
	organization string // its name, for the pages
	locales      string
	mfa          bool   // a second factor is asked for
	account      string // the address in the Account Center that asks, instead of an application
}

// authorize answers an authorization request: with a page, a code, or an error, to the application if it may be sent there.
func (s *Server) authorize(w http.ResponseWriter, r *http.Request) error {
	request, err := s.addressee(r.Form)
	if refused, ok := errors.AsType[*oauthError](err); ok {
		body := refused.body()
		body["iss"] = s.Issuer
		if r.Form.Has("state") {
			body["state"] = r.Form.Get("state")
		}
		return writeJSON(w, refused.status, body)
	}
	err = s.parse(&request, r.Form)
	if err == nil {
		err = s.decide(w, r, request)
	}
	if refused, ok := errors.AsType[*oauthError](err); ok {
		s.backWithError(w, r, request, refused)
		return nil
	}
	return err
}

// addressee finds out where the answer may go. Without that, there is no way back to the application.
func (s *Server) addressee(form url.Values) (authRequest, error) {
	if err := present(form, "client_id"); err != nil {
		return authRequest{}, err
	}
	app, err := s.app(form.Get("client_id"))
	if err != nil {
		return authRequest{}, err
	}
	uri := app.redirectURI(form)
	if uri == "" {
		return authRequest{}, present(form, "redirect_uri")
	}
	if len(form["redirect_uri"]) > 1 || !registered(app.RedirectURIs, uri) {
		return authRequest{}, &oauthError{http.StatusBadRequest, "invalid_redirect_uri",
			"redirect_uri did not match any of the client's registered redirect_uris", ""}
	}
	return authRequest{app: app, redirectURI: uri, state: form["state"]}, nil
}

// app returns an application. Logto refuses every request of one without redirect URIs.
func (s *Server) app(id string) (App, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	app, known := s.apps[id]
	if !known {
		return App{}, invalidClient("invalid client " + id)
	}
	if len(app.RedirectURIs) == 0 {
		return App{}, &oauthError{http.StatusBadRequest, "invalid_redirect_uri", "redirect_uris must contain members", ""}
	}
	return app, nil
}

// redirectURI is the one in the form. An application that has registered only one may leave it out.
func (app App) redirectURI(form url.Values) string {
	if !form.Has("redirect_uri") && len(app.RedirectURIs) == 1 {
		return app.RedirectURIs[0]
	}
	return form.Get("redirect_uri")
}

// parse checks the request in Logto's order.
func (s *Server) parse(request *authRequest, form url.Values) error {
	if err := single(form, "resource"); err != nil {
		return err
	}
	if err := present(form, "response_type"); err != nil {
		return err
	}
	if form.Get("response_type") != "code" {
		return &oauthError{http.StatusBadRequest, "unsupported_response_type",
			"unsupported response_type requested", ""}
	}
	request.prompts = strings.Fields(form.Get("prompt"))
	for _, prompt := range request.prompts {
		if !slices.Contains([]string{"none", "login", "consent"}, prompt) {
			return invalidRequest("unsupported prompt value requested")
		}
	}
	if slices.Contains(request.prompts, "none") && len(request.prompts) > 1 {
		return invalidRequest("prompt none must only be used alone")
	}
	request.scopes = strings.Fields(form.Get("scope"))
	if !slices.Contains(request.prompts, "consent") {
		request.scopes = slices.DeleteFunc(request.scopes, func(s string) bool { return s == "offline_access" })
	}
	if err := checkChallenge(form, request.app); err != nil {
		return err
	}
	request.challenge, request.nonce = form.Get("code_challenge"), form.Get("nonce")
	for _, list := range form["resource"] {
		for indicator := range strings.SplitSeq(list, ",") {
			if !s.resource(indicator) {
				return invalidTarget()
			}
			request.resources = append(request.resources, indicator)
		}
	}
	if hint := form.Get("id_token_hint"); hint != "" {
		claims, ok := s.hint(hint)
		if !ok {
			return invalidRequest("could not validate id_token_hint")
		}
		request.hint = claims.Subject
	}
	classes := strings.Fields(form.Get("acr_values")) // any of them will do
	request.mfa = s.opts.StepUp && slices.Contains(classes, acrMFA) && !slices.Contains(classes, acrFirstFactor)
	s.addScreen(request, form)
	return request.addMaxAge(form)
}

func checkChallenge(form url.Values, app App) error {
	challenge, method := form.Get("code_challenge"), form.Get("code_challenge_method")
	switch {
	case challenge == "" && method == "" && app.PKCEOptional:
		return nil
	case challenge == "" && method == "":
		return invalidRequest("Authorization Server policy requires PKCE to be used for this request")
	case method == "":
		return invalidRequest("code_challenge_method must be provided")
	case method != "S256":
		return invalidRequest("not supported value of code_challenge_method")
	case challenge == "":
		return invalidRequest("code_challenge must be provided with code_challenge_method")
	}
	return checkPKCEText("code_challenge", challenge)
}

func checkPKCEText(name, value string) error {
	if len(value) < 43 {
		return invalidRequest("%s must be a string with a minimum length of 43 characters", name)
	}
	if len(value) > 128 {
		return invalidRequest("%s must be a string with a maximum length of 128 characters", name)
	}
	return nil
}

func (request *authRequest) addMaxAge(form url.Values) error {
	if !form.Has("max_age") {
		return nil
	}
	seconds, err := strconv.ParseUint(form.Get("max_age"), 10, 31)
	if err != nil {
		return invalidRequest("invalid max_age parameter value")
	}
	if seconds == 0 {
		request.prompts = append(request.prompts, "login")
		return nil
	}
	request.maxAge, request.hasMaxAge = time.Duration(seconds)*time.Second, true
	return nil
}

// addScreen reads Logto's own parameters. As at Logto, one invalid value makes it discard them all.
func (s *Server) addScreen(request *authRequest, form url.Values) {
	request.screen = "/sign-in"
	screen, mode := form.Get("first_screen"), form.Get("interaction_mode")
	screens := []string{"", "sign_in", "register", "reset_password", "identifier:sign_in", "identifier:register",
		"single_sign_on", "signIn"}
	if !slices.Contains(screens, screen) || !slices.Contains([]string{"", "signIn", "signUp"}, mode) {
		return
	}
	if strings.HasSuffix(screen, "register") || screen == "" && mode == "signUp" {
		request.screen = "/register"
	}
	request.loginHint, request.locales = form.Get("login_hint"), form.Get("ui_locales")
	if request.loginHint != "" {
		request.oneTimeToken = form.Get("one_time_token")
	}
	for _, o := range s.opts.Organizations {
		if o.ID == form.Get("organization_id") {
			request.organization = o.Name
		}
	}
	if method, target, _ := strings.Cut(form.Get("direct_sign_in"), ":"); s.connector(method, target).Target != "" {
		request.screen = "/direct/" + method + "/" + url.PathEscape(target)
	}
	if request.oneTimeToken != "" {
		request.screen = oneTimeTokenScreen
	}
}

// decide answers with a code if this browser's session suffices, else asks the person.
func (s *Server) decide(w http.ResponseWriter, r *http.Request, request authRequest) error {
	page, code, err := s.decision(w, r, request)
	switch {
	case err != nil:
		return err
	case page != "":
		http.Redirect(w, r, page, http.StatusSeeOther)
	default:
		s.back(w, r, request, url.Values{"code": {code}})
	}
	return nil
}

func (s *Server) decision(w http.ResponseWriter, r *http.Request, request authRequest) (page, code string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	session := s.session(w, r)
	screen := s.screen(session, request)
	switch none := slices.Contains(request.prompts, "none"); {
	case none && screen != "":
		return "", "", &oauthError{http.StatusBadRequest, "login_required", "End-User authentication is required", ""}
	case none && !s.granted(session, request):
		return "", "", &oauthError{http.StatusBadRequest, "consent_required", "requested scopes not granted", ""}
	case screen == "":
		return "", s.grantCode(session, request), nil
	case screen == stepUpScreen && !s.user(session.subject).MFA:
		return "", "", unmet()
	}
	i := s.begin(session, request)
	i.stepUp = screen == stepUpScreen
	return s.URL + screen + "?interaction=" + i.id, "", nil
}

// begin needs the lock.
func (s *Server) begin(session *session, request authRequest) *interaction {
	i := &interaction{id: randomID(21), session: session, request: request, expires: s.opts.Now().Add(interactionLife)}
	s.interactions[i.id] = i
	return i
}

// screen is the page to show before the application gets a code; empty: none.
func (s *Server) screen(session *session, request authRequest) string {
	switch {
	case session.subject == "", slices.Contains(request.prompts, "login"),
		request.hasMaxAge && s.opts.Now().Sub(session.authTime) > request.maxAge,
		request.hint != "" && request.hint != session.subject:
		return request.screen
	case request.oneTimeToken != "" && (slices.Contains(request.prompts, "consent") || !s.granted(session, request)):
		return oneTimeTokenScreen // Logto looks at the token where it asks for consent, too
	case request.mfa && session.acr != acrMFA:
		return stepUpScreen
	}
	return ""
}

// granted tells whether the person has allowed all of this before.
func (s *Server) granted(session *session, request authRequest) bool {
	g := session.grants[request.app.ID]
	if g == nil || g.revoked {
		return false
	}
	user := s.user(session.subject)
	wanted := both(request.scopes, oidcScopes())
	for _, indicator := range request.resources {
		wanted = append(wanted, both(request.scopes, s.permissions(user, indicator, ""))...)
	}
	return len(g.allows(wanted, request.resources)) == len(both(wanted, wanted))
}

// session returns the one of this browser, a new one if it has none. It needs the lock.
func (s *Server) session(w http.ResponseWriter, r *http.Request) *session {
	now := s.opts.Now()
	s.sweep(now)
	if cookie, err := r.Cookie(sessionCookie); err == nil {
		if known := s.sessions[cookie.Value]; known != nil {
			return known
		}
	}
	created := &session{expires: now.Add(interactionLife)}
	s.rename(w, created)
	return created
}

// rename gives a session a new ID, so that nobody can have planted it.
func (s *Server) rename(w http.ResponseWriter, session *session) {
	delete(s.sessions, session.id)
	session.id = randomID(43)
	s.sessions[session.id] = session
	http.SetCookie(w, &http.Cookie{
		Name: sessionCookie, Value: session.id, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode,
		Secure: strings.HasPrefix(s.URL, "https:"),
	})
}

// signedIn goes on with an interaction in which user proved who they are, by a method of RFC 8176. If somebody else was
// signed in, they are signed out first.
func (s *Server) signedIn(w http.ResponseWriter, r *http.Request, i *interaction, user User, method string) error {
	if user.Suspended {
		return s.refuse(w, r, i, user.Username, "suspended")
	}
	s.mu.Lock()
	var calls []logoutCall
	if i.session.subject != "" && i.session.subject != user.Subject {
		calls = s.end(i.session)
	}
	now := s.opts.Now()
	i.session.subject, i.session.authTime, i.session.expires = user.Subject, now, now.Add(sessionLife)
	i.session.acr, i.session.amr = acrFirstFactor, []string{method}
	if method == "fed" {
		i.session.acr = "" // another provider's word for it is no factor to Logto
	}
	i.amr, i.stepUp = i.session.amr, i.request.mfa
	s.rename(w, i.session)
	s.mu.Unlock()
	s.deliver(r.Context(), calls)
	if i.stepUp && user.MFA {
		http.Redirect(w, r, s.URL+stepUpScreen+"?interaction="+i.id, http.StatusSeeOther)
		return nil
	}
	s.finish(w, r, i)
	return nil
}

// finish ends an interaction, and returns to where it began.
func (s *Server) finish(w http.ResponseWriter, r *http.Request, i *interaction) {
	answer := url.Values{}
	s.mu.Lock()
	delete(s.interactions, i.id)
	if i.request.account == "" && (!i.request.mfa || i.session.acr == acrMFA) {
		answer.Set("code", s.grantCode(i.session, i.request))
	}
	s.mu.Unlock()
	switch {
	case i.request.account != "":
		http.Redirect(w, r, s.URL+i.request.account, http.StatusSeeOther)
	case !answer.Has("code"):
		s.backWithError(w, r, i.request, unmet())
	default:
		s.back(w, r, i.request, answer)
	}
}

// grantCode consents for the person, as Logto does for applications of one's own. It needs the lock.
func (s *Server) grantCode(session *session, request authRequest) string {
	app := request.app.ID
	if session.grants == nil {
		session.grants, session.sids = map[string]*grant{}, map[string]string{}
	}
	if session.sids[app] == "" {
		session.sids[app] = randomID(43)
	}
	g := session.grants[app]
	if g == nil || g.revoked {
		g = &grant{app: app, subject: session.subject, resources: map[string][]string{}}
		session.grants[app] = g
	}
	user := s.user(session.subject)
	g.scopes = append(g.scopes, both(request.scopes, oidcScopes())...)
	for _, indicator := range request.resources {
		g.resources[indicator] = append(g.resources[indicator], both(request.scopes, s.permissions(user, indicator, ""))...)
	}
	now := s.opts.Now()
	t := &ticket{
		grant: g, scopes: g.allows(request.scopes, request.resources), resources: request.resources,
		nonce: request.nonce, challenge: request.challenge, redirectURI: request.redirectURI,
		issued: now, expires: now.Add(codeLife),
	}
	if s.opts.StepUp || request.hasMaxAge || slices.Contains(request.prompts, "login") {
		t.authTime = session.authTime.Unix()
	}
	if s.opts.StepUp {
		t.acr, t.amr = session.acr, session.amr
	}
	if request.app.BackchannelLogoutURI != "" && request.app.BackchannelLogoutSession {
		t.sid = session.sids[app]
	}
	g.persists = g.persists || slices.Contains(t.scopes, "offline_access")
	code := randomID(43)
	s.codes[code] = t
	return code
}

func (s *Server) backWithError(w http.ResponseWriter, r *http.Request, request authRequest, e *oauthError) {
	s.back(w, r, request, url.Values{"error": {e.code}, "error_description": {e.description}})
}

// back returns to the application, with iss whatever happened.
func (s *Server) back(w http.ResponseWriter, r *http.Request, request authRequest, answer url.Values) {
	answer.Set("iss", s.Issuer)
	if len(request.state) > 0 {
		answer.Set("state", request.state[0])
	}
	for _, change := range take[func(url.Values)](&s.hooks, onCallback) {
		change(answer)
	}
	target, err := url.Parse(request.redirectURI)
	if err != nil {
		writeError(w, invalidRequest("the redirect URI can't be read"))
		return
	}
	query := target.Query()
	for name, values := range answer {
		query[name] = values
	}
	target.RawQuery = query.Encode()
	http.Redirect(w, r, target.String(), http.StatusSeeOther)
}

// registered compares URIs as URLs: an empty path is "/".
func registered(list []string, uri string) bool {
	normal := func(uri string) string {
		if parsed, err := url.Parse(uri); err == nil && parsed.Host != "" && parsed.Path == "" {
			parsed.Path = "/"
			return parsed.String()
		}
		return uri
	}
	return uri != "" && slices.ContainsFunc(list, func(known string) bool { return normal(known) == normal(uri) })
}
