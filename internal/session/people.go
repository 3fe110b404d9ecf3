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
	sid             string    // hash of the provider's session ID
}

// Sessions returns where this person is signed in: this browser first, then by when they were last seen.
func (b *Browser) Sessions(ctx context.Context) ([]Info, error) {
	at, tags := b.tags()
	all, err := b.redis.list(ctx, tags)
	for i := range all {
		all[i].Current = all[i].ID == at.id
	}
	first := map[bool]int{true: -1}
	slices.SortFunc(all, func(x, y Info) int {
		return cmp.Or(first[x.Current]-first[y.Current], y.Seen.Compare(x.Seen), strings.Compare(x.ID, y.ID))
	})
	return all, err
}

// list returns the sessions under a person's tags.
func (c *conn) list(ctx context.Context, tags []string) (all []Info, err error) {
	err = c.each(ctx, tags, "list sessions", func(reply []any) {
		for pair := range slices.Chunk(reply[1:], 2) {
			var r record
			if r.parseLine(text(pair[1])) == nil {
				browser, system, _ := strings.Cut(r.words, "\t")
				all = append(all, Info{ID: text(pair[0]), Browser: browser, System: system, Since: r.since, Seen: r.seen, sid: r.sid})
			}
		}
	})
	return all, err
}

// each runs a script for each of a person's tags, with its index and the mark against sign-ins as keys.
func (c *conn) each(ctx context.Context, tags []string, script string, found func(reply []any), args ...any) error {
	for _, tag := range tags {
		reply, err := c.run(ctx, patience, script, []string{personKey(tag), endedKey(tag)}, args...)
		if err != nil {
			return err
		}
		found(reply)
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
	return b.redis.endAll(ctx, tags, at.id, "", ByOther, "", markLife)
}

// HasSession reports whether a session of a subject lives that began with the provider's session ID, or without one if it
// is empty: in any browser.
func (b *Browser) HasSession(ctx context.Context, subject, sid string) (bool, error) {
	all, err := b.store.conn().list(ctx, b.store.tags(subject))
	return slices.ContainsFunc(all, func(i Info) bool { return i.sid == hashSID(sid) }), err
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

// What a User-Agent has in it, and what that means. The first match counts, for most of them claim to be several.
var (
	browsers = [][2]string{
		{"Edg", "Edge"}, {"OPR/", "Opera"}, {"SamsungBrowser/", "Samsung Internet"}, {"Vivaldi/", "Vivaldi"}, {"Firefox/", "Firefox"},
		{"FxiOS/", "Firefox"}, {"CriOS/", "Chrome"}, {"Chrome/", "Chrome"}, {"Safari/", "Safari"}, {"curl/", "curl"}, {"", ""},
	}
	systems = [][2]string{
		{"iPhone", "iOS"}, {"iPad", "iPadOS"}, {"Android", "Android"}, {"Windows", "Windows"}, {"Mac OS X", "macOS"},
		{"CrOS", "ChromeOS"}, {"Linux", "Linux"}, {"", ""},
	}
)

// words says in words what a User-Agent is: browser and system, with a tab between.
func words(agent string) string {
	isIn := func(name [2]string) bool { return strings.Contains(agent, name[0]) }
	return browsers[slices.IndexFunc(browsers, isIn)][1] + "\t" + systems[slices.IndexFunc(systems, isIn)][1]
}
