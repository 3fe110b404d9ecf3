// Package session keeps in Redis what a site knows about a browser: who is signed in there, their tokens, the values
// that handlers put into sessions.Default(c), and what has ended.
//
// Start reading at [Store.Browser]: it loads the session of a request with one Redis command, and the [Browser] that it
// returns does all the rest. seal.go says what of it Redis can read, scripts.lua what happens there in one step, ended.go
// how what has ended stays so, and signin.go where a sign-in is until then.
//
// It needs Redis 6.2 or newer: one server, a Cluster, or Sentinel.
package session

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	gorilla "github.com/gorilla/sessions"
	"github.com/redis/go-redis/v9"
)

// The conditions that a caller may act on. Errors of this package wrap them.
var (
	// ErrUnavailable: Redis did not answer, or refused. The same cookie works later, unless a wish to end the session was done and
	// only the answer was lost.
	ErrUnavailable = errors.New("sessions are unavailable")
	// ErrEnded: the session has ended, since the request began or before, and nothing was saved.
	ErrEnded = errors.New("the session has ended")
	// ErrConflict: others saved in between each time, until we gave up. Nothing was saved.
	ErrConflict = errors.New("the session changed too often")
	// ErrLockLost: the lock has passed, or may have passed, to another holder. Nothing was saved.
	ErrLockLost = errors.New("the session's lock was lost")
)

// Options are what a site says about its sessions apart from its settings.
type Options struct {
	Secure     bool         // the site is served over https: Secure cookies with the __Host- prefix
	CookieName string       // "sid" if empty; the name to give to sessions.Sessions
	Log        *slog.Logger // slog.Default if nil
	// Observe, if set, is told what happens to sessions: how many, or for how long; see [ObservedStart].
	Observe func(ctx context.Context, event, outcome string, value float64)
}

// The events that Options.Observe is told of.
const (
	ObservedStart = "session.start" // outcome: "sign_in" or "visitor", who has values but is not signed in
	ObservedEnd   = "session.end"   // outcome: a [Why]; those that end by a time-out, or as one of too many, are not told
	ObservedLock  = "session.lock"  // the wait in [Browser.Lock], in seconds
)

// Store is a site's sessions. It implements the Store of gin-contrib/sessions.
type Store struct {
	rdb     redis.UniversalClient
	cfg     Config
	keys    [][]byte // the server's: the first seals, all open; at least one, which may be nil
	name    string
	prefix  string // of all cookies' names
	log     *slog.Logger
	options gorilla.Options // that sessions.Default(c) starts with
	observe func(ctx context.Context, event, outcome string, value float64)
	turns   sync.Map      // by a lock's key, a channel that is closed when its turn in this process is over
	life    time.Duration // of a lock that isn't renewed
	renewal time.Duration // of a lock, how often
}

// Format prints nothing of it: it holds the server's keys.
func (s *Store) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("session.Store")) }

// NewStore returns the sessions that rdb, best from [Open], keeps. The settings must be valid.
func NewStore(rdb redis.UniversalClient, cfg Config, opts Options) *Store {
	s := &Store{
		rdb:     rdb,
		cfg:     cfg,
		keys:    certain(parseKeys(string(cfg.Key))),
		name:    cmp.Or(opts.CookieName, "sid"),
		log:     cmp.Or(opts.Log, slog.Default()),
		observe: opts.Observe,
		life:    lockLife,
		renewal: lockRenewal,
	}
	if s.observe == nil {
		s.observe = func(context.Context, string, string, float64) {}
	}
	if opts.Secure {
		s.prefix = "__Host-" // no sibling domain, and nobody over http, can set or shadow the cookie
	}
	return s
}

// Ping reports whether Redis answers.
func (s *Store) Ping(ctx context.Context) error {
	return s.conn().do(ctx, patience, "ping", func(ctx context.Context) error { return s.rdb.Ping(ctx).Err() })
}

// The cookie is <tag>.<secret>. The tag leads to the place in a cluster: it is a hash of the person, or random for a
// visitor. All else follows from the secret and the server's key.

// mint makes a session's cookie and its place. Nobody but us chooses a secret.
func (s *Store) mint(tag string) (cookie string, at *place) {
	secret := random(secretSize)
	return tag + "." + encoding.EncodeToString(secret), s.place(tag, secret)
}

// find returns the place that a cookie leads to; nil if no cookie of ours looks like this.
func (s *Store) find(cookie string) *place {
	tag, text, _ := strings.Cut(cookie, ".")
	secret := decodeText(text, secretSize)
	if secret == nil || !isID(tag) {
		return nil
	}
	return s.place(tag, secret)
}

const (
	secretSize = 32
	idSize     = 12 // no two things have the same 96 bits, and nobody guesses them
	shortID    = 12 // characters of a session's ID, which only sets it apart from others under its tag
)

// encoding is strict: one place has one spelling.
var encoding = base64.RawURLEncoding.Strict()

// decodeText returns the bytes that text spells; nil if they are not that many.
func decodeText(text string, size int) []byte {
	if len(text) != encoding.EncodedLen(size) {
		return nil
	}
	data, err := encoding.DecodeString(text)
	if err != nil || len(data) != size { // it skips line breaks
		return nil
	}
	return data
}

// isID reports whether text can be a tag or an ID. Nothing else from a visitor gets into a key's name.
func isID(text string) bool { return decodeText(text, idSize) != nil }

func random(size int) []byte {
	data := make([]byte, size)
	_, _ = rand.Read(data) // never fails, by its documentation
	return data
}

func randomID() string { return encoding.EncodeToString(random(idSize)) }

// hash names a thing in Redis without telling what it is. What is of another kind has another hash.
func hash(kind, value string) string {
	sum := sha256.Sum256([]byte(format + " " + kind + "\x00" + value))
	return encoding.EncodeToString(sum[:idSize])
}

// setCookie sets a cookie with the attributes that nobody may weaken. A chosen Path, Domain and SameSite=Strict count,
// except that a __Host- cookie has no Domain and is for the whole site.
func (s *Store) setCookie(w http.ResponseWriter, name, value string, life time.Duration, chosen gorilla.Options) {
	cookie := http.Cookie{Name: s.prefix + name, Value: value}
	if s.prefix == "" {
		cookie.Path, cookie.Domain = chosen.Path, chosen.Domain
	}
	if chosen.SameSite == http.SameSiteStrictMode {
		cookie.SameSite = chosen.SameSite
	}
	line := cookie.String() // what was chosen comes first: gin-contrib's tester looks there
	if cookie.Path == "" {
		line += "; Path=/"
	}
	line += fmt.Sprintf("; Max-Age=%d; HttpOnly", max(0, int(life.Seconds())))
	if s.prefix != "" {
		line += "; Secure"
	}
	if cookie.SameSite == 0 {
		line += "; SameSite=Lax"
	}
	// The last word counts: a sign-out and a sign-in in one request leave one cookie.
	lines := slices.DeleteFunc(w.Header()["Set-Cookie"], func(line string) bool {
		return strings.HasPrefix(line, cookie.Name+"=")
	})
	w.Header()["Set-Cookie"] = append(lines, line)
}
