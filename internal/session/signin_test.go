package session

import (
	"fmt"
	"maps"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// seal begins a sign-in in a request of its own.
func (j jar) seal(t testing.TB, s *Store, value string) (state string) {
	t.Helper()
	j.do(t, s, func(b *Browser) { state, _ = b.SealSignIn([]byte(value)) })
	return state
}

// open returns what a state holds for this browser.
func (j jar) open(t testing.TB, s *Store, state string) string {
	t.Helper()
	b, _ := j.load(t, s)
	value, _ := b.OpenSignIn(state)
	return string(value)
}

// 20 tabs of a fresh browser begin to sign in at once: all of their sign-ins work, and Redis knows of none.
func TestManySignInsAtOnce(t *testing.T) {
	for _, secure := range []bool{false, true} {
		s, j := newSite(t, DefaultConfig(), Options{Secure: secure}), jar{}
		answers, states, secrets := make([]*httptest.ResponseRecorder, 20), make([]string, 20), make([]string, 20)
		sent := s.sent.during(func() {
			var all sync.WaitGroup
			for i := range answers {
				all.Go(func() {
					b, w := j.load(t, s.Store)
					state, secret := b.SealSignIn([]byte(fmt.Sprint("value", i)))
					answers[i], states[i], secrets[i] = w, state, string(secret)
				})
			}
			all.Wait()
		})
		for _, w := range answers {
			j.keep(w)
		}
		if len(j) != 20 {
			t.Errorf("20 concurrent first requests got %d cookies", len(j))
		}
		for i, state := range states {
			b, _ := j.load(t, s.Store)
			value, secret := b.OpenSignIn(state)
			if string(value) != fmt.Sprint("value", i) || string(secret) != secrets[i] || len(secret) != secretSize {
				t.Errorf("tab %d: %q", i, value)
			}
		}
		if len(slices.Compact(slices.Sorted(slices.Values(secrets)))) != 20 {
			t.Error("two sign-ins have the same secret")
		}
		if sent != 0 || len(s.redis.Keys()) != 0 {
			t.Errorf("%d commands, and Redis has %v", sent, s.redis.Keys())
		}
	}
}

// What is abandoned costs the browser nothing that grows, and Redis nothing at all.
func TestAbandonedSignIns(t *testing.T) {
	s, j := newSite(t, DefaultConfig(), Options{}), jar{}
	var first jar
	var states []string
	for range 100 {
		b, w := j.load(t, s.Store)
		for range 2 {
			state, _ := b.SealSignIn([]byte("value"))
			states = append(states, state)
		}
		if cookies := cookies(w); len(cookies) != 1 || cookies[0].MaxAge != 7200 || !cookies[0].HttpOnly {
			t.Fatalf("Set-Cookie: %v, want one, renewed", cookies)
		}
		j.keep(w)
		if first == nil {
			first = maps.Clone(j)
		}
	}
	if len(j) != 1 || !maps.Equal(j, first) {
		t.Errorf("after 100 sign-ins the browser has %d cookies", len(j))
	}
	if keys := s.redis.Keys(); len(keys) != 0 {
		t.Errorf("Redis has %v", keys)
	}
	for _, state := range states {
		if got := j.open(t, s.Store, state); got != "value" {
			t.Fatalf("a state opens as %q", got)
		}
	}
}

// A sign-in is its browser's: another one that knows the state gets nothing.
func TestSignInOfAnotherBrowser(t *testing.T) {
	s := newSite(t, DefaultConfig(), Options{Secure: true})
	mine, others := jar{}, jar{}
	state, foreign := mine.seal(t, s.Store, "value"), others.seal(t, s.Store, "another value")
	thief := maps.Clone(others)
	for name, value := range mine { // the value under a name without the prefix, which anybody could have set
		thief[strings.TrimPrefix(name, "__Host-")] = value
	}
	name := slices.Collect(maps.Keys(mine))[0]
	thief[name] = others[slices.Collect(maps.Keys(others))[0]]
	for who, j := range map[string]jar{"another": others, "none": {}, "thief": thief} {
		if got := j.open(t, s.Store, state); got != "" {
			t.Errorf("%s: %q", who, got)
		}
	}
	last := state[:len(state)-1]
	for _, odd := range []string{"", last, last + "\n", state + "=", " " + state, foreign, strings.Repeat("A", maxState+4)} {
		if got := mine.open(t, s.Store, odd); got != "" {
			t.Errorf("%q: %q", odd, got)
		}
	}
	if got := mine.open(t, s.Store, state); got != "value" {
		t.Errorf("its own: %q", got)
	}
}

func TestSignInCookiesAreBounded(t *testing.T) {
	s, j := newSite(t, DefaultConfig(), Options{}), jar{}
	state := j.seal(t, s.Store, "value")
	for i := range 1000 {
		j[fmt.Sprintf("signin-!%07d", i)] = strings.Repeat("A", 43) // sorts, and so comes, before the right one
	}
	b, _ := j.load(t, s.Store)
	if got := len(b.bindings()); got != maxBindings {
		t.Errorf("%d cookies are tried", got)
	}
	sent := s.sent.during(func() {
		if got, _ := b.OpenSignIn(state); got != nil {
			t.Errorf("%q", got)
		}
	})
	if sent != 0 {
		t.Errorf("1000 cookies cost %d commands", sent)
	}
	for name, value := range map[string]string{"signin-1": strings.Repeat("A", 43), "signin-12345678": "short", "signin-87654321": strings.Repeat("=", 43)} {
		b, _ := jar{name: value}.load(t, s.Store)
		if len(b.bindings()) != 0 {
			t.Errorf("%s=%s passes for a cookie of ours", name, value)
		}
	}
}

// A state is used once. The note lives as long as was asked for at least, and never for ever.
func TestUseSignIn(t *testing.T) {
	inBubble(t, DefaultConfig(), func(t *testing.T, s *site) {
		j := jar{}
		state := j.seal(t, s.Store, "value")
		use := func(life time.Duration) bool {
			b, _ := j.load(t, s.Store)
			first, err := b.UseSignIn(t.Context(), state, life)
			must(t, err)
			return first
		}
		if !use(time.Minute) || use(time.Minute) {
			t.Error("want true, then false")
		}
		if use(time.Hour); use(time.Minute) || s.redis.TTL(s.redis.Keys()[0]) != time.Hour {
			t.Errorf("the note lives %v, want the longest that was asked for", s.redis.TTL(s.redis.Keys()[0]))
		}
		time.Sleep(time.Hour)
		if !use(0) || len(s.redis.Keys()) != 1 {
			t.Error("the note outlives its time")
		}
		if time.Sleep(time.Second); len(s.redis.Keys()) != 0 {
			t.Errorf("left in Redis: %v", s.redis.Keys())
		}
	})
}
