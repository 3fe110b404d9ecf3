package session

import (
	"cmp"
	"context"
	"slices"
	"strconv"
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
	for _, tag := range tags {
		reply, err := b.redis.run(ctx, patience, "list sessions", listScript, []string{personKey(tag)}, sessionPrefix(tag))
		if err != nil {
			return nil, err
		}
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

// EndOther ends one session of this person by its ID, this browser's own too, and reports whether there was one.
func (b *Browser) EndOther(ctx context.Context, id string) (bool, error) {
	at, tags := b.tags()
	if at == nil || !isID(id) {
		return false, nil
	}
	if id == at.id {
		return true, b.End(ctx)
	}
	for _, tag := range tags { // which are ours, so only our own is reached
		was, _, _, err := b.redis.end(ctx, patience, &place{tag: tag, id: id}, ByOther)
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
	return b.store.endAll(ctx, &b.redis, tags, at.id, "", ByOther, "")
}

// HasSession reports whether a session of a subject lives that began with the provider's session ID, or without one if it
// is empty: in any browser.
func (b *Browser) HasSession(ctx context.Context, subject, sid string) (bool, error) {
	hashed := "-"
	if sid != "" {
		hashed = hashSID(sid)
	}
	for _, tag := range b.store.tags(subject) {
		reply, err := b.store.conn().run(ctx, patience, "look for a session", hasSIDScript, []string{personKey(tag)}, sessionPrefix(tag), hashed)
		if err != nil {
			return false, err
		}
		if reply[0] == int64(done) {
			return true, nil
		}
	}
	return false, nil
}

// tags returns the place of a session in which somebody is signed in, and the tags under which their sessions lie; nil if
// nobody is.
func (b *Browser) tags() (*place, []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.who == nil {
		return nil, nil
	}
	return b.at, b.store.tags(b.who.subject)
}

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
