package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"example.com/logto-gin-starter/auth/authtest"
	"example.com/logto-gin-starter/internal/config"
	"example.com/logto-gin-starter/internal/server"
)

// The program itself, for some seconds. What its table says of 3k and 7 is for a longer run to judge: .ci/run has one.
func TestLoad(t *testing.T) {
	if testing.Short() {
		t.Skip("left out: -short")
	}
	if _, err := exec.LookPath("redis-server"); err != nil && os.Getenv("CI") == "true" {
		t.Fatal("needs redis-server")
	} else if err != nil {
		t.Skip("left out: needs redis-server")
	}
	t.Setenv("TMPDIR", t.TempDir())
	var counts tally
	var out bytes.Buffer
	o := options{duration: 8 * time.Second, browsers: 30, instances: 2, seed: 1, killInstance: 2 * time.Second, killRedis: 4 * time.Second}
	if err := run(t.Context(), o, &counts, &out); err != nil && !errors.Is(err, errViolated) {
		t.Fatal(err)
	}
	for _, what := range []string{"instances killed", "Redis killed", "sign-ins", "refreshes", "sign-outs", "  tries to use them again",
		"503 while Redis was away", "keys looked at", "log lines read"} {
		if counts.counts[what] == 0 {
			t.Errorf("%s: none", what)
		}
	}
	for _, i := range []invariant{rightPerson, endedStaysEnded, noSignOut, everyKeyEnds, outageIsOutage, cleanLogs} {
		if counts.violations[i] > 0 {
			t.Errorf("violated: %s", i)
		}
	}
	if left, err := os.ReadDir(os.Getenv("TMPDIR")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	t.Log("\n" + out.String())
}

// A site that does what must never happen is found out, and a good one is not.
func TestCheck(t *testing.T) {
	for _, test := range []struct {
		name  string
		fault func(site *fakeSite, next http.Handler) http.Handler
		want  []invariant
	}{
		{"none", nil, nil},
		{"another person's page", (*fakeSite).swapPeople, []invariant{rightPerson}},
		{"a sign-out that ends nothing", (*fakeSite).forgetSignOuts, []invariant{endedStaysEnded}},
		{"a back-channel logout that ends nothing", (*fakeSite).forgetLogouts, []invariant{endedStaysEnded}},
		{"a sign-out of all others that ends nothing", (*fakeSite).forgetOthers, []invariant{endedStaysEnded}},
		{"a page that asks to sign in", (*fakeSite).askSometimes, []invariant{noSignOut}},
		{"a home page that shows nobody", (*fakeSite).showNobodySometimes, []invariant{noSignOut}},
		{"an outage that sets the session's cookie", (*fakeSite).failWithCookie, []invariant{outageIsOutage}},
		{"pages while Redis is away", (*fakeSite).loseRedis, []invariant{outageIsOutage}},
		{"an outage without Retry-After", (*fakeSite).failSilently, []invariant{outageIsOutage}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			violations := newFakeSite(t, test.fault).use(t)
			for _, i := range invariants {
				if found := violations[i] > 0; found != slices.Contains(test.want, i) {
					t.Errorf("violated %d times: %s", violations[i], i)
				}
			}
		})
	}
}

// fakeSite is the application, in this process, with a fault before it.
type fakeSite struct {
	crowd *crowd
	asked atomic.Int64
}

func newFakeSite(t *testing.T, fault func(*fakeSite, http.Handler) http.Handler) *fakeSite {
	t.Helper()
	redis := miniredis.RunT(t)
	var handler http.Handler
	front := serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler.ServeHTTP(w, r) }))
	t.Cleanup(front.Close)
	const browsers = 6
	logto, environ, err := startProvider(front.URL, peopleOf(browsers))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(logto.Close)
	cfg, err := config.Load(config.DefaultPath, append(environ, "LISTEN_ADDR=127.0.0.1:0", "REDIS_URL=redis://"+redis.Addr()))
	if err != nil {
		t.Fatal(err)
	}
	app, err := server.Listen(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() { _ = app.Serve(ctx) }) // ends with the test
	t.Cleanup(func() { stop(); serving.Wait() })
	handler = httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: app.Addr().String()})
	counts := &tally{}
	watch := newRefreshes(counts)
	logto.On(authtest.Token, watch.watch)
	site := &fakeSite{crowd: newCrowd(front.URL, logto, counts, watch, nil)}
	site.crowd.addBrowsers(browsers, 1)
	if fault != nil {
		handler = fault(site, handler)
	}
	return site
}

// use lets some browsers do 60 things each, without a pause.
func (s *fakeSite) use(t *testing.T) map[invariant]int {
	t.Helper()
	var all sync.WaitGroup
	for _, b := range s.crowd.browsers {
		all.Go(func() {
			for range 60 {
				b.act(t.Context())
			}
		})
	}
	all.Wait()
	s.crowd.leave(t.Context())
	for _, note := range s.crowd.tally.notes {
		t.Log(note)
	}
	return s.crowd.tally.violations
}

// instead answers some requests in another way; change returns whether it did.
func (s *fakeSite) instead(next http.Handler, change func(http.ResponseWriter, *http.Request) bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !change(w, r) {
			next.ServeHTTP(w, r)
		}
	})
}

func (s *fakeSite) every(n int64) bool { return s.asked.Add(1)%n == 0 }

func (s *fakeSite) swapPeople(next http.Handler) http.Handler {
	return s.instead(next, func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/protected/userinfo" || !s.every(10) {
			return false
		}
		answer := httptest.NewRecorder()
		r.Header.Del("Accept-Encoding")
		next.ServeHTTP(answer, r)
		swap := strings.NewReplacer(personName(0), personName(1), personName(1), personName(2), personName(2), personName(0))
		w.WriteHeader(answer.Code)
		_, _ = io.WriteString(w, swap.Replace(answer.Body.String()))
		return true
	})
}

func (s *fakeSite) forgetSignOuts(next http.Handler) http.Handler {
	return s.instead(next, func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPost || r.URL.Path != "/sign-out" {
			return false
		}
		http.SetCookie(w, &http.Cookie{Name: "sid", Path: "/", MaxAge: -1})
		http.Redirect(w, r, s.crowd.logto.Issuer+"/session/end?client_id=app", http.StatusSeeOther)
		return true
	})
}

func (s *fakeSite) forgetLogouts(next http.Handler) http.Handler {
	return s.instead(next, func(_ http.ResponseWriter, r *http.Request) bool { return r.URL.Path == "/backchannel-logout" })
}

func (s *fakeSite) forgetOthers(next http.Handler) http.Handler {
	return s.instead(next, func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPost || r.URL.Path != "/protected/sessions" {
			return false
		}
		http.Redirect(w, r, "/protected/sessions", http.StatusSeeOther)
		return true
	})
}

func (s *fakeSite) askSometimes(next http.Handler) http.Handler {
	return s.instead(next, func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/protected/tokens" || !s.every(10) {
			return false
		}
		http.Redirect(w, r, "/sign-in?return_to=%2Fprotected%2Ftokens", http.StatusSeeOther)
		return true
	})
}

func (s *fakeSite) showNobodySometimes(next http.Handler) http.Handler {
	return s.instead(next, func(_ http.ResponseWriter, r *http.Request) bool { return r.URL.Path == "/" && s.every(10) })
}

func (s *fakeSite) failWithCookie(next http.Handler) http.Handler {
	return s.instead(next, func(w http.ResponseWriter, r *http.Request) bool {
		cookie, err := r.Cookie("sid")
		if err != nil || r.URL.Path != "/" || !s.every(10) {
			return false
		}
		w.Header().Set("Retry-After", "5")
		http.SetCookie(w, &http.Cookie{Name: "sid", Value: cookie.Value, Path: "/"}) // the same, so that nothing else is wrong
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	})
}

// loseRedis claims an outage of which the site notices nothing.
func (s *fakeSite) loseRedis(next http.Handler) http.Handler {
	s.crowd.redis = &redisServer{outages: []outage{{killed: time.Now(), from: time.Now()}}}
	return next
}

func (s *fakeSite) failSilently(next http.Handler) http.Handler {
	return s.instead(next, func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/" || !s.every(10) {
			return false
		}
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	})
}

// A log line that holds a secret, a person or a panic is found out.
func TestLogWatch(t *testing.T) {
	for line, bad := range map[string]int{
		`{"level":"INFO","msg":"request","id":"ABCDEFGHIJKLMNOP","route":"/protected/userinfo","status":200}`: 0,
		`{"error":"code rN2bT0vLQ8cJm5xWq3yZk7aHd1fGs9eUp4iOo6tRw_M"}`:                                        1,
		`{"error":"eyJhbGciOiJFUzM4NCIsInR5cCI6ImF0K2p3dCIsImtpZCI6Ing.e30.c2ln"}`:                            1,
		`{"who":"person-00017@example.com"}`:                                                                  1,
		`panic: runtime error: index out of range [1] with length 1`:                                          1,
	} {
		var counts tally
		w := &logWatch{tally: &counts}
		for _, part := range []string{line[:20], line[20:] + "\n"} {
			_, _ = w.Write([]byte(part)) // it never fails
		}
		if counts.violations[cleanLogs] != bad {
			t.Errorf("%s: %d violations, want %d", line, counts.violations[cleanLogs], bad)
		}
	}
}

// A key without a lifetime, and one that lives long after all sign-outs, are found out.
func TestKeys(t *testing.T) {
	redis := miniredis.RunT(t)
	for key, life := range map[string]time.Duration{"once:1": time.Minute, "sid:1": 24 * time.Hour, "sid:2": 0} {
		if err := redis.Set(key, "x"); err != nil {
			t.Fatal(err)
		}
		if life > 0 {
			redis.SetTTL(key, life)
		}
	}
	var counts tally
	r := newRedis(t.TempDir())
	r.client.Options().Addr = redis.Addr()
	defer r.close()
	left, err := r.look(t.Context(), &counts)
	if err != nil {
		t.Fatal(err)
	}
	if err := counts.print(io.Discard, left); !errors.Is(err, errViolated) || counts.violations[everyKeyEnds] != 1 || counts.violations[nothingLeft] != 1 {
		t.Errorf("%v, %v", err, counts.violations)
	}
}
