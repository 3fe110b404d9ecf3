package session

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/gin-contrib/sessions"
	"github.com/gin-contrib/sessions/tester"
	"github.com/gin-gonic/gin"
	gorilla "github.com/gorilla/sessions"
	"github.com/redis/go-redis/v9"
)

// counter counts the commands that a client sends.
type counter struct{ n atomic.Int64 }

func (c *counter) DialHook(next redis.DialHook) redis.DialHook { return next }
func (c *counter) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		c.n.Add(1)
		return next(ctx, cmd)
	}
}
func (c *counter) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		c.n.Add(int64(len(cmds)))
		return next(ctx, cmds)
	}
}

// during returns how many commands f costs.
func (c *counter) during(f func()) int {
	before := c.n.Load()
	f()
	return int(c.n.Load() - before)
}

// site is a store with what a test wants to look at.
type site struct {
	*Store
	redis *miniredis.Miniredis
	rdb   redis.UniversalClient
	sent  *counter
	log   *strings.Builder
}

func newSite(t testing.TB, cfg Config, opts Options) *site {
	t.Helper()
	server := miniredis.RunT(t)
	s := open(t, "redis://"+server.Addr(), cfg)
	s.redis = server
	opts.Log = s.Store.log
	s.Store = NewStore(s.rdb, cfg, opts)
	return s
}

// living returns the keys in Redis without the marks of what has ended.
func (s *site) living() []string {
	return slices.DeleteFunc(s.redis.Keys(), func(key string) bool {
		return strings.HasPrefix(key, "ended:") || strings.HasPrefix(key, "sid:") || isMark(s.value(key))
	})
}

// value returns that of a string, and "" of anything else.
func (s *site) value(key string) string { return s.rdb.Get(context.Background(), key).Val() }

// line returns a session's.
func (s *site) line(key string) string {
	line, _, _ := strings.Cut(s.value(key), "\n")
	return line
}

// corrupt changes what follows a session's line, and the line too if one is given.
func (s *site) corrupt(key, line string, change func(r *record)) {
	r, _ := parseRecord(s.value(key))
	if change != nil {
		change(&r)
	}
	if line == "" {
		line = s.line(key)
	}
	life := s.redis.TTL(key)
	_ = s.redis.Set(key, line+"\n"+string(r.body()))
	s.redis.SetTTL(key, life)
}

// isMark reports whether a session's value says that it has ended.
func isMark(value string) bool { return parseEnding(value, "") != nil }

// jar is a browser's cookies.
type jar map[string]string

// visit makes a request with the jar's cookies to a handler, and keeps the cookies of the answer.
func (j jar) visit(t testing.TB, s *Store, handler func(w http.ResponseWriter, r *http.Request)) *httptest.ResponseRecorder {
	t.Helper()
	r := j.request(t.Context())
	w := httptest.NewRecorder()
	handler(w, r)
	j.keep(w)
	return w
}

func (j jar) request(ctx context.Context) *http.Request {
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil)
	r.Header.Set("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0")
	for _, name := range slices.Sorted(maps.Keys(j)) {
		r.AddCookie(&http.Cookie{Name: name, Value: j[name]})
	}
	return r
}

func (j jar) keep(w *httptest.ResponseRecorder) {
	for _, c := range cookies(w) {
		if c.MaxAge < 0 {
			delete(j, c.Name)
		} else {
			j[c.Name] = c.Value
		}
	}
}

// cookies returns what the answer sets, also before it is complete.
func cookies(w *httptest.ResponseRecorder) []*http.Cookie {
	return (&http.Response{Header: w.Header()}).Cookies()
}

// load makes a request as far as Browser.
func (j jar) load(t testing.TB, s *Store) (*Browser, *httptest.ResponseRecorder) {
	t.Helper()
	w := httptest.NewRecorder()
	b, err := s.Browser(w, j.request(t.Context()))
	if err != nil {
		t.Fatalf("Browser: %v", err)
	}
	return b, w
}

// do makes a request whose handler uses Browser.
func (j jar) do(t testing.TB, s *Store, handler func(b *Browser)) {
	t.Helper()
	b, w := j.load(t, s)
	handler(b)
	j.keep(w)
}

func (j jar) signIn(t testing.TB, s *Store, subject, sid string) {
	t.Helper()
	j.do(t, s, func(b *Browser) {
		starts(t, b, subject, sid, []byte("identity of "+subject), []byte("tokens of "+subject))
	})
}

// starts starts a session by a sign-in that has just begun.
func starts(t testing.TB, b *Browser, subject, sid string, identity, tokens []byte) {
	t.Helper()
	if started, err := b.Start(context.Background(), subject, sid, time.Now(), identity, tokens); !started || err != nil {
		t.Fatalf("Start = %v, %v", started, err)
	}
}

// find is the place that a cookie leads to, at a site without a key.
func find(cookie string) *place { return (&Store{keys: [][]byte{nil}}).find(cookie) }

// ends ends one of the person's sessions by its ID, if it is theirs.
func ends(t testing.TB, b *Browser, id string) {
	t.Helper()
	_, err := b.EndOther(context.Background(), id)
	must(t, err)
}

// who says who is signed in.
func (j jar) who(t testing.TB, s *Store) string {
	t.Helper()
	b, _ := j.load(t, s)
	identity, err := b.Identity(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimPrefix(string(identity), "identity of ")
}

// values runs a handler on the forker's values, and saves.
func (j jar) values(t testing.TB, s *Store, handler func(*gorilla.Session)) error {
	t.Helper()
	var err error
	j.visit(t, s, func(w http.ResponseWriter, r *http.Request) {
		session, errGet := s.Get(r, "sid")
		if errGet != nil {
			t.Fatal(errGet)
		}
		handler(session)
		err = session.Save(r, w)
	})
	return err
}

func (j jar) get(t testing.TB, s *Store, key any) (value any) {
	t.Helper()
	session, err := s.Get(j.request(t.Context()), "sid")
	if err != nil {
		t.Fatal(err)
	}
	return session.Values[key]
}

func set(key, value any) func(*gorilla.Session) {
	return func(session *gorilla.Session) { session.Values[key] = value }
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestGinContrib(t *testing.T) {
	gin.SetMode(gin.ReleaseMode)
	gin.DefaultWriter = io.Discard
	store := func(t *testing.T) sessions.Store { return newSite(t, DefaultConfig(), Options{}) }
	t.Run("get and set", func(t *testing.T) { tester.GetSet(t, store) })
	t.Run("delete", func(t *testing.T) { tester.DeleteKey(t, store) })
	t.Run("flashes", func(t *testing.T) { tester.Flashes(t, store) })
	t.Run("clear", func(t *testing.T) { tester.Clear(t, store) })
	t.Run("options", func(t *testing.T) { tester.Options(t, store) })
	t.Run("many", func(t *testing.T) { tester.Many(t, store) })
}

func TestSignInAndOut(t *testing.T) {
	s, j := newSite(t, DefaultConfig(), Options{}), jar{}
	if got := j.who(t, s.Store); got != "" {
		t.Fatalf("a visitor is %q", got)
	}
	j.signIn(t, s.Store, "ada", "sid-1")
	if got := j.who(t, s.Store); got != "ada" {
		t.Fatalf("signed in as %q, want ada", got)
	}
	b, w := j.load(t, s.Store)
	tokens, err := b.Tokens(t.Context())
	if string(tokens) != "tokens of ada" || err != nil {
		t.Fatalf("Tokens = %q, %v", tokens, err)
	}
	must(t, b.End(t.Context()))
	if identity, _ := b.Identity(t.Context()); identity != nil {
		t.Errorf("after End, Identity = %q", identity)
	}
	cookie := j["sid"]
	j.keep(w)
	if _, ok := j["sid"]; ok {
		t.Error("the cookie was not expired")
	}
	if got := (jar{"sid": cookie}).who(t, s.Store); got != "" {
		t.Errorf("the old cookie still signs in %q", got)
	}
	if left := s.living(); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func TestCookieAttributes(t *testing.T) {
	for _, tt := range []struct {
		name   string
		secure bool
		chosen sessions.Options
		want   string // after name and value
	}{
		{"http", false, sessions.Options{}, "; Path=/; Max-Age=1209600; HttpOnly; SameSite=Lax"},
		{"https", true, sessions.Options{}, "; Path=/; Max-Age=1209600; HttpOnly; Secure; SameSite=Lax"},
		{"weakened", false, sessions.Options{SameSite: http.SameSiteNoneMode, MaxAge: 1 << 30}, "; Path=/; Max-Age=1209600; HttpOnly; SameSite=Lax"},
		{"stricter", true, sessions.Options{SameSite: http.SameSiteStrictMode}, "; SameSite=Strict; Path=/; Max-Age=1209600; HttpOnly; Secure"},
		{"prefix's rules", true, sessions.Options{Path: "/a", Domain: "example.com"}, "; Path=/; Max-Age=1209600; HttpOnly; Secure; SameSite=Lax"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t, DefaultConfig(), Options{Secure: tt.secure})
			s.Options(tt.chosen)
			w := jar{}.visit(t, s.Store, func(w http.ResponseWriter, r *http.Request) {
				b, err := s.Browser(w, r)
				must(t, err)
				starts(t, b, "ada", "", []byte("i"), []byte("t"))
			})
			line := w.Header().Get("Set-Cookie")
			name := "sid="
			if tt.secure {
				name = "__Host-sid="
			}
			if !strings.HasPrefix(line, name) || !strings.HasSuffix(line, tt.want) || len(line) != len(name)+60+len(tt.want) {
				t.Errorf("Set-Cookie: %s, want %s<60 characters>%s", line, name, tt.want)
			}
		})
	}
}

func TestCommands(t *testing.T) {
	s, j := newSite(t, DefaultConfig(), Options{}), jar{}
	j.signIn(t, s.Store, "ada", "sid-1")
	must(t, j.values(t, s.Store, set("colour", "blue")))
	page := func(j jar) func() {
		return func() {
			j.visit(t, s.Store, func(w http.ResponseWriter, r *http.Request) {
				b, err := s.Browser(w, r)
				must(t, err)
				_, err = b.Identity(t.Context())
				must(t, err)
				session, err := s.Get(r, "sid")
				must(t, err)
				if value := session.Values["colour"]; j["sid"] == "" && value != nil {
					t.Errorf("a visitor has %v", value)
				}
				must(t, session.Save(r, w))    // with nothing changed
				_, err = b.Tokens(t.Context()) // which came with the rest
				must(t, err)
			})
		}
	}
	tag, secret, _ := strings.Cut(j["sid"], ".")
	for _, tt := range []struct {
		name string
		run  func()
		want int
	}{
		{"signed in", page(j), 1},
		{"no cookie", page(jar{}), 0},
		{"foreign cookie", page(jar{"sidecar": j["sid"]}), 0},
		{"unknown", page(jar{"sid": tag + "." + strings.Repeat("A", 43)}), 1},
		{"empty", page(jar{"sid": ""}), 0},
		{"no secret", page(jar{"sid": tag + "."}), 0},
		{"short secret", page(jar{"sid": tag + "." + secret[1:]}), 0},
		{"second spelling of a secret", page(jar{"sid": tag + "." + secret[:42] + "B"}), 0},
		{"tag of another alphabet", page(jar{"sid": "}{" + tag[2:] + "." + secret}), 0},
		{"long", page(jar{"sid": strings.Repeat(tag, 200) + "." + secret}), 0},
	} {
		if got := s.sent.during(tt.run); got != tt.want {
			t.Errorf("%s: %d commands, want %d", tt.name, got, tt.want)
		}
	}
}

// The session middleware of gin-contrib keeps the request of its time; a Browser loaded before or after is the same.
func TestSharedInRequest(t *testing.T) {
	gin.SetMode(gin.ReleaseMode)
	s, j := newSite(t, DefaultConfig(), Options{}), jar{}
	j.signIn(t, s.Store, "ada", "")
	load := func(c *gin.Context) {
		_, err := s.Browser(c.Writer, c.Request)
		must(t, err)
		c.Request = c.Request.WithContext(context.WithValue(c.Request.Context(), t, 1)) // as other middlewares do
	}
	keep := sessions.Sessions("sid", s.Store)
	for name, chain := range map[string][]gin.HandlerFunc{"before": {load, keep}, "after": {keep, load}} {
		t.Run(name, func(t *testing.T) {
			r := gin.New()
			r.Use(chain...)
			r.GET("/", func(c *gin.Context) {
				b, err := s.Browser(c.Writer, c.Request)
				must(t, err)
				session := sessions.Default(c)
				session.Set("n", 1)
				must(t, session.Save())
				must(t, b.End(c))
				session.Set("n", 2)
				must(t, session.Save()) // a new one: this request knows that it ended the old one
			})
			j := maps.Clone(j)
			j.signIn(t, s.Store, "ada", "")
			w := httptest.NewRecorder()
			if got := s.sent.during(func() { r.ServeHTTP(w, j.request(t.Context())) }); got > 5 { // read, save, end, start and perhaps EVAL
				t.Errorf("%d commands", got)
			}
			if lines := cookies(w); len(lines) != 1 || lines[0].MaxAge <= 0 {
				t.Errorf("Set-Cookie: %v, want one", lines)
			}
			j.keep(w)
			if got := j.get(t, s.Store, "n"); got != 2 {
				t.Errorf("n = %v, want 2", got)
			}
		})
	}
}

func TestUnknownCookieIsNotAdopted(t *testing.T) {
	s := newSite(t, DefaultConfig(), Options{})
	planted, _ := s.mint(hash("person", "ada"))
	j := jar{"sid": planted}
	b, w := j.load(t, s.Store)
	if identity, err := b.Identity(t.Context()); identity != nil || err != nil {
		t.Errorf("Identity = %q, %v", identity, err)
	}
	if len(w.Header()) != 0 {
		t.Errorf("an unknown cookie was answered with %v; the browser may have a new one by now", w.Header())
	}
	must(t, j.values(t, s.Store, set("k", "v")))
	if j["sid"] == planted {
		t.Error("values were saved under an ID that the visitor chose")
	}
	j["sid"] = planted
	j.signIn(t, s.Store, "ada", "")
	if j["sid"] == planted {
		t.Error("a sign-in took an ID that the visitor chose")
	}
	if s.redis.Exists(find(planted).key()) {
		t.Error("the planted ID is in Redis")
	}
	if s.log.Len() > 0 {
		t.Errorf("anybody can write to the log: %s", s.log)
	}
}

// A session that an attacker has planted is dead once its victim signs in, and nobody is ever signed in to it.
func TestSignInChangesTheID(t *testing.T) {
	s, j := newSite(t, DefaultConfig(), Options{}), jar{}
	must(t, j.values(t, s.Store, set("cart", "3 apples")))
	planted := maps.Clone(j)
	j.signIn(t, s.Store, "ada", "")
	if j["sid"] == planted["sid"] {
		t.Fatal("the ID stayed the same")
	}
	if got := planted.get(t, s.Store, "cart"); got != nil || planted.who(t, s.Store) != "" {
		t.Error("the old ID still works")
	}
	if got := j.get(t, s.Store, "cart"); got != "3 apples" {
		t.Errorf("cart = %v, want it carried over", got)
	}
	first := maps.Clone(j)
	j.signIn(t, s.Store, "ada", "")
	if first.who(t, s.Store) != "" || j.get(t, s.Store, "cart") != "3 apples" {
		t.Error("signing in again must end the first session and keep its values")
	}
	j.signIn(t, s.Store, "bob", "")
	if got := j.get(t, s.Store, "cart"); got != nil {
		t.Errorf("another person got %v", got)
	}
}

// A save to the old session, while a sign-in replaces it, is in the new one.
func TestSignInLosesNoSave(t *testing.T) {
	s, j := newSite(t, DefaultConfig(), Options{}), jar{}
	must(t, j.values(t, s.Store, set("a", 1)))
	b, w := j.load(t, s.Store)
	must(t, j.values(t, s.Store, set("b", 2)))
	starts(t, b, "ada", "", []byte("identity of ada"), []byte("t"))
	j.keep(w)
	if a, b := j.get(t, s.Store, "a"), j.get(t, s.Store, "b"); a != 1 || b != 2 {
		t.Errorf("a, b = %v, %v; want 1, 2", a, b)
	}
	// Nor does the new one bring back what has ended meanwhile.
	late, w := j.load(t, s.Store)
	b, _ = j.load(t, s.Store)
	must(t, b.End(t.Context()))
	starts(t, late, "ada", "", []byte("identity of ada"), []byte("t"))
	j.keep(w)
	if got := j.get(t, s.Store, "a"); got != nil || j.who(t, s.Store) != "ada" {
		t.Errorf("a = %v of a session that had ended", got)
	}
}

func TestUpdate(t *testing.T) {
	s, j := newSite(t, DefaultConfig(), Options{}), jar{}
	j.signIn(t, s.Store, "ada", "")
	b, _ := j.load(t, s.Store)
	other, _ := j.load(t, s.Store)
	calls := 0
	must(t, b.Update(t.Context(), func(identity, tokens []byte) ([]byte, []byte, error) {
		if calls++; calls == 1 { // in between, the other one saves
			must(t, other.Update(t.Context(), func(identity, tokens []byte) ([]byte, []byte, error) {
				return append(identity, '1'), append(tokens, '1'), nil
			}))
		}
		return nil, append(tokens, '2'), nil
	}))
	if calls != 2 {
		t.Errorf("change was called %d times, want 2", calls)
	}
	identity, _ := b.Identity(t.Context())
	tokens, _ := b.Tokens(t.Context())
	if string(identity) != "identity of ada1" || string(tokens) != "tokens of ada12" {
		t.Errorf("both must win: %q, %q", identity, tokens)
	}
	if got := j.who(t, s.Store); got != "ada1" {
		t.Errorf("saved: %q", got)
	}
	failure := errors.New("no")
	if err := b.Update(t.Context(), func(_, _ []byte) ([]byte, []byte, error) { return []byte("x"), nil, failure }); !errors.Is(err, failure) {
		t.Errorf("change's error: %v", err)
	}
}

// A page reads all of a session but what is beyond any usual size: tokens then cost a command more, and so does who is in
// thousands of organizations.
func TestLargeSessions(t *testing.T) {
	large := bytes.Repeat([]byte("x"), 2*pageBytes)
	for name, tt := range map[string]struct {
		identity, tokens []byte
		page, more       int // commands for a page, and for the tokens
	}{
		"tokens":   {[]byte("i"), large, 1, 1},
		"identity": {large, []byte("t"), 2, 0},
	} {
		s, j := newSite(t, DefaultConfig(), Options{}), jar{}
		j.do(t, s.Store, func(b *Browser) { starts(t, b, "ada", "", tt.identity, tt.tokens) })
		must(t, j.values(t, s.Store, set("k", "v"))) // loses nothing
		var b *Browser
		if got := s.sent.during(func() { b, _ = j.load(t, s.Store) }); got != tt.page {
			t.Errorf("%s: %d commands for a page, want %d", name, got, tt.page)
		}
		identity, err := b.Identity(t.Context())
		must(t, err)
		more := s.sent.during(func() {
			tokens, err := b.Tokens(t.Context())
			must(t, err)
			if !bytes.Equal(identity, tt.identity) || !bytes.Equal(tokens, tt.tokens) {
				t.Errorf("%s: something was lost", name)
			}
		})
		if more != tt.more || j.get(t, s.Store, "k") != "v" {
			t.Errorf("%s: %d commands more for the tokens, want %d", name, more, tt.more)
		}
	}
}

func TestConflictsAreBounded(t *testing.T) {
	s, j := newSite(t, DefaultConfig(), Options{}), jar{}
	j.signIn(t, s.Store, "ada", "")
	b, _ := j.load(t, s.Store)
	key := s.redis.Keys()[slices.IndexFunc(s.redis.Keys(), func(k string) bool { return strings.HasPrefix(k, "session:") })]
	calls := 0
	err := b.Update(t.Context(), func(_, tokens []byte) ([]byte, []byte, error) {
		calls++
		s.corrupt(key, fmt.Sprint(2_000_000_000+calls)+s.line(key)[10:], nil) // another version
		return nil, append(tokens, 'x'), nil
	})
	if !errors.Is(err, ErrConflict) || calls != 16 {
		t.Errorf("%d calls: %v", calls, err)
	}
}

func TestSavesAfterTheEnd(t *testing.T) {
	s := newSite(t, DefaultConfig(), Options{})
	for _, tt := range []struct {
		name string
		save func(*Browser, http.ResponseWriter, *http.Request) error
	}{
		{"update", func(b *Browser, _ http.ResponseWriter, r *http.Request) error {
			return b.Update(r.Context(), func(_, _ []byte) ([]byte, []byte, error) {
				t.Error("change was called")
				return []byte("x"), []byte("y"), nil
			})
		}},
		{"values", func(b *Browser, w http.ResponseWriter, r *http.Request) error {
			session, err := s.Get(r, "sid")
			must(t, err)
			session.Values["k"] = "v"
			return session.Save(r, w)
		}},
		{"lock", func(b *Browser, _ http.ResponseWriter, r *http.Request) error {
			_, _, err := b.Lock(r.Context())
			return err
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			j := jar{}
			j.signIn(t, s.Store, "ada", "")
			slow := maps.Clone(j)
			var err error
			w := slow.visit(t, s.Store, func(w http.ResponseWriter, r *http.Request) {
				b, errLoad := s.Browser(w, r)
				must(t, errLoad)
				quick, _ := j.load(t, s.Store)
				must(t, quick.End(t.Context()))
				err = tt.save(b, w, r)
				if identity, _ := b.Identity(t.Context()); identity != nil {
					t.Error("after it, the person still seems signed in")
				}
			})
			if !errors.Is(err, ErrEnded) {
				t.Errorf("error %v, want ErrEnded", err)
			}
			if len(w.Header()) != 0 || len(s.living()) != 0 {
				t.Errorf("left behind: %v, %v", w.Header(), s.living())
			}
		})
	}
}

func TestValuesMerge(t *testing.T) {
	s, j := newSite(t, DefaultConfig(), Options{}), jar{}
	must(t, j.values(t, s.Store, func(session *gorilla.Session) {
		session.Values["kept"], session.Values["deleted"], session.Values["list"] = 1, 1, []any{"a"}
	}))
	must(t, j.values(t, s.Store, func(session *gorilla.Session) {
		must(t, j.values(t, s.Store, func(session *gorilla.Session) { // another request, in the middle of this one
			session.Values["other"] = 2
			delete(session.Values, "deleted")
		}))
		session.Values["mine"] = 3
		session.Values["list"].([]any)[0] = "b" // changed in place
	}))
	want := map[any]any{"kept": 1, "other": 2, "mine": 3}
	for key, value := range want {
		if got := j.get(t, s.Store, key); got != value {
			t.Errorf("%v = %v, want %v", key, got, value)
		}
	}
	if got := j.get(t, s.Store, "deleted"); got != nil {
		t.Error("what the other request deleted is back")
	}
	if got := j.get(t, s.Store, "list").([]any)[0]; got != "b" {
		t.Errorf("list[0] = %v, want b", got)
	}
}

// A save that failed can be tried again in the same request.
func TestValuesAfterFailure(t *testing.T) {
	s, j := newSite(t, DefaultConfig(), Options{}), jar{}
	must(t, j.values(t, s.Store, set("k", "old")))
	j.visit(t, s.Store, func(w http.ResponseWriter, r *http.Request) {
		session, err := s.Get(r, "sid")
		must(t, err)
		session.Values["k"] = "new"
		s.redis.SetError("OOM command not allowed when used memory > 'maxmemory'.")
		if err := session.Save(r, w); !errors.Is(err, ErrUnavailable) {
			t.Errorf("Save = %v, want ErrUnavailable", err)
		}
		s.redis.SetError("")
		must(t, session.Save(r, w))
	})
	if got := j.get(t, s.Store, "k"); got != "new" {
		t.Errorf("k = %v, want new", got)
	}
}

func TestValuesOfUnknownType(t *testing.T) {
	s, j := newSite(t, DefaultConfig(), Options{}), jar{}
	type unregistered struct{ A int }
	err := j.values(t, s.Store, set("k", unregistered{1}))
	if err == nil || errors.Is(err, ErrUnavailable) || len(j) != 0 {
		t.Errorf("Save = %v, cookies %v", err, j)
	}
}

func TestMaxAgeEnds(t *testing.T) {
	s, j := newSite(t, DefaultConfig(), Options{}), jar{}
	j.signIn(t, s.Store, "ada", "")
	must(t, j.values(t, s.Store, func(session *gorilla.Session) { session.Options.MaxAge = -1 }))
	if len(j) != 0 || len(s.living()) != 0 {
		t.Errorf("left: %v, %v", j, s.living())
	}
}

// What is in Redis and makes no sense signs its browser out, says so in the log, and is no error.
func TestCorrupt(t *testing.T) {
	for _, tt := range []struct {
		name    string
		corrupt func(s *site, key string)
		who     string
	}{
		{"identity", func(s *site, key string) { s.corrupt(key, "", func(r *record) { r.identity = "garbage" }) }, ""},
		{"identity flipped", func(s *site, key string) {
			s.corrupt(key, "", func(r *record) {
				sealed := []byte(r.identity)
				sealed[20] ^= 1
				r.identity = string(sealed)
			})
		}, ""},
		{"tokens in identity's place", func(s *site, key string) { s.corrupt(key, "", func(r *record) { r.identity = r.tokens }) }, ""},
		{"another session's", func(s *site, key string) {
			j := jar{}
			j.signIn(t, s.Store, "bob", "")
			bob, _ := parseRecord(s.value(find(j["sid"]).key()))
			s.corrupt(key, "", func(r *record) { r.identity = bob.identity })
		}, ""},
		{"times", func(s *site, key string) { s.corrupt(key, "1 1 soon 1 - Firefox\tLinux", nil) }, ""},
		{"hash of a provider's session ID", func(s *site, key string) { s.corrupt(key, strings.Replace(s.line(key), " - ", " abc ", 1), nil) }, ""},
		{"half of them", func(s *site, key string) { s.corrupt(key, s.line(key)[:20], nil) }, ""},
		{"no line", func(s *site, key string) { _ = s.redis.Set(key, "text") }, ""},
		{"cut off", func(s *site, key string) { _ = s.redis.Set(key, s.value(key)[:200]) }, ""},
		{"no string", func(s *site, key string) { s.redis.Del(key); s.redis.HSet(key, "field", "text") }, ""},
		{"tokens", func(s *site, key string) { s.corrupt(key, "", func(r *record) { r.tokens = "garbage" }) }, "ada"}, // until they are asked for
		{"values", func(s *site, key string) { s.corrupt(key, "", func(r *record) { r.values = "garbage" }) }, "ada"}, // are dropped
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, j := newSite(t, DefaultConfig(), Options{}), jar{}
			j.signIn(t, s.Store, "ada", "")
			must(t, j.values(t, s.Store, set("k", "v")))
			cookie := j["sid"]
			tt.corrupt(s, find(cookie).key())
			if got := j.who(t, s.Store); got != tt.who {
				t.Errorf("signed in as %q, want %q", got, tt.who)
			}
			b, _ := j.load(t, s.Store)
			if tokens, err := b.Tokens(t.Context()); err != nil || tokens != nil && tt.name != "values" {
				t.Errorf("Tokens = %q, %v", tokens, err)
			}
			if identity, err := b.Identity(t.Context()); err != nil || identity != nil && tt.name != "values" {
				t.Errorf("Identity = %q, %v", identity, err)
			}
			must(t, j.values(t, s.Store, set("k2", "v2")))
			if got := j.get(t, s.Store, "k2"); got != "v2" {
				t.Errorf("k2 = %v, want v2", got)
			}
			if log := s.log.String(); !strings.Contains(log, "could not be") || strings.Contains(log, cookie) || strings.Contains(log, "identity of") {
				t.Errorf("log: %s", log)
			}
			j["sid"] = cookie
			j.signIn(t, s.Store, "ada", "")
			if j.who(t, s.Store) != "ada" || slices.Contains(s.living(), find(cookie).key()) {
				t.Error("signing in must heal it")
			}
		})
	}
}

func TestClientThatWentAway(t *testing.T) {
	s, j := newSite(t, DefaultConfig(), Options{}), jar{}
	j.signIn(t, s.Store, "ada", "")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Browser(httptest.NewRecorder(), j.request(ctx))
	if !errors.Is(err, context.Canceled) || errors.Is(err, ErrUnavailable) {
		t.Errorf("Browser = %v, want context.Canceled", err)
	}
}

func TestNote(t *testing.T) {
	s := newSite(t, DefaultConfig(), Options{})
	for _, want := range []bool{false, true, true} {
		if noted, err := s.Noted(t.Context(), "jti"); noted != want || err != nil {
			t.Errorf("Noted = %v, %v; want %v", noted, err, want)
		}
		must(t, s.Note(t.Context(), "jti", 0))
	}
	if keys := s.redis.Keys(); len(keys) != 1 || strings.Contains(keys[0], "jti") || s.redis.TTL(keys[0]) <= 0 {
		t.Errorf("Redis has %v", keys)
	}
	must(t, s.Ping(t.Context()))
}

func TestRedisGone(t *testing.T) {
	s, j := newSite(t, DefaultConfig(), Options{}), jar{}
	j.signIn(t, s.Store, "ada", "")
	b, _ := j.load(t, s.Store)
	s.redis.Close()
	ctx := t.Context()
	unavailable := func(name string, call func() error) {
		if err := call(); !errors.Is(err, ErrUnavailable) {
			t.Errorf("%s = %v, want ErrUnavailable", name, err)
		}
	}
	r, w := j.request(ctx), httptest.NewRecorder()
	unavailable("Browser", func() error { _, err := s.Browser(w, r); return err })
	commands := s.sent.during(func() {
		unavailable("Get", func() error { _, err := s.Get(r, "sid"); return err })
		unavailable("Save", func() error {
			session, _ := s.Get(r, "sid")
			session.Values["k"] = "v"
			return session.Save(r, w)
		})
	})
	if commands != 0 {
		t.Errorf("one outage cost one request %d more commands", commands)
	}
	unavailable("Update", func() error {
		return b.Update(ctx, func(i, t []byte) ([]byte, []byte, error) { return append(i, 1), t, nil })
	})
	unavailable("Start", func() error { _, err := b.Start(ctx, "ada", "sid", time.Now(), []byte("i"), []byte("t")); return err })
	unavailable("End", func() error { return b.End(ctx) })
	unavailable("Lock", func() error { _, _, err := b.Lock(ctx); return err })
	unavailable("Sessions", func() error { _, err := b.Sessions(ctx); return err })
	unavailable("EndOthers", func() error { _, err := b.EndOthers(ctx); return err })
	unavailable("EndOther", func() error { _, err := b.EndOther(ctx, randomID()[:shortID]); return err })
	unavailable("UseSignIn", func() error { _, err := b.UseSignIn(ctx, "s", time.Minute); return err })
	unavailable("EndBy subject", func() error { _, err := s.EndBy(ctx, "ada", ""); return err })
	unavailable("EndBy sid", func() error { _, err := s.EndBy(ctx, "", "sid"); return err })
	unavailable("EndBefore", func() error { _, err := s.EndBefore(ctx, "ada", time.Now(), true); return err })
	unavailable("MarkDue", func() error { _, err := s.MarkDue(ctx, "ada"); return err })
	unavailable("EndDead", func() error { return b.EndDead(ctx) })
	unavailable("TryLock", func() error { _, _, err := b.TryLock(ctx, time.Second); return err })
	unavailable("Note", func() error { return s.Note(ctx, "jti", time.Minute) })
	unavailable("Noted", func() error { _, err := s.Noted(ctx, "jti"); return err })
	unavailable("Ping", func() error { return s.Ping(ctx) })
	if len(w.Header())+len(b.w.Header()) != 0 {
		t.Errorf("an outage set %v, %v", w.Header(), b.w.Header())
	}
	must(t, s.redis.Restart())
	eventually(t, func() error { return s.Ping(ctx) }) // after many failures, go-redis looks again only once a second
	if got := j.who(t, s.Store); got != "ada" {
		t.Errorf("after the outage, signed in as %q", got)
	}
}

// A session whose tokens a page does not read (more than 32 KB) ends between the read and a handler's Save: that should be ErrEnded.
func TestSaveOfALargeSessionThatEnded(t *testing.T) {
	s, j := newSite(t, DefaultConfig(), Options{}), jar{}
	j.do(t, s.Store, func(b *Browser) {
		starts(t, b, "ada", "", []byte("identity of ada"), bytes.Repeat([]byte("x"), 2*pageBytes))
	})
	defer func() {
		if cause := recover(); cause != nil {
			t.Errorf("Save panics: %v", cause)
		}
	}()
	j.visit(t, s.Store, func(w http.ResponseWriter, r *http.Request) {
		session, err := s.Get(r, "sid")
		must(t, err)
		session.Values["cart"] = "book"
		_, err = s.EndBy(t.Context(), "ada", "") // Logto's back channel
		must(t, err)
		if err := session.Save(r, w); !errors.Is(err, ErrEnded) {
			t.Errorf("Save = %v, want ErrEnded", err)
		}
	})
}
