package auth

import (
	"context"
	"time"
)

// Storage is what a [Session] remembers between the requests of one browser. The records are opaque to it; all of them
// hold secrets. [Memory] is one for tests; the application's keeps them in Redis.
//
// Errors come through to the caller of the Session's method, wrapped.
type Storage interface {
	// PutSignIn remembers a sign-in under way, bound to this browser, for at most life.
	PutSignIn(ctx context.Context, state string, value []byte, life time.Duration) error
	// TakeSignIn returns it and forgets it in one step. It returns nil if there is none: unknown, used, too old, or
	// another browser's.
	TakeSignIn(ctx context.Context, state string) ([]byte, error)

	// Start begins a session under a new ID and ends the one there was. The session can be found by subject, and by
	// sid if that is not empty, to end it from outside.
	Start(ctx context.Context, subject, sid string, identity, tokens []byte) error
	// Identity returns the record that every page reads; nil if nobody is signed in.
	Identity(ctx context.Context) ([]byte, error)
	// Tokens returns the record that is opened only when a token is needed; nil if nobody is signed in. Under a
	// context from Lock it is read anew.
	Tokens(ctx context.Context) ([]byte, error)
	// Update applies change to both records as they are now and saves what it returns, if the session still exists
	// and nobody saved in between; else it reads again and applies change again, a bounded number of times. A session
	// that has ended stays ended: that is an error, and change is not called.
	Update(ctx context.Context, change func(identity, tokens []byte) (newIdentity, newTokens []byte, err error)) error
	// Lock admits one holder per session, over all instances of the application. The context it returns goes to Tokens
	// and Update, and is cancelled if the lock is lost; release gives the lock up and ends the context.
	Lock(ctx context.Context) (held context.Context, release func(), err error)
	// End ends the session for every instance. Ending none is no error.
	End(ctx context.Context) error
}

// Replays remembers which logout tokens were used, so that none is accepted twice.
type Replays interface {
	// Once reports whether it sees id for the first time within life.
	Once(ctx context.Context, id string, life time.Duration) (bool, error)
	// Forget makes the next Once the first again: what was to be done only once has failed.
	Forget(ctx context.Context, id string) error
}
