// Package authtest is a Logto in this process, for tests and for the demo: it speaks the protocol as Logto 1.42 does on
// the wire, keeps everything in memory, and misbehaves on request. Nothing in it is fit for production.
//
// Start reading here, at Options and New: what a provider knows, and how to start one. Then:
//
//   - authorize.go, pages.go, logout.go: what a browser sees, and the calls to an application's back channel
//   - connectors.go, onetime.go, stepup.go, account.go: other ways to sign in, a second factor, and a person's own data
//   - token.go, claims.go, userinfo.go: what an application gets for a code
//   - jwt.go: keys and signatures
//   - people.go, webhooks.go: what changes after a sign-in, and who is told
//   - behave.go: On, OnIDToken and so on, one named switch for each way to misbehave
//   - browser.go: signing in without a browser
package authtest

import (
	"cmp"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Options is what a provider knows when it starts. The zero value is a provider with one application ("app", "secret",
// redirect URI http://localhost:3000/callback) and two users, ada and grace, whose passwords are their usernames.
type Options struct {
	Apps          []App
	Users         []User
	Roles         []Role
	Resources     []Resource
	Organizations []Organization
	Webhooks      []Webhook
	Connectors    []Connector

	SigningAlg       string        // ES384 by default; also ES256, ES512, RS256
	IDTokenLife      time.Duration // an hour by default
	AccessTokenLife  time.Duration // an hour by default
	RefreshTokenLife time.Duration // 14 days by default
	RotateAlways     bool          // rotate a refresh token at each use, not only after 70 % of its life

	StepUp        bool // as Logto 1.46: acr_values asks for a second factor, and tokens say how somebody signed in
	AccountCenter bool // people may change their name and password

	Demo        bool             // the sign-in page offers every user of Users: one click, no password
	Now         func() time.Time // the provider's clock; time.Now by default
	Backchannel *http.Client     // calls applications: back channels and webhooks; one without redirects by default
	Log         *slog.Logger     // refused requests and calls to applications that failed; silent by default
}

// App is an application registered at the provider: in Logto's words, a traditional web application.
type App struct {
	ID, Secret               string
	RedirectURIs             []string
	PostLogoutRedirectURIs   []string
	BackchannelLogoutURI     string // empty: no call
	BackchannelLogoutSession bool   // "is session required": sid is in ID tokens and logout tokens
	AlwaysIssueRefreshToken  bool   // also when offline_access was not granted
	PKCEOptional             bool   // as at Logto, which demands it of public applications only; here it is demanded of all
}

// User is a person. An empty field that Logto keeps for everybody (name, username, picture, email, phone) is null in
// the claims; a standard claim missing from Profile is absent.
type User struct {
	Subject       string // made up if empty
	Username      string
	Password      string
	Name          string
	Picture       string // a URL
	Email         string
	Phone         string
	Profile       map[string]any // further standard claims by name: given_name, gender, locale, address …
	CustomData    map[string]any
	Identities    map[string]any // social sign-in: target to {userId, details}
	SSOIdentities []any          // enterprise sign-in: {issuer, identityId, detail}
	Roles         []string       // names of Options.Roles
	MFA           bool           // has a second factor
	Suspended     bool           // can't sign in
	Created       time.Time      // the provider's start if zero
	Updated       time.Time      // Created if zero
}

// key is the person's username, or their subject if they have none.
func (u User) key() string { return cmp.Or(u.Username, u.Subject) }

// Role grants permissions at API resources, by indicator.
type Role struct {
	Name        string
	Permissions map[string][]string
}

// Resource is an API: its indicator becomes the audience of its tokens.
type Resource struct {
	Indicator string
	Scopes    []string
}

// Organization has members, by username (by subject, if they have none), each with the names of their roles in it.
type Organization struct {
	ID, Name, Description string
	Roles                 []OrganizationRole
	Members               map[string][]string
}

// OrganizationRole grants permissions within the organization, and at API resources on its behalf.
type OrganizationRole struct {
	Name        string
	Scopes      []string
	Permissions map[string][]string
}

// Server is a running provider. All its methods may be called at any time and from any goroutine.
type Server struct {
	URL    string // Logto's endpoint, without a trailing slash
	Issuer string // URL + "/oidc"

	opts    Options
	pages   map[string]*template.Template
	keys    keyring
	hooks   hooks
	seen    record
	handler http.Handler
	client  *http.Client
	http    *http.Server

	mu           sync.Mutex // guards what follows, and the members in opts.Organizations
	apps         map[string]App
	users        []User
	webhooks     []Webhook
	sessions     map[string]*session
	interactions map[string]*interaction
	magic        map[string]*oneTimeToken
	codes        map[string]*ticket
	refresh      map[string]*ticket
	access       map[string]*ticket
}

// New starts a provider on a free port of 127.0.0.1. Close it. Like httptest.NewServer, it panics if it can't listen.
func New(opts Options) *Server {
	s, err := Start("127.0.0.1:0", "", opts)
	if err != nil {
		panic(err)
	}
	return s
}

// Start starts a provider on addr. The endpoint is the URL that applications and browsers use, http://addr if empty.
func Start(addr, endpoint string, opts Options) (*Server, error) {
	listener, err := net.Listen("tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("authtest: %s is in use by another program: end that one or choose another address", addr)
	}
	if err != nil {
		return nil, fmt.Errorf("authtest: %w", err)
	}
	if endpoint == "" {
		endpoint = "http://" + listener.Addr().String()
	}
	s := NewUnstarted(endpoint, opts)
	s.client = &http.Client{Transport: &http.Transport{}}
	s.http = &http.Server{
		Handler:           s.handler,
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          slog.NewLogLogger(slog.DiscardHandler, slog.LevelError), // broken-off answers are on purpose
	}
	go s.http.Serve(listener) //nolint:errcheck // ends with http.ErrServerClosed, at Close
	return s, nil
}

// NewUnstarted makes a provider that listens nowhere: it is reached through Handler, or through Client, in memory.
func NewUnstarted(endpoint string, opts Options) *Server {
	setDefaults(&opts)
	endpoint = strings.TrimSuffix(endpoint, "/")
	s := &Server{
		URL: endpoint, Issuer: endpoint + "/oidc", opts: opts, pages: parsePages(),
		apps: map[string]App{}, sessions: map[string]*session{}, interactions: map[string]*interaction{},
		magic: map[string]*oneTimeToken{}, codes: map[string]*ticket{}, refresh: map[string]*ticket{}, access: map[string]*ticket{},
	}
	s.keys.rotate(opts.SigningAlg)
	for _, app := range opts.Apps {
		s.Register(app)
	}
	for _, user := range opts.Users {
		s.addUser(user)
	}
	for _, hook := range opts.Webhooks {
		s.RegisterWebhook(hook)
	}
	s.handler = s.routes()
	s.client = &http.Client{Transport: inMemory{s.handler}}
	return s
}

func setDefaults(opts *Options) {
	if opts.Apps == nil {
		opts.Apps = []App{{
			ID: "app", Secret: "secret",
			RedirectURIs:           []string{"http://localhost:3000/callback"},
			PostLogoutRedirectURIs: []string{"http://localhost:3000/"},
		}}
	}
	if opts.Users == nil {
		opts.Users = []User{
			{Username: "ada", Password: "ada", Name: "Ada Lovelace", Email: "ada@example.com"},
			{Username: "grace", Password: "grace", Name: "Grace Hopper"},
		}
	}
	opts.Organizations = slices.Clone(opts.Organizations)
	for i, o := range opts.Organizations {
		opts.Organizations[i].Members = maps.Clone(o.Members) // Join and Leave change it
	}
	if opts.SigningAlg == "" {
		opts.SigningAlg = "ES384"
	}
	if opts.IDTokenLife == 0 {
		opts.IDTokenLife = time.Hour
	}
	if opts.AccessTokenLife == 0 {
		opts.AccessTokenLife = time.Hour
	}
	if opts.RefreshTokenLife == 0 {
		opts.RefreshTokenLife = 14 * 24 * time.Hour
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Backchannel == nil {
		opts.Backchannel = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
}

// Handler serves the provider: pages at /, the protocol at /oidc.
func (s *Server) Handler() http.Handler { return s.handler }

// Client reaches the provider: through its port, or in memory if it has none.
func (s *Server) Client() *http.Client { return s.client }

// Close ends the provider and every request in it at once.
func (s *Server) Close() {
	s.client.CloseIdleConnections()
	if s.http != nil {
		_ = s.http.Close() // closing a listener that is closed is no trouble
	}
}

// Register adds an application, or replaces the one with this ID.
func (s *Server) Register(app App) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.apps[app.ID] = app
}

// SetSecret replaces the secret of an application: the old one is refused from now on.
func (s *Server) SetSecret(appID, secret string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	app, known := s.apps[appID]
	if !known {
		panic("authtest: no application is called " + appID)
	}
	app.Secret = secret
	s.apps[appID] = app
}

// sweep forgets what has expired. It needs the lock.
func (s *Server) sweep(now time.Time) {
	for id, i := range s.interactions {
		if now.After(i.expires) {
			delete(s.interactions, id)
		}
	}
	for _, tickets := range []map[string]*ticket{s.codes, s.refresh, s.access} {
		for id, t := range tickets {
			if now.After(t.expires.Add(time.Hour)) {
				delete(tickets, id)
			}
		}
	}
	for token, t := range s.magic {
		if now.After(t.expires.Add(time.Hour)) {
			delete(s.magic, token)
		}
	}
	for id, session := range s.sessions {
		if now.After(session.expires) {
			delete(s.sessions, id)
		}
	}
}
