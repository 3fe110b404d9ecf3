package routes

import (
	"bytes"
	"cmp"
	"encoding/json"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
	"github.com/gin-contrib/sessions"
	"github.com/gin-gonic/gin"
	"github.com/go-redis/redis_rate/v10"

	"example.com/logto-gin-starter/auth"
	"example.com/logto-gin-starter/auth/authtest"
	"example.com/logto-gin-starter/auth/authtest/people"
	"example.com/logto-gin-starter/internal/i18n"
	"example.com/logto-gin-starter/internal/session"
	"example.com/logto-gin-starter/static"
	"example.com/logto-gin-starter/templates"
)

const (
	shopping = "https://shopping.your-app.com/api"
	store    = "https://store.your-app.com/api"
	acme     = "acme00corp01" // ada's organization
)

// site is the application as people meet it: the real router, store and client, over HTTP, beside an in-memory Redis
// and a provider with authtest's sample data.
type site struct {
	url   string
	app   App
	logto *authtest.Server
	redis *redisServer
	log   *book
	web   *httptest.Server
	adapt func(*App)
}

// setup is what a test may change before a site starts.
type setup struct {
	https    bool
	provider authtest.Options
	client   auth.Config
	pages    func(app App, engine *gin.Engine) // a forker's own
	app      func(*App)
}

func newSite(t testing.TB, change ...func(*setup)) *site {
	t.Helper()
	s := &site{web: httptest.NewUnstartedServer(nil), redis: newRedis(t), log: &book{}}
	s.url = "http://" + s.web.Listener.Addr().String()
	set := setup{provider: people.Options("https://logto.example", s.url)}
	set.client = auth.Config{
		AppID: set.provider.Apps[0].ID, AppSecret: auth.Secret(set.provider.Apps[0].Secret), Resources: []string{shopping, store},
		Scopes: []string{
			auth.ScopeEmail, auth.ScopePhone, auth.ScopeAddress, auth.ScopeCustomData, auth.ScopeIdentities, auth.ScopeRoles,
			auth.ScopeOrganizations, auth.ScopeOrganizationRoles, "read:products", "write:products", "read:orders", "read:members",
		},
	}
	for _, f := range change {
		f(&set)
	}
	if set.https {
		s.url = strings.Replace(s.url, "http:", "https:", 1)
		app := &set.provider.Apps[0]
		app.RedirectURIs, app.PostLogoutRedirectURIs = []string{s.url + "/callback"}, []string{s.url + "/"}
	}
	s.logto = authtest.New(set.provider)
	t.Cleanup(s.logto.Close)
	set.client.Endpoint = s.logto.URL

	s.adapt = set.app
	handler := s.build(t, set.client)
	if set.pages != nil {
		set.pages(s.app, handler.(*gin.Engine))
	}
	s.web.Config.Handler = handler
	if set.https {
		s.web.StartTLS()
	} else {
		s.web.Start()
	}
	t.Cleanup(s.web.Close)
	return s
}

// parsed is what all sites share: it never changes.
var parsed = sync.OnceValue(func() App {
	messages, err := i18n.Load(messageFiles())
	if err != nil {
		panic(err)
	}
	assets, err := static.New(static.Files())
	if err != nil {
		panic(err)
	}
	pages, err := templates.Parse(templates.Files(), assets.URL, messages)
	if err != nil {
		panic(err)
	}
	return App{Pages: pages, Static: assets, Messages: messages}
})

// messageFiles are the messages. Where a fork has removed Thai, the English ones stand for it: tests need two languages.
func messageFiles() fs.FS {
	files, all := i18n.Files(), fstest.MapFS{}
	if _, err := fs.Stat(files, "th"); err == nil {
		return files
	}
	names, err := fs.Glob(files, "*/*.toml")
	if err != nil {
		panic(err)
	}
	for _, name := range names {
		data, err := fs.ReadFile(files, name)
		if err != nil {
			panic(err)
		}
		all[name] = &fstest.MapFile{Data: data}
		if file, ok := strings.CutPrefix(name, "en/"); ok {
			all["th/"+file] = all[name]
		}
	}
	return all
}

func (s *site) build(t testing.TB, client auth.Config) http.Handler {
	t.Helper()
	rdb, err := session.Open(session.RedisConfig{URL: session.Secret("redis://" + s.redis.Addr())})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = rdb.Close() })
	s.app = parsed()
	s.app.BaseURL, s.app.Log = s.url, slog.New(slog.NewJSONHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s.app.Sessions = session.NewStore(rdb, session.DefaultConfig(), session.Options{Secure: s.app.secure(), Log: s.app.Log})
	client.Replays, client.Log = s.app.Sessions, s.app.Log
	if s.app.Auth, err = auth.New(client); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.app.Auth.Close)
	s.app.Limiter = redis_rate.NewLimiter(rdb)
	if s.adapt != nil {
		s.adapt(&s.app)
	}
	handler := New(s.app)
	s.app.ownPages(handler.(*gin.Engine))
	return handler
}

// page gives a forker's page the middlewares that New's own have.
func page(app App, engine *gin.Engine, path string, handlers ...gin.HandlerFunc) {
	engine.Group("/", app.handle(app.loadSession), sessions.Sessions("sid", app.Sessions)).GET(path, handlers...)
}

// impatient gives up at once, instead of after seconds, where a provider hangs: at paths with this ending.
type impatient struct{ path string }

func (i impatient) RoundTrip(r *http.Request) (*http.Response, error) {
	if strings.HasSuffix(r.URL.Path, i.path) {
		return (&http.Transport{ResponseHeaderTimeout: 1, DisableKeepAlives: true}).RoundTrip(r)
	}
	return http.DefaultTransport.RoundTrip(r)
}

// issued collects what the provider's token endpoint gives out.
func issued(logto *authtest.Server) func() []string {
	var mu sync.Mutex
	var all []string
	logto.On(authtest.Token, authtest.EditJSON(func(answer map[string]any) {
		mu.Lock()
		defer mu.Unlock()
		for _, name := range []string{"access_token", "refresh_token", "id_token"} {
			if token, _ := answer[name].(string); token != "" {
				all = append(all, token)
			}
		}
	}))
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(all)
	}
}

// redisServer is an in-memory Redis that remembers the commands it got, and refuses some on request.
type redisServer struct {
	*miniredis.Miniredis
	mu      sync.Mutex
	seen    []string
	refused func(command string) bool
}

func newRedis(t testing.TB) *redisServer {
	t.Helper()
	mini := miniredis.NewMiniRedis()
	if err := mini.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(mini.Close)
	r := &redisServer{Miniredis: mini}
	mini.Server().SetPreHook(r.receive)
	return r
}

func (r *redisServer) receive(peer *server.Peer, command string, _ ...string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = append(r.seen, command)
	if r.refused == nil || !r.refused(command) {
		return false
	}
	peer.WriteError("LOADING Redis is loading the dataset in memory")
	return true
}

// down refuses the commands, all if none is named; up ends that.
func (r *redisServer) down(commands ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refused = func(command string) bool { return len(commands) == 0 || slices.Contains(commands, command) }
}

func (r *redisServer) up() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refused = nil
}

// during returns the commands that Redis gets while f runs.
func (r *redisServer) during(f func()) []string {
	take := func() []string {
		r.mu.Lock()
		defer r.mu.Unlock()
		seen := r.seen
		r.seen = nil
		return seen
	}
	take()
	f()
	return take()
}

// book is a log that a test can read.
type book struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *book) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *book) text() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// lines returns the records with this message.
func (b *book) lines(t testing.TB, message string) (all []map[string]any) {
	t.Helper()
	for line := range strings.Lines(b.text()) {
		var record map[string]any
		if err := json.Unmarshal([]byte(line), &record); err != nil {
			t.Fatalf("log line %q: %v", line, err)
		}
		if record["msg"] == message {
			all = append(all, record)
		}
	}
	return all
}

// browser is a person's: it keeps cookies, and follows no redirect by itself.
type browser struct {
	t     testing.TB
	site  *site
	http  *http.Client
	logto *authtest.Browser
}

func (s *site) browser(t testing.TB) *browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &browser{t, s, &http.Client{Transport: s.web.Client().Transport, Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}, s.logto.Browser()}
}

// signedIn is a browser in which somebody has just signed in.
func (s *site) signedIn(t testing.TB, who string) *browser {
	t.Helper()
	b := s.browser(t)
	b.signIn(who, "/")
	return b
}

type reply struct {
	status int
	header http.Header
	body   string
}

// do sends a request as a browser does that navigates, unless headers (name, value, …) say otherwise.
func (b *browser) do(method, address, body string, headers ...string) reply {
	b.t.Helper()
	if strings.HasPrefix(address, "/") {
		address = b.site.url + address
	}
	request, err := http.NewRequestWithContext(b.t.Context(), method, address, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	request.Header.Set("Accept", "text/html,application/xhtml+xml,*/*;q=0.8")
	if method == http.MethodPost {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		request.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	for pair := range slices.Chunk(headers, 2) {
		request.Header.Set(pair[0], pair[1])
	}
	response, err := b.http.Do(request)
	if err != nil {
		b.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return reply{response.StatusCode, response.Header, string(text)}
}

func (b *browser) get(address string, headers ...string) reply {
	b.t.Helper()
	return b.do(http.MethodGet, address, "", headers...)
}

func (b *browser) getJSON(address string) reply {
	b.t.Helper()
	return b.get(address, "Accept", "application/json")
}

func (b *browser) post(address string, form url.Values, headers ...string) reply {
	b.t.Helper()
	return b.do(http.MethodPost, address, form.Encode(), headers...)
}

// begin begins a sign-in at an address of the application, and returns the callback that the provider then leads to.
func (b *browser) begin(address, who string) string {
	b.t.Helper()
	a := b.get(address)
	b.want(a, http.StatusSeeOther, "")
	callback, err := b.logto.SignIn(b.t.Context(), a.header.Get("Location"), who)
	if err != nil {
		b.t.Fatal(err)
	}
	return callback
}

// signIn signs somebody in, which must lead to returnTo.
func (b *browser) signIn(who, returnTo string) reply {
	b.t.Helper()
	a := b.get(b.begin(toSignIn(returnTo), who))
	b.want(a, http.StatusSeeOther, returnTo)
	return a
}

func toSignIn(returnTo string) string {
	return "/sign-in?" + url.Values{"return_to": {returnTo}}.Encode()
}

// isSignedIn asks a protected page that needs no provider.
func (b *browser) isSignedIn() bool {
	b.t.Helper()
	a := b.getJSON("/protected/sessions")
	if a.status != http.StatusOK && a.status != http.StatusUnauthorized {
		b.t.Errorf("who is signed in: %d %s", a.status, a.body)
	}
	return a.status == http.StatusOK
}

// cookies returns the value of each cookie that the browser has.
func (b *browser) cookies() map[string]string {
	address, err := url.Parse(b.site.url)
	if err != nil {
		b.t.Fatal(err)
	}
	values := map[string]string{}
	for _, c := range b.http.Jar.Cookies(address) {
		values[c.Name] = c.Value
	}
	return values
}

// setCookie plants a cookie.
func (b *browser) setCookie(name, value string) {
	address, err := url.Parse(b.site.url)
	if err != nil {
		b.t.Fatal(err)
	}
	b.http.Jar.SetCookies(address, []*http.Cookie{{Name: name, Value: value, Path: "/"}})
}

// want compares status and, if it is given, Location.
func (b *browser) want(a reply, status int, location string) {
	b.t.Helper()
	if a.status != status || a.header.Get("Location") != cmp.Or(location, a.header.Get("Location")) {
		b.t.Errorf("answer %d to %q, want %d to %q\n%s", a.status, a.header.Get("Location"), status, location, a.body)
	}
}

// decode reads a JSON answer.
func decode[T any](t testing.TB, a reply) T {
	t.Helper()
	var value T
	decoder := json.NewDecoder(strings.NewReader(a.body))
	decoder.UseNumber()
	if err := decoder.Decode(&value); err != nil {
		t.Fatalf("%v in %d %s", err, a.status, a.body)
	}
	return value
}
