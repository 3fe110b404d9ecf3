package authtest_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/logto-gin-starter/auth/authtest"
)

// newLocal is the wire tests' client of an authtest with these options.
func newLocal(t *testing.T, opts authtest.Options) *provider {
	t.Helper()
	p := &provider{
		local: authtest.New(opts), appID: "app", secret: "secret", redirectURI: "http://localhost:3000/callback",
		username: "ada", password: "ada",
		client: &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}
	p.issuer = p.local.Issuer
	t.Cleanup(p.local.Close)
	return p
}

// clock is one that a test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func refreshing() []authtest.App {
	return []authtest.App{{
		ID: "app", Secret: "secret", RedirectURIs: []string{"http://localhost:3000/callback"}, AlwaysIssueRefreshToken: true,
	}}
}

func TestCodeExpires(t *testing.T) {
	c := &clock{now: time.Now()}
	p := newLocal(t, authtest.Options{Now: c.Now})
	code := p.browser().visit(t, p.authURL(), false).callback.Get("code")
	c.pass(61 * time.Second)
	wantError(t, p.exchange(t, code), 400, "invalid_grant", "grant request is invalid")
}

func TestRotation(t *testing.T) {
	const day = 24 * time.Hour
	for _, test := range []struct {
		name    string
		always  bool
		age     time.Duration // of the refresh token when it is used
		rotates bool
		pause   time.Duration // until the rotated token is used again
		works   bool
	}{
		{"young", false, 9 * day, false, time.Hour, true},
		{"old, and again within the grace", false, 10 * day, true, 2 * time.Second, true},
		{"old, and again after the grace", false, 10 * day, true, 4 * time.Second, false},
		{"always, and again within the grace", true, 0, true, 2 * time.Second, true},
		{"always, and again after the grace", true, 0, true, 4 * time.Second, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := &clock{now: time.Now()}
			p := newLocal(t, authtest.Options{Apps: refreshing(), RotateAlways: test.always, Now: c.Now})
			first := p.signedIn(t, p.browser()).body["refresh_token"]
			c.pass(test.age)
			second := p.refresh(t, first)
			if second.status != 200 || (second.body["refresh_token"] != first) != test.rotates {
				t.Fatalf("rotated: %v: %s", second.body["refresh_token"] != first, second.text)
			}
			c.pass(test.pause)
			if again := p.refresh(t, first); (again.status == 200) != test.works {
				t.Errorf("the first one again: %d", again.status)
			}
			if newer := p.refresh(t, second.body["refresh_token"]); (newer.status == 200) != test.works {
				t.Errorf("the newer one: %d, want the grant to stand: %v", newer.status, test.works)
			}
		})
	}
}

func TestRefreshTokenExpires(t *testing.T) {
	c := &clock{now: time.Now()}
	p := newLocal(t, authtest.Options{Apps: refreshing(), Now: c.Now, AccessTokenLife: time.Minute})
	a := p.signedIn(t, p.browser())
	if a.body["expires_in"] != 60.0 {
		t.Errorf("expires_in %v", a.body["expires_in"])
	}
	c.pass(61 * time.Second)
	if got := p.userinfo(t, a.body["access_token"]); got.status != http.StatusUnauthorized {
		t.Errorf("an expired access token: %d", got.status)
	}
	c.pass(14 * 24 * time.Hour)
	wantError(t, p.refresh(t, a.body["refresh_token"]), 400, "invalid_grant", "grant request is invalid")
}

// TestPermissions follows who may do what at which resource: only known scopes, only those asked for, by role and by organization.
func TestPermissions(t *testing.T) {
	const api, audit = "https://api.example", "https://audit.example"
	opts := authtest.Options{
		Apps:  refreshing(),
		Users: []authtest.User{{Username: "ada", Password: "ada", Roles: []string{"reader"}}},
		Roles: []authtest.Role{
			{Name: "reader", Permissions: map[string][]string{api: {"read", "unregistered"}}},
			{Name: "auditor", Permissions: map[string][]string{audit: {"read"}}},
		},
		Resources: []authtest.Resource{{Indicator: api, Scopes: []string{"read", "write", "delete"}}, {Indicator: audit, Scopes: []string{"read"}}},
		Organizations: []authtest.Organization{
			{ID: "one", Members: map[string][]string{"ada": {"editor"}}, Roles: []authtest.OrganizationRole{
				{Name: "editor", Scopes: []string{"edit"}, Permissions: map[string][]string{api: {"write"}}},
				{Name: "owner", Scopes: []string{"close"}, Permissions: map[string][]string{api: {"delete"}}},
			}},
			{ID: "two", Members: map[string][]string{"ada": nil}},
		},
	}
	p := newLocal(t, opts)
	const asked = "openid urn:logto:scope:organizations read write delete edit close unregistered"
	a := p.browser().visit(t, p.authURL("scope", asked, "resource", api+","+audit+","+organizations), false)
	refresh := p.exchange(t, a.callback.Get("code")).body["refresh_token"]
	for _, test := range []struct{ name, resource, organization, scope, want string }{
		{"by role and organizations", api, "", "", "read write"},
		{"one of them", api, "", "write", "write"},
		{"within an organization", api, "one", "", "read write"},
		{"within one without a role", api, "two", "", "read"},
		{"the organization", "", "one", "", "edit"},
		{"the organization, none asked for", "", "one", "openid", ""},
		{"one without a role", "", "two", "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			var change []string
			for name, value := range map[string]string{"resource": test.resource, "organization_id": test.organization, "scope": test.scope} {
				if value != "" {
					change = append(change, name, value)
				}
			}
			if got := p.refresh(t, refresh, change...); got.status != 200 || got.body["scope"] != test.want {
				t.Errorf("%d %s, want %q", got.status, got.text, test.want)
			}
		})
	}
	user := p.local.User("ada")
	user.Roles = []string{"auditor"}
	p.local.SetUser(user)
	for resource, want := range map[string]string{api: "write", audit: ""} {
		if got := p.refresh(t, refresh, "resource", resource); got.body["scope"] != want {
			t.Errorf("%s after a change of roles: %s, want %q", resource, got.text, want)
		}
	}
	user.Roles = []string{"reader"}
	p.local.SetUser(user)
	if _, claims, _ := decode(t, p.local.AccessToken("ada", "urn:logto:organization:one")); claims["scope"] != "edit" {
		t.Errorf("minted for the organization: %v", claims)
	}
	if _, claims, _ := decode(t, p.local.AccessToken("ada", api)); claims["scope"] != "read write" || claims["sub"] != p.local.User("ada").Subject {
		t.Errorf("minted for the API: %v", claims)
	}
}

func TestBrowser(t *testing.T) {
	srv := authtest.New(authtest.Options{})
	defer srv.Close()
	p := &provider{appID: "app", secret: "secret", redirectURI: "http://localhost:3000/callback", issuer: srv.Issuer, client: srv.Client()}
	query := func(callback string, err error) url.Values {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		u, err := url.Parse(callback)
		if err != nil {
			t.Fatal(err)
		}
		return u.Query()
	}
	if q := query(srv.SignIn(t.Context(), p.authURL(), "ada")); q.Get("code") == "" || q.Get("state") != "the-state" {
		t.Errorf("SignIn: %v", q)
	}
	if q := query(srv.SignIn(t.Context(), p.authURL("resource", "https://unknown.example"), "ada")); q.Get("error") != "invalid_target" {
		t.Errorf("SignIn with an unknown resource: %v", q)
	}
	if _, err := srv.SignIn(t.Context(), p.authURL("client_id", "nobody"), "ada"); err == nil || !strings.Contains(err.Error(), "invalid_client") {
		t.Errorf("SignIn of an unknown client: %v", err)
	}
	if _, err := srv.SignIn(t.Context(), p.authURL(), "nobody"); err == nil {
		t.Error("nobody signed in")
	}
	b := srv.Browser()
	q := query(b.SignUp(t.Context(), p.authURL("first_screen", "register"), authtest.User{Username: "mary", Password: "long enough", Name: "Mary"}))
	if q.Get("code") == "" || srv.User("mary").Name != "Mary" {
		t.Errorf("SignUp: %v %+v", q, srv.User("mary"))
	}
	hint, _ := p.exchange(t, q.Get("code")).body["id_token"].(string)
	if _, claims, _ := decode(t, hint); claims["username"] != "mary" {
		t.Errorf("who signed up is %v", claims)
	}
	if q := query(b.SignIn(t.Context(), p.authURL("prompt", "none"), "")); q.Get("code") == "" {
		t.Errorf("the session does not last: %v", q)
	}
	target, err := b.SignOut(t.Context(), p.endURL("client_id", "app", "post_logout_redirect_uri", "http://localhost:3000/"))
	if err != nil || target != "http://localhost:3000/" {
		t.Errorf("SignOut led to %q, %v", target, err)
	}
	if q := query(b.SignIn(t.Context(), p.authURL("prompt", "none"), "")); q.Get("error") != "login_required" {
		t.Errorf("the session lives on: %v", q)
	}
}

func TestSessionEndsAtProvider(t *testing.T) {
	var mu sync.Mutex
	var tokens []string
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		tokens = append(tokens, r.PostFormValue("logout_token"))
		w.WriteHeader(http.StatusBadRequest)
	}))
	defer app.Close()
	registered := refreshing()[0]
	registered.BackchannelLogoutURI, registered.BackchannelLogoutSession = app.URL, true
	p := newLocal(t, authtest.Options{Apps: []authtest.App{registered}})
	first, second := p.signedIn(t, p.browser(), "prompt", ""), p.signedIn(t, p.browser(), "prompt", "")
	sid := func(token any) any {
		_, claims := p.token(t, token)
		return claims["sid"]
	}
	deliveries := p.local.EndSession(t.Context(), "ada")
	if len(deliveries) != 2 || deliveries[0].Status != http.StatusBadRequest || deliveries[0].AppID != "app" {
		t.Fatalf("deliveries %+v", deliveries)
	}
	mu.Lock()
	got := []any{sid(tokens[0]), sid(tokens[1])}
	mu.Unlock()
	for _, a := range []answer{first, second} {
		if !slices.Contains(got, sid(a.body["id_token"])) {
			t.Errorf("no logout token for the session %v", sid(a.body["id_token"]))
		}
		if got := p.refresh(t, a.body["refresh_token"]); got.status != http.StatusBadRequest {
			t.Errorf("refresh after the session: %d", got.status)
		}
	}
	if again := p.local.EndSession(t.Context(), "ada"); len(again) != 0 {
		t.Errorf("ended twice: %+v", again)
	}
}

func TestAnotherPersonSignsIn(t *testing.T) {
	calls := 0
	app := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { calls++ }))
	defer app.Close()
	registered := refreshing()[0]
	registered.BackchannelLogoutURI = app.URL
	p := newLocal(t, authtest.Options{Apps: []authtest.App{registered}})
	b := p.browser()
	ada := p.signedIn(t, b, "prompt", "")
	p.username, p.password = "grace", "grace"
	grace := p.signedIn(t, b, "prompt", "login")
	if calls != 1 {
		t.Errorf("%d back-channel calls for who was signed in before, want 1", calls)
	}
	_, claims := p.token(t, grace.body["id_token"])
	if claims["sub"] != p.local.User("grace").Subject {
		t.Errorf("signed in is %v", claims["sub"])
	}
	if got := p.refresh(t, ada.body["refresh_token"]); got.status != http.StatusBadRequest {
		t.Errorf("the one before: %d", got.status)
	}
}

func TestRevokeGrants(t *testing.T) {
	p := newLocal(t, authtest.Options{Apps: refreshing()})
	a := p.signedIn(t, p.browser())
	p.local.RevokeGrants("grace")
	if got := p.refresh(t, a.body["refresh_token"]); got.status != http.StatusOK {
		t.Errorf("somebody else's were revoked: %d", got.status)
	}
	p.local.RevokeGrants("ada")
	wantError(t, p.refresh(t, a.body["refresh_token"]), 400, "invalid_grant", "grant request is invalid")
}

func TestRequests(t *testing.T) {
	p := newLocal(t, authtest.Options{})
	code := p.browser().visit(t, p.authURL(), false).callback.Get("code")
	p.exchange(t, code)
	p.userinfo(t, "nonsense")
	seen := p.local.Requests(authtest.Token, authtest.UserInfo)
	if len(seen) != 2 || seen[0].Auth != "client_secret_basic" || seen[0].Form.Get("code") != code || seen[0].Status != 200 ||
		seen[1].Auth != "bearer" || seen[1].Status != 401 || seen[1].End.Before(seen[1].Begin) {
		t.Errorf("seen %+v", seen)
	}
	if p.local.Count(authtest.Authorization) != 1 || p.local.Requests()[0].Endpoint != authtest.Authorization {
		t.Errorf("%d authorization requests", p.local.Count(authtest.Authorization))
	}
	p.local.Forget()
	if len(p.local.Requests()) != 0 || p.local.Count(authtest.Token) != 0 {
		t.Error("Forget forgets nothing")
	}
}

// TestInMemory signs in without a port, within a bubble whose time a hook makes pass.
func TestInMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := authtest.NewUnstarted("http://logto.example", authtest.Options{})
		p := &provider{local: srv, appID: "app", secret: "secret", redirectURI: "http://localhost:3000/callback", issuer: srv.Issuer, client: srv.Client()}
		callback, err := srv.SignIn(t.Context(), p.authURL(), "ada")
		if err != nil {
			t.Fatal(err)
		}
		u, err := url.Parse(callback)
		if err != nil {
			t.Fatal(err)
		}
		srv.On(authtest.Token, authtest.DelayAnswer(15*time.Second))
		begin := time.Now()
		if a := p.exchange(t, u.Query().Get("code")); a.status != http.StatusOK || time.Since(begin) != 15*time.Second {
			t.Errorf("%d after %v", a.status, time.Since(begin))
		}
		srv.On(authtest.Token, authtest.Hang)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, srv.Issuer+"/token", nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := srv.Client().Do(r); err == nil || ctx.Err() == nil {
			t.Errorf("a hanging provider answered: %v", err)
		}
	})
}

func TestStart(t *testing.T) {
	srv, err := authtest.Start("127.0.0.1:0", "", authtest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Close()
	if _, err := authtest.Start(strings.TrimPrefix(srv.URL, "http://"), "", authtest.Options{}); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a port in use: %v", err)
	}
	other, err := authtest.Start("127.0.0.1:0", "http://localhost:3001/", authtest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if other.URL != "http://localhost:3001" || other.Issuer != "http://localhost:3001/oidc" {
		t.Errorf("%s %s", other.URL, other.Issuer)
	}
}

func TestCloseEndsWhatHangs(t *testing.T) {
	srv := authtest.New(authtest.Options{})
	srv.On(authtest.Discovery, authtest.Hang)
	done := make(chan error, 1)
	go func() {
		_, _, err := get(context.Background(), srv, srv.Issuer+"/.well-known/openid-configuration")
		done <- err
	}()
	for srv.Count(authtest.Discovery) == 0 {
		time.Sleep(time.Millisecond)
	}
	srv.Close()
	select {
	case err := <-done:
		if err == nil {
			t.Error("it was answered")
		}
	case <-time.After(5 * time.Second):
		t.Error("it still hangs")
	}
}

// TestConcurrency is for the race detector.
func TestConcurrency(t *testing.T) {
	p := newLocal(t, authtest.Options{Apps: refreshing(), RotateAlways: true})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			callback, err := p.local.SignIn(t.Context(), p.authURL("state", fmt.Sprint(i)), "ada")
			if err != nil {
				t.Error(err)
				return
			}
			u, err := url.Parse(callback)
			if err != nil || u.Query().Get("state") != fmt.Sprint(i) {
				t.Errorf("%v %v", u, err)
				return
			}
			p.local.OnIDToken(authtest.WrongNonce).Times(1)
			p.local.RotateKey()
			p.local.SetUser(authtest.User{Username: "ada", Password: "ada", Name: fmt.Sprint(i)})
			p.local.EndSession(t.Context(), "grace")
			p.local.Requests()
		})
	}
	wg.Wait()
}

// TestNoRedirectURI: Logto refuses every request of such an application, and its time is the provider's.
func TestNoRedirectURI(t *testing.T) {
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	p := newLocal(t, authtest.Options{Apps: []authtest.App{{ID: "app", Secret: "secret"}}, Now: func() time.Time { return now }})
	for _, path := range []string{"/auth?client_id=app&redirect_uri=http://localhost:3000/callback", "/session/end?client_id=app", "/token"} {
		method := http.MethodGet
		if path == "/token" {
			method = http.MethodPost
		}
		request, err := http.NewRequestWithContext(t.Context(), method, p.issuer+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		request.SetBasicAuth("app", "secret")
		response, err := p.client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err != nil || response.StatusCode != http.StatusBadRequest || !strings.Contains(string(body), `"redirect_uris must contain members"`) {
			t.Errorf("%s: %s %s %v", path, response.Status, body, err)
		}
		if got := response.Header.Get("Date"); got != now.Format(http.TimeFormat) {
			t.Errorf("%s: Date %s", path, got)
		}
	}
}
