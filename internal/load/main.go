// Command load proves under load what a reader of the code can only believe. It starts a Redis, a provider and several
// instances of the application, lets many browsers use them while instances and Redis are killed, and counts how often
// something happened that must never happen.
//
//	go run ./internal/load -for 10m
//	go run ./internal/load -flood 1000000
//
// It needs redis-server in PATH, and starts and ends everything by itself. The exit code is 1 if an invariant was violated.
//
// Start reading at [run]. servers.go and redis.go have what is started and killed, browser.go what a person does, check.go
// what must hold of every answer, refreshes.go which refresh a kill broke off, report.go what is counted.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

type options struct {
	duration                   time.Duration
	browsers, instances, flood int
	seed                       uint64
	killInstance, killRedis    time.Duration // how often on average; 0: never
}

func main() {
	var o options
	flag.DurationVar(&o.duration, "for", time.Minute, "how long the browsers use the application")
	flag.IntVar(&o.browsers, "browsers", 300, "how many browsers")
	flag.IntVar(&o.instances, "instances", 3, "how many instances of the application")
	flag.Uint64Var(&o.seed, "seed", 1, "chooses what the browsers do and who is killed")
	flag.DurationVar(&o.killInstance, "kill", 6*time.Second, "how often an instance is killed, on average; 0: never")
	flag.DurationVar(&o.killRedis, "kill-redis", 18*time.Second, "how often Redis is killed, on average; 0: never")
	flag.IntVar(&o.flood, "flood", 0, "instead of all this, begin so many anonymous sign-ins and measure what they leave in Redis")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, o, &tally{}, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

// run ends everything that it started, also when ctx ends.
func run(ctx context.Context, o options, t *tally, out io.Writer) error {
	if o.browsers < 1 || o.instances < 1 {
		return errors.New("-browsers and -instances must be at least 1")
	}
	s, err := start(ctx, o, t)
	if err != nil {
		return err
	}
	defer s.close()
	if o.flood > 0 {
		return s.flood(ctx, o.flood, out)
	}
	c := newCrowd(s.url, s.logto, t, s.refreshes, s.redis)
	c.addBrowsers(o.browsers, o.seed)
	began := time.Now()
	if err := s.load(ctx, o, c); err != nil {
		return err
	}
	fmt.Fprintf(out, "%v with %d browsers of %d people at %d instances, seed %d\n\n",
		time.Since(began).Round(time.Second), o.browsers, len(c.people), o.instances, o.seed)

	// The end is the same after Ctrl-C, and has a bound of its own.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Minute)
	defer cancel()
	c.leave(ctx)
	left, err := s.redis.look(ctx, t)
	if err != nil {
		return err
	}
	return t.print(out, left)
}

// load lets the browsers live and the servers die until the time is over or ctx ends. Then all servers are back.
func (s *servers) load(ctx context.Context, o options, c *crowd) error {
	ctx, cancel := context.WithTimeout(ctx, o.duration)
	defer cancel()
	work, ctx := errgroup.WithContext(ctx)
	work.Go(func() error { return s.killInstances(ctx, o) })
	work.Go(func() error { return s.killRedis(ctx, o) })
	work.Go(func() error {
		for sleep(ctx, 3*time.Second) {
			_, _ = s.redis.look(ctx, s.tally) // while Redis is away there is nothing to be seen
		}
		return nil
	})
	var living sync.WaitGroup
	for _, b := range c.browsers {
		living.Go(func() { b.live(ctx) })
	}
	err := work.Wait()
	living.Wait()
	return err
}

// flood begins so many sign-ins without a cookie, as a stranger's program does, and says what they leave in Redis.
func (s *servers) flood(ctx context.Context, count int, out io.Writer) error {
	memory, keys, err := s.redis.size(ctx)
	if err != nil {
		return err
	}
	began, client := time.Now(), newClient(s.transport, nil)
	work, working := errgroup.WithContext(ctx)
	work.SetLimit(64)
	for i := 0; i < count && working.Err() == nil; i++ {
		address := s.slots[i%len(s.slots)].Load().url + "/sign-in"
		work.Go(func() error {
			a, err := fetch(client, newRequest(working, http.MethodGet, address, nil))
			if err == nil && a.status != http.StatusSeeOther {
				err = fmt.Errorf("GET /sign-in: %d", a.status)
			}
			return err
		})
	}
	if err := work.Wait(); err != nil {
		return err
	}
	took := time.Since(began)
	memoryAfter, keysAfter, err := s.redis.size(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%d anonymous sign-ins begun in %v: %.0f/s\n", count, took.Round(time.Second), float64(count)/took.Seconds())
	fmt.Fprintf(out, "used_memory: %d before, %d after: %+d, %.1f bytes for each\n",
		memory, memoryAfter, memoryAfter-memory, float64(memoryAfter-memory)/float64(count))
	fmt.Fprintf(out, "keys: %d before, %d after\n", keys, keysAfter)
	return nil
}

// sleep reports whether it slept to the end.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
