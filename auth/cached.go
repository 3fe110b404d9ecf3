package auth

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// caller is on whose account Logto is asked. Each has an allowance of its own, so that no number of tokens that strangers
// make up keeps a new key from those who have just got a token from Logto.
type caller int

const (
	strangers caller = iota // who sent us a token: refused at once when their allowance is used up
	ours                    // a sign-in, or a token that came from the token endpoint: waits for the allowance
)

// cached holds one thing that Logto publishes: fetched once for all who wait for it, used for a while, and kept a
// little longer when it can't be fetched again. A failure is never kept.
type cached[T any] struct {
	fetch func(context.Context) (T, error)
	fresh time.Duration    // used without asking
	stale time.Duration    // used when asking fails
	limit [2]*rate.Limiter // by caller

	mu      sync.Mutex
	known   answer[T]      // the newest good one; its zero is none
	next    time.Time      // when to ask for a newer one
	failing bool           // the last request failed
	newest  [2]*request[T] // by caller; nil: there was none
	sent    int            // requests so far
}

const (
	// retryAfter is how long a value that could not be renewed serves before that is tried again.
	retryAfter = 10 * time.Second
	// patience is how long a request waits for a Logto that has just failed, or that it may not need.
	patience = 2 * time.Second
	// joinable is how long others join a request to Logto: one that began before may be lost though Logto is well again.
	joinable = time.Second
)

func newCached[T any](fresh, stale time.Duration, fetch func(context.Context) (T, error)) *cached[T] {
	return &cached[T]{fetch: fetch, fresh: fresh, stale: stale, limit: [2]*rate.Limiter{
		strangers: rate.NewLimiter(rate.Every(time.Second), 5),
		ours:      rate.NewLimiter(rate.Every(time.Second), 10),
	}}
}

// answer is what a request to Logto brought.
type answer[T any] struct {
	value  T
	err    error
	asked  time.Time
	number int // of the request
}

// request is one to Logto, for all who wait for it.
type request[T any] struct {
	asked  time.Time // ahead of now while it waits for the limit
	done   chan struct{}
	answer answer[T] // when done
}

// get returns the value, fetching it if there is none that is fresh.
func (c *cached[T]) get(ctx context.Context) (T, error) {
	a := c.current(ctx, ours)
	return a.value, a.err
}

// find returns the value if it fits. If not, it fetches newer ones, until one fits or was asked for after find was called:
// one that somebody had asked for before may be just too old. A value that does not fit is returned too.
func (c *cached[T]) find(ctx context.Context, who caller, fits func(T) bool) (T, error) {
	c.mu.Lock()
	before := c.sent
	c.mu.Unlock()
	a := c.current(ctx, who)
	for a.err == nil && !fits(a.value) && a.number <= before {
		a = c.renew(ctx, who)
	}
	return a.value, a.err
}

// within returns a value that was asked for at most so long ago.
func (c *cached[T]) within(ctx context.Context, age time.Duration) (T, error) {
	c.mu.Lock()
	a := c.known
	c.mu.Unlock()
	if time.Since(a.asked) > age {
		a = c.renew(ctx, ours)
	}
	return a.value, a.err
}

// current returns the value as get does. One that is not fresh any more serves while a newer one can't be had.
func (c *cached[T]) current(ctx context.Context, who caller) answer[T] {
	c.mu.Lock()
	known, next := c.known, c.next
	c.mu.Unlock()
	if time.Since(known.asked) >= c.stale {
		return c.renew(ctx, who)
	}
	if time.Now().Before(next) {
		return known
	}
	short, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	newer := c.renew(short, who)
	if newer.err == nil {
		return newer
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if later := time.Now().Add(retryAfter); c.next.Before(later) {
		c.next = later
	}
	return c.known
}

// renew fetches the value however fresh it is.
func (c *cached[T]) renew(ctx context.Context, who caller) answer[T] {
	c.mu.Lock()
	failing := c.failing
	c.mu.Unlock()
	if failing || who == strangers {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, patience)
		defer cancel()
	}
	began := time.Now()
	r, err := c.ask(ctx, who)
	if err != nil {
		return answer[T]{err: err}
	}
	if r.asked.Before(began) { // by somebody else: should it fail or hang, that says nothing of now
		short, cancel := context.WithDeadline(ctx, r.asked.Add(joinable))
		defer cancel()
		if a := r.wait(short); a.err == nil || ctx.Err() != nil {
			return a
		}
		if again, err := c.ask(ctx, who); err == nil {
			r = again
		}
	}
	return r.wait(ctx)
}

func (r *request[T]) wait(ctx context.Context) answer[T] {
	select {
	case <-ctx.Done():
		return answer[T]{err: fmt.Errorf("%w: %w", ErrProvider, ctx.Err())}
	case <-r.done:
		return r.answer
	}
}

// ask returns the request under way, or begins one, if the limit allows it. Nobody who waits for it can cancel it; it ends by
// its own time-out.
func (c *cached[T]) ask(ctx context.Context, who caller) (*request[T], error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if r := c.newest[who]; r != nil && !r.ended() && now.Before(r.asked.Add(joinable)) {
		return r, nil
	}
	if who == strangers && c.limit[who].TokensAt(now) < 1 {
		return nil, fmt.Errorf("%w: strangers' tokens have made us ask too often", ErrProvider)
	}
	wait := c.limit[who].ReserveN(now, 1).DelayFrom(now) // a second at most, for what waits is joined
	r := &request[T]{asked: now.Add(wait), done: make(chan struct{})}
	c.newest[who] = r
	ctx = context.WithoutCancel(ctx)
	go func() {
		time.Sleep(wait)
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		c.mu.Lock()
		c.sent++
		number := c.sent
		c.mu.Unlock()
		value, err := c.fetch(ctx)
		c.keep(who, r, answer[T]{value, err, r.asked, number})
	}()
	return r, nil
}

// keep ends a request. A good answer is also one for those who have given up on it and asked again.
func (c *cached[T]) keep(who caller, r *request[T], a answer[T]) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r.end(a)
	c.failing = a.err != nil
	if a.err != nil {
		return
	}
	c.newest[who].end(a)
	if a.number > c.known.number { // requests may end in another order
		c.known, c.next = a, time.Now().Add(c.fresh)
	}
}

// end and ended are called under the lock of the cache.
func (r *request[T]) end(a answer[T]) {
	if !r.ended() {
		r.answer = a
		close(r.done)
	}
}

func (r *request[T]) ended() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}
