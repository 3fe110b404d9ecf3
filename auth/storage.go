package auth

import (
	"context"
	"time"
)

// Storage is what a [Session] remembers between the requests of one browser. The records are opaque to it; all of them
// hold secrets. authtest.Memory is one for tests; the application's keeps them in Redis.
//
// Errors come through to the caller of the Session's method, wrapped.
type Storage interface {
	// SealSignIn returns a state, for a URL, that only OpenSignIn in this browser can turn back into value; and a secret
	// that nobody can know who has not both. It need not remember anything: a stranger can call it as often as they like.
	SealSignIn(value []byte) (state string, secret []byte)
	// OpenSignIn is its inverse. The value is nil if the state is none of this browser's.
	OpenSignIn(state string) (value, secret []byte)
	// UseSignIn notes for at least life that a state was used, and reports whether it was not noted before.
	UseSignIn(ctx context.Context, state string, life time.Duration) (first bool, err error)

	// Start begins a session under a new ID and ends the one there was. The session can be found by subject, and by
	// sid if that is not empty, to end it from outside. If that was done after the sign-in began, at most [SignInLife]
	// ago, none is started.
	Start(ctx context.Context, subject, sid string, began time.Time, identity, tokens []byte) (started bool, err error)
	// Identity returns the record that every page reads; nil if nobody is signed in.
	Identity(ctx context.Context) ([]byte, error)
	// Tokens returns the record that is opened only when a token is needed; nil if nobody is signed in. Under a
	// context from Lock it is read anew.
	Tokens(ctx context.Context) ([]byte, error)
	// Update applies change to both records as they are now and saves what it returns, if the session still exists
	// and nobody saved in between; else it reads again and applies change again, a bounded number of times. A session
	// that has ended stays ended: that is an error, and change is not called.
	Update(ctx context.Context, change func(identity, tokens []byte) (newIdentity, newTokens []byte, err error)) error
	// IsDue reports whether there is a reason to ask Logto now who the person is, such as a webhook. Saving a changed
	// identity under a context from Lock or TryLock answers the reasons that there were when it was taken.
	IsDue() bool
	// Lock admits one holder per session, over all instances of the application. The context it returns goes to Tokens
	// and Update, and is cancelled if the lock is lost; release gives the lock up and ends the context.
	Lock(ctx context.Context) (held context.Context, release func(), err error)
	// TryLock does not wait: held is nil if somebody else has the lock, or took it by TryLock less than pause ago.
	TryLock(ctx context.Context, pause time.Duration) (held context.Context, release func(), err error)
	// End ends the session for every instance, as the person wants. Ending none is no error.
	End(ctx context.Context) error
	// HasSession reports whether a session of the subject lives that began with this sid; it may be of another browser.
	// It may be called after the request has ended.
	HasSession(ctx context.Context, subject, sid string) (bool, error)
	// EndDead ends it because Logto does not give tokens for it any more.
	EndDead(ctx context.Context) error
}

// Replays remembers which logout tokens were used, so that none is accepted twice.
type Replays interface {
	// Note remembers id for life.
	Note(ctx context.Context, id string, life time.Duration) error
	// Noted reports whether it is remembered.
	Noted(ctx context.Context, id string) (bool, error)
}
