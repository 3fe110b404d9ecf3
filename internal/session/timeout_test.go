package session

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

// inBubble runs a test in a bubble where time passes only while everybody waits, with a Redis whose clock is the
// bubble's, reached without a network.
func inBubble(t *testing.T, cfg Config, test func(t *testing.T, s *site)) {
	synctest.Test(t, func(t *testing.T) {
		s := &site{redis: miniredis.NewMiniRedis(), sent: &counter{}, log: &strings.Builder{}}
		s.redis.ClockTTL(true)
		s.rdb = bubbleClient(t, s.redis)
		s.rdb.AddHook(s.sent)
		s.Store = NewStore(s.rdb, cfg, Options{Log: slog.New(slog.NewTextHandler(s.log, nil))})
		test(t, s)
	})
}

func bubbleClient(t *testing.T, server *miniredis.Miniredis) redis.UniversalClient {
	rdb := redis.NewClient(&redis.Options{
		Addr:       "127.0.0.1:6379", // never dialled
		Dialer:     func(context.Context, string, string) (net.Conn, error) { return server.Dial() },
		MaxRetries: -1, DialerRetries: 1, ContextTimeoutEnabled: true, Protocol: 2, DisableIdentity: true,
	})
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

// in waits until so long after the bubble's beginning.
func in(began time.Time, d time.Duration) { time.Sleep(time.Until(began.Add(d))) }

func TestIdleTimeout(t *testing.T) {
	for _, tt := range []struct {
		name       string
		idle       time.Duration
		visits     []time.Duration // before which the person is signed in
		end, alive time.Duration
	}{
		{"unused, short", 10 * time.Second, nil, 10 * time.Second, 9999 * time.Millisecond},
		{"used, short", 10 * time.Second, []time.Duration{9 * time.Second, 17 * time.Second}, 27 * time.Second, 26999 * time.Millisecond},
		{"unused", 24 * time.Hour, nil, 24 * time.Hour, 24*time.Hour - time.Millisecond},
		{"used", 24 * time.Hour, []time.Duration{20 * time.Hour, 40 * time.Hour}, 64 * time.Hour, 64*time.Hour - time.Millisecond},
	} {
		for at, want := range map[time.Duration]string{tt.alive: "ada", tt.end: ""} {
			t.Run(tt.name, func(t *testing.T) {
				inBubble(t, Config{IdleTimeout: tt.idle, AbsoluteTimeout: 14 * 24 * time.Hour}, func(t *testing.T, s *site) {
					began, j := time.Now(), jar{}
					j.signIn(t, s.Store, "ada", "")
					for _, visit := range tt.visits {
						in(began, visit)
						if got := j.who(t, s.Store); got != "ada" {
							t.Fatalf("after %v, signed in as %q", visit, got)
						}
					}
					in(began, at)
					if got := j.who(t, s.Store); got != want {
						t.Errorf("after %v, signed in as %q, want %q", at, got, want)
					}
				})
			})
		}
	}
}

// Neither use nor saves extend a session past its absolute end.
func TestAbsoluteTimeout(t *testing.T) {
	for at, want := range map[time.Duration]string{119*time.Minute + 59*time.Second: "ada", 2 * time.Hour: ""} {
		inBubble(t, Config{IdleTimeout: time.Hour, AbsoluteTimeout: 2 * time.Hour}, func(t *testing.T, s *site) {
			began, j := time.Now(), jar{}
			j.signIn(t, s.Store, "ada", "")
			for time.Since(began) < at-10*time.Minute {
				time.Sleep(7 * time.Minute)
				must(t, j.values(t, s.Store, set("n", time.Since(began).String())))
				b, _ := j.load(t, s.Store)
				must(t, b.Update(t.Context(), func(i, tokens []byte) ([]byte, []byte, error) { return i, append(tokens, '.'), nil }))
			}
			in(began, at)
			if got := j.who(t, s.Store); got != want {
				t.Errorf("after %v, signed in as %q, want %q", at, got, want)
			}
			if want == "" && len(s.redis.Keys()) != 0 {
				t.Errorf("left in Redis: %v", s.redis.Keys())
			}
		})
	}
}

// The absolute end holds even if Redis should keep the session longer.
func TestAbsoluteTimeoutWithoutRedis(t *testing.T) {
	inBubble(t, Config{IdleTimeout: time.Hour, AbsoluteTimeout: time.Hour}, func(t *testing.T, s *site) {
		j, visitor := jar{}, jar{}
		j.signIn(t, s.Store, "ada", "")
		must(t, visitor.values(t, s.Store, set("k", "v")))
		must(t, s.rdb.Persist(t.Context(), find(j["sid"]).key()).Err())
		must(t, s.rdb.Persist(t.Context(), find(visitor["sid"]).key()).Err())
		time.Sleep(time.Hour)
		if got := j.who(t, s.Store); got != "" {
			t.Errorf("signed in as %q", got)
		}
		if got := visitor.get(t, s.Store, "k"); got != nil {
			t.Errorf("a visitor's value: %v", got)
		}
	})
}

func TestIdleTimeIsExtendedOnceAMinute(t *testing.T) {
	for _, tt := range []struct {
		idle   time.Duration
		visits time.Duration // between visits, for ten minutes
		want   int           // extensions
	}{
		{24 * time.Hour, time.Second, 10},
		{time.Hour, 59 * time.Second, 5},
		{time.Hour, 100 * time.Second, 6},
		{59 * time.Minute, 500 * time.Millisecond, 600},
	} {
		inBubble(t, Config{IdleTimeout: tt.idle, AbsoluteTimeout: 14 * 24 * time.Hour}, func(t *testing.T, s *site) {
			began, j := time.Now(), jar{}
			j.signIn(t, s.Store, "ada", "sid")
			got, before := 0, s.line(find(j["sid"]).key())
			for next := tt.visits; next <= 10*time.Minute; next += tt.visits {
				in(began, next)
				j.who(t, s.Store)
				if now := s.line(find(j["sid"]).key()); now != before {
					got, before = got+1, now
				}
			}
			if got != tt.want {
				t.Errorf("idle time-out %v, a visit each %v: extended %d times in 10 minutes, want %d", tt.idle, tt.visits, got, tt.want)
			}
		})
	}
}

// A session that its person's index does not hold is not believed, for nothing could end it from outside: with a maxmemory
// policy that evicts, a logout would answer 200 and the session live on.
func TestIndexIsEvicted(t *testing.T) {
	for name, evict := range map[string]func(s *site, person string){
		"evicted":       func(s *site, person string) { s.redis.Del(person) },
		"no sorted set": func(s *site, person string) { s.redis.Del(person); _ = s.redis.Set(person, "text") },
		"begun anew":    func(s *site, person string) { s.redis.Del(person); jar{}.signIn(t, s.Store, "ada", "") },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, DefaultConfig(), func(t *testing.T, s *site) {
				j, visitor := jar{}, jar{}
				j.signIn(t, s.Store, "ada", "")
				must(t, visitor.values(t, s.Store, set("k", "v")))
				evict(s, find(j["sid"]).person())
				time.Sleep(time.Minute) // until then it costs a command to know
				if got := j.who(t, s.Store); got != "" {
					t.Errorf("signed in as %q", got)
				}
				if visitor.get(t, s.Store, "k") != "v" {
					t.Error("a visitor is in no index, and lost their values")
				}
			})
		})
	}
}

// Instances whose clocks differ by minutes see the same session.
func TestClocksDiffer(t *testing.T) {
	inBubble(t, DefaultConfig(), func(t *testing.T, s *site) {
		for _, skew := range []time.Duration{-30 * time.Minute, 30 * time.Minute} {
			s.redis.SetTime(time.Now().Add(skew))
			j := jar{}
			j.signIn(t, s.Store, "ada", "")
			if got := j.who(t, s.Store); got != "ada" {
				t.Errorf("signed in as %q", got)
			}
			if ttl := s.redis.TTL(find(j["sid"]).key()); ttl != 24*time.Hour {
				t.Errorf("Redis keeps the session for %v", ttl)
			}
		}
	})
}

// The index forgets who didn't come back, and goes with its last member.
func TestIndexForgets(t *testing.T) {
	inBubble(t, Config{IdleTimeout: time.Hour, AbsoluteTimeout: 3 * time.Hour}, func(t *testing.T, s *site) {
		began, stays, leaves := time.Now(), jar{}, jar{}
		leaves.signIn(t, s.Store, "ada", "sid-1")
		stays.signIn(t, s.Store, "ada", "sid-2")
		person := find(stays["sid"]).person()
		for _, at := range []time.Duration{50 * time.Minute, 100 * time.Minute} {
			in(began, at)
			stays.who(t, s.Store)
		}
		b, _ := stays.load(t, s.Store)
		if all, err := b.Sessions(t.Context()); len(all) != 1 || err != nil {
			t.Errorf("Sessions = %v, %v; want one", all, err)
		}
		if members, _ := s.redis.ZMembers(person); len(members) != 1 {
			t.Errorf("the index has %v", members)
		}
		jar{}.signIn(t, s.Store, "ada", "")
		in(began, 170*time.Minute) // all but the last two are dead, and the last is an hour away from it
		stays.who(t, s.Store)
		jar{}.signIn(t, s.Store, "ada", "")
		if members, _ := s.redis.ZMembers(person); len(members) != 1 {
			t.Errorf("the index has %v, want the one that just began", members)
		}
		in(began, 170*time.Minute+3*time.Hour+time.Minute)
		if len(s.redis.Keys()) != 0 {
			t.Errorf("left in Redis: %v", s.redis.Keys())
		}
	})
}

// However many commands a request sends to a Redis that hangs, they wait two seconds together, and then hardly.
func TestPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c conn
		for i, limit := range []time.Duration{patience, patience, patience, shortPatience} {
			want := []time.Duration{patience, shortPatience, lastPatience, lastPatience}[i]
			began := time.Now()
			err := c.do(t.Context(), limit, "wait", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
			if took := time.Since(began); took != want || !errors.Is(err, ErrUnavailable) {
				t.Errorf("command %d: %v after %v, want %v", i, err, took, want)
			}
		}
	})
}
