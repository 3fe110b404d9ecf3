package auth

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// Memory is a Storage in this process, for tests and command-line tools: one browser, no time-outs. The zero value is
// ready to use.
type Memory struct {
	mu       sync.Mutex
	signIns  map[string]memorySignIn
	signedIn bool
	identity []byte
	tokens   []byte

	lockOnce sync.Once
	lock     chan struct{}
}

type memorySignIn struct {
	value []byte
	until time.Time
}

// PutSignIn implements [Storage].
func (m *Memory) PutSignIn(_ context.Context, state string, value []byte, life time.Duration) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.signIns == nil {
		m.signIns = map[string]memorySignIn{}
	}
	m.signIns[state] = memorySignIn{slices.Clone(value), time.Now().Add(life)}
	return nil
}

// TakeSignIn implements [Storage].
func (m *Memory) TakeSignIn(_ context.Context, state string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	pending, ok := m.signIns[state]
	delete(m.signIns, state)
	if !ok || !time.Now().Before(pending.until) {
		return nil, nil
	}
	return pending.value, nil
}

// Start implements [Storage].
func (m *Memory) Start(_ context.Context, _, _ string, identity, tokens []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.signedIn, m.identity, m.tokens = true, slices.Clone(identity), slices.Clone(tokens)
	return nil
}

// Identity implements [Storage].
func (m *Memory) Identity(context.Context) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.identity), nil
}

// Tokens implements [Storage].
func (m *Memory) Tokens(context.Context) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.tokens), nil
}

// Update implements [Storage]. Saves are under a mutex, so that there is never a conflict.
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

// Lock implements [Storage].
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

// End implements [Storage].
func (m *Memory) End(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.signedIn, m.identity, m.tokens = false, nil, nil
	return nil
}

// memoryReplays is a Replays for one process.
type memoryReplays struct {
	mu   sync.Mutex
	seen map[string]time.Time
}

func (m *memoryReplays) Forget(_ context.Context, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.seen, id)
	return nil
}

func (m *memoryReplays) Once(_ context.Context, id string, life time.Duration) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	if m.seen == nil {
		m.seen = map[string]time.Time{}
	}
	for old, until := range m.seen {
		if now.After(until) {
			delete(m.seen, old)
		}
	}
	_, again := m.seen[id]
	if !again {
		m.seen[id] = now.Add(life)
	}
	return !again, nil
}
