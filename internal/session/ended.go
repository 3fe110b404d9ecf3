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
	first := int64(0)
	err := b.redis.do(ctx, shortPatience, "note that the browser was told", func(ctx context.Context) (err error) {
		first, err = b.redis.rdb.HDel(ctx, b.ending.key, "h").Result()
		return err
	})
	return err == nil && first == 1
}

// parseEnding reads the mark of a session that has ended; nil if m is none.
func parseEnding(m, h, key string) *Ending {
	why, at, _ := strings.Cut(m, " ")
	seconds, err := strconv.ParseInt(at, 10, 64) // of a session it is several numbers
	if err != nil || !slices.Contains([]Why{ByPerson, ByOther, ByLogout, ByAccount, ByGrant}, Why(why)) {
		return nil
	}
	return &Ending{Why: Why(why), At: time.Unix(seconds, 0), key: key, told: h == ""}
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
		found, err := c.endSID(ctx, hashed)
		if err != nil {
			return 0, err
		}
		tags = found
	}
	if subject != "" {
		tags = s.tags(subject)
	}
	return c.endAll(ctx, tags, "", hashed, ByLogout, "")
}

// EndBefore ends the sessions of a subject whose sign-in began before a time, for what happened to the account then. Other
// sign-ins that began before can't start one any more. It returns how many it ended.
func (s *Store) EndBefore(ctx context.Context, subject string, before time.Time) (int, error) {
	return s.conn().endAll(ctx, s.tags(subject), "", "", ByAccount, strconv.FormatInt(before.UnixMilli(), 10))
}

// MarkDue makes [Browser.IsDue] true for all sessions of a subject, and returns how many there are.
func (s *Store) MarkDue(ctx context.Context, subject string) (count int, err error) {
	for _, tag := range s.tags(subject) {
		reply, err := s.conn().run(ctx, patience, "mark sessions as due", dueScript, []string{personKey(tag)})
		if err != nil {
			return count, err
		}
		count += int(reply[1].(int64))
	}
	return count, nil
}

// end ends one session, and reports whether there was one, and which version and sealed values it had.
func (c *conn) end(ctx context.Context, limit time.Duration, at *place, why Why) (was bool, version, values string, err error) {
	reply, err := c.run(ctx, limit, "end session", endScript, []string{at.key(), at.person()}, at.id, string(why))
	if err != nil || reply[0] != done {
		return false, "", "", err
	}
	c.observe(ctx, ObservedEnd, string(why), 1)
	c.leaveSID(ctx, text(reply[3]), at.tag, at.id)
	return true, text(reply[1]), text(reply[2]), nil
}

// endAll ends the sessions of a person's tags; see endAllScript.
func (c *conn) endAll(ctx context.Context, tags []string, keep, sid string, why Why, before string) (count int, err error) {
	for _, tag := range tags {
		reply, err := c.run(ctx, patience, "end sessions", endAllScript, []string{personKey(tag), endedKey(tag)},
			keep, sid, string(why), before, markLife.Milliseconds())
		if err != nil {
			return count, err
		}
		for pair := range slices.Chunk(reply[1:], 2) {
			c.observe(ctx, ObservedEnd, string(why), 1)
			c.leaveSID(ctx, text(pair[1]), tag, text(pair[0]))
			count++
		}
	}
	return count, nil
}

// sid:hash leads from a provider's session ID to the sessions that began with it: it is a sorted set like a person's, of
// their tags and what tells their IDs apart. It is in another slot than they are. So a session enters it after it has
// begun and before its cookie is set, that nobody has one that can't be found; and leaves it after its end, or else is
// forgotten a little later than an unused session. The mark of an end from outside is in it too, under "ended".

const sidMargin = 5 * time.Minute

func sidKey(hashed string) string { return "sid:" + hashed }

func sidMember(tag, id string) string { return tag + id[:4] }

// hashSID is short, for it lies in Redis twice: 72 bits tell all sessions apart. Of none it is "-".
func hashSID(sid string) string {
	if sid == "" {
		return "-"
	}
	return hash("sid", sid)[:12]
}

// enterSID puts a session into the index, or keeps it there for as long as the session.
func (b *Browser) enterSID(ctx context.Context, limit time.Duration, hashed string, at *place, began time.Time) error {
	if hashed == "-" {
		return nil
	}
	reply, err := b.redis.run(ctx, limit, "index sid", enterSIDScript, []string{sidKey(hashed)}, sidMember(at.tag, at.id),
		began.Add(markLife).UnixMilli(), (b.store.cfg.IdleTimeout + sidMargin).Milliseconds())
	if err == nil && reply[0] == refused {
		return errOvertaken
	}
	return err
}

// leaveSID is only for the room it frees: what it leaves is forgotten by itself.
func (c *conn) leaveSID(ctx context.Context, hashed, tag, id string) {
	if hashed == "-" {
		return
	}
	_ = c.do(ctx, shortPatience, "leave sid", func(ctx context.Context) error {
		return c.rdb.ZRem(ctx, sidKey(hashed), sidMember(tag, id)).Err()
	})
}

// endSID returns the tags to which a provider's session ID leads, and leaves the mark of its end.
func (c *conn) endSID(ctx context.Context, hashed string) (tags []string, err error) {
	reply, err := c.run(ctx, patience, "end sid", endSIDScript, []string{sidKey(hashed)}, markLife.Milliseconds())
	if err != nil {
		return nil, err
	}
	for _, member := range reply[1:] {
		tag := text(member)
		if tag = tag[:min(len(tag), encoding.EncodedLen(idSize))]; isID(tag) && !slices.Contains(tags, tag) {
			tags = append(tags, tag)
		}
	}
	return tags, nil
}
