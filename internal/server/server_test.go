package server

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"example.com/logto-gin-starter/auth"
	"example.com/logto-gin-starter/auth/authtest"
	"example.com/logto-gin-starter/internal/config"
	"example.com/logto-gin-starter/internal/session"
)

// settings are those of an application on a free port, beside a provider and an in-memory Redis.
func settings(t *testing.T) (config.Config, *authtest.Server, *miniredis.Miniredis) {
	t.Helper()
	logto := authtest.New(authtest.Options{})
	t.Cleanup(logto.Close)
	redis := miniredis.RunT(t)
	cfg := config.Defaults()
	cfg.Server.ListenAddr = "127.0.0.1:0"
	cfg.Redis.URL = session.Secret("redis://" + redis.Addr())
	cfg.Logto = auth.Config{Endpoint: logto.URL, AppID: "app", AppSecret: "secret"}
	return cfg, logto, redis
}

// serve starts an application; stop orders it to stop, and done tells how that went.
func serve(t *testing.T, cfg config.Config, grace time.Duration) (url string, stop func(), done <-chan error) {
	t.Helper()
	s, err := Listen(cfg, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	s.Grace = grace
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx) }()
	return "http://" + s.Addr().String(), cancel, ended
}

func get(t *testing.T, url string, headers ...string) (status int, body string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

// waiting lets discovery wait: arrived is closed when a request has come, which is answered when release is closed.
func waiting(logto *authtest.Server) (arrived, release chan struct{}) {
	arrived, release = make(chan struct{}), make(chan struct{})
	logto.On(authtest.Discovery, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			close(arrived)
			select {
			case <-release:
			case <-r.Context().Done():
			}
			next.ServeHTTP(w, r)
		})
	}).Times(1)
	return arrived, release
}

// TestGracefulStop: after the order to stop there are no new connections, and the request in flight is answered in full.
func TestGracefulStop(t *testing.T) {
	cfg, logto, _ := settings(t)
	url, stop, done := serve(t, cfg, time.Minute)
	arrived, release := waiting(logto)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/sign-in", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	answered := make(chan int, 1)
	go func() {
		status := 0
		if response, err := http.DefaultTransport.RoundTrip(request); err == nil {
			status = response.StatusCode
			_ = response.Body.Close()
		}
		answered <- status
	}()
	<-arrived
	stop()
	for { // until the listener is closed
		conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			break
		}
		_ = conn.Close()
	}
	select {
	case err := <-done:
		t.Fatalf("stopped with a request in flight: %v", err)
	case status := <-answered:
		t.Fatalf("answered %d", status)
	default:
	}
	close(release)
	if status := <-answered; status != http.StatusSeeOther {
		t.Errorf("the request in flight: %d", status)
	}
	if err := <-done; err != nil {
		t.Errorf("stopped with %v", err)
	}
}

// TestDelay: after the order to stop, everything is served for the delay, on new connections too; only /readyz says no.
func TestDelay(t *testing.T) {
	cfg, _, _ := settings(t)
	cfg.Server.ShutdownDelay = time.Hour
	lines := make(lineWriter, 100)
	s, err := Listen(cfg, slog.New(slog.NewTextHandler(lines, nil)), nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	url := "http://" + s.Addr().String()
	if status, _ := get(t, url+"/readyz"); status != 200 {
		t.Errorf("ready: %d", status)
	}
	stop()
	for line := ""; !strings.Contains(line, "msg=stopping delay=1h"); {
		line = <-lines
	}
	for path, want := range map[string]int{"/readyz": 503, "/healthz": 200, "/": 200} {
		if status, _ := get(t, url+path); status != want {
			t.Errorf("%s: %d, want %d", path, status, want)
		}
	}
	_ = s.http.Close() // there is no waiting for the hour
	if err := <-done; err == nil {
		t.Error("it ended without an error")
	}
}

// TestGraceEnds: a request that takes too long does not keep the server.
func TestGraceEnds(t *testing.T) {
	cfg, logto, _ := settings(t)
	url, stop, done := serve(t, cfg, time.Millisecond)
	arrived, release := waiting(logto)
	defer close(release)
	go func() {
		if response, err := http.Get(url + "/sign-in"); err == nil {
			_ = response.Body.Close()
		}
	}()
	<-arrived
	stop()
	if err := <-done; err == nil || !strings.Contains(err.Error(), "shut down") {
		t.Errorf("stopped with %v", err)
	}
}

func TestPortInUse(t *testing.T) {
	cfg, _, _ := settings(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	cfg.Server.ListenAddr = taken.Addr().String()
	err = Run(t.Context(), cfg, slog.New(slog.DiscardHandler), nil)
	if want := cfg.Server.ListenAddr + " is in use by another program: stop that, or set LISTEN_ADDR and BASE_URL (demo: -app)"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

// TestStartsAlone: neither Redis nor Logto need be there.
func TestStartsAlone(t *testing.T) {
	cfg, logto, redis := settings(t)
	logto.Close()
	redis.Close()
	url, stop, done := serve(t, cfg, time.Minute)
	for path, want := range map[string]int{"/": 200, "/healthz": 200, "/sign-in": 502, "/readyz": 503} {
		if status, body := get(t, url+path); status != want || path == "/readyz" && body != `{"logto":"unavailable","redis":"unavailable"}` {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	if err := redis.Restart(); err != nil {
		t.Fatal(err)
	}
	if status, body := get(t, url+"/readyz"); status != 200 || body != `{"logto":"unavailable","redis":"ok"}` {
		t.Errorf("%d %s", status, body)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestRunTellsWhere(t *testing.T) {
	cfg, _, _ := settings(t)
	ctx, cancel := context.WithCancel(t.Context())
	lines := make(lineWriter, 100)
	done := make(chan error, 1)
	go func() { done <- Run(ctx, cfg, slog.New(slog.NewTextHandler(lines, nil)), nil) }()
	select {
	case line := <-lines:
		if !strings.Contains(line, "msg=listening address=127.0.0.1:") || !strings.Contains(line, "open="+cfg.Server.BaseURL) {
			t.Errorf("first line %s", line)
		}
	case err := <-done:
		t.Fatal(err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	close(lines)
	rest := ""
	for line := range lines {
		rest += line
	}
	if begin, end := strings.Index(rest, "msg=stopping delay=0s"), strings.Index(rest, "msg=stopped duration_ms="); begin < 0 || end < begin {
		t.Errorf("at the end: %s", rest)
	}
}

type lineWriter chan string

func (w lineWriter) Write(line []byte) (int, error) {
	w <- string(line)
	return len(line), nil
}

// TestFaultyConfig: what slipped past the configuration does not start.
func TestFaultyConfig(t *testing.T) {
	for name, spoil := range map[string]func(*config.Config){
		"Redis URL": func(c *config.Config) { c.Redis.URL = "http://localhost" },
		"Logto":     func(c *config.Config) { c.Logto.AppID = "" },
		"address":   func(c *config.Config) { c.Server.ListenAddr = "nowhere.invalid:x" },
	} {
		cfg, _, _ := settings(t)
		spoil(&cfg)
		if err := Run(t.Context(), cfg, slog.New(slog.DiscardHandler), nil); err == nil {
			t.Errorf("%s: it ran", name)
		}
	}
}

// TestTooLarge: what net/http refuses before any handler, and what the handler refuses, is 4xx.
func TestTooLarge(t *testing.T) {
	cfg, _, _ := settings(t)
	url, _, _ := serve(t, cfg, time.Minute)
	for name, tt := range map[string]struct {
		path   string
		header string
		status int
	}{
		"a header of 8 KB":  {"/", strings.Repeat("x", 8<<10), 200},
		"a header of 64 KB": {"/", strings.Repeat("x", 64<<10), 431},
		"a cookie of 64 KB": {"/", "sid=" + strings.Repeat("x", 64<<10), 431},
		"a URI of 9 KB":     {"/?" + strings.Repeat("x", 9<<10), "", 414},
		"a URI of 64 KB":    {"/" + strings.Repeat("x", 64<<10), "", 431},
	} {
		if status, _ := get(t, url+tt.path, "Cookie", tt.header); status != tt.status {
			t.Errorf("%s: %d, want %d", name, status, tt.status)
		}
	}
}

// TestNoProxy: over https, that no proxy is trusted is said in one line at start; and otherwise nothing.
func TestNoProxy(t *testing.T) {
	for _, tt := range []struct {
		baseURL string
		proxies []string
		lines   int
	}{
		{"https://www.example.com", nil, 1},
		{"https://www.example.com", []string{"10.0.0.1"}, 0},
		{"http://localhost:3000", nil, 0},
	} {
		cfg, _, _ := settings(t)
		cfg.Server.BaseURL, cfg.Server.TrustedProxies = tt.baseURL, tt.proxies
		var log strings.Builder
		s, err := Listen(cfg, slog.New(slog.NewTextHandler(&log, nil)), nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := s.Serve(ctx); err != nil {
			t.Error(err)
		}
		if lines := strings.Count(log.String(), "TRUSTED_PROXIES"); lines != tt.lines {
			t.Errorf("%s, %q: the log has %q", tt.baseURL, tt.proxies, log.String())
		}
	}
}

// TestNoKey: over https, a missing SESSION_KEY is said in one line at start; and otherwise nothing.
func TestNoKey(t *testing.T) {
	for _, tt := range []struct {
		baseURL string
		key     session.Secret
		lines   int
	}{
		{"https://www.example.com", "", 1},
		{"https://www.example.com", session.Secret(session.NewKey()), 0},
		{"http://localhost:3000", "", 0},
	} {
		cfg, _, _ := settings(t)
		cfg.Server.BaseURL, cfg.Session.Key = tt.baseURL, tt.key
		var log strings.Builder
		s, err := Listen(cfg, slog.New(slog.NewTextHandler(&log, nil)), nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := s.Serve(ctx); err != nil {
			t.Error(err)
		}
		if lines := strings.Count(log.String(), "SESSION_KEY"); lines != tt.lines || strings.Contains(log.String(), string(tt.key)+" ") && tt.key != "" {
			t.Errorf("%s: the log has %q", tt.baseURL, log.String())
		}
	}
}
