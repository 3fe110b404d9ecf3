package doctor

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/logto-gin-starter/auth"
	"example.com/logto-gin-starter/auth/authtest"
	"example.com/logto-gin-starter/internal/config"
	"example.com/logto-gin-starter/internal/server"
	"example.com/logto-gin-starter/internal/session"
)

// freeAddress is one where nothing listens.
func freeAddress(t *testing.T) string {
	t.Helper()
	for range 100 { // below the ports that the system gives to others meanwhile
		address := fmt.Sprint("127.0.0.1:", 20_000+rand.IntN(12_000))
		if listener, err := net.Listen("tcp", address); err == nil {
			_ = listener.Close()
			return address
		}
	}
	t.Fatal("no port is free")
	return ""
}

// startRedis starts a Redis as it should be. Without one on this machine the test is skipped, but not in CI.
func startRedis(t *testing.T) *redis.Client {
	t.Helper()
	program, err := exec.LookPath("redis-server")
	if err != nil && os.Getenv("CI") != "true" {
		t.Skip("redis-server is not installed")
	}
	host, port, _ := net.SplitHostPort(freeAddress(t))
	process := exec.Command(program, "--bind", host, "--port", port, "--dir", t.TempDir(), "--appendonly", "yes", "--requirepass", "s3cr3t-redis")
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	rdb := redis.NewClient(&redis.Options{Addr: net.JoinHostPort(host, port), Password: "s3cr3t-redis", Protocol: 2, MaxRetries: 100})
	t.Cleanup(func() {
		_ = rdb.Close()
		_ = process.Process.Kill()
		_ = process.Wait()
	})
	if err := rdb.Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	return rdb
}

// world is an application, its Logto and its Redis, in which all is right.
type world struct {
	cfg   config.Config
	logto *authtest.Server
	app   authtest.App
	skew  time.Duration // of Logto's clock
	redis *redis.Client
}

func newWorld(t *testing.T, rdb *redis.Client) *world {
	t.Helper()
	cfg := config.Defaults()
	cfg.Server.ListenAddr = freeAddress(t)
	cfg.Server.BaseURL = "http://" + cfg.Server.ListenAddr
	w := &world{redis: rdb, app: authtest.App{
		ID: "app", Secret: "s3cr3t-app", RedirectURIs: []string{cfg.Server.BaseURL + "/callback"}, PostLogoutRedirectURIs: []string{cfg.Server.BaseURL + "/"},
	}}
	w.logto = authtest.New(authtest.Options{
		Apps: []authtest.App{w.app}, Resources: []authtest.Resource{{Indicator: "https://api.example", Scopes: []string{"read"}}},
		Now: func() time.Time { return time.Now().Add(w.skew) },
	})
	t.Cleanup(w.logto.Close)
	cfg.Logto = auth.Config{Endpoint: w.logto.URL, AppID: w.app.ID, AppSecret: auth.Secret(w.app.Secret), Scopes: []string{"email"}, Resources: []string{"https://api.example"}}
	cfg.Redis.URL = session.Secret("redis://:s3cr3t-redis@" + rdb.Options().Addr)
	ctx, stop := context.WithCancel(context.Background())
	app, err := server.Listen(cfg, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- app.Serve(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	w.cfg = cfg
	return w
}

// user makes the application use a Redis user that has not all rights.
func (w *world) user(t *testing.T, rules ...string) {
	t.Helper()
	args := []any{"acl", "setuser", "shop", "reset", "on", ">s3cr3t-redis"}
	for _, rule := range rules {
		args = append(args, rule)
	}
	if err := w.redis.Do(t.Context(), args...).Err(); err != nil {
		t.Fatal(err)
	}
	w.cfg.Redis.URL = session.Secret("redis://shop:s3cr3t-redis@" + w.redis.Options().Addr)
}

// documented returns the rights that session.Open asks for, and info.
func documented(t *testing.T) (rules []string) {
	t.Helper()
	source, err := os.ReadFile("../session/redis.go")
	if err != nil {
		t.Fatal(err)
	}
	comment := strings.ReplaceAll(string(source), "\n// ", " ")
	keys := regexp.MustCompile(`needs the keys (.*?), and the commands (.*?);`).FindStringSubmatch(comment)
	if keys == nil {
		t.Fatal("session/redis.go does not list the rights")
	}
	for _, key := range regexp.MustCompile(`\w+:\*`).FindAllString(keys[1], -1) {
		rules = append(rules, "~"+key)
	}
	for command := range strings.FieldsSeq(keys[2] + " info") {
		rules = append(rules, "+"+command)
	}
	return rules
}

func (w *world) set(t *testing.T, key, value, after string) {
	t.Helper()
	w.redis.ConfigSet(t.Context(), key, value)
	t.Cleanup(func() { w.redis.ConfigSet(context.WithoutCancel(t.Context()), key, after) })
}

// TestCheck makes each thing wrong once.
func TestCheck(t *testing.T) {
	rdb := startRedis(t)
	backChannel := "warn back-channel"
	for _, tt := range []struct {
		name  string
		spoil func(t *testing.T, w *world)
		want  []string // what the lines that are not ok begin with, and hold
	}{
		{"all is right", func(*testing.T, *world) {}, []string{backChannel}},
		{"a slash at the end", func(_ *testing.T, w *world) { w.cfg.Logto.Endpoint += "/" }, []string{backChannel}},
		{"no Logto", func(_ *testing.T, w *world) { w.logto.Close() }, []string{"FAIL Logto|connection refused): check LOGTO_ENDPOINT"}},
		{"no answer from Logto", func(_ *testing.T, w *world) { w.logto.On(authtest.Discovery, authtest.Hang) }, []string{"FAIL Logto|does not answer"}},
		{"Logto in trouble", func(_ *testing.T, w *world) { w.logto.On(authtest.Discovery, authtest.Status(503)) }, []string{"FAIL Logto|503"}},
		{"a page for Logto", func(_ *testing.T, w *world) { w.cfg.Logto.Endpoint += "/console" }, []string{"FAIL Logto|is no Logto"}},
		{"another name of Logto", func(_ *testing.T, w *world) {
			w.cfg.Logto.Endpoint = strings.Replace(w.logto.URL, "127.0.0.1", "localhost", 1)
		}, []string{"FAIL Logto|calls itself http://127.0.0.1:"}},
		{"Logto only from inside", func(t *testing.T, w *world) {
			inside := freeAddress(t)
			logto, err := authtest.Start(inside, "http://logto.example", authtest.Options{Apps: []authtest.App{w.app}})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(logto.Close)
			w.cfg.Logto.Endpoint, w.cfg.Logto.InternalEndpoint, w.cfg.Logto.Resources = "http://logto.example", "http://"+inside, nil
		}, []string{backChannel}},
		{"Logto's clock ahead", func(_ *testing.T, w *world) { w.skew = time.Minute }, []string{"FAIL clock|apart from", backChannel}},
		{"Logto's clock behind", func(_ *testing.T, w *world) { w.skew = -time.Minute }, []string{"FAIL clock", backChannel}},
		{"another app ID", func(_ *testing.T, w *world) { w.cfg.Logto.AppID = "nobody" }, []string{"FAIL app ID|nobody (Logto says: invalid client nobody): set LOGTO_APP_ID"}},
		{"sign-in in trouble", func(_ *testing.T, w *world) { w.logto.On(authtest.Authorization, authtest.Status(502)) }, []string{"FAIL app ID|(Logto says: oops! something went wrong)"}},
		{"redirect URI not registered", func(_ *testing.T, w *world) {
			w.app.RedirectURIs[0] += "/"
			w.logto.Register(w.app)
		}, []string{"FAIL redirect URI|/callback (Logto says: redirect_uri did not match"}},
		{"no redirect URI", func(_ *testing.T, w *world) {
			w.app.RedirectURIs = nil
			w.logto.Register(w.app)
		}, []string{"FAIL redirect URI|must contain members): in Logto's Console, Applications > your application > Settings, add it"}},
		{"sign-out URI not registered", func(_ *testing.T, w *world) {
			w.app.PostLogoutRedirectURIs = nil
			w.logto.Register(w.app)
		}, []string{"FAIL sign-out URI|Post sign-out redirect URIs", backChannel}},
		{"another secret", func(_ *testing.T, w *world) { w.cfg.Logto.AppSecret = "s3cr3t-other" }, []string{"FAIL app secret|LOGTO_APP_SECRET (Logto says: client authentication failed): in", backChannel}},
		{"a scope that there is not", func(_ *testing.T, w *world) {
			w.cfg.Logto.Scopes, w.cfg.Logto.Resources = []string{"email", "emial"}, nil
		},
			[]string{"warn scopes|emial will be dropped: remove it", backChannel}},
		{"a permission", func(_ *testing.T, w *world) { w.cfg.Logto.Scopes = []string{"email", "read"} }, []string{"warn scopes|read will be dropped where it is no permission", backChannel}},
		{"a resource with a slash", func(_ *testing.T, w *world) {
			w.cfg.Logto.Resources = append(w.cfg.Logto.Resources, "https://api.example/")
		},
			[]string{"FAIL resource|https://api.example/ (Logto says: resource indicator is missing, or unknown)", backChannel}},
		{"no Redis", func(t *testing.T, w *world) {
			w.cfg.Redis.URL = session.Secret("redis://:s3cr3t-redis@" + freeAddress(t))
		}, []string{backChannel, "FAIL Redis|connection refused: see that Redis runs"}},
		{"another password", func(_ *testing.T, w *world) {
			w.cfg.Redis.URL = session.Secret("redis://:s3cr3t-other@" + w.redis.Options().Addr)
		}, []string{backChannel, "FAIL Redis|WRONGPASS"}},
		{"a right is missing", func(t *testing.T, w *world) { w.user(t, "~*", "+@all", "-zadd", "-evalsha") }, []string{backChannel, "FAIL Redis rights|evalsha 0 1 session:*, zadd person:* 1 m (NOPERM"}},
		{"no more rights than are documented", func(t *testing.T, w *world) { w.user(t, documented(t)...) }, []string{backChannel}},
		{"keys are missing", func(t *testing.T, w *world) {
			w.user(t, "~session:*", "~lock:*", "~person:*", "~sid:*", "~ended:*", "~once:*", "+@all")
		}, []string{backChannel, "FAIL Redis rights|exists rate:* (NOPERM"}},
		{"Redis does not tell", func(t *testing.T, w *world) { w.user(t, "~*", "+@all", "-info") },
			[]string{backChannel, "warn Redis version|can't be seen", "warn Redis memory|see that it is noeviction", "warn Redis persistence|appendonly yes"}},
		{"Redis evicts", func(t *testing.T, w *world) { w.set(t, "maxmemory-policy", "allkeys-lru", "noeviction") }, []string{backChannel, "warn Redis memory|is allkeys-lru: it should be noeviction"}},
		{"Redis forgets", func(t *testing.T, w *world) { w.set(t, "appendonly", "no", "yes") }, []string{backChannel, "warn Redis persistence|aof_enabled is 0"}},
		{"Redis is full", func(t *testing.T, w *world) { w.set(t, "maxmemory", "1", "0") }, []string{backChannel, "FAIL Redis rights|OOM"}},
		{"the application is away", func(t *testing.T, w *world) {
			w.cfg.Server.BaseURL = "http://" + freeAddress(t)
			w.app.RedirectURIs, w.app.PostLogoutRedirectURIs = []string{w.cfg.Server.BaseURL + "/callback"}, []string{w.cfg.Server.BaseURL + "/"}
			w.logto.Register(w.app)
		}, []string{backChannel, "warn BASE_URL|connection refused): start the application"}},
		{"another program is there", func(t *testing.T, w *world) {
			other := httptest.NewServer(http.RedirectHandler("https://elsewhere.example/", http.StatusFound))
			t.Cleanup(other.Close)
			w.cfg.Server.BaseURL = other.URL
			w.app.RedirectURIs, w.app.PostLogoutRedirectURIs = []string{other.URL + "/callback"}, []string{other.URL + "/"}
			w.logto.Register(w.app)
		}, []string{backChannel, "warn BASE_URL|answers 302 Found"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, rdb)
			tt.spoil(t, w)
			var out strings.Builder
			err := Check(t.Context(), w.cfg, &out)
			var got []string
			for line := range strings.Lines(out.String()) {
				if line = strings.Join(strings.Fields(line), " "); !strings.HasPrefix(line, "ok ") {
					got = append(got, line)
				}
			}
			if !slices.EqualFunc(got, tt.want, func(line, want string) bool {
				begins, holds, _ := strings.Cut(want, "|")
				return strings.HasPrefix(line, begins+" ") && strings.Contains(line, holds)
			}) {
				t.Errorf("found\n%swant %q", out.String(), tt.want)
			}
			if (err != nil) != strings.Contains(out.String(), "FAIL") {
				t.Errorf("error %v after\n%s", err, out.String())
			}
			if all := fmt.Sprint(out.String(), err); strings.Contains(all, "s3cr3t") {
				t.Errorf("a secret is in\n%s", all)
			}
			if n := rdb.DBSize(t.Context()).Val(); n > 0 {
				t.Errorf("%d keys are left in Redis", n)
			}
		})
	}
}
