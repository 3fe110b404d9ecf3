package session

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"
)

// Info is a session as its person sees it.
type Info struct {
	ID              string    // public; what EndOther takes
	Browser, System string    // in words; empty if unknown
	Since, Seen     time.Time // since the sign-in began
	Current         bool      // this browser's
}

// Sessions returns where this person is signed in: this browser first, then by when they were last seen.
func (b *Browser) Sessions(ctx context.Context) ([]Info, error) {
	at, tags := b.tags()
	var all []Info
	err := b.redis.each(ctx, tags, func(id string, r record) {
		browser, system, _ := strings.Cut(r.words, "\t")
		all = append(all, Info{ID: id, Browser: browser, System: system, Since: r.since, Seen: r.seen, Current: id == at.id})
	})
	if err != nil {
		return nil, err
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

// each calls found for the sessions under a person's tags.
func (c *conn) each(ctx context.Context, tags []string, found func(id string, r record)) error {
	for _, tag := range tags {
		reply, err := c.run(ctx, patience, "list sessions", listScript, []string{personKey(tag)})
		if err != nil {
			return err
		}
		for pair := range slices.Chunk(reply[1:], 2) {
			var r record
			if r.parseLine(text(pair[1])) == nil {
				found(text(pair[0]), r)
			}
		}
	}
	return nil
}

// EndOther ends one session of this person by its ID, this browser's own too, and reports whether there was one.
func (b *Browser) EndOther(ctx context.Context, id string) (bool, error) {
	at, tags := b.tags()
	if at == nil || len(id) != shortID {
		return false, nil
	}
	if id == at.id {
		return true, b.End(ctx)
	}
	for _, tag := range tags { // which are ours, so only our own is reached
		was, _, err := b.redis.end(ctx, patience, &place{tag: tag, id: id}, ByOther)
		if was || err != nil {
			return was, err
		}
	}
	return false, nil
}

// EndOthers ends all sessions of this person but this browser's, and sign-ins under way. It returns how many sessions.
func (b *Browser) EndOthers(ctx context.Context) (int, error) {
	at, tags := b.tags()
	if at == nil {
		return 0, nil
	}
	return b.redis.endAll(ctx, tags, at.id, "", ByOther, "")
}

// HasSession reports whether a session of a subject lives that began with the provider's session ID, or without one if it
// is empty: in any browser.
func (b *Browser) HasSession(ctx context.Context, subject, sid string) (has bool, err error) {
	hashed := hashSID(sid)
	err = b.store.conn().each(ctx, b.store.tags(subject), func(_ string, r record) { has = has || r.sid == hashed })
	return has, err
}

// tags returns the place of a session in which somebody is signed in, and the tags under which their sessions lie; nil if
// nobody is.
func (b *Browser) tags() (*place, []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.record.who == nil {
		return nil, nil
	}
	return b.at, b.store.tags(b.record.who.subject)
}

// words says in words what a User-Agent is: browser and system, with a tab between. The first match counts, for most of them
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
	return browser + "\t" + system
}
