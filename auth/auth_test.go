package auth_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"example.com/logto-gin-starter/auth"
	"example.com/logto-gin-starter/auth/authtest"
	"example.com/logto-gin-starter/auth/authtest/people"
)

// What people.Options knows.
const (
	callbackURI = "http://localhost:3000/callback"
	homeURI     = "http://localhost:3000/"
	shopping    = "https://shopping.your-app.com/api"
	store       = "https://store.your-app.com/api"
	acme        = "acme00corp01" // ada is a member
	globex      = "gl0bexcorp02" // nobody is
)

// app is an application with a Logto of its own and one browser. At its end, none of the secrets that went to Logto may
// be in its log.
type app struct {
	idp     *authtest.Server
	config  auth.Config
	client  *auth.Client
	storage *storage
	session *auth.Session
	browser *authtest.Browser
	log     *lockedBuffer
	secrets map[string]bool
}

// setup is what a test may change before the application starts.
type setup struct {
	idp      authtest.Options
	config   auth.Config
	inMemory bool
}

// inMemory keeps off the network, as testing/synctest needs it.
func inMemory(s *setup) {
	s.inMemory = true
	s.idp.Backchannel = &http.Client{Transport: unreachable{}}
}

type unreachable struct{}

func (unreachable) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, errors.New("unreachable")
}

// rotating rotates refresh tokens at each use.
func rotating(s *setup) { s.idp.RotateAlways = true }

// withoutOrganizations asks for none, so that no sign-in asks userinfo what they are called.
func withoutOrganizations(s *setup) {
	s.config.Scopes = slices.DeleteFunc(s.config.Scopes, func(scope string) bool { return scope == auth.ScopeOrganizations })
}

func newApp(tb testing.TB, change ...func(*setup)) *app {
	tb.Helper()
	options := people.Options("https://logto.example", homeURI)
	a := &app{log: &lockedBuffer{}, storage: &storage{}}
	a.secrets = map[string]bool{options.Apps[0].Secret: true, "It works!": true, "garbage": true} // these two are of bodies
	s := setup{idp: options, config: auth.Config{
		AppID:     options.Apps[0].ID,
		AppSecret: auth.Secret(options.Apps[0].Secret),
		Scopes: []string{
			auth.ScopeEmail, auth.ScopePhone, auth.ScopeAddress, auth.ScopeCustomData, auth.ScopeIdentities,
			auth.ScopeRoles, auth.ScopeOrganizations, auth.ScopeOrganizationRoles,
			"read:products", "write:products", "read:orders", "read:members", "invite:members",
		},
		Resources: []string{shopping, store},
		Log:       slog.New(slog.NewTextHandler(a.log, nil)),
	}}
	for _, f := range change {
		f(&s)
	}
	if s.inMemory {
		a.idp = authtest.NewUnstarted("https://logto.example", s.idp)
		s.config.Transport = a.idp.Client().Transport
	} else {
		a.idp = authtest.New(s.idp)
	}
	if s.config.Endpoint == "" {
		s.config.Endpoint = a.idp.URL
	}
	a.config = s.config
	tb.Cleanup(func() {
		a.idp.Close()
		a.checkLeaks(tb, a.log.String())
	})
	a.client = a.newClient(tb)
	a.session = a.client.Session(a.storage)
	a.browser = a.idp.Browser()
	return a
}

// newClient returns one more client of the same application, as after a restart with other settings.
func (a *app) newClient(tb testing.TB, change ...func(*auth.Config)) *auth.Client {
	tb.Helper()
	config := a.config
	for _, f := range change {
		f(&config)
	}
	client, err := auth.New(config)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(client.Close)
	return client
}

// visit begins a sign-in, which ada goes through at Logto, and returns the callback's query.
func (a *app) visit(tb testing.TB, options auth.SignInOptions) url.Values {
	tb.Helper()
	return a.visitAs(tb, "ada", options)
}

func (a *app) visitAs(tb testing.TB, who string, options auth.SignInOptions) url.Values {
	tb.Helper()
	if options.RedirectURI == "" {
		options.RedirectURI = callbackURI
	}
	address, err := a.session.SignIn(context.Background(), options)
	if err != nil {
		tb.Fatal(err)
	}
	target, err := a.browser.SignIn(context.Background(), address, who)
	if err != nil {
		tb.Fatal(err)
	}
	callback, err := url.Parse(target)
	if err != nil {
		tb.Fatal(err)
	}
	return callback.Query()
}

// callback ends a sign-in.
func (a *app) callback(query url.Values) (auth.CallbackResult, error) {
	return a.session.HandleSignInCallback(context.Background(), query)
}

// signIn signs ada in, and forgets what Logto saw of that.
func (a *app) signIn(tb testing.TB) auth.CallbackResult {
	tb.Helper()
	result, err := a.callback(a.visit(tb, auth.SignInOptions{}))
	if err != nil {
		tb.Fatal(err)
	}
	a.forget()
	return result
}

// isSignedIn reads the storage.
func (a *app) isSignedIn(tb testing.TB) bool {
	tb.Helper()
	signedIn, err := a.session.IsAuthenticated(context.Background())
	if err != nil {
		tb.Fatal(err)
	}
	return signedIn
}

// wantCalls compares how often Logto's endpoints were called: pairs of an endpoint and a number.
func (a *app) wantCalls(tb testing.TB, pairs ...any) {
	tb.Helper()
	for pair := range slices.Chunk(pairs, 2) {
		if got := a.idp.Count(pair[0].(authtest.Endpoint)); got != pair[1] {
			tb.Errorf("%s was called %d times, want %d", pair[0], got, pair[1])
		}
	}
}

// wantRequest expects exactly one request to an endpoint, which was answered so.
func (a *app) wantRequest(tb testing.TB, e authtest.Endpoint, status int) authtest.Request {
	tb.Helper()
	requests := a.idp.Requests(e)
	if len(requests) != 1 {
		tb.Fatalf("%s was called %d times, want once", e, len(requests))
	}
	if requests[0].Status != status {
		tb.Errorf("%s answered %d, want %d", e, requests[0].Status, status)
	}
	return requests[0]
}

// wantError compares an error, nil meaning none, and looks for secrets in its text.
func (a *app) wantError(tb testing.TB, err, target error) {
	tb.Helper()
	if !errors.Is(err, target) {
		tb.Errorf("error %v, want %v", err, target)
	}
	if err != nil {
		a.checkLeaks(tb, err.Error())
	}
}

// wantAnswer expects an error that Logto answered with.
func (a *app) wantAnswer(tb testing.TB, err error, status int, code string) {
	tb.Helper()
	answer, ok := errors.AsType[*auth.OAuthError](err)
	if !ok || answer.Status != status || answer.Code != code {
		tb.Errorf("error %v, want an answer %d %s", err, status, code)
		return
	}
	a.checkLeaks(tb, err.Error())
}

// checkLeaks looks for what went to Logto and is nobody else's business.
func (a *app) checkLeaks(tb testing.TB, text string) {
	tb.Helper()
	a.collectSecrets()
	for secret := range a.secrets {
		if strings.Contains(text, secret) {
			tb.Errorf("%q shows %q", text, secret)
		}
	}
}

func (a *app) collectSecrets() {
	for _, request := range a.idp.Requests() {
		for _, name := range []string{"code", "code_verifier", "refresh_token", "token", "id_token_hint", "nonce"} {
			a.secrets[request.Form.Get(name)] = true
		}
		_, bearer, _ := strings.Cut(request.Header.Get("Authorization"), " ")
		a.secrets[bearer] = true
	}
	delete(a.secrets, "")
}

// forget lets the calls of Logto's endpoints be counted anew.
func (a *app) forget() {
	a.collectSecrets()
	a.idp.Forget()
}

// storage is authtest.Memory with a say in what happens.
type storage struct {
	authtest.Memory
	onUpdate func() error // before each
	onLock   func(context.Context) (context.Context, error)
}

func (s *storage) Update(ctx context.Context, change func(identity, tokens []byte) ([]byte, []byte, error)) error {
	if s.onUpdate != nil {
		if err := s.onUpdate(); err != nil {
			return err
		}
	}
	return s.Memory.Update(ctx, change)
}

func (s *storage) Lock(ctx context.Context) (context.Context, func(), error) {
	held, release, err := s.Memory.Lock(ctx)
	if err == nil && s.onLock != nil {
		if held, err = s.onLock(held); err != nil {
			release()
		}
	}
	return held, release, err
}

// records returns both, to see that nothing has changed.
func (s *storage) records() string {
	identity, _ := s.Identity(context.Background()) // Memory's reads do not fail
	tokens, _ := s.Tokens(context.Background())
	return string(identity) + "\n" + string(tokens)
}

// lockedBuffer is a log that may be read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// What prints a Session does not print whom it is about.
func TestSessionIsNotPrinted(t *testing.T) {
	a := newApp(t)
	a.signIn(t)
	person := a.person(t)
	if text := fmt.Sprintf("%+v", a.session); person.Email != "" && bytes.Contains([]byte(text), []byte(person.Email)) {
		t.Errorf("a printed Session shows %s", person.Email)
	}
}

// Whom a webhook is about: the person whom the call to Logto named, and not whatever has an ID in it.
func TestWebhookIsAbout(t *testing.T) {
	a := newApp(t, func(s *setup) { s.config.WebhookKey = "key" })
	for _, tt := range []struct {
		event, rest, person string
		members             []string
	}{
		{"User.Data.Updated", `"data":{"id":"ada"}`, "ada", nil},
		{"User.Data.Updated", `"data":{"id":"other"},"params":{"userId":"ada"}`, "ada", nil},
		{"PostResetPassword", `"userId":"ada"`, "ada", nil},
		{"Role.Data.Updated", `"data":{"id":"role"}`, "", nil},
		{"Organization.Membership.Updated", `"addedUserIds":["ada"],"removedUserIds":["grace"]`, "", []string{"ada", "grace"}},
		{"Organization.Membership.Updated", `"params":{"id":"acme","userId":"ada"}`, "", []string{"ada"}},
		{"Organization.Membership.Updated", `"params":{"id":"acme"}`, "", nil},
	} {
		body := []byte(`{"event":"` + tt.event + `","createdAt":"2026-11-26T00:00:00Z",` + tt.rest + `}`)
		mac := hmac.New(sha256.New, []byte("key"))
		mac.Write(body)
		event, err := a.client.VerifyWebhook(body, hex.EncodeToString(mac.Sum(nil)))
		if err != nil || event.UserID != tt.person || !slices.Equal(event.Members, tt.members) {
			t.Errorf("%s: %q, %q, %v", body, event.UserID, event.Members, err)
		}
	}
}
