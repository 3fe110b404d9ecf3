package authtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// Endpoint names a part of the provider, for On, Requests and Count.
type Endpoint string

// The endpoints. Page is everything outside of the protocol: sign-in, sign-up, pictures.
const (
	Discovery     Endpoint = "discovery"
	Keys          Endpoint = "jwks"
	Authorization Endpoint = "authorization"
	Token         Endpoint = "token"
	UserInfo      Endpoint = "userinfo"
	Revocation    Endpoint = "revocation"
	EndSession    Endpoint = "end_session"
	Page          Endpoint = "page"
)

// bodyLimit is Logto's.
const bodyLimit = 56 << 10

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, e Endpoint, h func(http.ResponseWriter, *http.Request) error) {
		mux.Handle(pattern, s.endpoint(e, h))
	}
	handle("GET /oidc/.well-known/openid-configuration", Discovery, s.discovery)
	handle("GET /oidc/jwks", Keys, s.jwks)
	handle("GET /oidc/auth", Authorization, s.authorize)
	handle("POST /oidc/auth", Authorization, s.authorize)
	handle("POST /oidc/token", Token, s.token)
	handle("GET /oidc/me", UserInfo, s.userinfo)
	handle("POST /oidc/me", UserInfo, s.userinfo)
	handle("POST /oidc/token/revocation", Revocation, s.revoke)
	handle("GET /oidc/session/end", EndSession, s.endSession)
	handle("POST /oidc/session/end", EndSession, s.endSession)
	handle("POST /oidc/session/end/confirm", EndSession, s.asked(s.confirmEndSession))
	handle("/oidc/", Page, func(_ http.ResponseWriter, r *http.Request) error {
		return &oauthError{http.StatusNotFound, "invalid_request",
			fmt.Sprintf("unrecognized route or not allowed method (%s on %s)", r.Method, r.URL.Path), ""}
	})
	handle("GET /sign-in", Page, s.asked(s.signInPage))
	handle("POST /sign-in", Page, s.asked(s.signIn))
	handle("GET /register", Page, s.asked(s.registerPage))
	handle("POST /register", Page, s.asked(s.register))
	handle("GET /direct/{method}/{target}", Page, s.asked(s.connectorPage))
	handle("POST /direct/{method}/{target}", Page, s.asked(s.connected))
	handle("GET "+oneTimeTokenScreen, Page, s.asked(s.oneTimeTokenPage))
	handle("POST "+oneTimeTokenScreen, Page, s.asked(s.redeem))
	handle("POST /magic-link", Page, s.magicLink)
	handle("GET "+stepUpScreen, Page, s.asked(s.stepUpPage))
	handle("POST "+stepUpScreen, Page, s.asked(s.stepUp))
	handle("GET /account/{page}", Page, s.accountPage)
	handle("POST /account/{page}", Page, s.asked(s.changeAccount))
	handle("GET /avatar/{name}", Page, s.avatar)
	handle("GET /style.css", Page, s.style)
	handle("GET /{$}", Page, s.startPage)
	return mux
}

// endpoint records a request, lets the hooks act, and writes an error as Logto words it.
func (s *Server) endpoint(e Endpoint, h func(http.ResponseWriter, *http.Request) error) http.Handler {
	plain := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := h(w, r)
		if refused, ok := errors.AsType[*oauthError](err); ok {
			s.opts.Log.Info("refused", "endpoint", e, "status", refused.status, "error", refused)
			writeError(w, refused)
			return
		}
		if err != nil {
			s.opts.Log.Error("answer", "endpoint", e, "error", err)
			writeError(w, &oauthError{http.StatusInternalServerError, "server_error", "oops! something went wrong", ""})
		}
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, bodyLimit)
		if err := r.ParseForm(); err != nil {
			writeError(w, invalidRequest("the form can't be read"))
			return
		}
		w.Header().Set("Date", s.opts.Now().UTC().Format(http.TimeFormat))
		seen := s.seen.begin(e, r, s.opts.Now())
		sw := &statusWriter{ResponseWriter: w}
		defer func() { s.seen.end(seen, sw.status, s.opts.Now()) }()
		var handler http.Handler = plain
		for _, behave := range take[Behaviour](&s.hooks, hookKind(e)) {
			handler = behave(handler)
		}
		handler.ServeHTTP(sw, r)
	})
}

// statusWriter notices the status.
type statusWriter struct {
	http.ResponseWriter
	status int
}

// WriteHeader implements http.ResponseWriter.
func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap gives http.ResponseController what lies below.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Request is what the provider saw of a request, with its secrets: a test may want to know them.
type Request struct {
	Endpoint   Endpoint
	Method     string
	Path       string
	Form       url.Values // query and body
	Header     http.Header
	Auth       string    // client_secret_basic, client_secret_post, bearer, or empty
	Status     int       // of the answer; 0 while there is none
	Begin, End time.Time // by the provider's clock; End is zero while there is no answer
}

// recordLimit keeps a long-running demo small.
const recordLimit = 10_000

type record struct {
	mu    sync.Mutex
	list  []*Request
	count map[Endpoint]int
}

func (l *record) begin(e Endpoint, r *http.Request, now time.Time) *Request {
	seen := &Request{
		Endpoint: e, Method: r.Method, Path: r.URL.Path, Form: r.Form, Header: r.Header.Clone(), Begin: now,
	}
	scheme, _, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	switch {
	case strings.EqualFold(scheme, "basic"):
		seen.Auth = "client_secret_basic"
	case strings.EqualFold(scheme, "bearer"):
		seen.Auth = "bearer"
	case r.PostForm.Has("client_secret"):
		seen.Auth = "client_secret_post"
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.count == nil {
		l.count = map[Endpoint]int{}
	}
	l.count[e]++
	l.list = append(l.list, seen)
	if len(l.list) > recordLimit {
		l.list = slices.Delete(l.list, 0, recordLimit/2)
	}
	return seen
}

func (l *record) end(seen *Request, status int, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	seen.Status, seen.End = status, now
}

// Requests returns what the provider saw, oldest first: all of it, or only of these endpoints.
func (s *Server) Requests(of ...Endpoint) []Request {
	s.seen.mu.Lock()
	defer s.seen.mu.Unlock()
	var list []Request
	for _, seen := range s.seen.list {
		if len(of) == 0 || slices.Contains(of, seen.Endpoint) {
			list = append(list, *seen)
		}
	}
	return list
}

// Count returns how many requests came to an endpoint, answered or not.
func (s *Server) Count(e Endpoint) int {
	s.seen.mu.Lock()
	defer s.seen.mu.Unlock()
	return s.seen.count[e]
}

// Forget forgets the requests seen so far.
func (s *Server) Forget() {
	s.seen.mu.Lock()
	defer s.seen.mu.Unlock()
	s.seen.list, s.seen.count = nil, nil
}

// oauthError is an error in Logto's words.
type oauthError struct {
	status                   int
	code, description, scope string
}

func (e *oauthError) Error() string { return e.code + ": " + e.description }

func invalidRequest(format string, args ...any) *oauthError {
	return &oauthError{http.StatusBadRequest, "invalid_request", fmt.Sprintf(format, args...), ""}
}

func invalidGrant() *oauthError {
	return &oauthError{http.StatusBadRequest, "invalid_grant", "grant request is invalid", ""}
}

func invalidTarget() *oauthError {
	return &oauthError{http.StatusBadRequest, "invalid_target", "resource indicator is missing, or unknown", ""}
}

func invalidClient(description string) *oauthError {
	return &oauthError{http.StatusBadRequest, "invalid_client", description, ""}
}

func accessDenied(description string) *oauthError {
	return &oauthError{http.StatusForbidden, "access_denied", description, ""}
}

// message is Logto's text for a code, for people.
func (e *oauthError) message() string {
	switch e.code {
	case "access_denied":
		return "Access denied."
	case "insufficient_scope":
		return "Token missing scope `{{scope}}`."
	case "invalid_grant":
		return "Grant request is invalid."
	case "invalid_redirect_uri":
		return "`redirect_uri` did not match any of the client's registered `redirect_uris`."
	case "invalid_request":
		return "Request is invalid."
	case "invalid_scope":
		return "Invalid scope: {{error_description}}."
	case "invalid_target":
		return "Invalid resource indicator."
	case "invalid_token":
		return "Invalid token provided."
	case "server_error":
		return "An unknown OIDC error occurred. Please try again later."
	case "unsupported_grant_type":
		return "Unsupported `grant_type` requested."
	}
	return "An OIDC error occurred: oidc." + e.code + "."
}

// body is the error as a JSON answer.
func (e *oauthError) body() map[string]any {
	body := map[string]any{
		"code": "oidc." + e.code, "message": e.message(), "error": e.code, "error_description": e.description,
	}
	if e.scope != "" {
		body["scope"] = e.scope
	}
	if e.code == "invalid_grant" {
		body["error_uri"] = "https://openid.sh/debug/invalid_grant"
	}
	return body
}

func writeError(w http.ResponseWriter, e *oauthError) {
	_ = writeJSON(w, e.status, e.body()) // a client that went away is no concern of ours
}

func writeJSON(w http.ResponseWriter, status int, body any) error {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	return json.NewEncoder(w).Encode(body)
}

// single refuses parameters that are there twice, except for these.
func single(form url.Values, except ...string) error {
	for name, values := range form {
		if len(values) > 1 && !slices.Contains(except, name) {
			return invalidRequest("'%s' parameter must not be provided twice", name)
		}
	}
	return nil
}

// present refuses a form without these parameters.
func present(form url.Values, names ...string) error {
	for _, name := range names {
		if form.Get(name) == "" {
			return invalidRequest("missing required parameter '%s'", name)
		}
	}
	return nil
}

func (s *Server) discovery(w http.ResponseWriter, _ *http.Request) error {
	list := func(values ...string) []string { return values }
	document := map[string]any{
		"issuer":                                         s.Issuer,
		"authorization_endpoint":                         s.Issuer + "/auth",
		"token_endpoint":                                 s.Issuer + "/token",
		"userinfo_endpoint":                              s.Issuer + "/me",
		"jwks_uri":                                       s.Issuer + "/jwks",
		"end_session_endpoint":                           s.Issuer + "/session/end",
		"revocation_endpoint":                            s.Issuer + "/token/revocation",
		"introspection_endpoint":                         s.Issuer + "/token/introspection",
		"pushed_authorization_request_endpoint":          s.Issuer + "/request",
		"device_authorization_endpoint":                  s.Issuer + "/device/auth",
		"authorization_response_iss_parameter_supported": true,
		"backchannel_logout_supported":                   true,
		"backchannel_logout_session_supported":           true,
		"claims_parameter_supported":                     false,
		"claims_supported":                               claimNames(),
		"code_challenge_methods_supported":               list("S256"),
		"grant_types_supported":                          list("authorization_code", "refresh_token"),
		"id_token_signing_alg_values_supported":          s.keys.algorithms(),
		"request_uri_parameter_supported":                false,
		"response_modes_supported":                       list("form_post", "fragment", "query"),
		"response_types_supported":                       list("code"),
		"scopes_supported":                               oidcScopes(),
		"subject_types_supported":                        list("public"),
		"token_endpoint_auth_methods_supported":          list("client_secret_basic", "client_secret_post"),
	}
	if s.opts.StepUp {
		document["acr_values_supported"] = list(acrFirstFactor, acrMFA)
		document["claims_supported"] = append(claimNames(), "acr", "amr")
	}
	return writeJSON(w, http.StatusOK, document)
}
