package session

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"

	gorilla "github.com/gorilla/sessions"
	"github.com/redis/go-redis/v9"
)

// Browser is one browser's session as one request sees it: read once, when the request comes in, and then kept for the
// goroutines of that request. It is the Storage that package auth asks for; sessions.Default(c) shares it.
type Browser struct {
	store   *Store
	redis   conn
	name    string
	agent   string         // the request's User-Agent
	cookies []*http.Cookie // the request's, and what binds its sign-in
	counted bool           // reading it counts the person's sessions

	mu      sync.Mutex // held during Redis commands: what one goroutine changes, the next one sees
	w       http.ResponseWriter
	failure error   // of the first read: it is not tried twice in one request
	at      *place  // where the session lies; nil: a visitor who has none
	record  record  // what it holds; empty if nothing that we understand
	ending  *Ending // how the session ended that the request came with; nil: it has not, or left no mark
	places  int64   // see Places
	late    bool    // that session has ended, and none may take its place but by a sign-in

	label [2]string // of the person and of the session, for the log

	values *gorilla.Session // as sessions.Default(c) sees it; nil until asked for
	base   []byte           // what values was made from
}

// Format prints nothing of it: it holds tokens.
func (b *Browser) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("session.Browser")) }

// Browser returns the session of the request's browser. It costs one Redis command, or none without a cookie of ours;
// calls for the same request share one Browser. Call it in a middleware before any that copies the request. An error wraps
// [ErrUnavailable], unless the visitor has gone; then answer, and set no cookie.
func (s *Store) Browser(w http.ResponseWriter, r *http.Request) (*Browser, error) {
	return s.browser(w, r, s.name, false)
}

// CountedBrowser is Browser for a page that says in how many browsers the person is signed in; see [Browser.Places]. It is still
// one command, which costs Redis five times as much.
func (s *Store) CountedBrowser(w http.ResponseWriter, r *http.Request) (*Browser, error) {
	return s.browser(w, r, s.name, true)
}

type browserKey struct {
	store *Store
	name  string
}

func (s *Store) browser(w http.ResponseWriter, r *http.Request, name string, counted bool) (*Browser, error) {
	key := browserKey{s, name}
	b, known := r.Context().Value(key).(*Browser)
	if !known {
		b = &Browser{store: s, redis: conn{rdb: s.rdb, observe: s.observe}, name: name, agent: r.UserAgent(), cookies: r.Cookies(), counted: counted}
		// In place, as gorilla's registry does: gin-contrib's session has kept this very pointer.
		*r = *r.WithContext(context.WithValue(r.Context(), key, b))
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if w != nil {
		b.w = w
	}
	if !known {
		b.failure = b.arrive(r.Context())
	}
	if b.failure != nil {
		return nil, b.failure
	}
	return b, nil
}

// arrive reads the session that the cookie names. A name that Redis doesn't know is dropped, so a visitor can't choose
// one. Its cookie stays: this request may be a slow one, and the browser may have a new cookie by the time of the answer.
func (b *Browser) arrive(ctx context.Context) error {
	for _, c := range b.cookies {
		if b.at == nil && c.Name == b.store.prefix+b.name {
			b.at = b.store.find(c.Value)
		}
	}
	if b.at == nil {
		return nil
	}
	err := b.read(ctx, pageBytes)
	b.late = b.ending != nil // perhaps a slow request, whose browser has a new session by now
	return err
}

// pageBytes is how much of a session is read for a page: all of it, unless it holds tokens for very many APIs.
const (
	pageBytes  = 32 << 10
	wholeBytes = 512 << 20 // the most that Redis keeps in a value
)

// read replaces what is known of the session by what Redis holds now, up to that many bytes, and extends its idle time.
func (b *Browser) read(ctx context.Context, most int64) error {
	var value string
	err := b.redis.do(ctx, patience, "read session", func(ctx context.Context) (err error) {
		if b.counted {
			var reply []any
			if reply, err = scripts["count sessions"].Run(ctx, b.redis.rdb, []string{b.at.key(), b.at.person()}, most-1).Slice(); err == nil {
				value = text(reply[0])
				b.places, _ = reply[1].(int64)
			}
			return err
		}
		value, err = b.redis.rdb.GetRange(ctx, b.at.key(), 0, most-1).Result()
		if redis.HasErrorPrefix(err, "WRONGTYPE") { // somebody else's, and not a fault of Redis
			value, err = "of another type", nil
		}
		return err
	})
	if err != nil {
		return err
	}
	if int64(len(value)) == most {
		if _, ok := parseRecord(value); !ok { // who is in so many organizations
			return b.read(ctx, wholeBytes)
		}
	}
	if b.adopt(value); b.isLive() {
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
	indexed := "" // a visitor's session is in no index
	if b.record.who != nil {
		indexed = b.at.id
	}
	if b.enterSID(ctx, shortPatience, b.record.sid, b.at, time.Now()) != nil {
		return // the session must not outlive what leads to it
	}
	reply, err := b.redis.run(ctx, shortPatience, "extend session", []string{b.at.key(), b.at.person()},
		b.store.cfg.IdleTimeout.Milliseconds(), moment.Milliseconds(), indexed)
	if err == nil && reply[0] == gone {
		b.adopt(last(reply))
	}
}

// adopt takes over a session as Redis holds it, or what is left of it.
func (b *Browser) adopt(value string) {
	fresh, ok := parseRecord(value)
	if !ok {
		if b.ending = parseEnding(value, b.at.key()); b.ending != nil || value == "" {
			b.lose()
		} else {
			b.discard("line", nil)
		}
		return
	}
	if fresh.identity != "" {
		var err error
		if fresh.who, err = b.at.openPerson(fresh.identity); err != nil {
			b.discard("identity", err)
			return
		}
	}
	b.know(b.at, fresh)
	// Whatever Redis says of the end; clocks differ a little.
	if !time.Now().Before(fresh.end) || fresh.who != nil && time.Since(fresh.who.begun) > b.store.cfg.AbsoluteTimeout+sidMargin {
		b.lose()
	}
}

// know takes over a session that can be read.
func (b *Browser) know(at *place, r record) {
	b.at, b.record = at, r
	b.label = [2]string{"", at.id[:labelSize]}
	if r.who != nil {
		b.label[0] = at.tag[:labelSize]
	}
}

// lose takes over that the session has ended.
func (b *Browser) lose() { b.at, b.record, b.late = nil, record{}, true }

// discard makes a session that can't be opened one of nobody. It stays in Redis, for instances of another version may
// be able to open it.
func (b *Browser) discard(what string, err error) {
	b.record = record{}
	b.store.log.Warn("a session could not be opened; its browser is signed out", "session", b.at.id, "record", what, "err", err)
}

// isLive reports whether there is a session that can be read and saved.
func (b *Browser) isLive() bool { return b.record.version != 0 }

// Identity returns the record that every page reads, not to be written to; nil if nobody is signed in.
func (b *Browser) Identity(context.Context) ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.record.who == nil {
		return nil, nil
	}
	return b.record.who.identity, nil
}

// Span returns since when somebody is signed in, and until when if nobody uses the session from now on; zero times if nobody is.
func (b *Browser) Span() (since, expires time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.record.who == nil {
		return since, expires
	}
	if expires = b.record.seen.Add(b.store.cfg.IdleTimeout); b.record.end.Before(expires) {
		expires = b.record.end
	}
	return b.record.who.begun, expires
}

// Places returns in how many browsers the person is signed in, this one too; 0 without [Store.CountedBrowser]. During a
// change of SESSION_KEY those that have another key are not counted.
func (b *Browser) Places() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return int(b.places)
}

// IsDue reports whether there is a reason to ask the provider again who this is; see [Store.MarkDue]. Saving an identity
// under a lock answers the reasons that there were when the lock was taken.
func (b *Browser) IsDue() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.record.who != nil && b.record.who.due != b.record.due
}

// Label returns short hashes of the person and of the session that this request was about, "" where there is none, by which
// an operator can follow one person's trouble through the log.
func (b *Browser) Label() (person, session string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.label[0], b.label[1]
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

// complete reads what a page did not need.
func (b *Browser) complete(ctx context.Context) error {
	if !b.record.isCut {
		return nil
	}
	return b.read(ctx, wholeBytes)
}

func (b *Browser) openTokens(ctx context.Context) ([]byte, error) {
	if err := b.complete(ctx); err != nil {
		return nil, err
	}
	if b.record.who == nil || b.record.tokens == "" {
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
	b.mu.Lock()
	defer b.mu.Unlock()
	tags := b.store.tags(subject)
	cookie, at := b.store.mint(tags[0])
	who := &person{begun: time.Now(), subject: subject, identity: slices.Clone(identity)}
	fresh := record{
		sid: hashSID(sid), words: words(b.agent), who: who,
		identity: at.seal("h", who.marshal()), tokens: at.seal("t", tokens),
	}
	keep := b.isLive() && (b.record.who == nil || b.record.who.subject == subject)
	if keep {
		fresh.values = b.reseal(b.record.values, at)
	}
	err = b.redis.refuseOvertaken(ctx, tags[1:], began)
	if err == nil {
		err = b.write(ctx, at, &fresh, began)
	}
	if err == nil {
		err = b.supersede(ctx, at, &fresh, keep)
	}
	if err != nil {
		// It may have begun, even if only an answer was lost. No cookie leads there; else it ends unused.
		_, _, _ = b.redis.end(context.WithoutCancel(ctx), shortPatience, at, ByPerson)
		if errors.Is(err, errOvertaken) {
			return false, nil
		}
		return false, fmt.Errorf("start session: %w", err)
	}
	if b.isLive() && !keep {
		b.clearValues()
	}
	if b.values != nil {
		b.values.ID = at.id
	}
	b.know(at, fresh)
	b.ending, b.late = nil, false
	b.store.setCookie(b.w, b.name, cookie, b.store.cfg.AbsoluteTimeout, b.store.options)
	return true, nil
}

// write writes a new session where it can be found, and completes the record by what Redis keeps of it.
func (b *Browser) write(ctx context.Context, at *place, fresh *record, began time.Time) error {
	keys := []string{at.key(), at.person()}
	if fresh.who != nil {
		keys = append(keys, endedKey(at.tag))
	}
	reply, err := b.redis.run(ctx, patience, "start session", keys,
		b.store.cfg.IdleTimeout.Milliseconds(), b.store.cfg.AbsoluteTimeout.Milliseconds(),
		began.UnixMilli(), at.id, fresh.sid, fresh.words, fresh.body())
	if err != nil {
		return err
	}
	if reply[0] == refused {
		return errOvertaken
	}
	if err := fresh.parseLine(last(reply)); err != nil {
		return err
	}
	outcome := "visitor"
	if fresh.who != nil {
		outcome = "sign_in"
	}
	b.redis.observe(ctx, ObservedStart, outcome, 1)
	return b.enterSID(ctx, patience, fresh.sid, at, began)
}

// supersede ends the session there was for one that has begun. If somebody saved values there meanwhile, or ended it,
// the new one has the same.
func (b *Browser) supersede(ctx context.Context, at *place, fresh *record, keep bool) error {
	if b.at == nil {
		return nil
	}
	_, value, err := b.redis.end(ctx, patience, b.at, ByPerson)
	if err != nil { // perhaps only the answer was lost: then the person has no other session than the new one, and nothing was saved since
		_, value, err = b.redis.end(ctx, patience, b.at, ByPerson)
		keep = keep && value != ""
	}
	was, _ := parseRecord(value)
	if err != nil || !keep || was.version == b.record.version {
		return err
	}
	fresh.values = b.reseal(was.values, at)
	_, err = b.redis.save(ctx, at, fresh, "")
	return err
}

// Update applies change to both records as they are now, and saves what it returns, only if the session still exists
// and nobody saved in between; otherwise it applies change again to what it finds then. A record that is returned as
// nil stays as it is. If the session has ended, change is not called and the error is [ErrEnded]. change must not use
// the Browser.
func (b *Browser) Update(ctx context.Context, change func(identity, tokens []byte) (newIdentity, newTokens []byte, err error)) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.redis.waited.Store(0) // however long the request has waited: a token that Logto has rotated must be saved
	if b.isLive() {
		if err := b.read(ctx, wholeBytes); err != nil {
			return err
		}
	}
	return b.save(ctx, func() (next record, err error) {
		tokens, err := b.openTokens(ctx)
		if err != nil {
			return next, err
		}
		if next = b.record; next.who == nil {
			return next, ErrEnded
		}
		newIdentity, newTokens, err := change(next.who.identity, tokens)
		if err != nil {
			return next, err
		}
		if newIdentity != nil && !bytes.Equal(newIdentity, next.who.identity) {
			who := *next.who
			who.identity = newIdentity
			if l := lockOf(ctx); l != nil {
				who.due = l.due
			}
			next.who, next.identity = &who, b.at.seal("h", who.marshal())
		}
		if newTokens != nil && !bytes.Equal(newTokens, tokens) {
			next.tokens = b.at.seal("t", newTokens)
		}
		return next, nil
	})
}

// save saves what change returns. After a conflict the session is as somebody else saved it, and change is asked again.
func (b *Browser) save(ctx context.Context, change func() (record, error)) error {
	for try := range 16 {
		if try > 0 {
			if err := sleep(ctx, rand.N(time.Millisecond<<min(try, 7))); err != nil {
				return fmt.Errorf("save session: %w", err)
			}
		}
		if err := b.complete(ctx); err != nil {
			return err
		}
		if !b.isLive() {
			return fmt.Errorf("save session: %w", ErrEnded)
		}
		next, err := change()
		if err != nil || next.identity == b.record.identity && next.tokens == b.record.tokens && next.values == b.record.values {
			return err
		}
		holder := ""
		if l := lockOf(ctx); l != nil {
			if holder = l.holder; l.at.key() != b.at.key() {
				return fmt.Errorf("save session: %w: it was another session's", ErrLockLost)
			}
		}
		reply, err := b.redis.save(ctx, b.at, &next, holder)
		if err != nil {
			return err
		}
		switch reply[0] {
		case done:
			b.record = next
			return nil
		case refused:
			return fmt.Errorf("save session: %w", ErrLockLost)
		default: // there was a conflict, or it has ended
			b.adopt(last(reply))
		}
	}
	return fmt.Errorf("save session: %w", ErrConflict)
}

// save runs the script on a record that was changed, and counts its version up.
func (c *conn) save(ctx context.Context, at *place, changed *record, holder string) ([]any, error) {
	changed.version++
	return c.run(ctx, patience, "save session", []string{at.key()}, changed.version-1, holder, changed.body())
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
	if l := lockOf(ctx); l != nil && l.at != at {
		return nil
	}
	was, err := b.end(ctx, ByGrant)
	if was {
		b.ending, b.late = &Ending{Why: ByGrant, At: time.Now(), key: at.key()}, true
	}
	return err
}

func (b *Browser) end(ctx context.Context, why Why) (was bool, err error) {
	if b.at != nil {
		if was, _, err = b.redis.end(ctx, patience, b.at, why); err != nil {
			return false, err
		}
	}
	b.at, b.record, b.late = nil, record{}, b.ending != nil
	return was, nil
}

// sleep waits, but not beyond the context.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}
