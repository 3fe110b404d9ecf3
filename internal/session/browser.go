package session

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	gorilla "github.com/gorilla/sessions"
	"github.com/redis/go-redis/v9"
)

// Browser is one browser's session as one request sees it: read once, when the request comes in, and then kept. It is
// for the goroutines of that request.
//
// It implements the Storage that package auth asks for; sessions.Default(c) shares it in the same request.
type Browser struct {
	store   *Store
	redis   conn
	name    string
	agent   string         // the request's User-Agent
	cookies []*http.Cookie // the request's, and what binds its sign-in

	mu      sync.Mutex // held during Redis commands: what one goroutine changes, the next one sees
	w       http.ResponseWriter
	at      *place // where the session lies; nil: a visitor who has none
	state   state
	record  record
	who     *person // who is signed in; nil: nobody
	failure error   // of the first read: it is not tried twice in one request

	grave  *place // where a mark says that the request's session has ended; nil: none does
	ending Ending
	told   bool

	label [2]string // of the person and of the session, for the log

	values *gorilla.Session // as sessions.Default(c) sees it; nil until asked for
	base   []byte           // what values was made from
}

// state is what became of the session at Browser.at.
type state int

const (
	live       state = iota
	ended            // meanwhile, by somebody else
	unreadable       // it exists, but says nothing that we understand
)

// record is a session as Redis holds it. Its values are sealed; "" is a value that there is not.
type record struct {
	version, sid             string
	seen, end, tried         time.Time
	due                      uint32
	identity, values, tokens string
	complete                 bool // tokens was read too
}

// Load says what Browser reads beyond what every page needs.
type Load int

// WithTokens reads the tokens in the same command, for pages that will ask for them.
const WithTokens Load = 1

// Browser returns the session of the request's browser. It costs one Redis command, or none without a cookie of ours;
// calls for the same request share one Browser, whatever it costs. Call it in a middleware before any that copies the
// request. An error wraps [ErrUnavailable], unless the visitor has gone; then answer, and set no cookie.
func (s *Store) Browser(w http.ResponseWriter, r *http.Request, load ...Load) (*Browser, error) {
	return s.browser(w, r, s.name, slices.Contains(load, WithTokens))
}

type browserKey struct {
	store *Store
	name  string
}

func (s *Store) browser(w http.ResponseWriter, r *http.Request, name string, tokens bool) (*Browser, error) {
	key := browserKey{s, name}
	b, known := r.Context().Value(key).(*Browser)
	if !known {
		b = &Browser{store: s, redis: conn{rdb: s.rdb}, name: name, agent: r.UserAgent(), cookies: r.Cookies()}
		// In place, as gorilla's registry does: gin-contrib's session has kept this very pointer.
		*r = *r.WithContext(context.WithValue(r.Context(), key, b))
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if w != nil {
		b.w = w
	}
	if !known {
		b.failure = b.arrive(r.Context(), tokens)
	}
	if b.failure != nil {
		return nil, b.failure
	}
	return b, nil
}

// arrive reads the session that the cookie names. A name that Redis doesn't know is dropped, so a visitor can't choose
// one. Its cookie stays: this request may be a slow one, and the browser may have a new cookie by the time of the answer.
func (b *Browser) arrive(ctx context.Context, tokens bool) error {
	for _, c := range b.cookies {
		if c.Name != b.store.prefix+b.name {
			continue
		}
		if b.at = b.store.find(c.Value); b.at != nil {
			break
		}
	}
	if b.at == nil {
		return nil
	}
	if err := b.read(ctx, tokens); err != nil {
		return err
	}
	if b.state == ended {
		b.at, b.state = nil, live
	}
	return nil
}

// read replaces what is known of the session by what Redis holds now, and extends its idle time.
func (b *Browser) read(ctx context.Context, tokens bool) error {
	fields := []string{"m", "h", "d"}
	if tokens {
		fields = append(fields, "t")
	}
	var reply []any
	err := b.redis.do(ctx, patience, "read session", func(ctx context.Context) (err error) {
		reply, err = b.redis.rdb.HMGet(ctx, b.at.key(), fields...).Result()
		if redis.HasErrorPrefix(err, "WRONGTYPE") { // somebody else's, and not a fault of Redis
			reply, err = []any{""}, nil
		}
		return err
	})
	if err != nil {
		return err
	}
	if b.adopt(reply); b.isLive() {
		b.touch(ctx)
	}
	return nil
}

// touch extends the idle time, at most once in a while. That it fails is no reason to fail the page.
func (b *Browser) touch(ctx context.Context) {
	moment := time.Second // short time-outs are kept to the second
	if b.store.cfg.IdleTimeout >= time.Hour {
		moment = time.Minute
	}
	// Whichever way our clock differs from Redis': the script knows.
	if time.Since(b.record.seen).Abs() < moment {
		return
	}
	isPerson := 0
	if b.who != nil {
		isPerson = 1
	}
	reply, err := b.redis.run(ctx, shortPatience, "extend session", touchScript, []string{b.at.key(), b.at.person()},
		b.store.cfg.IdleTimeout.Milliseconds(), moment.Milliseconds(), b.at.id, isPerson)
	switch {
	case err != nil:
	case reply[0] == int64(gone):
		b.learnEnd(reply[1:])
	case reply[0] == int64(done):
		b.extendSID(ctx)
	}
}

// adopt takes over a session as Redis answers it: the fields m, h, d, and perhaps t.
func (b *Browser) adopt(reply []any) {
	b.record, b.who = record{}, nil
	if !slices.ContainsFunc(reply, func(field any) bool { return field != nil }) {
		b.state = ended
		return
	}
	var text [4]string
	for i, field := range reply {
		text[i], _ = field.(string)
	}
	if b.bury(text[0]) {
		b.state = ended
		return
	}
	fresh, ok := parseRecord(text[0])
	if !ok {
		b.discard("times", nil)
		return
	}
	if !time.Now().Before(fresh.end) {
		b.state = ended
		return
	}
	fresh.identity, fresh.values, fresh.tokens, fresh.complete = text[1], text[2], text[3], len(reply) == len(text)
	b.state, b.record = live, fresh
	if b.record.identity == "" {
		b.mark(b.at, false)
		return
	}
	if err := b.openIdentity(); err != nil {
		b.discard("identity", err)
		return
	}
	b.mark(b.at, true)
	// Whatever Redis says of the end; clocks differ a little.
	if time.Since(b.who.begun) > b.store.cfg.AbsoluteTimeout+sidMargin {
		b.state, b.record, b.who = ended, record{}, nil
	}
}

func (b *Browser) openIdentity() error {
	data, err := b.at.open("h", b.record.identity)
	if err != nil {
		return err
	}
	b.who, err = parsePerson(data)
	return err
}

// parseRecord reads what scripts keep in clear.
func parseRecord(m string) (r record, ok bool) {
	words := strings.SplitN(m, " ", 8)
	if len(words) < 8 {
		return record{}, false
	}
	seen, errSeen := strconv.ParseInt(words[1], 10, 64)
	end, errEnd := strconv.ParseInt(words[2], 10, 64)
	due, errDue := strconv.ParseUint(words[5], 10, 32)
	return record{
		version: words[0], seen: time.UnixMilli(seen), end: time.UnixMilli(end), sid: words[4], due: uint32(due), tried: milliseconds(words[6]),
	}, errSeen == nil && errEnd == nil && errDue == nil
}

// discard makes a session that can't be opened one of nobody. It stays in Redis, for instances of another version may
// be able to open it.
func (b *Browser) discard(what string, err error) {
	b.state, b.record, b.who = unreadable, record{}, nil
	b.store.log.Warn("a session could not be opened; its browser is signed out", "session", b.at.id, "record", what, "err", err)
}

// isLive reports whether there is a session that can be read and saved.
func (b *Browser) isLive() bool { return b.at != nil && b.state == live }

// Identity returns the record that every page reads, not to be written to; nil if nobody is signed in.
func (b *Browser) Identity(context.Context) ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.who == nil {
		return nil, nil
	}
	return b.who.identity, nil
}

// Span returns since when somebody is signed in, and until when if nobody uses the session from now on; zero times if nobody is.
func (b *Browser) Span() (since, expires time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.who == nil {
		return since, expires
	}
	if expires = b.record.seen.Add(b.store.cfg.IdleTimeout); b.record.end.Before(expires) {
		expires = b.record.end
	}
	return b.who.begun, expires
}

// IsDue reports whether there is a reason to ask the provider again who this is; see [Store.MarkDue]. Saving an identity
// under a lock answers the reasons that there were when the lock was taken.
func (b *Browser) IsDue() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.who != nil && b.who.due != b.record.due
}

// Label returns short hashes of the person and of the session that this request was about, "" where there is none, by which
// an operator can follow one person's trouble through the log.
func (b *Browser) Label() (person, session string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.label[0], b.label[1]
}

func (b *Browser) mark(at *place, isPerson bool) {
	b.label = [2]string{"", at.id[:labelSize]}
	if isPerson {
		b.label[0] = at.tag[:labelSize]
	}
}

const labelSize = 8

// Label is the hash by which Browser.Label names a subject.
func (s *Store) Label(subject string) string { return s.tags(subject)[0][:labelSize] }

// Tokens returns the record that is read only when it is needed; nil if nobody is signed in. After [Browser.Lock] it is
// as it was when the lock was taken, or saved since.
func (b *Browser) Tokens(ctx context.Context) ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.openTokens(ctx)
}

func (b *Browser) openTokens(ctx context.Context) ([]byte, error) {
	if b.who == nil {
		return nil, nil
	}
	if !b.record.complete {
		if err := b.read(ctx, true); err != nil || b.who == nil {
			return nil, err
		}
	}
	if b.record.tokens == "" {
		return nil, nil
	}
	tokens, err := b.at.open("t", b.record.tokens)
	if err != nil {
		b.discard("tokens", err)
		return nil, nil
	}
	return tokens, nil
}

// Start begins a session under a new ID and ends the one there was. A visitor's values are carried over, and so are
// those of the same person; another person's are not. The cookie is set when all else has succeeded. began is when the
// sign-in did: if the person's sessions were ended from outside since, none is started, and that is no error.
func (b *Browser) Start(ctx context.Context, subject, sid string, began time.Time, identity, tokens []byte) (started bool, err error) {
	err = b.start(ctx, subject, sid, began, identity, tokens)
	if errors.Is(err, errOvertaken) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("start session: %w", err)
	}
	return true, nil
}

func (b *Browser) start(ctx context.Context, subject, sid string, began time.Time, identity, tokens []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	cookie, at := b.store.mint(b.store.tags(subject)[0])
	who := &person{begun: time.Now(), subject: subject, identity: slices.Clone(identity)}
	sealedIdentity, sealedTokens, values := at.seal("h", who.marshal()), at.seal("t", tokens), ""
	hashed := "-"
	if sid != "" {
		hashed = hashSID(sid)
		if err := b.indexSID(ctx, hashed, at, began); err != nil {
			return err
		}
	}
	args := []any{began.UnixMilli(), at.id, hashed, words(b.agent), "h", sealedIdentity, "t", sealedTokens}
	keep := b.isLive() && (b.who == nil || b.who.subject == subject)
	if keep {
		if values = b.reseal(b.record.values, at); values != "" {
			args = append(args, "d", values)
		}
	}
	err := b.refuseOvertaken(ctx, b.store.tags(subject)[1:], hashed, began)
	var fresh record
	if err == nil {
		fresh, err = b.redis.start(ctx, b.store.cfg, at, endedKeys(at.tag, hashed), args...)
	}
	if err == nil {
		fresh.identity, fresh.values, fresh.tokens, fresh.complete = sealedIdentity, values, sealedTokens, true
		err = b.supersede(ctx, at, &fresh, keep)
	}
	if errors.Is(err, errOvertaken) {
		b.unindexSID(ctx, hashed, at)
		return err
	}
	if err != nil {
		// Perhaps only an answer was lost. No cookie leads there; else it ends unused.
		_, _, _, _ = b.redis.end(context.WithoutCancel(ctx), shortPatience, at, ByPerson)
		return err
	}
	if b.isLive() && !keep {
		b.clearValues()
	}
	if b.values != nil {
		b.values.ID = at.id
	}
	b.at, b.state, b.record, b.who, b.grave = at, live, fresh, who, nil
	b.mark(at, true)
	b.store.setCookie(b.w, b.name, cookie, b.store.cfg.AbsoluteTimeout, b.store.options)
	return nil
}

// supersede ends the session there was for one that has begun. If somebody saved values there meanwhile, or ended it,
// the new one has the same.
func (b *Browser) supersede(ctx context.Context, at *place, fresh *record, keep bool) error {
	if b.at == nil || b.state == ended {
		return nil
	}
	_, version, values, err := b.redis.end(ctx, patience, b.at, ByPerson)
	if err != nil || !keep || version == b.record.version {
		return err
	}
	fresh.values = b.reseal(values, at)
	code, reply, err := b.redis.save(ctx, at, fresh.version, "", "d", fresh.values)
	if err == nil && code == done {
		fresh.version, _ = reply[0].(string)
	}
	return err
}

// Update applies change to both records as they are now, and saves what it returns, only if the session still exists
// and nobody saved in between; otherwise it applies change again to what it finds then. A record that is returned as
// nil stays as it is. If the session has ended, change is not called and the error is [ErrEnded]. change must not use
// the Browser.
func (b *Browser) Update(ctx context.Context, change func(identity, tokens []byte) (newIdentity, newTokens []byte, err error)) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.isLive() {
		if err := b.read(ctx, true); err != nil {
			return err
		}
	}
	return b.save(ctx, func() ([]sealed, error) {
		tokens, err := b.openTokens(ctx)
		if err != nil {
			return nil, err
		}
		if b.who == nil {
			return nil, ErrEnded
		}
		newIdentity, newTokens, err := change(b.who.identity, tokens)
		if err != nil {
			return nil, err
		}
		var changed []sealed
		if newIdentity != nil && !bytes.Equal(newIdentity, b.who.identity) {
			who := person{begun: b.who.begun, due: b.who.due, subject: b.who.subject, identity: newIdentity}
			if l, isHolder := ctx.Value(lockKey{}).(*lock); isHolder {
				who.due = l.due
			}
			changed = append(changed, sealed{"h", b.at.seal("h", who.marshal())})
		}
		if newTokens != nil && !bytes.Equal(newTokens, tokens) {
			changed = append(changed, sealed{"t", b.at.seal("t", newTokens)})
		}
		return changed, nil
	})
}

// sealed is a field to save; with no value, one to delete.
type sealed struct{ field, value string }

// save saves the fields that change returns. After a conflict the session is as somebody else saved it, and change is
// asked again.
func (b *Browser) save(ctx context.Context, change func() ([]sealed, error)) error {
	for try := range 16 {
		if try > 0 {
			if err := sleep(ctx, rand.N(time.Millisecond<<min(try, 7))); err != nil {
				return fmt.Errorf("save session: %w", err)
			}
		}
		if !b.isLive() {
			return fmt.Errorf("save session: %w", ErrEnded)
		}
		changed, err := change()
		if err != nil || len(changed) == 0 {
			return err
		}
		holder, err := holderOf(ctx, b.at)
		if err != nil {
			return err
		}
		var args []any
		for _, s := range changed {
			args = append(args, s.field, s.value)
		}
		code, reply, err := b.redis.save(ctx, b.at, b.record.version, holder, args...)
		if err != nil {
			return err
		}
		switch code {
		case done:
			b.record.version, _ = reply[0].(string)
			b.saved(changed)
			return nil
		case conflict:
			b.adopt(reply)
		case refused:
			return fmt.Errorf("save session: %w", ErrLockLost)
		default:
			b.learnEnd(reply)
		}
	}
	return fmt.Errorf("save session: %w", ErrConflict)
}

// learnEnd takes over that the session has ended, and the mark of it if there is one.
func (b *Browser) learnEnd(mark []any) {
	b.adopt(nil)
	if len(mark) > 0 {
		m, _ := mark[0].(string)
		b.bury(m)
	}
}

// saved keeps what was saved as what is known.
func (b *Browser) saved(changed []sealed) {
	for _, s := range changed {
		switch s.field {
		case "h":
			b.record.identity = s.value
			_ = b.openIdentity() // sealed a moment ago
		case "d":
			b.record.values = s.value
		case "t":
			b.record.tokens = s.value
		}
	}
}

// End ends the session, as its person wants: what it held is gone for every instance. Ending none is no error, and then
// the cookie stays, for it may already be that of a newer session.
func (b *Browser) End(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	was, err := b.end(ctx, ByPerson)
	if was {
		b.store.setCookie(b.w, b.name, "", 0, b.store.options)
	}
	if err == nil {
		b.clearValues()
	}
	return err
}

// EndDead ends the session because the provider does not give tokens for it any more. Its browser learns that by
// [Browser.Ending], so the cookie stays. Under a lock it ends that lock's session and no other. It may come from another
// goroutine than the request's, so it leaves alone the values that a handler may be reading.
func (b *Browser) EndDead(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	at := b.at
	if l, isHolder := ctx.Value(lockKey{}).(*lock); isHolder && l.at != at {
		return nil
	}
	was, err := b.end(ctx, ByGrant)
	if was {
		b.grave, b.ending, b.told = at, Ending{ByGrant, time.Now()}, false
	}
	return err
}

func (b *Browser) end(ctx context.Context, why Why) (was bool, err error) {
	if b.at != nil && b.state != ended {
		if was, _, _, err = b.redis.end(ctx, patience, b.at, why); err != nil {
			return false, err
		}
	}
	b.at, b.state, b.record, b.who = nil, live, record{}, nil
	return was, nil
}

// sleep waits, but not beyond the context.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}
