package session

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Info is a session as its person sees it.
type Info struct {
	ID              string // public; what EndOther takes
	Browser, System string // in words; empty if unknown
	Since, Seen     time.Time
	Current         bool // this browser's
}

// Sessions returns where this person is signed in: this browser first, then by when they were last seen.
func (b *Browser) Sessions(ctx context.Context) ([]Info, error) {
	at := b.person()
	if at == nil {
		return nil, nil
	}
	reply, err := b.redis.run(ctx, patience, "list sessions", listScript, []string{at.person()}, sessionPrefix(at.tag))
	if err != nil {
		return nil, err
	}
	var all []Info
	for _, item := range reply[1:] {
		fields, _ := item.([]any)
		var text [4]string
		for i := range min(len(fields), len(text)) {
			text[i], _ = fields[i].(string)
		}
		browser, system, _ := strings.Cut(text[3], "\n")
		all = append(all, Info{
			ID: text[0], Browser: browser, System: system,
			Since: milliseconds(text[1]), Seen: milliseconds(text[2]), Current: text[0] == at.id,
		})
	}
	slices.SortFunc(all, func(x, y Info) int {
		switch {
		case x.Current:
			return -1
		case y.Current:
			return 1
		}
		return cmp.Or(y.Seen.Compare(x.Seen), strings.Compare(x.ID, y.ID))
	})
	return all, nil
}

// EndOther ends one session of this person by its ID, this browser's own too. Ending none is no error.
func (b *Browser) EndOther(ctx context.Context, id string) error {
	at := b.person()
	if at == nil || !isID(id) {
		return nil
	}
	if id == at.id {
		return b.End(ctx)
	}
	_, _, _, err := b.redis.end(ctx, patience, &place{tag: at.tag, id: id}) // the tag is ours, so only our own is reached
	return err
}

// EndOthers ends all sessions of this person but this browser's, and returns how many.
func (b *Browser) EndOthers(ctx context.Context) (int, error) {
	at := b.person()
	if at == nil {
		return 0, nil
	}
	return b.redis.endAll(ctx, at.tag, at.id, "")
}

// person returns the place of a session in which somebody is signed in; nil if nobody is.
func (b *Browser) person() *place {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.identity == nil {
		return nil
	}
	return b.at
}

// EndBy ends sessions from outside, as a back-channel logout does: those of a subject, those that began with a
// provider's session ID, or with both, those of the subject that began with it. It returns how many.
func (s *Store) EndBy(ctx context.Context, subject, sid string) (int, error) {
	if subject != "" {
		if sid != "" {
			sid = hash("sid", sid)
		}
		return s.conn().endAll(ctx, hash("person", subject), "", sid)
	}
	if sid == "" {
		return 0, nil
	}
	var tag string
	err := s.conn().do(ctx, patience, "find session by sid", func(ctx context.Context) (err error) {
		tag, err = s.rdb.Get(ctx, sidKey(sid)).Result()
		return err
	})
	if errors.Is(err, redis.Nil) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return s.conn().endAll(ctx, tag, "", hash("sid", sid))
}

// indexSID lets EndBy find a person by a provider's session ID. It is written before the session and outlives it, so that
// none exists that can't be found.
func (b *Browser) indexSID(ctx context.Context, sid, tag string) error {
	return b.redis.do(ctx, patience, "index sid", func(ctx context.Context) error {
		return b.redis.rdb.Set(ctx, sidKey(sid), tag, b.store.cfg.AbsoluteTimeout+time.Minute).Err()
	})
}

func sidKey(sid string) string { return "sid:" + hash("sid", sid) }

func milliseconds(text string) time.Time {
	ms, _ := strconv.ParseInt(text, 10, 64) // our scripts wrote it
	return time.UnixMilli(ms)
}

// words says in words what a User-Agent is: browser and system, on two lines. The first match counts, for most of them
// claim to be several.
func words(agent string) string {
	first := func(names ...[2]string) string {
		for _, n := range names {
			if strings.Contains(agent, n[0]) {
				return n[1]
			}
		}
		return ""
	}
	browser := first(
		[2]string{"Edg", "Edge"}, [2]string{"OPR/", "Opera"}, [2]string{"SamsungBrowser/", "Samsung Internet"},
		[2]string{"Vivaldi/", "Vivaldi"}, [2]string{"Firefox/", "Firefox"}, [2]string{"FxiOS/", "Firefox"},
		[2]string{"CriOS/", "Chrome"}, [2]string{"Chrome/", "Chrome"}, [2]string{"Safari/", "Safari"}, [2]string{"curl/", "curl"},
	)
	system := first(
		[2]string{"iPhone", "iOS"}, [2]string{"iPad", "iPadOS"}, [2]string{"Android", "Android"}, [2]string{"Windows", "Windows"},
		[2]string{"Mac OS X", "macOS"}, [2]string{"CrOS", "ChromeOS"}, [2]string{"Linux", "Linux"},
	)
	return browser + "\n" + system
}
