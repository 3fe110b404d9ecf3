package auth

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// background is the work that no request waits for. It is bounded, and ends with its Client.
type background struct {
	log     *slog.Logger
	closing context.Context
	close   context.CancelFunc

	mu    sync.Mutex // so that none begins once Close waits
	tasks errgroup.Group
}

func newBackground(log *slog.Logger, places int) *background {
	b := &background{log: log}
	b.closing, b.close = context.WithCancel(context.Background())
	b.tasks.SetLimit(places)
	return b
}

// run runs a task, unless too many are under way or the Client is closed.
func (b *background) run(ctx context.Context, what string, task func(context.Context) error) (started bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closing.Err() != nil {
		return false
	}
	ctx = context.WithoutCancel(ctx)
	return b.tasks.TryGo(func() error {
		if err := task(ctx); err != nil {
			b.log.WarnContext(ctx, what, "error", err)
		}
		return nil
	})
}

// wait lets a task wait, but not when the Client is being closed.
func (b *background) wait(d time.Duration) {
	select {
	case <-time.After(d):
	case <-b.closing.Done():
	}
}

// Close ends what the Client does in the background. What was to be tried again later is tried at once, and Close returns when
// all is done: after half a minute at the most, in which a refresh may still save its token.
func (c *Client) Close() {
	for _, b := range []*background{c.revocations, c.revalidations} {
		b.mu.Lock()
		b.close()
		b.mu.Unlock()
		defer b.tasks.Wait() // it returns no error: run logs them
	}
}
