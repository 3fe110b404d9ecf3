package session

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"strings"
	"time"

	gorilla "github.com/gorilla/sessions"
	"github.com/redis/go-redis/v9"
)

// A sign-in under way lies in Redis under a key that only this browser and this state lead to. The browser's part is a
// cookie of its own, not the session's: a visitor gets no session from signing in half-way, and many tabs can sign in at
// once. A request that carries the cookie uses it again, so one browser has as many as it sent first requests at the
// same moment, and they go when the time for a sign-in has passed.

const (
	signInCookie = "signin-"
	maxBindings  = 32 // that are tried; a browser with more has been given them by somebody else
)

// PutSignIn remembers a sign-in under way, bound to this browser, for at most life.
func (b *Browser) PutSignIn(ctx context.Context, state string, value []byte, life time.Duration) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	life = max(life, time.Second) // to Redis, 0 means for ever
	carried := b.bindings()
	if len(carried) == 0 {
		secret := make([]byte, secretSize)
		_, _ = rand.Read(secret) // never fails, by its documentation
		carried = append(carried, &http.Cookie{
			Name:  b.store.prefix + signInCookie + randomID()[:8],
			Value: encoding.EncodeToString(secret),
		})
		b.cookies = append(b.cookies, carried[0]) // once in a request
	}
	binding := carried[0]
	at := signInPlace(binding, state)
	err := b.redis.do(ctx, patience, "remember sign-in", func(ctx context.Context) error {
		return b.redis.rdb.Set(ctx, at.signInKey(), at.seal("signin", value), life).Err()
	})
	if err != nil {
		return err
	}
	b.store.setCookie(b.w, strings.TrimPrefix(binding.Name, b.store.prefix), binding.Value, life, gorilla.Options{})
	return nil
}

// TakeSignIn returns a sign-in under way and forgets it in one step; nil if it is unknown, used, expired, or another
// browser's, which stays untouched.
func (b *Browser) TakeSignIn(ctx context.Context, state string) ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, binding := range b.bindings() {
		at := signInPlace(binding, state)
		var sealed string
		err := b.redis.do(ctx, patience, "take sign-in", func(ctx context.Context) (err error) {
			sealed, err = b.redis.rdb.GetDel(ctx, at.signInKey()).Result()
			return err
		})
		if errors.Is(err, redis.Nil) {
			continue
		}
		if err != nil {
			return nil, err
		}
		value, err := at.open("signin", sealed)
		if err != nil {
			b.store.log.Warn("a sign-in could not be opened, and is dropped", "err", err)
			return nil, nil
		}
		return value, nil
	}
	return nil, nil
}

// bindings returns the cookies that this browser's sign-ins are bound to.
func (b *Browser) bindings() []*http.Cookie {
	var found []*http.Cookie
	for _, c := range b.cookies {
		suffix, ok := strings.CutPrefix(c.Name, b.store.prefix+signInCookie)
		if !ok || len(suffix) != 8 || len(found) == maxBindings {
			continue
		}
		if secret, err := encoding.DecodeString(c.Value); err == nil && len(secret) == secretSize {
			found = append(found, c)
		}
	}
	return found
}

// signInPlace is where a sign-in lies. No tag: its key is used alone, and may be in any slot.
func signInPlace(binding *http.Cookie, state string) *place {
	secret, _ := encoding.DecodeString(binding.Value) // we wrote or checked it
	material := derive(secret, "signin "+state)
	return &place{id: encoding.EncodeToString(material[:idSize]), aead: newAEAD(material[idSize:])}
}

func (p *place) signInKey() string { return "signin:" + p.id }
