package session

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
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
	store  *Store
	name   string
	header http.Header    // of the request
	cookie []*http.Cookie // of the request, and what binds its sign-in

	mu       sync.Mutex // held during Redis commands: what one goroutine changes, the next one sees
	w        http.ResponseWriter
	at       *place // where the session lies; nil: a visitor who has none
	state    state
	record   record
	identity []byte // opened
	failure  error  // of the first read: it is not tried twice in one request

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
	version                  string
	end, seen                int64 // in ms
	identity, values, tokens string
	complete                 bool // tokens was read too
}

// hot is what every page reads; tokens are the last.
var hot = []string{"v", "e", "s", "h", "d", "t"}

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
		b = &Browser{store: s, name: name, header: r.Header, cookie: r.Cookies()}
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
	for _, c := range b.cookie {
		if c.Name != b.store.prefix+b.name {
			continue
		}
		if b.at = find(c.Value); b.at != nil {
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
	if b.at != nil && b.state == live {
		b.touch(ctx)
	}
	return nil
}

// read replaces what is known of the session by what Redis holds now.
func (b *Browser) read(ctx context.Context, tokens bool) error {
	fields := hot
	if !tokens {
		fields = hot[:5]
	}
	var reply []any
	err := b.store.within(ctx, patience, "read session", func(ctx context.Context) (err error) {
		reply, err = b.store.rdb.HMGet(ctx, b.at.key(), fields...).Result()
		if redis.HasErrorPrefix(err, "WRONGTYPE") { // somebody else's, and not a fault of Redis
			reply, err = []any{""}, nil
		}
		return err
	})
	if err != nil {
		return err
	}
	b.adopt(reply)
	return nil
}

// adopt takes over a session as Redis answers it: the fields of hot, in that order.
func (b *Browser) adopt(reply []any) {
	b.record, b.identity = record{}, nil
	if reply[0] == nil {
		b.state = ended
		return
	}
	text := make([]string, len(hot))
	for i, v := range reply {
		text[i], _ = v.(string)
	}
	version, errVersion := strconv.ParseInt(text[0], 10, 64)
	end, errEnd := strconv.ParseInt(text[1], 10, 64)
	seen, errSeen := strconv.ParseInt(text[2], 10, 64)
	if errVersion != nil || errEnd != nil || errSeen != nil {
		b.discard("times", nil)
		return
	}
	if time.Now().UnixMilli() >= end {
		b.state = ended
		return
	}
	b.state = live
	b.record = record{strconv.FormatInt(version, 10), end, seen, text[3], text[4], text[5], len(reply) == len(hot)}
	if b.record.identity != "" {
		identity, err := b.at.open("h", b.record.identity)
		if err != nil {
			b.discard("identity", err)
			return
		}
		b.identity = identity
	}
}

// discard makes a session that can't be opened one of nobody. It stays in Redis, for instances of another version may
// be able to open it.
func (b *Browser) discard(what string, err error) {
	b.state, b.record, b.identity = unreadable, record{}, nil
	b.store.log.Warn("a session could not be opened; its browser is signed out", "session", b.at.id, "record", what, "err", err)
}

// touch extends the idle time, at most once in a while. That it fails is no reason to fail the page.
func (b *Browser) touch(ctx context.Context) {
	moment := time.Second // short time-outs are kept to the second
	if b.store.cfg.IdleTimeout >= time.Hour {
		moment = time.Minute
	}
	// Whichever way our clock differs from Redis': the script knows.
	since := time.Since(time.UnixMilli(b.record.seen))
	if since.Abs() < moment {
		return
	}
	reply, err := b.store.run(ctx, shortPatience, "extend session", touchScript, []string{b.at.key(), b.at.person()},
		b.store.cfg.IdleTimeout.Milliseconds(), moment.Milliseconds(), b.at.id)
	if err == nil && reply[0] == int64(done) {
		b.record.seen, _ = reply[1].(int64)
	}
}

// isLive reports whether there is a session that can be read and saved.
func (b *Browser) isLive() bool { return b.at != nil && b.state == live }

// Identity returns the record that every page reads, not to be written to; nil if nobody is signed in.
func (b *Browser) Identity(context.Context) ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.identity, nil
}

// Tokens returns the record that is read only when it is needed; nil if nobody is signed in. After [Browser.Lock] it is
// as it was when the lock was taken, or saved since.
func (b *Browser) Tokens(ctx context.Context) ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.openTokens(ctx)
}

func (b *Browser) openTokens(ctx context.Context) ([]byte, error) {
	if b.identity == nil {
		return nil, nil
	}
	if !b.record.complete {
		if err := b.read(ctx, true); err != nil || b.identity == nil {
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
// those of the same person; another person's are not. The cookie is set when all else has succeeded.
func (b *Browser) Start(ctx context.Context, subject, sid string, identity, tokens []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	cookie, at := mint(hash("person", subject))
	fields := []any{"a", words(b.header.Get("User-Agent")), "h", at.seal("h", identity), "t", at.seal("t", tokens)}
	var values string
	keep := b.isLive() && (b.identity == nil || b.at.tag == at.tag)
	if keep {
		values = b.reseal(b.record.values, at)
		fields = append(fields, "d", values)
	}
	if sid != "" {
		fields = append(fields, "o", hash("sid", sid))
		if err := b.store.indexSID(ctx, sid, at.tag); err != nil {
			return err
		}
	}
	fresh, err := b.store.start(ctx, at, at.id, fields)
	if err != nil {
		return err
	}
	fresh.identity, fresh.tokens, fresh.values, fresh.complete = at.seal("h", identity), at.seal("t", tokens), values, true
	if err := b.supersede(ctx, at, &fresh, keep); err != nil {
		_, _, _ = b.store.end(context.WithoutCancel(ctx), shortPatience, at) // no cookie leads there; else it ends unused
		return err
	}
	if b.isLive() && !keep {
		b.clearValues()
	}
	b.at, b.state, b.record, b.identity = at, live, fresh, append([]byte{}, identity...)
	b.store.setCookie(b.w, b.name, cookie, b.store.cfg.AbsoluteTimeout, b.store.options)
	return nil
}

// supersede ends the session there was for one that has begun. If somebody saved values there meanwhile, or ended it,
// the new one has the same.
func (b *Browser) supersede(ctx context.Context, at *place, fresh *record, keep bool) error {
	if b.at == nil || b.state == ended {
		return nil
	}
	version, values, err := b.store.end(ctx, patience, b.at)
	if err != nil || !keep || version == b.record.version {
		return err
	}
	fresh.values = b.reseal(values, at)
	code, reply, err := b.store.save(ctx, at, fresh.version, "", "d", fresh.values)
	if err == nil && code == done {
		fresh.version = strconv.FormatInt(reply[0].(int64), 10)
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
		if b.identity == nil {
			return nil, ErrEnded
		}
		newIdentity, newTokens, err := change(b.identity, tokens)
		if err != nil {
			return nil, err
		}
		var fields []sealed
		if newIdentity != nil && !bytes.Equal(newIdentity, b.identity) {
			fields = append(fields, sealed{"h", b.at.seal("h", newIdentity)})
		}
		if newTokens != nil && !bytes.Equal(newTokens, tokens) {
			fields = append(fields, sealed{"t", b.at.seal("t", newTokens)})
		}
		return fields, nil
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
		fields, err := change()
		if err != nil || len(fields) == 0 {
			return err
		}
		fence, err := fenceOf(ctx, b.at)
		if err != nil {
			return err
		}
		args := make([]any, 0, 2*len(fields))
		for _, f := range fields {
			args = append(args, f.field, f.value)
		}
		code, reply, err := b.store.save(ctx, b.at, b.record.version, fence, args...)
		if err != nil {
			return err
		}
		switch code {
		case done:
			b.saved(strconv.FormatInt(reply[0].(int64), 10), fields)
			return nil
		case conflict:
			b.adopt(reply)
		case refused:
			return fmt.Errorf("save session: %w", ErrLockLost)
		default:
			b.adopt([]any{nil})
		}
	}
	return fmt.Errorf("save session: %w", ErrConflict)
}

// saved keeps what was saved as what is known.
func (b *Browser) saved(version string, fields []sealed) {
	b.record.version = version
	for _, f := range fields {
		switch f.field {
		case "h":
			b.record.identity = f.value
			b.identity, _ = b.at.open("h", f.value) // sealed a moment ago
		case "d":
			b.record.values = f.value
		case "t":
			b.record.tokens = f.value
		}
	}
}

// End ends the session: what it held is gone for every instance. Ending none is no error, and then the cookie stays,
// for it may already be that of a newer session.
func (b *Browser) End(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.at != nil && b.state != ended {
		version, _, err := b.store.end(ctx, patience, b.at)
		if err != nil {
			return err
		}
		if version != "" {
			b.store.setCookie(b.w, b.name, "", 0, b.store.options)
		}
	}
	b.at, b.state, b.record, b.identity = nil, live, record{}, nil
	b.clearValues()
	return nil
}

// start writes a new session, and into the index of its tag if member is its ID.
func (s *Store) start(ctx context.Context, at *place, member string, fields []any) (record, error) {
	args := append([]any{s.cfg.IdleTimeout.Milliseconds(), s.cfg.AbsoluteTimeout.Milliseconds(), member}, fields...)
	reply, err := s.run(ctx, patience, "start session", startScript, []string{at.key(), at.person()}, args...)
	if err != nil {
		return record{}, err
	}
	return record{version: "1", seen: reply[1].(int64), end: reply[2].(int64)}, nil
}

// save runs the script, and returns its code and what follows.
func (s *Store) save(ctx context.Context, at *place, version, fence string, fields ...any) (int64, []any, error) {
	reply, err := s.run(ctx, patience, "save session", saveScript, []string{at.key()}, append([]any{version, fence}, fields...)...)
	if err != nil {
		return 0, nil, err
	}
	return reply[0].(int64), reply[1:], nil
}

// end returns the version that the session had, "" if there was none, and its sealed values.
func (s *Store) end(ctx context.Context, limit time.Duration, at *place) (version, values string, err error) {
	reply, err := s.run(ctx, limit, "end session", endScript, []string{at.key(), at.person()}, at.id)
	if err != nil || reply[0] != int64(done) {
		return "", "", err
	}
	version = "?" // it was there, whatever it was
	if len(reply) > 1 {
		if text, ok := reply[1].(string); ok {
			version = text
		}
	}
	if len(reply) > 2 {
		values, _ = reply[2].(string)
	}
	return version, values, nil
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
