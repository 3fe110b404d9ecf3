package session

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// What ends a session from outside leaves a mark, which its browser is told of once; its own sign-out leaves nothing to tell.
func TestEnding(t *testing.T) {
	for name, tt := range map[string]struct {
		end func(t *testing.T, s *site, j, other jar)
		why Why // "": nothing to tell
	}{
		"its own sign-out": {func(t *testing.T, s *site, j, _ jar) {
			b, _ := j.load(t, s.Store)
			must(t, b.End(t.Context()))
		}, ""},
		"replaced": {func(t *testing.T, s *site, j, _ jar) { maps.Clone(j).signIn(t, s.Store, "ada", "") }, ""},
		"another browser": {func(t *testing.T, s *site, _, other jar) {
			b, _ := other.load(t, s.Store)
			_, err := b.EndOthers(t.Context())
			must(t, err)
		}, ByOther},
		"the provider": {func(t *testing.T, s *site, _, _ jar) {
			_, err := s.EndBy(t.Context(), "ada", "")
			must(t, err)
		}, ByLogout},
		"the account": {func(t *testing.T, s *site, _, _ jar) {
			_, err := s.EndBefore(t.Context(), "ada", time.Now(), true)
			must(t, err)
		}, ByAccount},
		"the grant": {func(t *testing.T, s *site, j, _ jar) {
			b, w := j.load(t, s.Store)
			must(t, b.EndDead(t.Context()))
			if b.Ending() == nil || len(cookies(w)) > 0 {
				t.Errorf("in the same request, Ending = %v, cookies %v", b.Ending(), cookies(w))
			}
		}, ByGrant},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, DefaultConfig(), func(t *testing.T, s *site) {
				j, other := jar{}, jar{}
				j.signIn(t, s.Store, "ada", "sid")
				other.signIn(t, s.Store, "ada", "")
				time.Sleep(time.Hour)
				tt.end(t, s, j, other)
				ended := time.Now().Truncate(time.Second)
				if got := j.who(t, s.Store); got != "" {
					t.Errorf("signed in as %q", got)
				}
				for i := range 2 {
					b, _ := j.load(t, s.Store)
					got := b.Ending()
					switch {
					case tt.why == "" && got != nil, tt.why != "" && (got == nil || got.Why != tt.why || !got.At.Equal(ended)):
						t.Errorf("Ending = %v, want %q", got, tt.why)
					}
					if told := b.Tell(t.Context()); told != (tt.why != "" && i == 0) {
						t.Errorf("time %d: Tell = %v", i, told)
					}
				}
				// Nobody can save in its place, and a mark is small.
				if err := j.values(t, s.Store, set("k", "v")); !errors.Is(err, ErrEnded) {
					t.Errorf("Save = %v", err)
				}
				key := find(j["sid"]).key()
				if mark := s.value(key); !isMark(mark) || len(mark) > 28 {
					t.Errorf("mark %q", mark)
				}
				want := DefaultConfig().AbsoluteTimeout - time.Hour
				if tt.why == "" {
					want = 5 * time.Minute
				}
				if ttl := s.redis.TTL(key); ttl != want {
					t.Errorf("the mark lives %v, want %v", ttl, want)
				}
				j.signIn(t, s.Store, "ada", "")
				if b, _ := j.load(t, s.Store); b.Ending() != nil || j.who(t, s.Store) != "ada" {
					t.Error("who signs in again is still told of it")
				}
			})
		})
	}
}

// A mark has less than 150 bytes in Redis.
func TestBytesPerMark(t *testing.T) {
	s, j := open(t, "redis://"+startRedis(t).addr(), DefaultConfig()), jar{}
	j.signIn(t, s.Store, "ada", "sid")
	_, err := s.EndBy(t.Context(), "ada", "")
	must(t, err)
	b, _ := j.load(t, s.Store)
	b.Tell(t.Context())
	for _, key := range s.rdb.Keys(t.Context(), "*").Val() {
		size := s.rdb.MemoryUsage(t.Context(), key).Val()
		t.Logf("%s has %d bytes", key, size)
		if size >= 150 {
			t.Errorf("%s has %d bytes", key, size)
		}
	}
}

// A sign-in that began before an end from outside starts no session, and sets no cookie, until the end is too long ago for any.
func TestOvertaken(t *testing.T) {
	for name, end := range map[string]func(ctx context.Context, s *site) (int, error){
		"subject":         func(ctx context.Context, s *site) (int, error) { return s.EndBy(ctx, "ada", "") },
		"subject and sid": func(ctx context.Context, s *site) (int, error) { return s.EndBy(ctx, "ada", "sid") },
		"sid":             func(ctx context.Context, s *site) (int, error) { return s.EndBy(ctx, "", "sid") },
		"account":         func(ctx context.Context, s *site) (int, error) { return s.EndBefore(ctx, "ada", time.Now(), true) },
	} {
		for _, hadSession := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, had a session %v", name, hadSession), func(t *testing.T) {
				inBubble(t, DefaultConfig(), func(t *testing.T, s *site) {
					if hadSession {
						jar{}.signIn(t, s.Store, "ada", "sid")
					}
					start := func(began time.Time, subject, sid string) bool {
						b, w := jar{}.load(t, s.Store)
						started, err := b.Start(t.Context(), subject, sid, began, []byte("i"), []byte("t"))
						must(t, err)
						if (len(cookies(w)) > 0) != started {
							t.Errorf("started is %v, cookies %v", started, cookies(w))
						}
						return started
					}
					began := time.Now()
					time.Sleep(10 * time.Second)
					_, err := end(t.Context(), s)
					must(t, err)
					if start(began, "ada", "sid") || start(time.Now().Add(-time.Millisecond), "ada", "sid") {
						t.Error("a sign-in from before the end started a session")
					}
					if left := s.sid("sid"); hadSession != slices.ContainsFunc(left, isID) {
						t.Errorf("the index has %v", left)
					}
					if !start(began, "bob", "another") || !start(time.Now(), "ada", "sid") {
						t.Error("another's sign-in, or one from after the end, started none")
					}
					if narrow := strings.Contains(name, "sid"); start(began, "ada", "another") != narrow {
						t.Errorf("one with another sid: want %v", narrow)
					}
					time.Sleep(markLife)
					for _, key := range s.redis.Keys() {
						if strings.HasPrefix(key, "ended:") {
							t.Errorf("%s is left", key)
						}
					}
				})
			})
		}
	}
}

// What a provider's clock dates into the future ends what is there, and not what comes.
func TestEndBeforeTheFuture(t *testing.T) {
	s, j := newSite(t, DefaultConfig(), Options{}), jar{}
	j.signIn(t, s.Store, "ada", "")
	time.Sleep(2 * time.Millisecond)
	n, err := s.EndBefore(t.Context(), "ada", time.Now().Add(time.Hour), true)
	must(t, err)
	time.Sleep(2 * time.Millisecond)
	if j.signIn(t, s.Store, "ada", ""); n != 1 || j.who(t, s.Store) != "ada" {
		t.Errorf("ended %d, and the next sign-in started no session", n)
	}
}

// An event about an account ends what began before it, and no more: told twice, or late, it harms nobody who has signed in since.
func TestEndBefore(t *testing.T) {
	inBubble(t, DefaultConfig(), func(t *testing.T, s *site) {
		before, after := jar{}, jar{}
		before.signIn(t, s.Store, "ada", "")
		time.Sleep(time.Minute)
		event := time.Now()
		time.Sleep(time.Minute)
		after.signIn(t, s.Store, "ada", "")
		for _, want := range []int{1, 0} {
			if n, err := s.EndBefore(t.Context(), "ada", event, true); n != want || err != nil {
				t.Errorf("EndBefore = %d, %v; want %d", n, err, want)
			}
		}
		if before.who(t, s.Store) != "" || after.who(t, s.Store) != "ada" {
			t.Error("the wrong one has ended")
		}
		// An older event that comes later does not take back what a newer one forbids.
		_, err := s.EndBefore(t.Context(), "ada", event.Add(-time.Hour), true)
		must(t, err)
		b, _ := jar{}.load(t, s.Store)
		if started, err := b.Start(t.Context(), "ada", "", event.Add(-time.Second), nil, nil); started || err != nil {
			t.Errorf("Start = %v, %v", started, err)
		}
	})
}

// MarkDue is seen by each of the person's sessions until its identity was saved under a lock that was taken after it.
func TestMarkDue(t *testing.T) {
	s, one, two, bob := newSite(t, DefaultConfig(), Options{}), jar{}, jar{}, jar{}
	one.signIn(t, s.Store, "ada", "")
	two.signIn(t, s.Store, "ada", "")
	bob.signIn(t, s.Store, "bob", "")
	isDue := func(j jar) bool { b, _ := j.load(t, s.Store); return b.IsDue() }
	markDue := func() {
		t.Helper()
		if n, err := s.MarkDue(t.Context(), "ada"); n != 2 || err != nil {
			t.Errorf("MarkDue = %d, %v", n, err)
		}
	}
	save := func(mark string, meanwhile func()) *Browser {
		b, _ := one.load(t, s.Store)
		held, release, err := b.TryLock(t.Context(), time.Minute)
		if err != nil || held == nil {
			t.Fatalf("TryLock: %v, %v", held, err)
		}
		defer release()
		meanwhile()
		must(t, b.Update(held, func(i, tokens []byte) ([]byte, []byte, error) { return append(i, mark...), tokens, nil }))
		return b
	}
	if isDue(one) || isDue(bob) {
		t.Error("due at once")
	}
	markDue()
	if !isDue(one) || !isDue(two) || isDue(bob) {
		t.Error("not due, or somebody else is")
	}
	if b := save("1", func() {}); isDue(one) || b.IsDue() || !isDue(two) {
		t.Error("still due, or the other session is not")
	}
	markDue()
	if save("2", markDue); !isDue(one) { // again while it was being asked
		t.Error("a reason that came in between was lost")
	}
}

// Of all that try, one gets the lock, and the next one after the pause; who does not get it does not wait.
func TestTryLock(t *testing.T) {
	inBubble(t, DefaultConfig(), func(t *testing.T, s *site) {
		j := jar{}
		j.signIn(t, s.Store, "ada", "")
		got := 0
		try := func(instance *Store) {
			b, _ := j.load(t, instance)
			began := time.Now()
			held, release, err := b.TryLock(t.Context(), 10*time.Second)
			if err != nil || time.Since(began) > 0 {
				t.Errorf("TryLock: %v after %v", err, time.Since(began))
			}
			if held != nil {
				got++
				time.Sleep(time.Second)
				release()
			}
		}
		other := s.another(t)
		for began := time.Now(); time.Since(began) < 29*time.Second; time.Sleep(time.Second) {
			try(s.Store)
			try(other)
		}
		if got != 3 {
			t.Errorf("got it %d times in half a minute", got)
		}
		b, _ := j.load(t, s.Store)
		_, release, err := b.Lock(t.Context())
		must(t, err)
		time.Sleep(time.Minute)
		for _, instance := range []*Store{s.Store, other} {
			waiting, _ := j.load(t, instance)
			if held, _, err := waiting.TryLock(t.Context(), time.Second); held != nil || err != nil {
				t.Errorf("beside a holder: %v, %v", held, err)
			}
		}
		release()
		if n := s.turnsTaken(); n != 0 {
			t.Errorf("%d turns are left", n)
		}
	})
}

// sid returns what the index leads to from a provider's session ID: tags, and "ended" for the mark of an end.
func (s *site) sid(sid string) (found []string) {
	hashed := hashSID(sid)
	members, _ := s.redis.ZMembers(sidKey(hashed))
	for _, member := range members {
		if what, ok := strings.CutPrefix(member, hashed[sidBucket:]); ok {
			found = append(found, what)
		}
	}
	return found
}

// What Redis keeps of a provider's session ID lives as long as the session, and is forgotten soon after it is not used any more.
func TestSIDEndsWithTheSession(t *testing.T) {
	inBubble(t, DefaultConfig(), func(t *testing.T, s *site) {
		j := jar{}
		j.signIn(t, s.Store, "ada", "sid")
		for range 10 {
			time.Sleep(20 * time.Hour)
			if j.who(t, s.Store) != "ada" || len(s.sid("sid")) != 1 {
				t.Errorf("at a visit: %v", s.sid("sid"))
			}
		}
		time.Sleep(24*time.Hour + sidMargin)
		if s.redis.Exists(sidKey(hashSID("sid"))) {
			t.Errorf("left: %v", s.sid("sid"))
		}
	})
}

// One key is for several session IDs: each leads to its own person, and forgets itself.
func TestSIDsShareAKey(t *testing.T) {
	inBubble(t, DefaultConfig(), func(t *testing.T, s *site) {
		first, second := "sid 0", ""
		for i := 1; second == ""; i++ {
			if sid := fmt.Sprint("sid ", i); sidKey(hashSID(sid)) == sidKey(hashSID(first)) {
				second = sid
			}
		}
		ada, bob := jar{}, jar{}
		ada.signIn(t, s.Store, "ada", first)
		time.Sleep(20 * time.Hour)
		bob.signIn(t, s.Store, "bob", second)
		if n, err := s.EndBy(t.Context(), "", second); n != 1 || err != nil {
			t.Errorf("EndBy = %d, %v", n, err)
		}
		if got := ada.who(t, s.Store) + bob.who(t, s.Store); got != "ada" {
			t.Errorf("signed in after the end of bob's: %q", got)
		}
		time.Sleep(23 * time.Hour)
		ada.who(t, s.Store)
		time.Sleep(2 * time.Hour)
		carol := jar{}
		carol.signIn(t, s.Store, "carol", second) // bob's is past
		if got := s.sid(second); len(got) != 1 || !isID(got[0]) {
			t.Errorf("left: %v", got)
		}
		if n, err := s.EndBy(t.Context(), "", first); n != 1 || err != nil {
			t.Errorf("EndBy = %d, %v", n, err)
		}
	})
}

// In its last millisecond a session is not made to live for ever.
func TestLastMillisecond(t *testing.T) {
	s := open(t, "redis://"+startRedis(t).addr(), DefaultConfig())
	for i := range 20 {
		who, j := fmt.Sprint("person", i), jar{}
		j.signIn(t, s.Store, who, "")
		key := find(j["sid"]).key()
		must(t, s.rdb.PExpire(t.Context(), key, 2*time.Millisecond).Err())
		for range 50 { // each of which may give it another one
			_, err := s.MarkDue(t.Context(), who)
			must(t, err)
			if s.rdb.PTTL(t.Context(), key).Val() == -1 {
				t.Fatal("it lives for ever")
			}
		}
	}
}

// Two sessions of one provider's session end with it, also when one of them has ended before.
func TestSIDOfSeveral(t *testing.T) {
	s, one, two, three := newSite(t, DefaultConfig(), Options{}), jar{}, jar{}, jar{}
	for _, j := range []jar{one, two, three, three} {
		j.signIn(t, s.Store, "ada", "sid")
	}
	one.do(t, s.Store, func(b *Browser) { must(t, b.End(t.Context())) })
	if n, err := s.EndBy(t.Context(), "", "sid"); n != 2 || err != nil {
		t.Errorf("EndBy = %d, %v", n, err)
	}
}

// A grant may turn out to be dead when the page has long gone on: what its handler reads is left alone, and what it saves is
// refused.
func TestEndDeadLeavesTheHandlerAlone(t *testing.T) {
	s, j := newSite(t, DefaultConfig(), Options{}), jar{}
	j.signIn(t, s.Store, "ada", "")
	must(t, j.values(t, s.Store, set("k", "v")))
	r := j.request(t.Context())
	b, err := s.Browser(httptest.NewRecorder(), r)
	must(t, err)
	session, err := s.Get(r, "sid")
	must(t, err)
	var late sync.WaitGroup
	late.Go(func() { must(t, b.EndDead(t.Context())) })
	for i := range 1000 {
		session.Values["n"] = i
	}
	late.Wait()
	if session.Values["k"] != "v" {
		t.Error("the handler's values are gone")
	}
	if err := s.Save(r, httptest.NewRecorder(), session); !errors.Is(err, ErrEnded) {
		t.Errorf("Save = %v", err)
	}
}

// Under the lock of a session, EndDead ends that one and no other.
func TestEndDeadOfAnotherSession(t *testing.T) {
	s, j := newSite(t, DefaultConfig(), Options{}), jar{}
	j.signIn(t, s.Store, "ada", "")
	b, w := j.load(t, s.Store)
	held, release, err := b.TryLock(t.Context(), time.Second)
	must(t, err)
	defer release()
	starts(t, b, "ada", "", []byte("identity of ada"), []byte("t"))
	must(t, b.EndDead(held))
	j.keep(w)
	if got := j.who(t, s.Store); got != "ada" {
		t.Errorf("signed in as %q", got)
	}
}

// With memory full, people can still be asked about, and what comes of it is saved.
func TestRevalidationWithFullMemory(t *testing.T) {
	server := startRedis(t)
	s, j := open(t, "redis://"+server.addr(), DefaultConfig()), jar{}
	j.signIn(t, s.Store, "ada", "")
	must(t, server.client().ConfigSet(t.Context(), "maxmemory", "1").Err())
	if n, err := s.MarkDue(t.Context(), "ada"); n != 1 || err != nil {
		t.Errorf("MarkDue = %d, %v", n, err)
	}
	b, _ := j.load(t, s.Store)
	held, release, err := b.TryLock(t.Context(), time.Second)
	if held == nil || err != nil {
		t.Fatalf("TryLock: %v", err)
	}
	time.Sleep(2 * lockLife) // it is renewed
	must(t, b.Update(held, func(i, tokens []byte) ([]byte, []byte, error) { return append(i, '!'), append(tokens, '!'), nil }))
	release()
	if got := j.who(t, s.Store); got != "ada!" {
		t.Errorf("signed in as %q", got)
	}
}
