package session

import (
	"bytes"
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
	b, err := s.browser(nil, r, name, false)
	if err != nil {
		return s.newSession(name), err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.values == nil {
		b.values = s.newSession(name)
		b.values.IsNew = !b.isLive()
		if b.isLive() {
			b.values.ID = b.at.id
			b.base = b.openValues(b.record.values, b.at)
			b.values.Values = b.decode(b.base)
		}
	}
	return b.values, nil
}

func (s *Store) newSession(name string) *gorilla.Session {
	session := gorilla.NewSession(s, name)
	options := s.options
	session.Options = &options
	return session
}

// Save saves what was changed in session.Values since they were read, and leaves alone what another request changed.
// MaxAge < 0 ends the session. A visitor's first value begins one, but not where a session has just ended: then the error
// is [ErrEnded], until the browser signs in again.
func (s *Store) Save(r *http.Request, w http.ResponseWriter, session *gorilla.Session) error {
	b, err := s.browser(w, r, session.Name(), false)
	if err != nil {
		return err
	}
	if session.Options != nil && session.Options.MaxAge < 0 {
		return b.End(r.Context())
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	base := make(map[any]any)
	if session == b.values {
		base = b.decode(b.base)
	}
	if !merge(make(map[any]any), base, session.Values) {
		return nil
	}
	if b.late {
		return fmt.Errorf("save session: %w", ErrEnded)
	}
	if !b.isLive() {
		return b.begin(r.Context(), session)
	}
	var values map[any]any
	var encoded []byte
	err = b.save(r.Context(), func() (next record, err error) {
		values = b.decode(b.openValues(b.record.values, b.at))
		merge(values, base, session.Values)
		encoded, err = encode(values)
		next = b.record
		next.values = sealValues(encoded, b.at)
		return next, err
	})
	if err == nil && session == b.values {
		session.Values, b.base = values, encoded
	}
	return err
}

// begin makes a session for a visitor who has values.
func (b *Browser) begin(ctx context.Context, session *gorilla.Session) error {
	encoded, err := encode(session.Values)
	if err != nil {
		return err
	}
	cookie, at := b.store.mint(randomID())
	fresh := record{sid: "-", values: sealValues(encoded, at)}
	if err := b.write(ctx, at, &fresh, time.Time{}); err != nil {
		return err
	}
	b.know(at, fresh)
	if session.ID = at.id; session == b.values {
		b.base = encoded
	}
	options := b.store.options
	if session.Options != nil {
		options = *session.Options
	}
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

// encode returns nil for no values.
func encode(values map[any]any) ([]byte, error) {
	if len(values) == 0 {
		return nil, nil
	}
	var buf bytes.Buffer
	if err := gob.NewEncoder(&buf).Encode(values); err != nil {
		return nil, fmt.Errorf("encode session values: %w", err)
	}
	return buf.Bytes(), nil
}

// decode is encode's inverse. Values of a type that is no longer known are dropped with the rest; who is signed in stays.
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

// sealValues seals what encode returned: nothing stays nothing.
func sealValues(encoded []byte, at *place) string {
	if encoded == nil {
		return ""
	}
	return at.seal("d", encoded)
}

// openValues is sealValues' inverse. What can't be opened is dropped.
func (b *Browser) openValues(sealed string, at *place) []byte {
	if sealed == "" {
		return nil
	}
	encoded, err := at.open("d", sealed)
	if err != nil {
		b.store.log.Warn("session values could not be opened, and are dropped", "session", at.id, "err", err)
		return nil
	}
	return encoded
}

// reseal moves sealed values from this session to another.
func (b *Browser) reseal(sealed string, to *place) string {
	return sealValues(b.openValues(sealed, b.at), to)
}

// clearValues forgets the values: those of a session that has ended are not the next one's.
func (b *Browser) clearValues() {
	b.base = nil
	if b.values != nil {
		clear(b.values.Values)
		b.values.ID, b.values.IsNew = "", true
	}
}
