package auth

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"sync/atomic"
	"time"
)

// What happens at Logto after the sign-in, Logto mostly does not tell: a suspension, a role that was taken away, another
// name. So it is asked again from time to time, by a refresh that brings an ID token: by one request of a session, while
// the others go on with what is known. Only a Logto that says so ends a session; one that does not answer ends nothing.
// docs/how-it-works.md#revalidation has a picture.

const (
	// revalidateWait is how long a page waits for that at most. The refresh goes on behind it, for its answer may be the
	// only good refresh token.
	revalidateWait = 2 * time.Second
	// revalidatePause is how long after a try a session is asked about again at the earliest, if it brought nothing; and how
	// long one instance leaves a Logto alone that is down.
	revalidatePause = 10 * time.Second
)

// isDue reports whether it is time to ask Logto again.
func (c *Client) isDue(asked time.Time, storage Storage) bool {
	period := c.config.Revalidate
	return storage.IsDue() || period > 0 && time.Since(asked).Abs() >= period // Abs: instances may disagree about the time
}

// revalidate asks Logto who the person is, unless somebody else does, and waits a little for the answer.
func (s *Session) revalidate(ctx context.Context) {
	if s.client.outage.lasts() {
		return
	}
	waiting, stopWaiting := context.WithTimeout(ctx, revalidateWait)
	defer stopWaiting()
	started := s.client.revalidations.run(ctx, "revalidation", func(ctx context.Context) error {
		defer stopWaiting()
		ctx, cancel := context.WithTimeout(ctx, refreshTimeout)
		defer cancel()
		err := s.ask(ctx)
		if errors.Is(err, ErrSignInRequired) || errors.Is(err, ErrNotAuthenticated) {
			return nil // which the page says
		}
		return err
	})
	if started {
		<-waiting.Done()
	}
}

// ask asks if nobody else does, or just has.
func (s *Session) ask(ctx context.Context) error {
	pause := min(revalidatePause, cmp.Or(s.client.config.Revalidate, revalidatePause))
	held, release, err := s.storage.TryLock(ctx, pause)
	if err != nil || held == nil {
		return err
	}
	defer release()
	r, err := s.read(held)
	if err != nil || !s.client.isDue(r.asked, s.storage) || !s.client.outage.mayTry() {
		return err
	}
	if r.RefreshToken == "" {
		err = s.askUserInfo(ctx, held, r)
	} else {
		_, err = s.refresh(ctx, held, target{}, r)
	}
	s.client.observe(ctx, ObservedRevalidation, err)
	return err
}

// askUserInfo is for a session without a refresh token: as long as its access token is good, so is the session. The answer's
// claims take the place of the ID token's; that can't be a hint at sign-out any more.
func (s *Session) askUserInfo(ctx, held context.Context, r record) error {
	if r.opaque() == "" {
		return s.endDead(held, errors.New("no token to ask with"))
	}
	var now UserInfo
	err := s.client.outage.watch(ctx, func() (err error) {
		now, err = s.client.userInfo(ctx, r.person.Subject, r.opaque())
		return err
	})
	if answered(err).Status == http.StatusUnauthorized {
		return s.endDead(held, err)
	}
	if err != nil {
		return err
	}
	return s.update(held, func(r *record) error {
		var claims, answer map[string]json.RawMessage
		if err := errors.Join(json.Unmarshal(r.payload, &claims), json.Unmarshal(now.Raw, &answer)); err != nil {
			return err
		}
		for name := range claims {
			if value, ok := answer[name]; ok {
				claims[name] = value
			} else if !slices.Contains(AboutToken, name) {
				delete(claims, name)
			}
		}
		r.IDTokenHeader, r.IDTokenSignature = "", ""
		r.asked, r.person = time.Now(), now.person(now.Subject, r.person, nil)
		r.payload, err = json.Marshal(claims)
		return err
	})
}

// outage is what one instance knows of Logto's being down, by what it asks there to learn who a person is now: strangers can't make
// it ask. During one, only one revalidation tries, from time to time.
type outage struct{ next atomic.Pointer[time.Time] } // when to try; nil: it is not down

// lasts reports whether it is not yet time to try again.
func (o *outage) lasts() bool {
	next := o.next.Load()
	return next != nil && time.Now().Before(*next)
}

// mayTry takes the try, for whoever is about to ask.
func (o *outage) mayTry() bool {
	next := o.next.Load()
	return next == nil || !o.lasts() && o.next.CompareAndSwap(next, new(time.Now().Add(revalidatePause)))
}

// watch notes whether Logto answers. One that takes longer than a page waits counts as down until it does.
func (o *outage) watch(ctx context.Context, ask func() error) error {
	if ctx.Err() != nil {
		return ask()
	}
	slow := time.AfterFunc(revalidateWait, func() { o.note(true) })
	defer slow.Stop()
	err := ask()
	if !errors.Is(ctx.Err(), context.Canceled) { // which says nothing of Logto
		o.note(isOutage(err))
	}
	return err
}

func (o *outage) note(down bool) {
	var next *time.Time
	if down {
		next = new(time.Now().Add(revalidatePause))
	}
	o.next.Store(next)
}
