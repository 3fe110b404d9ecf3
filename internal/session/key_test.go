package session

import (
	"context"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
)

// withKeys is the same site with other keys, as after a restart.
func (s *site) withKeys(keys ...string) *Store {
	cfg := s.cfg
	cfg.Key = Secret(strings.Join(keys, " "))
	return NewStore(s.rdb, cfg, Options{Log: slog.New(slog.NewTextHandler(s.log, nil))})
}

// Who can write to Redis, and has a cookie of their own, stays who they are: what they seal with their cookie alone does not
// open. Without a server's key it would.
func TestForgery(t *testing.T) {
	for _, key := range []string{"", NewKey()} {
		s, j := newSite(t, DefaultConfig(), Options{}), jar{}
		store := s.withKeys(key)
		j.signIn(t, store, "mallory", "")
		attacker := find(j["sid"]) // derives from the cookie alone
		forged := person{begun: time.Now(), subject: "ada", identity: []byte("identity of ada")}
		s.corrupt(store.find(j["sid"]).key(), "", func(r *record) { r.identity = attacker.seal("h", forged.marshal()) })
		want := ""
		if key == "" {
			want = "ada" // which is why there is a warning
		}
		if got := j.who(t, store); got != want {
			t.Errorf("with the key %q, signed in as %q, want %q", key, got, want)
		}
		// Nor is a sign-in sealed by that browser's cookie alone.
		state := j.seal(t, s.Store, "value")
		if got := j.open(t, store, state); (got == "") != (key != "") {
			t.Errorf("with the key %q, a forged state opens as %q", key, got)
		}
	}
}

// The times in Redis can end a session sooner, not later.
func TestForgedTimes(t *testing.T) {
	inBubble(t, DefaultConfig(), func(t *testing.T, s *site) {
		j := jar{}
		j.signIn(t, s.Store, "ada", "")
		key := find(j["sid"]).key()
		forge := func() {
			m := strings.Split(s.line(key), " ")
			m[1], m[2], m[3] = "9999999999999", "9999999999999", "9999999999999"
			s.corrupt(key, strings.Join(m, " "), nil)
			must(t, s.rdb.Persist(t.Context(), key).Err())
			must(t, s.rdb.Persist(t.Context(), find(j["sid"]).person()).Err())
		}
		for range 14 {
			forge()
			time.Sleep(23 * time.Hour)
		}
		if got := j.who(t, s.Store); got != "ada" {
			t.Fatalf("before its end, signed in as %q", got)
		}
		forge()
		time.Sleep(DefaultConfig().AbsoluteTimeout - 14*23*time.Hour + time.Hour)
		if got := j.who(t, s.Store); got != "" {
			t.Errorf("after its end, signed in as %q", got)
		}
	})
}

// A copy of Redis does not tell whether a person whose subject one knows is signed in: with a key, the tag is salted.
func TestTagIsSalted(t *testing.T) {
	s := newSite(t, DefaultConfig(), Options{})
	for _, key := range []string{"", NewKey()} {
		s.redis.FlushAll()
		jar{}.signIn(t, s.withKeys(key), "ada", "")
		if found := slices.Contains(s.redis.Keys(), personKey(hash("person", "ada"))); found != (key == "") {
			t.Errorf("with the key %q, found is %v: %v", key, found, s.redis.Keys())
		}
	}
}

// While the old key is listed nobody is signed out, a page costs one command, and every end reaches the sessions of both
// times. Without it, they are over.
func TestKeyRotation(t *testing.T) {
	old, new := NewKey(), NewKey()
	s := newSite(t, DefaultConfig(), Options{})
	before, rotated, after := s.withKeys(old), s.withKeys(new, old), s.withKeys(new)
	signedIn := func(store *Store, jars ...jar) (who []string) {
		for _, j := range jars {
			who = append(who, j.who(t, store))
		}
		return who
	}
	one, two := jar{}, jar{}
	fresh := func() []jar {
		one, two = jar{}, jar{}
		one.signIn(t, before, "ada", "sid 1")
		two.signIn(t, rotated, "ada", "sid 2")
		return []jar{one, two}
	}
	jars := fresh()
	state := one.seal(t, before, "value")
	if got := s.sent.during(func() { signedIn(rotated, jars...) }); got != 2 {
		t.Errorf("two pages cost %d commands", got)
	}
	if got := signedIn(rotated, jars...); !slices.Equal(got, []string{"ada", "ada"}) {
		t.Errorf("with both keys, signed in: %q", got)
	}
	if got := one.open(t, rotated, state); got != "value" {
		t.Errorf("a sign-in from before opens as %q", got)
	}
	if got := signedIn(after, jars...); !slices.Equal(got, []string{"", "ada"}) {
		t.Errorf("without the old key, signed in: %q", got)
	}
	// A save seals with the new one, but the place is the old one's.
	b, _ := one.load(t, rotated)
	must(t, b.Update(t.Context(), func(i, tokens []byte) ([]byte, []byte, error) { return append(i, '!'), append(tokens, '!'), nil }))
	if got := signedIn(rotated, one); got[0] != "ada!" {
		t.Errorf("after a save, signed in as %q", got)
	}

	for name, tt := range map[string]struct {
		end  func(b *Browser) (int, error)
		want []string
	}{
		"logout":      {func(*Browser) (int, error) { return rotated.EndBy(t.Context(), "ada", "") }, []string{"", ""}},
		"by old sid":  {func(*Browser) (int, error) { return rotated.EndBy(t.Context(), "", "sid 1") }, []string{"", "ada"}},
		"by sub, sid": {func(*Browser) (int, error) { return rotated.EndBy(t.Context(), "ada", "sid 1") }, []string{"", "ada"}},
		"other ones":  {func(b *Browser) (int, error) { return b.EndOthers(t.Context()) }, []string{"", "ada"}},
		"another one": {func(b *Browser) (int, error) { return endOther(t, b) }, []string{"", "ada"}},
		"by event": {func(*Browser) (int, error) {
			return rotated.EndBefore(t.Context(), "ada", time.Now().Add(time.Second), true)
		}, []string{"", ""}},
		"only the due": {func(*Browser) (int, error) { return rotated.MarkDue(t.Context(), "ada") }, []string{"ada", "ada"}},
	} {
		t.Run(name, func(t *testing.T) {
			s.redis.FlushAll()
			jars := fresh()
			b, _ := two.load(t, rotated)
			if all, err := b.Sessions(t.Context()); len(all) != 2 || err != nil || !all[0].Current {
				t.Errorf("Sessions = %v, %v", all, err)
			}
			n, err := tt.end(b)
			if got := signedIn(rotated, jars...); err != nil || !slices.Equal(got, tt.want) {
				t.Errorf("%d, %v; signed in %q, want %q", n, err, got, tt.want)
			}
		})
	}

	// An end by an instance that does not have the new key yet counts for sign-ins from before, wherever they finish.
	s.redis.FlushAll()
	_, err := before.EndBy(t.Context(), "ada", "")
	must(t, err)
	b, _ = jar{}.load(t, rotated)
	if started, err := b.Start(t.Context(), "ada", "sid", time.Now().Add(-time.Minute), []byte("i"), []byte("t")); started || err != nil {
		t.Errorf("Start = %v, %v", started, err)
	}
}

func endOther(t *testing.T, b *Browser) (int, error) {
	all, err := b.Sessions(t.Context())
	must(t, err)
	was, err := b.EndOther(t.Context(), all[1].ID)
	if !was {
		t.Error("there was none to end")
	}
	return 1, err
}

// What a page costs with keys beside one without.
func BenchmarkKeys(b *testing.B) {
	s := open(b, "redis://"+startRedis(b).addr(), DefaultConfig())
	one, two := NewKey(), NewKey()
	for name, store := range map[string]*Store{"none": s.Store, "one": s.withKeys(one), "two": s.withKeys(two, one)} {
		j := jar{}
		j.signIn(b, store, "ada", "")
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := store.Browser(httptest.NewRecorder(), j.request(context.Background())); err != nil {
					b.Error(err)
				}
			}
		})
	}
}

// A session of the old key's time is saved once by the new key, as every revalidation does; then the old key is left out, as after
// it leaked. The session is over, for nothing from outside would reach it.
func TestSavedSessionEndsWithItsKey(t *testing.T) {
	old, new := NewKey(), NewKey()
	s, j := newSite(t, DefaultConfig(), Options{}), jar{}
	before, rotated, after := s.withKeys(old), s.withKeys(new, old), s.withKeys(new)
	j.signIn(t, before, "ada", "sid 1")
	b, _ := j.load(t, rotated)
	must(t, b.Update(t.Context(), func(i, tokens []byte) ([]byte, []byte, error) { return append(i, '!'), append(tokens, '!'), nil }))
	if got := j.who(t, after); got != "" {
		t.Errorf("without the old key, signed in as %q", got)
	}
	for name, end := range map[string]func() (int, error){
		"back channel": func() (int, error) { return after.EndBy(t.Context(), "ada", "") },
		"webhook":      func() (int, error) { return after.EndBefore(t.Context(), "ada", time.Now(), true) },
		"due":          func() (int, error) { return after.MarkDue(t.Context(), "ada") },
		"end others": func() (int, error) {
			other := jar{}
			other.signIn(t, after, "ada", "")
			b, _ := other.load(t, after)
			return b.EndOthers(t.Context())
		},
	} {
		n, err := end()
		must(t, err)
		if got := j.who(t, after); got != "" {
			t.Errorf("%s: ended %d, still signed in as %q", name, n, got)
		}
	}
}

// A key depends on all that it is made from.
func TestDerive(t *testing.T) {
	seen := map[string]bool{}
	for _, key := range []string{"", "key one", "key two"} {
		for _, secret := range []string{"secret one", "secret two"} {
			for _, purpose := range []string{"session", "sign-in"} {
				var server []byte
				if key != "" {
					server = []byte(key)
				}
				derived := derive(server, []byte(secret), purpose)
				if seen[string(derived)] || len(derived) != secretSize {
					t.Errorf("%q, %q, %q: %x", key, secret, purpose, derived)
				}
				seen[string(derived)] = true
			}
		}
	}
}

// What prints a Store does not print SESSION_KEY, and a Browser nothing that a handler keeps.
func TestNothingIsPrinted(t *testing.T) {
	key := NewKey()
	cfg := DefaultConfig()
	cfg.Key = Secret(key)
	s, j := newSite(t, cfg, Options{}), jar{}
	if text, raw := fmt.Sprintf("%v", s.Store), fmt.Sprint(decodeText(key, secretSize)); strings.Contains(text, raw) {
		t.Error("a printed Store shows the key")
	}
	j.signIn(t, s.Store, "ada", "")
	must(t, j.values(t, s.Store, set("k", "my secret")))
	r := j.request(t.Context())
	_, err := s.Get(r, "sid")
	must(t, err)
	b, err := s.Browser(httptest.NewRecorder(), r)
	must(t, err)
	if raw := strings.Trim(fmt.Sprint(b.base), "[]"); strings.Contains(fmt.Sprint(b), raw) {
		t.Error("a printed Browser shows the values")
	}
}
