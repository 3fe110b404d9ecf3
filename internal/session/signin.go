package session

import (
	"context"
	"net/http"
	"strings"
	"time"

	gorilla "github.com/gorilla/sessions"
)

// A sign-in under way lies with the browser alone: sealed in the state that goes to the provider and comes back, under a
// key that a cookie leads to. So whoever begins to sign in leaves nothing in Redis, however often. The cookie is not the
// session's: a visitor gets no session from signing in half-way, and many tabs can sign in at once. A request that
// carries the cookie uses it again, so one browser has as many as it sent first requests at the same moment.

const (
	signInCookie = "signin-"
	maxBindings  = 32      // that are tried; a browser with more has been given them by somebody else
	maxState     = 4 << 10 // bytes
	// bindingLife is longer than a sign-in's, for who comes back too late can still be told where they wanted to go.
	bindingLife = 2 * SignInLife
)

// SealSignIn returns a state that only this browser, and only by OpenSignIn, can turn back into value; and a secret that
// nobody knows but who has the state and this browser's cookie.
func (b *Browser) SealSignIn(value []byte) (state string, secret []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	carried := b.bindings()
	if len(carried) == 0 {
		carried = append(carried, &http.Cookie{
			Name:  b.store.prefix + signInCookie + randomID()[:8],
			Value: encoding.EncodeToString(random(secretSize)),
		})
		b.cookies = append(b.cookies, carried[0]) // once in a request
	}
	binding := carried[0]
	b.store.setCookie(b.w, strings.TrimPrefix(binding.Name, b.store.prefix), binding.Value, bindingLife, gorilla.Options{})
	key, own := b.store.keys[0], decodeText(binding.Value, secretSize) // we wrote or checked it
	state = encoding.EncodeToString(newAEAD(key, own, "sign-in").Seal(nil, nil, value, nil))
	return state, derive(key, own, "sign-in "+state)
}

// OpenSignIn is SealSignIn's inverse. The value is nil if the state is none, or another browser's.
func (b *Browser) OpenSignIn(state string) (value, secret []byte) {
	if len(state) > maxState {
		return nil, nil
	}
	sealed := decodeText(state, encoding.DecodedLen(len(state)))
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, binding := range b.bindings() {
		own := decodeText(binding.Value, secretSize)
		for _, key := range b.store.keys {
			if value, err := newAEAD(key, own, "sign-in").Open([]byte{}, nil, sealed, nil); err == nil {
				return value, derive(key, own, "sign-in "+state)
			}
		}
	}
	return nil, nil
}

// UseSignIn notes for life that a state was used, and reports whether nobody had noted it before.
func (b *Browser) UseSignIn(ctx context.Context, state string, life time.Duration) (first bool, err error) {
	return b.redis.note(ctx, hash("sign-in", state), life)
}

// bindings returns the cookies that this browser's sign-ins are bound to.
func (b *Browser) bindings() []*http.Cookie {
	var found []*http.Cookie
	for _, c := range b.cookies {
		suffix, ok := strings.CutPrefix(c.Name, b.store.prefix+signInCookie)
		if ok && len(suffix) == 8 && len(found) < maxBindings && decodeText(c.Value, secretSize) != nil {
			found = append(found, c)
		}
	}
	return found
}

func (c *conn) note(ctx context.Context, hashed string, life time.Duration) (first bool, err error) {
	// At least a second: to Redis, 0 and less mean for ever.
	reply, err := c.run(ctx, patience, "remember id", []string{onceKey(hashed)}, max(life, time.Second).Milliseconds())
	return err == nil && reply[0] == done, err
}

func onceKey(hashed string) string { return "once:" + hashed }

// Note remembers for life that something was used, such as the ID of a logout token. Redis keeps a hash of it.
func (s *Store) Note(ctx context.Context, id string, life time.Duration) error {
	_, err := s.conn().note(ctx, hash("once", id), life)
	return err
}

// Noted reports whether it was.
func (s *Store) Noted(ctx context.Context, id string) (noted bool, err error) {
	err = s.conn().do(ctx, patience, "look for id", func(ctx context.Context) error {
		n, err := s.rdb.Exists(ctx, onceKey(hash("once", id))).Result()
		noted = n > 0
		return err
	})
	return noted, err
}
