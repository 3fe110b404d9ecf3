package session

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// What has ended must not live again, and two things could bring it back. A request from before the end may come late: so
// an ended session leaves a mark under its key, which its cookie leads to and nobody else's. And a sign-in from before
// the end may finish late, as a session that nobody could have ended: so an end from outside leaves a mark for its person
// (ended:{tag}), or for the provider's session (ended:{tag}:sid, or in the place of sid:), for as long as a sign-in may take.
// When a sign-in began is the instance's to say, for it asks Redis nothing: their clocks should agree.

// Why says how a session ended.
type Why string

const (
	ByPerson  Why = "person"  // in this browser: signed out, or signed in anew
	ByOther   Why = "other"   // from another browser of the person
	ByLogout  Why = "logout"  // the provider's session has ended (back-channel logout)
	ByAccount Why = "account" // the account was suspended, deleted, or has another password
	ByGrant   Why = "grant"   // the provider gives no more tokens for it
)

// Ending is how the session ended whose cookie a browser still has.
type Ending struct {
	Why Why
	At  time.Time
}

// Ending returns how the session ended of which this request brought the cookie; nil if it has not ended, or in its own
// browser, or too long ago.
func (b *Browser) Ending() *Ending {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.grave == nil || b.ending.Why == ByPerson {
		return nil
	}
	return &b.ending
}

// Tell reports whether the browser is still to be told of its Ending, and is true once.
func (b *Browser) Tell(ctx context.Context) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.grave == nil || b.told || b.ending.Why == ByPerson {
		return false
	}
	b.told = true
	reply, err := b.redis.run(ctx, shortPatience, "note that the browser was told", toldScript, []string{b.grave.key()})
	return err == nil && reply[0] == int64(done)
}

// bury takes over the mark of a session that has ended; false if m is none.
func (b *Browser) bury(m string) bool {
	words := strings.Fields(m)
	if len(words) != 3 || words[0] != "ended" && words[0] != "told" {
		return false
	}
	seconds, _ := strconv.ParseInt(words[2], 10, 64) // our scripts wrote it
	b.grave, b.ending, b.told = b.at, Ending{At: time.Unix(seconds, 0)}, words[0] == "told"
	for _, why := range []Why{ByPerson, ByOther, ByLogout, ByAccount, ByGrant} {
		if why.letter() == words[1] {
			b.ending.Why = why
		}
	}
	return true
}

// letter is what a mark has of it, to be small.
func (w Why) letter() string { return string(w[:1]) }

// SignInLife is for how long a sign-in that has begun can start a session, at most.
const SignInLife = time.Hour

// markLife is that of a mark against sign-ins from before: theirs, with a little for clocks that differ.
const markLife = SignInLife + 5*time.Minute

// endedKeys name the marks that a sign-in looks at: for a person, and for one session of theirs at the provider.
func endedKeys(tag, sid string) []string {
	keys := []string{"ended:{" + tag + "}"}
	if sid != "-" {
		keys = append(keys, keys[0]+":"+sid)
	}
	return keys
}

// errOvertaken: an end from outside came after the sign-in began.
var errOvertaken = errors.New("the sign-in was overtaken by a sign-out")

// refuseOvertaken looks at the marks of a person's older tags, which are in other slots than the session that is to begin.
func (b *Browser) refuseOvertaken(ctx context.Context, tags []string, sid string, began time.Time) error {
	for _, tag := range tags {
		for _, key := range endedKeys(tag, sid) {
			var ended int64
			err := b.redis.do(ctx, patience, "look for ends", func(ctx context.Context) (err error) {
				ended, err = b.redis.rdb.Get(ctx, key).Int64()
				return err
			})
			if err != nil && !errors.Is(err, redis.Nil) {
				return err
			}
			if ended > began.UnixMilli() {
				return errOvertaken
			}
		}
	}
	return nil
}

// EndBy ends sessions from outside, as a back-channel logout does: those of a subject, those that began with a
// provider's session ID, or with both, those of the subject that began with it. Sign-ins that began before can't start
// one any more. It returns how many it ended.
func (s *Store) EndBy(ctx context.Context, subject, sid string) (int, error) {
	hashed := ""
	if sid != "" {
		hashed = hashSID(sid)
	}
	if subject != "" {
		return s.endAll(ctx, s.conn(), s.tags(subject), "", hashed, ByLogout, "")
	}
	if sid == "" {
		return 0, nil
	}
	tag, err := s.findSID(ctx, hashed)
	if tag == "" || err != nil {
		return 0, err
	}
	return s.endAll(ctx, s.conn(), []string{tag}, "", hashed, ByLogout, "")
}

// EndBefore ends the sessions of a subject whose sign-in began before a time, for what happened to the account then. Other
// sign-ins that began before can't start one any more. It returns how many it ended.
func (s *Store) EndBefore(ctx context.Context, subject string, before time.Time) (int, error) {
	return s.endAll(ctx, s.conn(), s.tags(subject), "", "", ByAccount, strconv.FormatInt(before.UnixMilli(), 10))
}

// MarkDue makes [Browser.IsDue] true for all sessions of a subject, and returns how many there are.
func (s *Store) MarkDue(ctx context.Context, subject string) (count int, err error) {
	for _, tag := range s.tags(subject) {
		reply, err := s.conn().run(ctx, patience, "mark sessions as due", dueScript, []string{personKey(tag)}, sessionPrefix(tag))
		if err != nil {
			return count, err
		}
		n, _ := reply[1].(int64)
		count += int(n)
	}
	return count, nil
}

// endAll ends the sessions of a person's tags; see endAllScript.
func (s *Store) endAll(ctx context.Context, redis *conn, tags []string, keep, sid string, why Why, before string) (count int, err error) {
	for _, tag := range tags {
		marks := endedKeys(tag, "-")
		if sid != "" {
			marks = endedKeys(tag, sid)
		}
		reply, err := redis.run(ctx, patience, "end sessions", endAllScript, []string{personKey(tag), marks[len(marks)-1]},
			sessionPrefix(tag), keep, sid, why.letter(), before, markLife.Milliseconds())
		if err != nil {
			return count, err
		}
		n, _ := reply[1].(int64)
		count += int(n)
		for pair := range slices.Chunk(reply[2:], 2) {
			sid, _ := pair[0].(string)
			id, _ := pair[1].(string)
			redis.dropSID(ctx, sid, tag, id)
		}
	}
	return count, nil
}

// sid:hash leads from a provider's session ID to the tag of the last session that began with it. It is in another
// slot than they are. So it is written before the session, that none exists that can't be found; and after its end it is
// dropped, or else forgotten by Redis a little later than an unused session.

const sidMargin = 5 * time.Minute

func sidKey(hashed string) string { return "sid:" + hashed }

// sidValue has of the session's ID only what tells it from one that began with the same sid just now.
func sidValue(tag, id string) string { return tag + id[:4] }

// hashSID is short, for it lies in Redis twice: 96 bits tell all sessions apart.
func hashSID(sid string) string { return hash("sid", sid)[:16] }

// indexSIDScript writes the index, unless an end from outside came after the sign-in began.
// KEYS sid · ARGV value, when the sign-in began, life
var indexSIDScript = redis.NewScript(`
local ended = string.match(redis.call('GET', KEYS[1]) or '', '^ended (%d+)$')
if ended and tonumber(ended) > tonumber(ARGV[2]) then return {3} end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3])
return {1}`)

// findSIDScript answers with what the index leads to; with nothing there, it leaves the mark of the end.
// KEYS sid · ARGV life of the mark
var findSIDScript = redis.NewScript(clock + `
local found = redis.call('GET', KEYS[1])
if found and not string.match(found, '^ended ') then return {1, found} end
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], 'ended ' .. now, 'PX', ARGV[1])
return {0}`)

// dropSIDScript deletes the index if it still leads to the session that has ended.
// KEYS sid · ARGV value
var dropSIDScript = redis.NewScript(`
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return {0} end
return {redis.call('DEL', KEYS[1])}`)

func (b *Browser) indexSID(ctx context.Context, hashed string, at *place, began time.Time) error {
	reply, err := b.redis.run(ctx, patience, "index sid", indexSIDScript, []string{sidKey(hashed)},
		sidValue(at.tag, at.id), began.UnixMilli(), (b.store.cfg.IdleTimeout + sidMargin).Milliseconds())
	if err == nil && reply[0] == int64(refused) {
		return errOvertaken
	}
	return err
}

// unindexSID takes back the index of a session that was not started. The browser may have another of the same sid.
func (b *Browser) unindexSID(ctx context.Context, hashed string, at *place) {
	switch {
	case hashed == "-":
	case b.isLive() && b.record.sid == hashed:
		_ = b.indexSID(ctx, hashed, b.at, time.Now()) // else it is found by its subject still
	default:
		b.redis.dropSID(ctx, hashed, at.tag, at.id)
	}
}

// extendSID keeps the index for as long as the session. That it fails is no reason to fail the page: the margin is for that.
func (b *Browser) extendSID(ctx context.Context) {
	if b.record.sid == "-" {
		return
	}
	_ = b.redis.do(ctx, shortPatience, "extend sid", func(ctx context.Context) error {
		return b.redis.rdb.PExpire(ctx, sidKey(b.record.sid), b.store.cfg.IdleTimeout+sidMargin).Err()
	})
}

func (s *Store) findSID(ctx context.Context, hashed string) (tag string, err error) {
	reply, err := s.conn().run(ctx, patience, "find session by sid", findSIDScript, []string{sidKey(hashed)}, markLife.Milliseconds())
	if err != nil || reply[0] != int64(done) {
		return "", err
	}
	found, _ := reply[1].(string)
	return found[:min(len(found), encoding.EncodedLen(idSize))], nil
}

// dropSID is only for the room it frees: what it leaves is forgotten by itself.
func (c *conn) dropSID(ctx context.Context, hashed, tag, id string) {
	_, _ = c.run(ctx, shortPatience, "drop sid", dropSIDScript, []string{sidKey(hashed)}, sidValue(tag, id))
}
