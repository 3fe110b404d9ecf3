package auth

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
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
	fetch    func(context.Context) (T, error)
	fresh    time.Duration         // used without asking
	stale    time.Duration         // used when asking fails
	limit    [2]*rate.Limiter      // by caller
	requests [2]singleflight.Group // by caller

	mu    sync.Mutex
	known answer[T] // the newest good one; its zero is none
	next  time.Time // when to ask for a newer one
}

const (
	// retryAfter is how long a value that could not be renewed serves before that is tried again.
	retryAfter = 10 * time.Second
	// patience bounds each request, and how long anybody waits for one.
	patience = 2 * time.Second
)

func newCached[T any](fresh, stale time.Duration, fetch func(context.Context) (T, error)) *cached[T] {
	return &cached[T]{fetch: fetch, fresh: fresh, stale: stale, limit: [2]*rate.Limiter{
		strangers: rate.NewLimiter(rate.Every(time.Second), 5),
		ours:      rate.NewLimiter(rate.Every(time.Second), 10),
	}}
}

// answer is what a request to Logto brought.
type answer[T any] struct {
	value T
	err   error
	asked time.Time
}

// get returns the value, fetching it if there is none that is fresh.
func (c *cached[T]) get(ctx context.Context) (T, error) {
	return c.find(ctx, ours, func(T) bool { return true })
}

// within returns a value that was asked for at most so long ago.
func (c *cached[T]) within(ctx context.Context, age time.Duration) (T, error) {
	a, _ := c.newest()
	if time.Since(a.asked) > age {
		a, _ = c.ask(ctx, ours)
	}
	return a.value, a.err
}

// find returns the value if it is fresh and fits; else a newer one, whether that fits or not. If that can't be had, one that
// is not too old and fits will do. The last call of fits is with the value that find returns.
func (c *cached[T]) find(ctx context.Context, who caller, fits func(T) bool) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var known, a answer[T]
	var isFresh, isOwn bool
	for range 2 { // the first request may have begun before, for others: if it fails or is too old, that says nothing of now
		if known, isFresh = c.newest(); isFresh && fits(known.value) {
			return known.value, nil
		}
		if a, isOwn = c.ask(ctx, who); a.err == nil && fits(a.value) || isOwn {
			break
		}
	}
	if a.err != nil && !isFresh && known.err == nil && fits(known.value) {
		a = known
	}
	return a.value, a.err
}

// newest returns the newest good answer that is not too old.
func (c *cached[T]) newest() (a answer[T], isFresh bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.known.asked) >= c.stale {
		return answer[T]{err: fmt.Errorf("%w: not asked yet", ErrProvider)}, false
	}
	return c.known, time.Now().Before(c.next)
}

// ask joins the request that is under way, or begins its own. Nobody who waits for it can cancel it.
func (c *cached[T]) ask(ctx context.Context, who caller) (a answer[T], isOwn bool) {
	began := false
	done := c.requests[who].DoChan("", func() (any, error) {
		began = true
		return c.request(context.WithoutCancel(ctx), who), nil
	})
	select {
	case <-ctx.Done():
		return answer[T]{err: fmt.Errorf("%w: %w", ErrProvider, ctx.Err())}, true
	case result := <-done:
		return result.Val.(answer[T]), began
	}
}

// request asks Logto, if the limit allows it, and keeps a good answer.
func (c *cached[T]) request(ctx context.Context, who caller) answer[T] {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if who == strangers && c.limit[who].Tokens() < 1 {
		return answer[T]{err: fmt.Errorf("%w: strangers' tokens have made us ask too often", ErrProvider)}
	}
	if err := c.limit[who].Wait(ctx); err != nil { // it takes a second at most, for there is one request at a time
		return answer[T]{err: fmt.Errorf("%w: %w", ErrProvider, err)}
	}
	a := answer[T]{asked: time.Now()}
	if a.value, a.err = c.fetch(ctx); answered(a.err) != (OAuthError{}) {
		a.err = fmt.Errorf("%w: %w", ErrProvider, a.err) // what is published is there for everybody
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if later := time.Now().Add(retryAfter); a.err != nil && c.next.Before(later) {
		c.next = later
	} else if a.err == nil && !a.asked.Before(c.known.asked) { // requests may end in another order
		c.known, c.next = a, time.Now().Add(c.fresh)
	}
	return a
}
