package routes

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/go-redis/redis_rate/v10"
)

// limited starts a site with a limit for each minute.
func limited(t *testing.T, count int, change ...func(*App)) *site {
	t.Helper()
	return newSite(t, func(set *setup) {
		set.app = func(app *App) {
			app.Limit = redis_rate.PerMinute(count)
			for _, f := range change {
				f(app)
			}
		}
		set.pages = func(_ App, engine *gin.Engine) {
			engine.GET("/whoami", func(c *gin.Context) { c.String(200, c.ClientIP()) })
		}
	})
}

// from sends a request as if from an address.
func (s *site) from(address, method, path string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, http.NoBody)
	r.RemoteAddr = address
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	s.web.Config.Handler.ServeHTTP(w, r)
	return w
}

func (s *site) counted() []string {
	return slices.DeleteFunc(s.redis.Keys(), func(key string) bool { return !strings.HasPrefix(key, "rate:") })
}

// TestClientAddress: who is counted, and what Gin's ClientIP tells a forker's handler.
func TestClientAddress(t *testing.T) {
	const forwarded = "X-Forwarded-For"
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8:ffff::/48")}
	for _, tt := range []struct {
		name    string
		baseURL string
		proxies []netip.Prefix
		peer    string
		headers []string
		client  string // of Gin
		counted string // in Redis
	}{
		{"directly", "http://a.example", nil, "203.0.113.7:1", nil, "203.0.113.7", "203.0.113.7/32"},
		{"by IPv6", "http://a.example", nil, "[2001:db8::1:2:3:4]:1", nil, "2001:db8::1:2:3:4", "2001:db8:0:0::/64"},
		{"by IPv4 in IPv6", "http://a.example", nil, "[::ffff:203.0.113.7]:1", nil, "203.0.113.7", "203.0.113.7/32"},
		{"of this machine", "http://localhost:3000", nil, "127.0.0.1:1", nil, "127.0.0.1", "127.0.0.1/32"},
		{"forged", "http://a.example", nil, "203.0.113.7:1", []string{forwarded, "198.51.100.1", "X-Real-Ip", "198.51.100.1"}, "203.0.113.7", "203.0.113.7/32"},
		{"https without a proxy", "https://a.example", nil, "203.0.113.7:1", nil, "203.0.113.7", ""},
		{"an untrusted proxy inside", "http://a.example", nil, "192.168.1.1:1", []string{forwarded, "198.51.100.1"}, "192.168.1.1", ""},
		{"an untrusted proxy here", "http://a.example", trusted, "127.0.0.1:1", []string{forwarded, "198.51.100.1"}, "127.0.0.1", ""},
		{"a trusted proxy", "https://a.example", trusted, "10.1.2.3:1", []string{forwarded, "198.51.100.1"}, "198.51.100.1", "198.51.100.1/32"},
		{"two of them", "https://a.example", trusted, "10.1.2.3:1", []string{forwarded, "198.51.100.1, 10.9.9.9"}, "198.51.100.1", "198.51.100.1/32"},
		{"by IPv6 through one", "https://a.example", trusted, "[2001:db8:ffff::1]:1", []string{forwarded, "2001:db8::1"}, "2001:db8::1", "2001:db8::/64"},
		{"forged before a trusted proxy", "https://a.example", trusted, "10.1.2.3:1", []string{forwarded, "192.0.2.1, 198.51.100.1"}, "198.51.100.1", "198.51.100.1/32"},
		{"forged in a line before", "https://a.example", trusted, "10.1.2.3:1", []string{forwarded, "192.0.2.1", forwarded, "198.51.100.1"}, "198.51.100.1", "198.51.100.1/32"},
		{"past the trusted proxy", "https://a.example", trusted, "203.0.113.7:1", []string{forwarded, "192.0.2.1"}, "203.0.113.7", "203.0.113.7/32"},
		{"a trusted proxy that doesn't tell", "https://a.example", trusted, "10.1.2.3:1", []string{"X-Real-Ip", "192.0.2.1"}, "10.1.2.3", ""},
		{"a trusted proxy that tells nonsense", "https://a.example", trusted, "10.1.2.3:1", []string{forwarded, "198.51.100.1:4711"}, "10.1.2.3", ""},
		{"no address", "http://a.example", nil, "@", nil, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := limited(t, 60, func(app *App) { app.BaseURL, app.Proxies = tt.baseURL, tt.proxies })
			if got := s.from(tt.peer, http.MethodGet, "/whoami", tt.headers...).Body.String(); got != tt.client {
				t.Errorf("ClientIP %q, want %q", got, tt.client)
			}
			s.from(tt.peer, http.MethodGet, "/sign-in", tt.headers...)
			want := []string{"rate:" + tt.counted}
			if tt.counted == "" {
				want = nil
			}
			if want != nil {
				want[0] = "rate:" + netip.MustParsePrefix(tt.counted).String()
			}
			if got := s.counted(); !slices.Equal(got, want) {
				t.Errorf("counted %q, want %q", got, want)
			}
		})
	}
}

// TestProxyFaults: what a request shows of wrong settings is said once.
func TestProxyFaults(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	for name, tt := range map[string]struct{ peer, header, value, want string }{
		"an unknown proxy": {"192.168.1.1:1", "X-Forwarded-For", "198.51.100.1", "TRUSTED_PROXIES"},
		"https outside":    {"10.1.2.3:1", "X-Forwarded-Proto", "https", "BASE_URL"},
		"a stranger":       {"203.0.113.7:1", "X-Forwarded-For", "198.51.100.1", ""},
		"http outside":     {"10.1.2.3:1", "X-Forwarded-Proto", "http", ""},
	} {
		s := limited(t, 60, func(app *App) { app.BaseURL, app.Proxies = "http://a.example", trusted })
		for range 3 {
			s.from(tt.peer, http.MethodGet, "/sign-in", tt.header, tt.value)
		}
		warnings := 0
		for line := range strings.Lines(s.log.text()) {
			if strings.Contains(line, `"level":"WARN"`) {
				warnings++
				if !strings.Contains(line, tt.want) {
					t.Errorf("%s: %s", name, line)
				}
			}
		}
		if (warnings == 1) != (tt.want != "") || warnings > 1 {
			t.Errorf("%s: %d warnings", name, warnings)
		}
	}
}

// TestLimit: the five addresses share one count for each client, and nothing else is counted.
func TestLimit(t *testing.T) {
	s := limited(t, 5)
	const client = "203.0.113.7:1"
	requests := [][2]string{{"GET", "/sign-in"}, {"GET", "/sign-up"}, {"GET", "/callback"}, {"POST", "/webhooks/logto"}, {"POST", "/backchannel-logout"}}
	for _, r := range requests {
		if w := s.from(client, r[0], r[1]); w.Code == http.StatusTooManyRequests {
			t.Errorf("%s is refused", r[1])
		}
	}
	for _, r := range requests {
		w := s.from(client, r[0], r[1], "Accept", "application/json")
		if w.Code != http.StatusTooManyRequests || !strings.HasPrefix(w.Body.String(), `{"error":"too_many","request_id":`) || w.Header().Get("Retry-After") != "12" {
			t.Errorf("%s: %d, Retry-After %q, %s", r[1], w.Code, w.Header().Get("Retry-After"), w.Body)
		}
	}
	for _, lang := range []string{"en", "th"} {
		text := s.app.Messages.Text(lang, "error.too_many.title")
		w := s.from(client, "GET", "/sign-in?return_to=/protected/sessions", "Accept", "text/html", "Accept-Language", lang)
		if w.Code != http.StatusTooManyRequests || !strings.Contains(w.Body.String(), text) || !strings.Contains(w.Body.String(), `href="/sign-in?return_to=/protected/sessions"`) {
			t.Errorf("in %s: %d %s", lang, w.Code, w.Body)
		}
	}
	for _, path := range []string{"/", "/healthz", "/sign-out", "/api/own"} {
		if w := s.from(client, "GET", path); w.Code == http.StatusTooManyRequests {
			t.Errorf("%s is counted", path)
		}
	}
	if w := s.from("203.0.113.8:1", "GET", "/sign-in"); w.Code != http.StatusSeeOther {
		t.Errorf("another client: %d", w.Code)
	}
	keys := s.counted()
	if len(keys) != 2 {
		t.Errorf("keys %q", keys)
	}
	for _, key := range keys {
		if ttl := s.redis.TTL(key); ttl <= 0 || ttl > time.Minute {
			t.Errorf("%s stays for %v", key, ttl)
		}
	}
}

// TestLimitWithoutRedis: nobody is refused.
func TestLimitWithoutRedis(t *testing.T) {
	s := limited(t, 1)
	s.redis.Close()
	for range 3 {
		if w := s.from("203.0.113.7:1", "GET", "/sign-in"); w.Code != http.StatusSeeOther {
			t.Errorf("%d", w.Code)
		}
	}
}

// TestNoLimit: then nothing is counted.
func TestNoLimit(t *testing.T) {
	s := limited(t, 1, func(app *App) { app.Limit = redis_rate.Limit{} })
	for range 3 {
		if w := s.from("203.0.113.7:1", "GET", "/sign-in"); w.Code != http.StatusSeeOther || len(s.counted()) != 0 {
			t.Errorf("%d, counted %q", w.Code, s.counted())
		}
	}
}

// TestRequestID: it is a trusted proxy's if that sends one, and ours else.
func TestRequestID(t *testing.T) {
	s := limited(t, 60, func(app *App) { app.Proxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} })
	for _, tt := range []struct {
		name, peer, id string
		kept           bool
	}{
		{"a trusted proxy's", "10.1.2.3:1", "4bf92f35-77b3_4da6.a3", true},
		{"a client's", "203.0.113.7:1", "4bf92f35-77b3", false},
		{"none", "10.1.2.3:1", "", false},
		{"with a line", "10.1.2.3:1", "a\nb", false},
		{"with a space", "10.1.2.3:1", "a b", false},
		{"too long", "10.1.2.3:1", strings.Repeat("a", 65), false},
	} {
		got := s.from(tt.peer, "GET", "/", "X-Request-Id", tt.id).Header().Get("X-Request-Id")
		if (got == tt.id) != tt.kept || got == "" {
			t.Errorf("%s: %q", tt.name, got)
		}
	}
}

// TestStopping: a server that is about to stop serves, and says so to machines.
func TestStopping(t *testing.T) {
	stopping := make(chan struct{})
	s := limited(t, 60, func(app *App) { app.Stopping = stopping })
	before := s.from("203.0.113.7:1", "GET", "/readyz")
	close(stopping)
	after, home := s.from("203.0.113.7:1", "GET", "/readyz"), s.from("203.0.113.7:1", "GET", "/")
	if before.Code != 200 || before.Header().Get("Connection") != "" {
		t.Errorf("before: %d %v", before.Code, before.Header())
	}
	if after.Code != 503 || after.Body.String() != `{"server":"stopping"}` || home.Code != 200 || home.Header().Get("Connection") != "close" {
		t.Errorf("then: %d %s; home %d %v", after.Code, after.Body, home.Code, home.Header())
	}
}
