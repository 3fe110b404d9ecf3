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

const signInLife = 10 * time.Minute

// 20 tabs of a fresh browser begin to sign in at once: all of their sign-ins work.
func TestManySignInsAtOnce(t *testing.T) {
	for _, secure := range []bool{false, true} {
		s, j := newSite(t, DefaultConfig(), Options{Secure: secure}), jar{}
		answers := make([]*httptest.ResponseRecorder, 20)
		var all sync.WaitGroup
		for i := range answers {
			all.Go(func() {
				b, w := j.load(t, s.Store)
				must(t, b.PutSignIn(t.Context(), fmt.Sprint("state", i), []byte(fmt.Sprint("value", i)), signInLife))
				answers[i] = w
			})
		}
		all.Wait()
		for _, w := range answers {
			j.keep(w)
		}
		if len(j) != 20 {
			t.Errorf("20 concurrent first requests got %d cookies", len(j))
		}
		for i := range answers {
			all.Go(func() {
				b, _ := j.load(t, s.Store)
				if got, err := b.TakeSignIn(t.Context(), fmt.Sprint("state", i)); string(got) != fmt.Sprint("value", i) || err != nil {
					t.Errorf("tab %d: %q, %v", i, got, err)
				}
				if got, err := b.TakeSignIn(t.Context(), fmt.Sprint("state", i)); got != nil || err != nil {
					t.Errorf("tab %d, again: %q, %v", i, got, err)
				}
			})
		}
		all.Wait()
	}
}

// What is abandoned costs the browser nothing that grows, and Redis no session.
func TestAbandonedSignIns(t *testing.T) {
	s, j := newSite(t, DefaultConfig(), Options{}), jar{}
	var first jar
	for i := range 100 {
		b, w := j.load(t, s.Store)
		must(t, b.PutSignIn(t.Context(), fmt.Sprint("state", i), []byte("value"), signInLife))
		must(t, b.PutSignIn(t.Context(), fmt.Sprint("other", i), []byte("value"), signInLife))
		if cookies := cookies(w); len(cookies) != 1 || cookies[0].MaxAge != 600 || !cookies[0].HttpOnly {
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
	for _, key := range s.redis.Keys() {
		if !strings.HasPrefix(key, "signin:") || s.redis.TTL(key) != signInLife {
			t.Errorf("%s lives %v", key, s.redis.TTL(key))
		}
	}
	b, _ := j.load(t, s.Store)
	for _, state := range []string{"state0", "other0", "state99"} {
		if got, err := b.TakeSignIn(t.Context(), state); string(got) != "value" || err != nil {
			t.Errorf("%s: %q, %v", state, got, err)
		}
	}
}

// A sign-in is its browser's: another one that knows the state gets nothing, and takes nothing away.
func TestSignInOfAnotherBrowser(t *testing.T) {
	s := newSite(t, DefaultConfig(), Options{Secure: true})
	put := func(j jar, state string) {
		b, w := j.load(t, s.Store)
		must(t, b.PutSignIn(t.Context(), state, []byte("value"), signInLife))
		j.keep(w)
	}
	mine, others := jar{}, jar{}
	put(mine, "state")
	put(others, "another state")
	thief := maps.Clone(others)
	for name, value := range mine { // the value under a name without the prefix, which anybody could have set
		thief[strings.TrimPrefix(name, "__Host-")] = value
	}
	name := slices.Collect(maps.Keys(mine))[0]
	thief[name] = others[slices.Collect(maps.Keys(others))[0]]
	for who, j := range map[string]jar{"another": others, "none": {}, "thief": thief} {
		b, _ := j.load(t, s.Store)
		if got, err := b.TakeSignIn(t.Context(), "state"); got != nil || err != nil {
			t.Errorf("%s: %q, %v", who, got, err)
		}
	}
	b, _ := mine.load(t, s.Store)
	for _, state := range []string{"", "stat", "state\x00", "another state"} {
		if got, err := b.TakeSignIn(t.Context(), state); got != nil || err != nil {
			t.Errorf("%q: %q, %v", state, got, err)
		}
	}
	if got, err := b.TakeSignIn(t.Context(), "state"); string(got) != "value" || err != nil {
		t.Errorf("its own: %q, %v", got, err)
	}
}

func TestSignInCookiesAreBounded(t *testing.T) {
	s, j := newSite(t, DefaultConfig(), Options{}), jar{}
	for i := range 1000 {
		j[fmt.Sprintf("signin-%08d", i)] = strings.Repeat("A", 43)
	}
	must(t, s.Ping(t.Context())) // the first command has a handshake before it
	b, _ := j.load(t, s.Store)
	sent := s.sent.during(func() {
		if got, err := b.TakeSignIn(t.Context(), "state"); got != nil || err != nil {
			t.Errorf("%q, %v", got, err)
		}
	})
	if sent != maxBindings {
		t.Errorf("1000 cookies cost %d commands", sent)
	}
	for name, value := range map[string]string{"signin-1": strings.Repeat("A", 43), "signin-12345678": "short", "signin-87654321": strings.Repeat("=", 43)} {
		b, _ := jar{name: value}.load(t, s.Store)
		if sent := s.sent.during(func() { _, _ = b.TakeSignIn(t.Context(), "state") }); sent != 0 {
			t.Errorf("%s=%s cost %d commands", name, value, sent)
		}
	}
}

func TestCorruptSignIn(t *testing.T) {
	s, j := newSite(t, DefaultConfig(), Options{}), jar{}
	b, w := j.load(t, s.Store)
	must(t, b.PutSignIn(t.Context(), "state", []byte("value"), signInLife))
	j.keep(w)
	must(t, s.redis.Set(s.redis.Keys()[0], "garbage"))
	b, _ = j.load(t, s.Store)
	if got, err := b.TakeSignIn(t.Context(), "state"); got != nil || err != nil || !strings.Contains(s.log.String(), "could not be opened") {
		t.Errorf("%q, %v; log: %s", got, err, s.log)
	}
}
