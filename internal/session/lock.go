package session

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"
)

// Lock admits one holder per session, over all instances: whoever refreshes a session's tokens holds it. It waits until
// ctx ends. The context it returns ends with the cause [ErrLockLost] when the lock can't be renewed; [Browser.Update]
// with that context saves only if nobody else has held the lock since. Call release when done.
//
// The session is read anew as the lock is taken, so who waited sees what the last holder did.
func (b *Browser) Lock(ctx context.Context) (held context.Context, release func(), err error) {
	b.mu.Lock()
	at, isLive := b.at, b.isLive()
	b.mu.Unlock()
	if !isLive {
		return nil, nil, fmt.Errorf("lock session: %w", ErrEnded)
	}
	// Queue in this process first: of one instance, only one asks Redis again and again.
	leave, err := b.store.turns.wait(ctx, at.key())
	if err != nil {
		return nil, nil, fmt.Errorf("lock session: %w", err)
	}
	l, session, err := b.store.acquire(ctx, at)
	if err != nil {
		leave()
		if errors.Is(err, ErrEnded) {
			session = []any{nil}
		}
	}
	b.mu.Lock()
	if session != nil && b.at == at {
		b.adopt(session)
	}
	b.mu.Unlock()
	if err != nil {
		return nil, nil, err
	}
	held, stop := l.hold(ctx)
	return held, sync.OnceFunc(func() { stop(); leave() }), nil
}

// lock is a lock that is held.
type lock struct {
	store *Store
	at    *place
	fence string    // what sets this holder apart from later ones
	taken time.Time // at the latest
}

// acquire takes the lock, and returns the session as it is then.
func (s *Store) acquire(ctx context.Context, at *place) (*lock, []any, error) {
	for {
		asked := time.Now()
		reply, err := s.run(ctx, patience, "lock session", acquireScript, []string{at.key()}, s.life.Milliseconds())
		if err != nil {
			return nil, nil, err
		}
		switch reply[0].(int64) {
		case gone:
			return nil, nil, fmt.Errorf("lock session: %w", ErrEnded)
		case done:
			return &lock{s, at, strconv.FormatInt(reply[1].(int64), 10), asked}, reply[2:], nil
		}
		left := time.Duration(reply[1].(int64)) * time.Millisecond
		pause := 25*time.Millisecond + rand.N(225*time.Millisecond)
		if err := sleep(ctx, min(pause, left)); err != nil {
			return nil, nil, fmt.Errorf("lock session: %w", err)
		}
	}
}

// hold renews the lock until stop is called or ctx ends. stop returns when all is over.
func (l *lock) hold(ctx context.Context) (held context.Context, stop func()) {
	held, cancel := context.WithCancelCause(context.WithValue(ctx, lockKey{}, l))
	var renewing sync.WaitGroup
	renewing.Go(func() { l.renew(held, cancel) })
	return held, func() {
		cancel(nil)
		// Even if the request is over. If it fails, the lock ends by itself.
		_, _ = l.store.run(context.WithoutCancel(ctx), shortPatience, "release lock", releaseScript, []string{l.at.key()}, l.fence)
		renewing.Wait()
	}
}

func (l *lock) renew(held context.Context, cancel context.CancelCauseFunc) {
	end, pause := l.taken.Add(l.store.life), l.store.renewal
	for sleep(held, pause) == nil {
		asked := time.Now()
		reply, err := l.store.run(held, min(shortPatience, end.Sub(asked)), "renew lock", renewScript,
			[]string{l.at.key()}, l.fence, l.store.life.Milliseconds())
		switch {
		case err == nil && reply[0] == int64(done):
			end, pause = asked.Add(l.store.life), l.store.renewal
		case err == nil, !time.Now().Before(end):
			cancel(ErrLockLost)
			return
		default: // Redis is away: try again while the lock lasts
			pause = min(l.store.renewal/4, time.Until(end))
		}
	}
}

type lockKey struct{}

// fenceOf returns the fence of the lock that ctx holds; "" if it holds none.
func fenceOf(ctx context.Context, at *place) (string, error) {
	l, ok := ctx.Value(lockKey{}).(*lock)
	if !ok {
		return "", nil
	}
	if l.at.key() != at.key() {
		return "", fmt.Errorf("save session: %w: it was another session's", ErrLockLost)
	}
	return l.fence, nil
}

// turns are the queues of this process, one for each key that somebody waits for.
type turns struct {
	mu     sync.Mutex
	queues map[string]*turn
}

type turn struct {
	free  chan struct{} // holds one token when it is nobody's turn
	users int
}

// wait returns when it is the caller's turn, until leave is called.
func (t *turns) wait(ctx context.Context, key string) (leave func(), err error) {
	t.mu.Lock()
	q := t.queues[key]
	if q == nil {
		q = &turn{free: make(chan struct{}, 1)}
		q.free <- struct{}{}
		if t.queues == nil {
			t.queues = make(map[string]*turn)
		}
		t.queues[key] = q
	}
	q.users++
	t.mu.Unlock()

	quit := func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if q.users--; q.users == 0 {
			delete(t.queues, key)
		}
	}
	select {
	case <-q.free:
		return func() { q.free <- struct{}{}; quit() }, nil
	case <-ctx.Done():
		quit()
		return nil, context.Cause(ctx)
	}
}
