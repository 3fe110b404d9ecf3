package session

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	gorilla "github.com/gorilla/sessions"
	"github.com/redis/go-redis/v9"
)

// The model of a session: what a reader of the package comment would expect.
type modelSession struct {
	subject, sid          string // "": a visitor's
	identity, tokens      string
	values                map[any]any
	since                 int64 // when the sign-in began, in ms, as all times
	seen, idleEnd, absEnd int64
	ended                 bool
	markEnd               int64 // until when its mark says so
}

// end ends a session. The mark that its own browser leaves is short.
func (s *modelSession) end(own bool) {
	if s.ended {
		return
	}
	now := time.Now().UnixMilli()
	if s.ended, s.markEnd = true, s.absEnd; own {
		s.markEnd = min(s.absEnd, now+5*time.Minute.Milliseconds())
	}
	if now >= min(s.idleEnd, s.absEnd) {
		s.markEnd = 0 // it had ended by itself
	}
}

// A modelRequest is under way: what it read may have changed since.
type modelRequest struct {
	browser   int
	b         *Browser
	r         *http.Request
	w         *httptest.ResponseRecorder
	values    *gorilla.Session
	at        *modelSession // as it knows; nil: a visitor's
	late      bool          // it brought the cookie of a session that has ended, and knows
	maybeLate bool
	set       map[any]any // and not saved yet, by a visitor
	held      context.Context
	release   func() // of a revalidation under way; nil: none is
}

type model struct {
	t          *testing.T
	s          *site
	rng        *rand.Rand
	jars       []jar
	cookies    map[string]*modelSession // by the cookie that leads to it
	ends       map[string]int64         // when the sessions of a subject, or of a "sid …", were ended from outside, in ms
	requests   []*modelRequest
	log        []string
	timePasses bool
}

const (
	modelIdle     = time.Hour
	modelAbsolute = 3 * time.Hour
)

func (m *model) alive(s *modelSession) bool {
	return s != nil && !s.ended && time.Now().UnixMilli() < min(s.idleEnd, s.absEnd)
}

func (m *model) note(format string, args ...any) { m.log = append(m.log, fmt.Sprintf(format, args...)) }

func (m *model) fail(format string, args ...any) {
	m.t.Helper()
	m.t.Errorf(format, args...)
	m.t.Fatalf("the last steps:\n%s", strings.Join(m.log[max(0, len(m.log)-25):], "\n"))
}

// arrive begins a request of a browser, and checks what it finds.
func (m *model) arrive(browser int) *modelRequest {
	j := m.jars[browser]
	q := &modelRequest{browser: browser, r: j.request(m.t.Context()), w: httptest.NewRecorder(), at: m.cookies[j["sid"]], set: map[any]any{}}
	m.touch(q.at)
	if !m.alive(q.at) {
		q.late = q.at != nil && time.Now().UnixMilli() < q.at.markEnd
		q.at = nil
	}
	var err error
	q.b, err = m.s.Browser(q.w, q.r)
	must(m.t, err)
	q.values, err = m.s.Get(q.r, "sid")
	must(m.t, err)
	identity, _ := q.b.Identity(m.t.Context())
	want, values := "", map[any]any{}
	if q.at != nil {
		want, values = q.at.identity, q.at.values
	}
	if string(identity) != want || !maps.Equal(q.values.Values, values) {
		m.fail("browser %d: %q with %v, want %q with %v", browser, identity, q.values.Values, want, values)
	}
	return q
}

// touch is what reading a session does.
func (m *model) touch(s *modelSession) {
	if now := time.Now().UnixMilli(); m.alive(s) && now-s.seen >= time.Minute.Milliseconds() {
		s.seen, s.idleEnd = now, now+modelIdle.Milliseconds()
	}
}

// finish delivers the answer's cookies.
func (m *model) finish(q *modelRequest) {
	m.letGo(q)
	m.jars[q.browser].keep(q.w)
	m.requests = slices.DeleteFunc(m.requests, func(other *modelRequest) bool { return other == q })
}

func (m *model) began(q *modelRequest, s *modelSession) {
	now := time.Now().UnixMilli()
	s.seen, s.idleEnd, s.absEnd = now, now+modelIdle.Milliseconds(), now+modelAbsolute.Milliseconds()
	m.cookies[cookies(q.w)[0].Value] = s
	q.at = s
}

func (m *model) check(q *modelRequest, err error) (saved bool) {
	m.t.Helper()
	want := error(nil)
	if q.at != nil && !m.alive(q.at) {
		want = ErrEnded
		q.at.end(false) // this request knows now
		q.late = q.late || time.Now().UnixMilli() < q.at.markEnd
	}
	if !errors.Is(err, want) {
		m.fail("error %v, want %v", err, want)
	}
	return err == nil
}

func (m *model) save(q *modelRequest) {
	key, value := fmt.Sprint("k", m.rng.IntN(4)), len(m.log) // new: saving what is there already is no save
	m.note("browser %d sets %s=%d", q.browser, key, value)
	q.values.Values[key] = value
	q.set[key] = value
	visitor, err := q.at == nil, m.s.Save(q.r, q.w, q.values)
	if visitor && (q.late || q.maybeLate && err != nil) {
		if !errors.Is(err, ErrEnded) || len(cookies(q.w)) > 0 { // it has set none before, either
			m.fail("a late save: %v, and cookies %v", err, cookies(q.w))
		}
		return
	}
	if !m.check(q, err) {
		return
	}
	if visitor {
		m.began(q, &modelSession{values: maps.Clone(q.values.Values)})
		return
	}
	q.at.values[key] = value
}

func (m *model) update(q *modelRequest) {
	mark := fmt.Sprint("+", m.rng.IntN(1000))
	m.note("browser %d updates with %s", q.browser, mark)
	err := q.b.Update(m.t.Context(), func(identity, tokens []byte) ([]byte, []byte, error) {
		if string(identity) != q.at.identity || string(tokens) != q.at.tokens {
			m.fail("change sees %q, %q; want %q, %q", identity, tokens, q.at.identity, q.at.tokens)
		}
		return append(identity, mark...), append(tokens, mark...), nil
	})
	if q.at == nil || q.at.identity == "" {
		if !errors.Is(err, ErrEnded) {
			m.fail("Update of a visitor's session: %v", err)
		}
		if q.at != nil && !m.alive(q.at) {
			m.check(q, err)
		} else {
			m.touch(q.at)
		}
		return
	}
	if m.check(q, err) {
		m.touch(q.at)
		q.at.identity += mark
		q.at.tokens += mark
	}
}

// revalidate begins to ask the provider, if nobody else does.
func (m *model) revalidate(q *modelRequest) {
	held, release, err := q.b.TryLock(m.t.Context(), time.Millisecond)
	m.note("browser %d revalidates: %v", q.browser, held != nil)
	if q.at == nil {
		if !errors.Is(err, ErrEnded) {
			m.fail("TryLock of a visitor: %v", err)
		}
		return
	}
	if held != nil {
		q.held, q.release = held, release
	}
	if held != nil || err != nil { // it was read
		m.check(q, err)
	}
}

// answer is the provider's, however late: other rights, or that the grant is dead.
func (m *model) answer(q *modelRequest) {
	defer m.letGo(q)
	if q.at != nil && q.at.identity != "" && m.rng.IntN(3) == 0 {
		m.note("browser %d's grant is dead", q.browser)
		must(m.t, q.b.EndDead(m.t.Context()))
		q.late = q.late || m.alive(q.at)
		q.at.end(false)
		q.at = nil
		return
	}
	mark := fmt.Sprint("?", m.rng.IntN(1000))
	m.note("browser %d is revalidated with %s", q.browser, mark)
	err := q.b.Update(q.held, func(identity, tokens []byte) ([]byte, []byte, error) { return append(identity, mark...), tokens, nil })
	switch {
	case errors.Is(err, ErrLockLost) && !m.alive(q.at):
		q.maybeLate = true // the lock could not be renewed, for the session has ended; it may have learnt that
	case q.at != nil && (q.at.identity != "" || !m.alive(q.at)):
		if m.check(q, err) {
			m.touch(q.at)
			q.at.identity += mark
		}
	case !errors.Is(err, ErrEnded):
		m.fail("Update of a visitor's session: %v", err)
	default:
		m.touch(q.at)
	}
}

func (m *model) letGo(q *modelRequest) {
	if q.release != nil {
		q.release()
		q.held, q.release = nil, nil
	}
}

func (m *model) signIn(q *modelRequest) {
	m.letGo(q)
	subject, sid := fmt.Sprint("s", m.rng.IntN(3)), fmt.Sprint(m.rng.IntN(5))
	began := time.Now()
	if m.rng.IntN(2) == 0 {
		began = began.Add(-time.Duration(m.rng.Int64N(int64(30 * time.Minute))))
	}
	m.note("browser %d signs in as %s with sid %s since %v", q.browser, subject, sid, began)
	if ms := began.UnixMilli(); m.ends[subject] > ms || m.ends["sid "+sid] > ms {
		before := len(cookies(q.w))
		if started, err := q.b.Start(m.t.Context(), subject, sid, began, nil, nil); started || err != nil || len(cookies(q.w)) != before {
			m.fail("a sign-in from before an end: %v, %v, cookies %v", started, err, cookies(q.w))
		}
		return
	}
	s := &modelSession{since: began.UnixMilli(), subject: subject, sid: sid, identity: "i:" + subject, tokens: "t:" + subject, values: map[any]any{}}
	if old := q.at; old != nil {
		if m.alive(old) && (old.subject == "" || old.subject == subject) {
			s.values = maps.Clone(old.values)
		}
		old.end(true)
	}
	if started, err := q.b.Start(m.t.Context(), subject, sid, began, []byte(s.identity), []byte(s.tokens)); !started || err != nil {
		m.fail("Start = %v, %v", started, err)
	}
	m.began(q, s)
	m.finish(q) // what it still had in memory is another test's
}

func (m *model) end(q *modelRequest) {
	m.letGo(q)
	m.note("browser %d signs out", q.browser)
	must(m.t, q.b.End(m.t.Context()))
	if q.at != nil {
		q.at.end(true)
	}
	q.at = nil
}

// endWhere ends the sessions of the model that match, and returns how many that were.
func (m *model) endWhere(match func(*modelSession) bool) (count int) {
	for _, s := range m.cookies {
		if m.alive(s) && s.identity != "" && match(s) {
			s.end(false)
			count++
		}
	}
	return count
}

func (m *model) revoke(q *modelRequest) {
	subject, sid := fmt.Sprint("s", m.rng.IntN(3)), fmt.Sprint(m.rng.IntN(5))
	var got, want int
	var err error
	switch m.rng.IntN(5) {
	case 4:
		before := time.Now().Add(-time.Duration(m.rng.Int64N(int64(40 * time.Minute)))).UnixMilli()
		m.note("an event of %v about %s", time.UnixMilli(before), subject)
		got, err = m.s.EndBefore(m.t.Context(), subject, time.UnixMilli(before), true)
		want = m.endWhere(func(s *modelSession) bool { return s.subject == subject && s.since < before })
		m.ends[subject] = max(m.ends[subject], before)
		if _, err := m.s.MarkDue(m.t.Context(), subject); err != nil {
			m.fail("MarkDue: %v", err)
		}
	case 0:
		m.note("all of %s are revoked", subject)
		got, err = m.s.EndBy(m.t.Context(), subject, "")
		want = m.endWhere(func(s *modelSession) bool { return s.subject == subject })
		m.ends[subject] = time.Now().UnixMilli()
	case 1:
		m.note("those of %s with sid %s are revoked", subject, sid)
		got, err = m.s.EndBy(m.t.Context(), subject, sid)
		want = m.endWhere(func(s *modelSession) bool { return s.subject == subject && s.sid == sid })
		m.ends["sid "+sid] = time.Now().UnixMilli()
	case 2:
		if q.at == nil || q.at.identity == "" || q.at.ended {
			return
		}
		m.note("browser %d ends the others of %s", q.browser, q.at.subject)
		got, err = q.b.EndOthers(m.t.Context())
		want = m.endWhere(func(s *modelSession) bool { return s.subject == q.at.subject && s != q.at })
		m.ends[q.at.subject] = time.Now().UnixMilli()
	case 3:
		if q.at == nil || q.at.identity == "" || q.at.ended {
			return
		}
		for cookie, s := range m.cookies {
			if s == q.at || s.identity == "" || m.rng.IntN(3) > 0 {
				continue
			}
			m.note("browser %d of %s ends one of %s", q.browser, q.at.subject, s.subject)
			_, err = q.b.EndOther(m.t.Context(), find(cookie).id)
			if s.subject == q.at.subject {
				s.end(false)
			}
			break
		}
	}
	must(m.t, err)
	if got != want {
		m.fail("ended %d, want %d", got, want)
	}
}

// audit compares all that is in Redis with the model.
func (m *model) audit() {
	for i := range 3 {
		subject := fmt.Sprint("s", i)
		var want []string
		for cookie, s := range m.cookies {
			if m.alive(s) && s.subject == subject {
				want = append(want, find(cookie).id)
			}
		}
		alive, err := m.s.rdb.ZRangeByScore(m.t.Context(), personKey(hash("person", subject)),
			&redis.ZRangeBy{Min: fmt.Sprint("(", time.Now().UnixMilli()), Max: "+inf"}).Result()
		must(m.t, err)
		slices.Sort(want)
		slices.Sort(alive)
		if !slices.Equal(alive, want) {
			m.fail("the index of %s has %v, want %v", subject, alive, want)
		}
	}
	for cookie, s := range m.cookies {
		mark := m.s.value(find(cookie).key())
		if (mark != "" && !isMark(mark)) != m.alive(s) {
			m.fail("session of %q: in Redis is %v", s.identity, !m.alive(s))
		}
		if !m.alive(s) && time.Now().UnixMilli() >= s.markEnd {
			delete(m.cookies, cookie)
		}
	}
}

func (m *model) step() {
	if len(m.requests) == 0 || m.rng.IntN(3) == 0 {
		q := m.arrive(m.rng.IntN(len(m.jars)))
		m.note("browser %d arrives", q.browser)
		m.requests = append(m.requests, q)
	}
	q := m.requests[m.rng.IntN(len(m.requests))]
	// A request that has learnt that its session ended can do no more; it may sign in.
	switch op := m.rng.IntN(24); {
	case q.release != nil && op < 12:
		m.answer(q)
	case op >= 20:
		if q.release == nil {
			m.revalidate(q)
		}
	case op < 5:
		m.save(q)
	case op < 9:
		m.update(q)
	case op < 11:
		m.signIn(q)
	case op < 12:
		m.end(q)
	case op < 14:
		m.revoke(q)
	case op < 16 || len(m.requests) > 8:
		m.note("browser %d gets its answer", q.browser)
		m.finish(q)
	case op < 18 && m.timePasses:
		d := time.Duration(m.rng.Int64N(int64(20 * time.Minute))).Truncate(time.Millisecond)
		m.note("%v pass", d)
		time.Sleep(d)
	default:
		m.audit()
	}
	if !m.timePasses {
		return
	}
	// Back to a whole millisecond after the random pauses of conflicts, so that Redis and the model round alike.
	time.Sleep(time.Until(time.Now().Truncate(time.Millisecond).Add(time.Millisecond)))
}

// Random requests of several browsers, many of them under way at once, against the model. SESSION_MODEL_SEED repeats one.
func TestModel(t *testing.T) {
	inBubble(t, Config{IdleTimeout: modelIdle, AbsoluteTimeout: modelAbsolute}, func(t *testing.T, s *site) {
		runModel(t, s, true)
		time.Sleep(modelAbsolute + time.Minute)
		if keys := s.redis.Keys(); len(keys) != 0 {
			t.Errorf("left in Redis: %v", keys)
		}
	})
}

// The same, without waiting, on the Redis that others use.
func TestModelOnRedis(t *testing.T) {
	runModel(t, open(t, "redis://"+startRedis(t).addr(), DefaultConfig()), false)
}

func runModel(t *testing.T, s *site, timePasses bool) {
	seed, err := strconv.ParseUint(os.Getenv("SESSION_MODEL_SEED"), 10, 64)
	if err != nil {
		seed = rand.Uint64()
	}
	t.Logf("SESSION_MODEL_SEED=%d", seed)
	m := &model{t: t, s: s, rng: rand.New(rand.NewPCG(seed, 0)), cookies: map[string]*modelSession{}, ends: map[string]int64{}, timePasses: timePasses}
	for range 6 {
		m.jars = append(m.jars, jar{})
	}
	for range 5000 {
		m.step()
	}
	for _, q := range m.requests {
		m.letGo(q)
	}
	if log := s.log.String(); log != "" {
		t.Errorf("log: %s", log)
	}
}
