package session

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
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
// (ended:{tag}), or for the provider's session (in sid:hash), for as long as a sign-in may take.
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
	Why  Why
	At   time.Time
	key  string // of the mark
	told bool
}

// Ending returns how the session ended of which this request brought the cookie; nil if it has not ended, or in its own
// browser, or too long ago.
func (b *Browser) Ending() *Ending {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ending == nil || b.ending.Why == ByPerson {
		return nil
	}
	return b.ending
}

// Tell reports whether the browser is still to be told of its Ending, and is true once.
func (b *Browser) Tell(ctx context.Context) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ending == nil || b.ending.told || b.ending.Why == ByPerson {
		return false
	}
	b.ending.told = true
	reply, err := b.redis.run(ctx, shortPatience, "note that the browser was told", []string{b.ending.key})
	return err == nil && reply[0] == done
}

// parseEnding reads the mark of a session that has ended; nil if it is none.
func parseEnding(mark, key string) *Ending {
	words := strings.Split(mark, " ")
	if len(words) != 3 || !slices.Contains([]Why{ByPerson, ByOther, ByLogout, ByAccount, ByGrant}, Why(words[0])) {
		return nil
	}
	seconds, err := strconv.ParseInt(words[1], 10, 64)
	if err != nil {
		return nil
	}
	return &Ending{Why: Why(words[0]), At: time.Unix(seconds, 0), key: key, told: words[2] != "1"}
}

// SignInLife is for how long a sign-in that has begun can start a session, at most.
const SignInLife = time.Hour

// markLife is that of a mark against sign-ins from before: theirs, with a little for clocks that differ.
const markLife = SignInLife + 5*time.Minute

// endedKey names the mark that a person's sign-in looks at.
func endedKey(tag string) string { return "ended:{" + tag + "}" }

// errOvertaken: an end from outside came after the sign-in began.
var errOvertaken = errors.New("the sign-in was overtaken by a sign-out")

// refuseOvertaken looks at the marks of a person's older tags, which are in other slots than the session that is to begin.
func (c *conn) refuseOvertaken(ctx context.Context, tags []string, began time.Time) error {
	for _, tag := range tags {
		var ended int64
		err := c.do(ctx, patience, "look for ends", func(ctx context.Context) (err error) {
			ended, err = c.rdb.Get(ctx, endedKey(tag)).Int64()
			return err
		})
		if err != nil && !errors.Is(err, redis.Nil) {
			return err
		}
		if ended > began.UnixMilli() {
			return errOvertaken
		}
	}
	return nil
}

// EndBy ends sessions from outside, as a back-channel logout does: those of a subject, those that began with a
// provider's session ID, or with both, those of the subject that began with it. Sign-ins that began before can't start
// one any more. It returns how many it ended.
func (s *Store) EndBy(ctx context.Context, subject, sid string) (int, error) {
	c, tags, hashed := s.conn(), []string(nil), ""
	if sid != "" {
		hashed = hashSID(sid)
		reply, err := c.run(ctx, patience, "end sid", []string{sidKey(hashed)}, sidMark(hashed), markLife.Milliseconds())
		if err != nil {
			return 0, err
		}
		for _, member := range reply[1:] {
			if tag, ok := strings.CutPrefix(text(member), hashed[sidBucket:]); ok && isID(tag) {
				tags = append(tags, tag)
			}
		}
	}
	if subject != "" {
		tags = s.tags(subject)
	}
	return c.endAll(ctx, tags, "", hashed, ByLogout, "", markLife)
}

// EndBefore ends the sessions of a subject whose sign-in began before a time, for what happened to the account then. With
// signIns, other sign-ins that began before can't start one any more. It returns how many it ended.
func (s *Store) EndBefore(ctx context.Context, subject string, before time.Time, signIns bool) (int, error) {
	life := markLife
	if !signIns {
		life = 0
	}
	return s.conn().endAll(ctx, s.tags(subject), "", "", ByAccount, strconv.FormatInt(before.UnixMilli(), 10), life)
}

// MarkDue makes [Browser.IsDue] true for all sessions of a subject, and returns how many there are.
func (s *Store) MarkDue(ctx context.Context, subject string) (count int, err error) {
	err = s.conn().each(ctx, s.tags(subject), "mark sessions as due", func(reply []any) { count += int(reply[1].(int64)) })
	return count, err
}

// end ends one session, and reports whether there was one, and what it was.
func (c *conn) end(ctx context.Context, limit time.Duration, at *place, why Why) (was bool, value string, err error) {
	reply, err := c.run(ctx, limit, "end session", []string{at.key(), at.person()}, at.id, string(why))
	if err != nil || reply[0] != done {
		return false, "", err
	}
	c.observe(ctx, ObservedEnd, string(why), 1)
	return true, last(reply), nil
}

// endAll ends the sessions of a person's tags; scripts.lua says which.
func (c *conn) endAll(ctx context.Context, tags []string, keep, sid string, why Why, before string, life time.Duration) (count int, err error) {
	err = c.each(ctx, tags, "end sessions", func(reply []any) {
		ended := reply[1].(int64)
		c.observe(ctx, ObservedEnd, string(why), float64(ended))
		count += int(ended)
	}, keep, sid, string(why), before, life.Milliseconds())
	return count, err
}

// sid:xxxx leads from a provider's session ID to the person whose sessions began with it. It is in another slot than they
// are. So a session enters it after it has begun and before its cookie is set, that nobody has one that can't be found; and
// is forgotten a little later than when it is not used any more. One key is for all session IDs whose hash begins with the
// same, for a key costs Redis more than what is in it: a sorted set, by the time at which each is forgotten, of the rest of
// the hash and the person's tag. The mark of an end from outside is in it too.

const (
	sidMargin = 5 * time.Minute
	sidLength = 12 // characters of the hash
	sidBucket = 4  // of which so many are the key's name
)

func sidKey(hashed string) string         { return "sid:" + hashed[:sidBucket] }
func sidMember(hashed, tag string) string { return hashed[sidBucket:] + tag }
func sidMark(hashed string) string        { return hashed[sidBucket:] + "ended" }

// hashSID is short, for it lies in Redis twice: 64 bits tell all sessions apart, and their first 16 the keys. Of none it is "-".
func hashSID(sid string) string {
	if sid == "" {
		return "-"
	}
	sum := sha256.Sum256([]byte(format + " sid\x00" + sid))
	return hex.EncodeToString(sum[:2]) + encoding.EncodeToString(sum[2:8])
}

// enterSID puts a session's person into the index, or keeps it there for as long as the session.
func (b *Browser) enterSID(ctx context.Context, limit time.Duration, hashed string, at *place, began time.Time) error {
	if hashed == "-" {
		return nil
	}
	reply, err := b.redis.run(ctx, limit, "index sid", []string{sidKey(hashed)}, sidMember(hashed, at.tag),
		sidMark(hashed), began.Add(markLife).UnixMilli(), (b.store.cfg.IdleTimeout + sidMargin).Milliseconds())
	if err == nil && reply[0] == refused {
		return errOvertaken
	}
	return err
}
