//go:build linux

package bench

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"example.com/logto-gin-starter/internal/session"
)

func openRedis(t *testing.T, address string) redis.UniversalClient {
	t.Helper()
	rdb, err := session.Open(session.RedisConfig{URL: session.Secret("redis://" + address)})
	must(t, err)
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

// fill starts n sessions, of a person each, as a sign-in does. It returns their cookies.
func fill(t *testing.T, store *session.Store, n int, content func() (identity, tokens []byte)) []string {
	t.Helper()
	cookies := make([]string, n)
	var next atomic.Int64
	var all errgroup.Group
	for range 4 * runtime.GOMAXPROCS(0) {
		all.Go(func() error {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/callback", nil)
				r.Header.Set("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0")
				w := httptest.NewRecorder()
				browser, err := store.Browser(w, r)
				if err != nil {
					return err
				}
				identity, tokens := content()
				started, err := browser.Start(t.Context(), fmt.Sprint("person", i), fmt.Sprint("sid", i), time.Now(), identity, tokens)
				if err != nil || !started {
					return fmt.Errorf("started: %v, %w", started, err)
				}
				cookies[i] = w.Result().Cookies()[0].Value
			}
			return nil
		})
	}
	must(t, all.Wait())
	return cookies
}

// randomText has nothing in it that could be kept in fewer bytes.
func randomText(size int) []byte {
	random := make([]byte, size)
	_, _ = rand.Read(random) // never fails
	return []byte(base64.StdEncoding.EncodeToString(random)[:size])
}

// usedMemory returns what Redis uses, in bytes.
func usedMemory(t *testing.T, rdb redis.UniversalClient) (bytes float64) {
	t.Helper()
	info, err := rdb.Info(t.Context(), "memory").Result()
	must(t, err)
	_, rest, _ := strings.Cut(info, "used_memory:")
	if _, err := fmt.Sscan(rest, &bytes); err != nil {
		t.Fatalf("used_memory: %v", err)
	}
	return bytes
}
