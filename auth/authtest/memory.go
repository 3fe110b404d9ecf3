package authtest

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"sync"
	"time"
)

// Memory is an auth.Storage in this process, for tests and command-line tools: one browser, no time-outs. The zero value is
// ready to use.
type Memory struct {
	mu       sync.Mutex
	signIns  map[string]memorySignIn
	used     map[string]bool
	signedIn bool
	subject  string
	sid      string
	identity []byte
	tokens   []byte

	lockOnce sync.Once
	lock     chan struct{}
}

type memorySignIn struct{ value, secret []byte }

// SealSignIn implements auth.Storage. It remembers the value, so that a tool that never ends should not begin sign-ins for ever.
func (m *Memory) SealSignIn(value []byte) (state string, secret []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.signIns == nil {
		m.signIns = map[string]memorySignIn{}
	}
	state, secret = rand.Text()+rand.Text(), []byte(rand.Text()+rand.Text())
	m.signIns[state] = memorySignIn{slices.Clone(value), secret}
	return state, secret
}

// OpenSignIn implements auth.Storage.
func (m *Memory) OpenSignIn(state string) (value, secret []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	found := m.signIns[state]
	return found.value, found.secret
}

// UseSignIn implements auth.Storage.
func (m *Memory) UseSignIn(_ context.Context, state string, _ time.Duration) (first bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.used == nil {
		m.used = map[string]bool{}
	}
	first = !m.used[state]
	m.used[state] = true
	return first, nil
}

// Start implements auth.Storage.
func (m *Memory) Start(_ context.Context, subject, sid string, _ time.Time, identity, tokens []byte) (started bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.signedIn, m.subject, m.sid, m.identity, m.tokens = true, subject, sid, slices.Clone(identity), slices.Clone(tokens)
	return true, nil
}

// Identity implements auth.Storage.
func (m *Memory) Identity(context.Context) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.identity), nil
}

// Tokens implements auth.Storage.
func (m *Memory) Tokens(context.Context) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.tokens), nil
}

// Update implements auth.Storage. Saves are under a mutex, so that there is never a conflict.
func (m *Memory) Update(ctx context.Context, change func(identity, tokens []byte) ([]byte, []byte, error)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.signedIn {
		return errors.New("the session has ended")
	}
	identity, tokens, err := change(slices.Clone(m.identity), slices.Clone(m.tokens))
	if err != nil {
		return err
	}
	m.identity, m.tokens = slices.Clone(identity), slices.Clone(tokens)
	return nil
}

// Lock implements auth.Storage.
func (m *Memory) Lock(ctx context.Context) (context.Context, func(), error) {
	m.lockOnce.Do(func() { m.lock = make(chan struct{}, 1) })
	select {
	case m.lock <- struct{}{}:
		held, cancel := context.WithCancel(ctx)
		return held, sync.OnceFunc(func() { cancel(); <-m.lock }), nil
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
}

// TryLock implements auth.Storage. It knows no pause.
func (m *Memory) TryLock(ctx context.Context, _ time.Duration) (context.Context, func(), error) {
	m.lockOnce.Do(func() { m.lock = make(chan struct{}, 1) })
	select {
	case m.lock <- struct{}{}:
		held, cancel := context.WithCancel(ctx)
		return held, sync.OnceFunc(func() { cancel(); <-m.lock }), nil
	default:
		return nil, nil, nil
	}
}

// IsDue implements auth.Storage: nobody can say so here.
func (m *Memory) IsDue() bool { return false }

// HasSession implements auth.Storage.
func (m *Memory) HasSession(_ context.Context, subject, sid string) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.signedIn && m.subject == subject && m.sid == sid, nil
}

// EndDead implements auth.Storage.
func (m *Memory) EndDead(ctx context.Context) error { return m.End(ctx) }

// End implements auth.Storage.
func (m *Memory) End(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.signedIn, m.identity, m.tokens = false, nil, nil
	return nil
}
