//go:build unix

package e2e

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"example.com/logto-gin-starter/auth/authtest"
)

// fault reports whether it has answered in the application's place.
type fault func(redis *miniredis.Miniredis, w http.ResponseWriter, r *http.Request) bool

// each answers each nth request of a route.
func each(n int64, route string, answer http.HandlerFunc) fault {
	var asked atomic.Int64
	return func(_ *miniredis.Miniredis, w http.ResponseWriter, r *http.Request) bool {
		if r.Method+" "+r.URL.Path != route || asked.Add(1)%n != 0 {
			return false
		}
		answer(w, r)
		return true
	}
}

func say(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body) // to a test
	}
}

func redirect(to string) http.HandlerFunc {
	return http.RedirectHandler(to, http.StatusSeeOther).ServeHTTP
}

// setCookie answers with the session's cookie as it is, or without it, so that nothing else is wrong.
func setCookie(then http.HandlerFunc, life int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if cookie, err := r.Cookie("sid"); err == nil {
			http.SetCookie(w, &http.Cookie{Name: "sid", Value: cookie.Value, Path: "/", MaxAge: life})
		}
		w.Header().Set("Retry-After", "5")
		then(w, r)
	}
}

// A site that does what must never happen is found out, and a good one is not.
func TestCheck(t *testing.T) {
	t.Parallel()
	ended := []invariant{endedStaysEnded, overtakenStaysOut}
	for _, test := range []struct {
		name  string
		fault fault
		want  []invariant // one of them must be found to be violated, and no other
	}{
		{"none", nil, nil},
		{"another person's page", each(10, "GET /protected/sessions", say(200, personName(0)+personName(1))), append(ended, rightPerson)},
		{"a sign-out that ends nothing", each(1, "POST /sign-out", setCookie(redirect("/"), -1)), ended[:1]},
		{"a back-channel logout that ends nothing", each(1, "POST /backchannel-logout", say(200, "")), ended},
		{"a sign-out of all others that ends nothing", each(1, "POST /protected/sessions", redirect("/protected/sessions")), ended},
		{"a sign-in from before an end", forgetEnds, ended[1:]},
		{"a sign-in that nothing overtook", each(10, "GET /callback", say(400, "ended while you were signing in")), []invariant{noSignOut}},
		{"a page that asks to sign in", each(10, "GET /protected/sessions", redirect("/sign-in")), []invariant{noSignOut}},
		{"a home page that shows nobody", each(10, "GET /", say(200, "")), []invariant{noSignOut}},
		{"an outage that sets the session's cookie", each(10, "GET /", setCookie(say(503, ""), 0)), []invariant{outageIsOutage}},
		{"an outage without Retry-After", each(10, "GET /", say(503, "")), []invariant{outageIsOutage}},
		{"pages while Redis is away", nil, []invariant{outageIsOutage}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			redis := miniredis.RunT(t)
			c := newSpoiled(t, redis, test.fault)
			if test.want != nil && test.fault == nil { // of which the site notices nothing
				c.redis = &redisServer{outages: []outage{{told: time.Now(), from: time.Now()}}}
			}
			if test.want == nil || slices.Contains(test.want, overtakenStaysOut) { // an end must come in between
				c.pause = time.Second
			}
			violated := func() bool {
				return slices.ContainsFunc(test.want, func(i invariant) bool { return c.tally.add(string(i), 0) > 0 })
			}
			for round := 0; round == 0 || round < 10 && len(test.want) > 0 && !violated(); round++ { // what people do is chance
				parallel(len(c.users), len(c.users), func(i int) {
					for range 60 {
						c.users[i].act(t.Context())
					}
				})
			}
			c.leave(t.Context())
			if test.want == nil {
				c.tally.judge(lookAt(redis).look(t, &c.tally))
			}
			found := len(test.want) == 0
			for _, i := range invariants {
				if n := c.tally.counts[string(i)]; n > 0 && !slices.Contains(test.want, i) {
					t.Errorf("violated %d times: %s", n, i)
				} else if n > 0 {
					found = true
				}
			}
			if !found {
				t.Errorf("not found: %q", test.want)
			}
			t.Log(strings.Join(c.tally.notes, "\n"))
		})
	}
}

// forgetEnds lets sign-ins succeed that were overtaken.
func forgetEnds(redis *miniredis.Miniredis, _ http.ResponseWriter, r *http.Request) bool {
	for _, key := range redis.Keys() {
		if r.URL.Path == "/callback" && strings.HasPrefix(key, "ended:") {
			redis.Del(key)
		}
	}
	return false
}

// newSpoiled starts a site with a fault before it, and returns its crowd.
func newSpoiled(t *testing.T, redis *miniredis.Miniredis, spoil fault) *crowd {
	t.Helper()
	const browsers = 6
	address := freeAddress(t)
	app := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: address})
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if spoil == nil || !spoil(redis, w, r) {
			app.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(front.Close)
	s := newSiteBehind(t, front.URL, address, "redis://"+redis.Addr(), func(options *authtest.Options) { addPeople(options, browsers) })
	c := newCrowd(front.URL, s.logto, nil, browsers, 1)
	c.pause = 100 * time.Millisecond
	return c
}

// lookAt is for looking into a Redis that is not a process.
func lookAt(server *miniredis.Miniredis) *redisServer {
	return &redisServer{client: redis.NewClient(&redis.Options{Addr: server.Addr(), Protocol: 2, DisableIdentity: true})}
}

// A log line that holds a secret, a person or a panic is found out.
func TestCheckLog(t *testing.T) {
	for line, bad := range map[string]int{
		`{"level":"INFO","msg":"request","id":"ABCDEFGHIJKLMNOP","route":"/protected/sessions","status":200}`: 0,
		`{"error":"code rN2bT0vLQ8cJm5xWq3yZk7aHd1fGs9eUp4iOo6tRw_M"}`:                                        1,
		`{"error":"eyJhbGciOiJFUzM4NCIsInR5cCI6ImF0K2p3dCIsImtpZCI6Ing.e30.c2ln"}`:                            1,
		`{"who":"person-00017@example.com"}`:                                                                  1,
		`panic: runtime error: index out of range [1] with length 1`:                                          1,
	} {
		var count tally
		count.readLog(bytes.NewBufferString(line + "\n"))
		if n := count.counts[string(cleanLogs)]; n != bad {
			t.Errorf("%s: %d violations, want %d", line, n, bad)
		}
	}
}

// A key without a lifetime, and all that lives on after the sign-outs but marks and notes, is found out.
func TestCheckKeys(t *testing.T) {
	server := miniredis.RunT(t)
	for key, life := range map[string]time.Duration{
		"session:{x}:ended": 300 * time.Hour, "session:{x}:told": time.Hour, "session:{x}:alive": time.Hour, "session:{x}:odd": time.Hour,
		"ended:{x}": time.Hour, "ended:{y}": 2 * time.Hour, "once:1": time.Minute, "sid:1": time.Minute, "sid:2": 0, "sid:3": 25 * time.Hour,
		"lock:{x}:1": time.Second, "lock:{x}:2": time.Minute,
	} {
		_, id, _ := strings.Cut(key, "}:")
		switch id {
		case "":
			must(t, server.Set(key, "1"))
		case "odd":
			must(t, server.Set(key, "other 1 1 tokens"))
		case "ended":
			must(t, server.Set(key, "other 1 1"))
		case "told":
			must(t, server.Set(key, "other 1 0"))
		default:
			must(t, server.Set(key, "1 2 3"))
		}
		if life > 0 {
			server.SetTTL(key, life)
		}
	}
	var count tally
	left := lookAt(server).look(t, &count)
	count.judge(left)
	if count.counts[string(everyKeyEnds)] != 1 || count.counts[string(nothingLeft)] != 4 || left["session"].keys != 2 || left["sid"].keys != 3 {
		t.Errorf("%v; left: %v", count.counts, left)
	}
}
