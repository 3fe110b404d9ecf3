package session

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	gorilla "github.com/gorilla/sessions"
	"github.com/redis/go-redis/v9"
)

// contents returns everything that a Redis holds: names of keys and fields, and values.
func contents(t testing.TB, rdb redis.UniversalClient) []string {
	t.Helper()
	ctx := context.Background()
	keys, err := rdb.Keys(ctx, "*").Result()
	must(t, err)
	all := slices.Clone(keys)
	for _, key := range keys {
		switch kind := rdb.Type(ctx, key).Val(); kind {
		case "hash":
			for field, value := range rdb.HGetAll(ctx, key).Val() {
				all = append(all, field, value)
			}
		case "zset":
			for _, z := range rdb.ZRangeWithScores(ctx, key, 0, -1).Val() {
				all = append(all, z.Member.(string), fmt.Sprint(z.Score))
			}
		case "string":
			all = append(all, rdb.Get(ctx, key).Val())
		default:
			t.Fatalf("%s is a %s", key, kind)
		}
	}
	return all
}

// Whoever has a copy of Redis has no token, no name, no cookie, and gets in nowhere.
func TestCopyOfRedis(t *testing.T) {
	s, j := newSite(t, DefaultConfig(), Options{}), jar{}
	secrets := []string{"ada-subject", "ada@example.com", "refresh-token", "provider-sid", "3 apples", "cart", "verifier", "the-jti"}
	j.do(t, s.Store, func(b *Browser) {
		state, _ := b.SealSignIn([]byte("verifier"))
		secrets = append(secrets, state)
		_, err := b.UseSignIn(t.Context(), state, time.Minute)
		must(t, err)
	})
	must(t, j.values(t, s.Store, func(session *gorilla.Session) { session.Values["cart"] = "3 apples" }))
	j.do(t, s.Store, func(b *Browser) {
		starts(t, b, "ada-subject", "provider-sid", []byte(`{"email":"ada@example.com"}`), []byte(`{"refresh":"refresh-token"}`))
	})
	j.do(t, s.Store, func(b *Browser) {
		_, release, err := b.Lock(t.Context())
		must(t, err)
		release()
		must(t, b.Update(t.Context(), func(i, t []byte) ([]byte, []byte, error) { return append(i, ' '), append(t, ' '), nil }))
	})
	must(t, s.Note(t.Context(), "the-jti", time.Minute))

	for _, value := range j {
		_, secret, _ := strings.Cut("."+value, ".")
		secrets = append(secrets, secret[len(secret)-43:])
		raw, err := encoding.DecodeString(secret[len(secret)-43:])
		must(t, err)
		secrets = append(secrets, string(raw))
	}
	all := contents(t, s.rdb)
	for _, text := range all {
		for _, secret := range secrets {
			if strings.Contains(text, secret) {
				t.Errorf("Redis holds %q in %q", secret, text)
			}
		}
	}

	var tags []string
	for _, text := range all {
		if _, rest, ok := strings.Cut(text, "{"); ok {
			tag, _, _ := strings.Cut(rest, "}")
			tags = append(tags, tag)
		}
	}
	slices.Sort(tags)
	tried := 0
	for _, tag := range slices.Compact(tags) {
		for _, text := range all {
			for i := range text {
				for _, cookie := range []string{
					tag + "." + encoding.EncodeToString(padded(text[i:])), tag + "." + text[i:], text[i:],
				} {
					if tried++; find(cookie) == nil {
						continue
					}
					if got := (jar{"sid": cookie}).who(t, s.Store); got != "" {
						t.Fatalf("%q signs in %q", cookie, got)
					}
				}
			}
		}
	}
	t.Logf("%d cookies made from %d values", tried, len(all))
	if who := j.who(t, s.Store); !strings.Contains(who, "ada@example.com") {
		t.Errorf("the real cookie signs in %q", who)
	}
}

// padded returns a secret made of the beginning of a text.
func padded(text string) []byte {
	return append([]byte(text), bytes.Repeat([]byte{0}, secretSize)...)[:secretSize]
}

// A sealed value opens only where it was sealed, with the secret of its cookie.
func TestSeal(t *testing.T) {
	s := newSite(t, DefaultConfig(), Options{})
	cookie, at := s.mint(randomID())
	sealed := at.seal("h", []byte("value"))
	if got, err := find(cookie).open("h", sealed); string(got) != "value" || err != nil {
		t.Fatalf("open = %q, %v", got, err)
	}
	if got, err := at.open("h", at.seal("h", nil)); got == nil || err != nil {
		t.Errorf("an empty value opens as %v, %v", got, err)
	}
	if sealed == at.seal("h", []byte("value")) {
		t.Error("sealing twice gives the same")
	}
	_, other := s.mint(at.tag)
	moved := *at
	moved.tag = randomID()
	for name, open := range map[string]func() ([]byte, error){
		"another field":   func() ([]byte, error) { return at.open("t", sealed) },
		"another secret":  func() ([]byte, error) { return other.open("h", sealed) },
		"another person":  func() ([]byte, error) { return moved.open("h", sealed) },
		"cut off":         func() ([]byte, error) { return at.open("h", sealed[:len(sealed)-1]) },
		"nothing":         func() ([]byte, error) { return at.open("h", "") },
		"less than nonce": func() ([]byte, error) { return at.open("h", sealed[:5]) },
	} {
		if got, err := open(); err == nil {
			t.Errorf("%s: opened as %q", name, got)
		}
	}
}

// FuzzCookie feeds any cookie: one that was not minted signs nobody in, costs at most one command, and never fails.
func FuzzCookie(f *testing.F) {
	s := newSite(f, DefaultConfig(), Options{})
	j := jar{}
	j.signIn(f, s.Store, "ada", "")
	real := j["sid"]
	f.Add(real)
	f.Add("")
	f.Add(".")
	f.Add(real + "=")
	f.Add(real[:22] + "." + strings.Repeat("A", 43))
	f.Add("}" + real[1:])
	f.Add(strings.Repeat("a.", 5000))
	f.Add(real[:len(real)-1] + "\n")
	f.Fuzz(func(t *testing.T, cookie string) {
		at := find(cookie)
		if at != nil && (cookie != real && len(cookie) != len(real) || strings.ContainsAny(at.key(), "\r\n \x00*")) {
			t.Errorf("%q leads to %q", cookie, at.key())
		}
		r := jar{}.request(t.Context())
		r.Header["Cookie"] = []string{"sid=" + cookie}
		commands := s.sent.during(func() {
			b, err := s.Browser(nil, r)
			must(t, err)
			if identity, _ := b.Identity(t.Context()); identity != nil && !strings.Contains(cookie, real) {
				t.Errorf("%q signs in %q", cookie, identity)
			}
		})
		if commands > 1 {
			t.Errorf("%d commands", commands)
		}
	})
}
