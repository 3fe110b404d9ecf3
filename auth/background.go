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

const maxBackground = 64

func newBackground(log *slog.Logger) *background {
	return &background{log: log, places: make(chan struct{}, maxBackground), closing: make(chan struct{})}
}

// run runs a task, or says in the log why it doesn't. later waits, but not when the Client is being closed.
func (b *background) run(ctx context.Context, what string, task func(ctx context.Context, later func(time.Duration)) error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case b.places <- struct{}{}:
	default:
		b.log.WarnContext(ctx, what+": left out, too much is under way")
		return
	}
	if b.closed {
		<-b.places
		b.log.WarnContext(ctx, what+": left out, the application ends")
		return
	}
	ctx = context.WithoutCancel(ctx)
	b.tasks.Go(func() {
		defer func() { <-b.places }()
		if err := task(ctx, b.later); err != nil {
			b.log.WarnContext(ctx, what, "error", err)
		}
	})
}

func (b *background) later(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-b.closing:
	}
}

// Close ends what the Client does in the background, such as revocations that are to be tried again: they are tried at
// once, and Close returns when they are done, which takes seconds at the most.
func (c *Client) Close() {
	c.background.mu.Lock()
	if !c.background.closed {
		c.background.closed = true
		close(c.background.closing)
	}
	c.background.mu.Unlock()
	c.background.tasks.Wait()
}
