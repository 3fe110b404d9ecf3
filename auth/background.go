package auth

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// background is the work that no request waits for. It is bounded, and ends with its Client.
type background struct {
	log     *slog.Logger
	places  chan struct{}
	closing chan struct{}

	mu     sync.Mutex // guards what follows
	closed bool
	tasks  sync.WaitGroup
}

func newBackground(log *slog.Logger, places int) *background {
	return &background{log: log, places: make(chan struct{}, places), closing: make(chan struct{})}
}

// run runs a task, unless too many are under way or the Client is closed. later waits, but not when it is being closed.
func (b *background) run(ctx context.Context, what string, task func(ctx context.Context, later func(time.Duration)) error) (started bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	select {
	case b.places <- struct{}{}:
	default:
		return false
	}
	ctx = context.WithoutCancel(ctx)
	b.tasks.Go(func() {
		defer func() { <-b.places }()
		if err := task(ctx, b.later); err != nil {
			b.log.WarnContext(ctx, what, "error", err)
		}
	})
	return true
}

func (b *background) later(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-b.closing:
	}
}

// Close ends what the Client does in the background. What was to be tried again later is tried at once, and Close returns when
// all is done: after half a minute at the most, in which a refresh may still save its token.
func (c *Client) Close() {
	for _, b := range []*background{c.revocations, c.revalidations} {
		b.mu.Lock()
		if !b.closed {
			b.closed = true
			close(b.closing)
		}
		b.mu.Unlock()
		defer b.tasks.Wait()
	}
}
