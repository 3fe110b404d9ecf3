package session

import (
	"bytes"
	"cmp"
	"context"
	"encoding/gob"
	"fmt"
	"net/http"
	"reflect"
	"time"

	"github.com/gin-contrib/sessions"
	gorilla "github.com/gorilla/sessions"
)

// A forker's own values, through sessions.Default(c). They are encoded with gob: types beyond the basic ones need
// gob.Register. They share the session's cookie, its end, and its guarantees.

var _ sessions.Store = (*Store)(nil)

// Options sets what cookies start with. Path, Domain and SameSite=Strict count; HttpOnly, Secure and the time for which
// a session lasts are the store's, whatever is asked. Call it before serving.
func (s *Store) Options(o sessions.Options) { s.options = *o.ToGorillaOptions() }

// Get returns the session of a name, the same one for the whole request.
func (s *Store) Get(r *http.Request, name string) (*gorilla.Session, error) {
	return gorilla.GetRegistry(r).Get(s, name)
}

// New returns the session of a name. With an error it is empty and Save fails, so that an outage loses nothing.
func (s *Store) New(r *http.Request, name string) (*gorilla.Session, error) {
	session, options := gorilla.NewSession(s, name), s.options
	session.Options = &options
	b, err := s.browser(nil, r, name, false)
	if err != nil {
		return session, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.values == nil {
		b.values = session
		if b.values.IsNew = !b.isLive(); b.isLive() {
			b.values.ID, b.base = b.at.id, b.openValues(b.record.values)
			b.values.Values = b.decode(b.base)
		}
	}
	return b.values, nil
}

// Save saves what was changed in session.Values since they were read, and leaves alone what another request changed.
// MaxAge < 0 ends the session. A visitor's first value begins one, but not where a session has just ended: then the error
// is [ErrEnded], until the browser signs in again.
func (s *Store) Save(r *http.Request, w http.ResponseWriter, session *gorilla.Session) error {
	b, err := s.browser(w, r, session.Name(), false)
	if err != nil {
		return err
	}
	options := cmp.Or(session.Options, &s.options)
	if options.MaxAge < 0 {
		return b.End(r.Context())
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	base := make(map[any]any)
	if session == b.values { // and not one that a handler made itself
		base = b.decode(b.base)
	}
	if !merge(make(map[any]any), base, session.Values) {
		return nil
	}
	if b.late {
		return fmt.Errorf("save session: %w", ErrEnded)
	}
	b.values = session
	if !b.isLive() {
		return b.begin(r.Context(), *options)
	}
	var values map[any]any
	var encoded []byte
	err = b.save(r.Context(), func() (next record, err error) {
		values = b.decode(b.openValues(b.record.values))
		merge(values, base, session.Values)
		next = b.record
		encoded, next.values, err = sealValues(values, b.at)
		return next, err
	})
	if err == nil {
		session.Values, b.base = values, encoded
	}
	return err
}

// begin makes a session for a visitor who has values.
func (b *Browser) begin(ctx context.Context, options gorilla.Options) error {
	cookie, at := b.store.mint(randomID())
	encoded, sealed, err := sealValues(b.values.Values, at)
	if err != nil {
		return err
	}
	fresh := record{sid: "-", values: sealed}
	if err := b.write(ctx, at, &fresh, time.Time{}); err != nil {
		return err
	}
	b.know(at, fresh)
	b.values.ID, b.base = at.id, encoded
	b.store.setCookie(b.w, b.name, cookie, b.store.cfg.AbsoluteTimeout, options)
	return nil
}

// merge makes those changes to values that made now of base, and reports whether there are any.
func merge(values, base, now map[any]any) (changed bool) {
	for key, value := range now {
		if old, ok := base[key]; !ok || !reflect.DeepEqual(old, value) {
			values[key], changed = value, true
		}
	}
	for key := range base {
		if _, ok := now[key]; !ok {
			delete(values, key)
			changed = true
		}
	}
	return changed
}

// sealValues seals values, as encoded by gob: none are nil and "".
func sealValues(values map[any]any, at *place) (encoded []byte, sealed string, err error) {
	if len(values) == 0 {
		return nil, "", nil
	}
	var buf bytes.Buffer
	if err := gob.NewEncoder(&buf).Encode(values); err != nil {
		return nil, "", fmt.Errorf("encode session values: %w", err)
	}
	return buf.Bytes(), at.seal("d", buf.Bytes()), nil
}

// openValues opens what is sealed under this session. What can't be opened is dropped.
func (b *Browser) openValues(sealed string) []byte {
	if sealed == "" {
		return nil
	}
	encoded, err := b.at.open("d", sealed)
	if err != nil {
		b.store.log.Warn("session values could not be opened, and are dropped", "session", b.at.id, "err", err)
		return nil
	}
	return encoded
}

// decode decodes what was opened. Values of a type that is no longer known are dropped with the rest; who is signed in stays.
func (b *Browser) decode(encoded []byte) map[any]any {
	values := make(map[any]any)
	if encoded == nil {
		return values
	}
	if err := gob.NewDecoder(bytes.NewReader(encoded)).Decode(&values); err != nil {
		b.store.log.Warn("session values could not be decoded, and are dropped", "err", err)
		return make(map[any]any)
	}
	return values
}

// reseal moves sealed values from this session to another.
func (b *Browser) reseal(sealed string, to *place) string {
	if encoded := b.openValues(sealed); encoded != nil {
		return to.seal("d", encoded)
	}
	return ""
}

// clearValues forgets the values: those of a session that has ended are not the next one's.
func (b *Browser) clearValues() {
	b.base = nil
	if b.values != nil {
		clear(b.values.Values)
		b.values.ID, b.values.IsNew = "", true
	}
}
