//go:build unix

package e2e

import (
	"cmp"
	"context"
	"flag"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.com/logto-gin-starter/auth/authtest"
)

// Two tests that can run for as long as one wants; -v shows what they counted:
//
//	go test ./internal/e2e -v -run 'TestLoad$' -load 10m -browsers 300 -kill-redis 20s -timeout 20m
//	go test ./internal/e2e -v -run TestFlood -flood 1000000 -timeout 20m
var (
	loadTime      = flag.Duration("load", 10*time.Second, "TestLoad: how long the browsers use the application")
	loadBrowsers  = flag.Int("browsers", 60, "TestLoad: how many browsers")
	loadSeed      = flag.Uint64("seed", 1, "TestLoad: chooses what the browsers do and who is killed")
	loadKill      = flag.Duration("kill", 4*time.Second, "TestLoad: how often an instance is killed, on average; 0: never")
	loadKillRedis = flag.Duration("kill-redis", 8*time.Second, "TestLoad: how often Redis is killed, on average; 0: never")
	floodLimit    = flag.String("limit", "off", "TestFlood: RATE_LIMIT of the instances")
	floodSize     = flag.Int("flood", 2000, "TestFlood: how many sign-ins are begun")
)

// Many browsers use three instances while these and Redis are killed, and what must never happen is counted.
//
// load_user_test.go has what a person does, load_check_test.go what must hold of every answer, load_report_test.go what is
// counted. It is not parallel, so that all cores are its own.
func TestLoad(t *testing.T) {
	f := newFleetOn(t, func(options *authtest.Options) { addPeople(options, *loadBrowsers) })
	c := newCrowd(f.url, f.logto, f.redis, *loadBrowsers, *loadSeed)
	c.pause, c.pages = 5*time.Second, append(c.pages, ownUserInfo, ownToken)
	f.logto.On(authtest.Token, authtest.DelayAnswer(tokenDelay)) // a kill in that time loses a rotated token
	f.live(t, c)
	f.redis.look(t, &c.tally)
	c.leave(t.Context())
	left := f.redis.look(t, &c.tally)
	c.tally.judge(left)
	for _, i := range f.instances {
		i.kill()
		c.tally.readLog(&i.output)
	}
	t.Logf("%v with %d browsers of %d people at %d instances, seed %d\n\n%s",
		*loadTime, len(c.users), len(c.accounts), len(f.instances), *loadSeed, c.tally.table(left))
	for _, i := range invariants {
		n, allowed := c.tally.counts[string(i)], 0
		if i == noSignOutByKill { // on a busy machine the next instance may come after the provider's grace
			allowed = max(3, c.tally.counts["  of these in the middle of a refresh"]/5)
		}
		if n > allowed {
			t.Errorf("violated %d times: %s", n, i)
		}
	}
	for _, what := range []string{"sign-ins", "refreshes", "sign-outs", "  tries to use them again", "keys looked at", "log lines read"} {
		if c.tally.counts[what] == 0 {
			t.Errorf("nothing was tested: no %s", what)
		}
	}
}

// live lets the browsers live. Meanwhile it kills instances and Redis, as the system does when memory is short, and starts
// them again, at times that the seed chooses. When it returns all are back.
func (f *fleet) live(t *testing.T, c *crowd) {
	t.Helper()
	type event struct {
		at time.Duration
		do func()
	}
	var events []event
	random := rand.New(rand.NewPCG(*loadSeed, 1<<32))
	around := func(d time.Duration) time.Duration { return d/2 + time.Duration(random.Int64N(int64(d)+1)) } // and one and a half
	// plan has something done every now and then, and undone after a pause.
	plan := func(mean, pause time.Duration, do, undo func()) {
		for at := around(mean); mean > 0 && at < *loadTime; at += around(mean) {
			events = append(events, event{at, do})
			at += around(pause)
			events = append(events, event{at, undo})
		}
	}
	place := 0
	plan(*loadKill, 300*time.Millisecond, func() {
		place = random.IntN(len(f.instances))
		c.kill(f.instances[place])
	}, func() { f.start(t, place) })
	plan(*loadKillRedis, time.Second, func() {
		f.redis.kill()
		c.tally.add("Redis killed", 1)
	}, func() {
		f.redis.start()
		f.redis.look(t, &c.tally)
	})
	slices.SortStableFunc(events, func(a, b event) int { return cmp.Compare(a.at, b.at) })

	ctx, stop := context.WithTimeout(t.Context(), *loadTime)
	var living sync.WaitGroup
	defer living.Wait()
	defer stop()
	for _, u := range c.users {
		living.Go(func() { u.live(ctx) })
	}
	began := time.Now()
	for _, e := range events {
		time.Sleep(time.Until(began.Add(e.at)))
		e.do()
	}
	<-ctx.Done()
}

// Sign-ins that strangers begin, at any number, leave nothing in Redis.
func TestFlood(t *testing.T) {
	t.Parallel()
	f := newFleetOn(t, func(*authtest.Options) {}, "RATE_LIMIT="+*floodLimit)
	stranger := newPerson(t, f.url, f.logto)
	stranger.client.Jar = nil
	begin := func(i int) {
		a, err := stranger.at(f.instances[i%len(f.instances)]).get(t.Context(), "/sign-in")
		isRefused := *floodLimit != "off" && err == nil && a.status == http.StatusTooManyRequests
		if !isRefused && (err != nil || a.status != http.StatusSeeOther) {
			t.Errorf("GET /sign-in: %d, %v", a.status, err)
		}
	}
	parallel(64, 200, begin) // connections need memory too
	used := func() int {
		n, err := strconv.Atoi(f.redis.client.InfoMap(t.Context(), "memory").Item("Memory", "used_memory"))
		must(t, err)
		return n
	}
	before, began := used(), time.Now()
	parallel(64, *floodSize, begin)
	took, after := time.Since(began), used()
	if keys := f.redis.client.Keys(t.Context(), "*").Val(); len(keys) > 0 && (*floodLimit == "off" || len(keys) > 1 || !strings.HasPrefix(keys[0], "rate:")) {
		t.Errorf("%q are left", keys)
	}
	if after-before > 1<<20 {
		t.Errorf("Redis uses %d bytes more", after-before)
	}
	t.Logf("%d sign-ins begun in %v: %.0f/s; used_memory of Redis: %d before, %d after: %+d",
		*floodSize, took.Round(time.Millisecond), float64(*floodSize)/took.Seconds(), before, after, after-before)
}

// parallel calls do for each number below count, by so many workers.
func parallel(workers, count int, do func(i int)) {
	var next atomic.Int64
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < count; i = int(next.Add(1)) - 1 {
				do(i)
			}
		})
	}
	all.Wait()
}
