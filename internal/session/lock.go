package session

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// How long a lock lives that is not renewed, and how often it is. If a holder dies after the provider has rotated a
// refresh token, the next one can still use the old one for the provider's grace, 3 s at Logto: so its life must be well
// below that. And a Redis that stalls for a second must cost nobody the lock. BenchmarkLockLife measures both.
const (
	lockLife    = 1500 * time.Millisecond
	lockRenewal = 300 * time.Millisecond
)

// Lock admits one holder per session, over all instances: whoever refreshes a session's tokens holds it. It waits until
// ctx ends. The context it returns ends with the cause [ErrLockLost] when the lock can't be renewed; [Browser.Update]
// with that context saves only as long as nobody else has taken it. Call release when done. The session is read anew as
// the lock is taken, so who waited sees what the last holder did.
func (b *Browser) Lock(ctx context.Context) (held context.Context, release func(), err error) {
	began := time.Now()
	defer func() { b.redis.observe(ctx, ObservedLock, "", time.Since(began).Seconds()) }()
	return b.lock(ctx, 0)
}

// TryLock does not wait: held is nil if somebody else holds the lock, or took it by TryLock less than pause ago.
func (b *Browser) TryLock(ctx context.Context, pause time.Duration) (held context.Context, release func(), err error) {
	held, release, err = b.lock(ctx, max(pause, time.Millisecond))
	if errors.Is(err, errTaken) {
		return nil, nil, nil
	}
	return held, release, err
}

var errTaken = errors.New("the lock is another's")

// lock waits, or with a pause does not.
func (b *Browser) lock(ctx context.Context, pause time.Duration) (held context.Context, release func(), err error) {
	b.mu.Lock()
	at, isLive, recent := b.at, b.isLive(), time.Since(b.record.tried).Abs() < pause
	b.mu.Unlock()
	switch {
	case !isLive:
		return nil, nil, fmt.Errorf("lock session: %w", ErrEnded)
	case recent: // which costs no command to know
		return nil, nil, errTaken
	}
	// Queue in this process first: of one instance, only one asks Redis again and again.
	leave, err := b.store.turn(ctx, at.key(), pause == 0)
	if err != nil {
		return nil, nil, fmt.Errorf("lock session: %w", err)
	}
	l := &lock{store: b.store, redis: &b.redis, at: at, holder: randomID()}
	session, err := l.acquire(ctx, pause)
	b.mu.Lock()
	if (err == nil || errors.Is(err, ErrEnded)) && b.at == at {
		b.adopt(session)
		l.due = b.record.due
	}
	b.mu.Unlock()
	if err != nil {
		leave()
		return nil, nil, err
	}
	held, cancel := context.WithCancelCause(context.WithValue(ctx, lockKey{}, l))
	var renewing sync.WaitGroup
	renewing.Go(func() { l.renew(held, cancel) })
	return held, sync.OnceFunc(func() {
		cancel(nil)
		l.release(ctx)
		renewing.Wait()
		leave()
	}), nil
}

// lock is a lock that is held.
type lock struct {
	store  *Store
	redis  *conn // the request's
	at     *place
	holder string    // random: what sets this one apart from all others
	taken  time.Time // or a little later
	due    int64     // the session's, when the lock was taken
}

// acquire takes the lock, and returns the session as it is then, or with [ErrEnded] what is left of it. With a pause it does
// not wait.
func (l *lock) acquire(ctx context.Context, pause time.Duration) (session string, err error) {
	for {
		l.taken = time.Now()
		reply, err := l.redis.run(ctx, patience, "lock session", []string{l.at.key()},
			l.holder, l.store.life.Milliseconds(), pause.Milliseconds())
		if err != nil {
			l.release(ctx) // perhaps only the answer was lost
			return "", err
		}
		switch reply[0] {
		case gone:
			return last(reply), fmt.Errorf("lock session: %w", ErrEnded)
		case done:
			return last(reply), nil
		}
		if pause > 0 {
			return "", fmt.Errorf("lock session: %w", errTaken)
		}
		left := max(time.Millisecond, time.Duration(reply[1].(int64))*time.Millisecond)
		wait := 25*time.Millisecond + rand.N(225*time.Millisecond)
		if err := sleep(ctx, min(wait, left)); err != nil {
			return "", fmt.Errorf("lock session: %w", err)
		}
	}
}

// release gives the lock up, even if the request is over. If that fails, the lock ends by itself.
func (l *lock) release(ctx context.Context) {
	_, _ = l.redis.run(context.WithoutCancel(ctx), shortPatience, "renew lock", []string{l.at.key()}, l.holder, 0)
}

// renew keeps the lock until held ends, and ends held when it is lost.
func (l *lock) renew(held context.Context, cancel context.CancelCauseFunc) {
	end, pause := l.taken.Add(l.store.life), l.store.renewal
	for sleep(held, pause) == nil {
		asked := time.Now()
		reply, err := l.store.conn().run(held, min(shortPatience, end.Sub(asked)), "renew lock",
			[]string{l.at.key()}, l.holder, l.store.life.Milliseconds())
		switch {
		case err == nil && reply[0] == done:
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

// lockOf returns the lock that ctx holds; nil if it holds none.
func lockOf(ctx context.Context) *lock {
	l, _ := ctx.Value(lockKey{}).(*lock)
	return l
}

// turn returns when it is the caller's in this process, until leave is called. Who does not wait gets errTaken.
func (s *Store) turn(ctx context.Context, key string, wait bool) (leave func(), err error) {
	mine := make(chan struct{})
	for {
		theirs, isTaken := s.turns.LoadOrStore(key, mine)
		if !isTaken {
			return func() { s.turns.Delete(key); close(mine) }, nil
		}
		if !wait {
			return nil, errTaken
		}
		select {
		case <-theirs.(chan struct{}):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}
