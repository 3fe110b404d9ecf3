package session

import (
	"bytes"
	"context"
	"fmt"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// A session as a site without API resources has it: 700 bytes of claims, 500 of tokens.
var (
	typicalIdentity = bytes.Repeat([]byte("claims "), 100)
	typicalTokens   = bytes.Repeat([]byte("token"), 100)
)

// signInMany signs in n people, several at once, and returns their cookies.
func signInMany(t testing.TB, s *Store, n int) []jar {
	jars := make([]jar, n)
	var all sync.WaitGroup
	const workers = 32
	for worker := range workers {
		all.Go(func() {
			for i := worker; i < n; i += workers {
				jars[i] = jar{}
				jars[i].do(t, s, func(b *Browser) {
					starts(t, b, fmt.Sprint("person", i), fmt.Sprint("sid", i), typicalIdentity, typicalTokens)
				})
			}
		})
	}
	all.Wait()
	return jars
}

// memory returns what Redis uses, its own tables included.
func memory(s *site) (bytes float64) {
	for line := range strings.Lines(s.rdb.Info(context.Background(), "memory").Val()) {
		_, _ = fmt.Sscanf(line, "used_memory:%g", &bytes) // of one line
	}
	return bytes
}

// A session, with its part of the indexes, has at most 2 KB in Redis.
func TestBytesPerSession(t *testing.T) {
	const n = 1000
	s := open(t, "redis://"+startRedis(t).addr(), DefaultConfig())
	signInMany(t, s.Store, 1)
	before := memory(s)
	signInMany(t, s.Store, n)
	var sum int64
	for _, key := range s.rdb.Keys(t.Context(), "*").Val() {
		sum += s.rdb.MemoryUsage(t.Context(), key).Val()
	}
	t.Logf("a session's keys have %d bytes by MEMORY USAGE; with Redis' own tables it costs %.0f", sum/n, (memory(s)-before)/n)
	if sum/n > 2048 {
		t.Errorf("a session's keys have %d bytes, more than 2048", sum/n)
	}
}

// One process's pages one after another: what a page's session costs beside the GET of 4 KiB that is its limit.
func BenchmarkPage(b *testing.B) {
	server := startRedis(b)
	s := open(b, "redis://"+server.addr(), DefaultConfig())
	ctx, j := context.Background(), jar{}
	j.do(b, s.Store, func(br *Browser) { starts(b, br, "ada", "sid", typicalIdentity, typicalTokens) })
	must(b, s.rdb.Set(ctx, "page", strings.Repeat("x", 4096), 0).Err())
	header := j.request(ctx).Header
	page := func() {
		r := httptest.NewRequestWithContext(ctx, "GET", "/", nil)
		r.Header = header
		if _, err := s.Browser(nil, r); err != nil {
			b.Error(err)
		}
	}
	for name, run := range map[string]func(){
		"signed in": page,
		"GET 4 KiB": func() {
			httptest.NewRequestWithContext(ctx, "GET", "/", nil)
			s.rdb.Get(ctx, "page")
		},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				run()
			}
		})
		b.Run(name+" parallel", func(b *testing.B) {
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					run()
				}
			})
		})
	}
}

// Sign-ins: a session each, of people who have none yet.
func BenchmarkSignIn(b *testing.B) {
	s := open(b, "redis://"+startRedis(b).addr(), DefaultConfig())
	for i := 0; b.Loop(); i++ {
		br, err := s.Browser(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
		must(b, err)
		starts(b, br, fmt.Sprint("person", i), fmt.Sprint("sid", i), typicalIdentity, typicalTokens)
	}
}
