package session

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// BenchmarkScale fills one Redis with more and more sessions, and measures signed-in reads at each size with all cores.
// Beside them it reports what the sign-ins that led there cost. docs/operate.md is made from its figures:
//
//	go test -run '^$' -bench Scale -benchtime 3s -timeout 30m ./internal/session
func BenchmarkScale(b *testing.B) {
	s := open(b, "redis://"+startRedis(b).addr(), DefaultConfig())
	ctx := context.Background()
	memory := func() (bytes float64) {
		for line := range strings.Lines(s.rdb.Info(ctx, "memory").Val()) {
			_, _ = fmt.Sscanf(line, "used_memory:%f", &bytes) // of one line
		}
		return bytes
	}
	empty := memory()
	var people atomic.Int64
	var signedIn [1000]jar // some of them
	for _, size := range []int64{1_000, 100_000, 1_000_000} {
		began, before := time.Now(), people.Load()
		var all sync.WaitGroup
		for range runtime.GOMAXPROCS(0) * 4 {
			all.Go(func() {
				for n := people.Add(1); n <= size; n = people.Add(1) {
					j := jar{}
					j.do(b, s.Store, func(br *Browser) {
						starts(b, br, fmt.Sprint("person", n), fmt.Sprint("sid", n), typicalIdentity, typicalTokens)
					})
					if n <= int64(len(signedIn)) {
						signedIn[n-1] = j
					}
				}
			})
		}
		all.Wait()
		people.Store(size)
		signIns := float64(size-before) / time.Since(began).Seconds()
		bytes := (memory() - empty) / float64(size)
		b.Run(fmt.Sprintf("%d", size), func(b *testing.B) {
			sent := s.sent.n.Load()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := s.Browser(httptest.NewRecorder(), signedIn[rand.N(len(signedIn))].request(ctx)); err != nil {
						b.Error(err)
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "reads/s")
			b.ReportMetric(float64(s.sent.n.Load()-sent)/float64(b.N), "commands/read")
			b.ReportMetric(signIns, "sign-ins/s")
			b.ReportMetric(bytes, "bytes/session")
		})
	}
}
