package auth

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Session is one person's browser as one request sees it, made by [Client.Session]. Its methods may be called
// concurrently if its Storage's may.
//
// Whatever says who is signed in asks Logto again if it was last asked longer than Config.Revalidate ago; see revalidate.go.
type Session struct {
	client  *Client
	storage Storage
	asked   sync.Once // at most once in a request

	mu     sync.Mutex
	line   []byte // of the identity that was read last
	person Person // of whom it tells
}

// Format prints nothing of it: it holds who the person is.
func (s *Session) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// IsAuthenticated reports whether somebody is signed in.
func (s *Session) IsAuthenticated(ctx context.Context) (bool, error) {
	_, err := s.current(ctx)
	if errors.Is(err, ErrNotAuthenticated) {
		return false, nil
	}
	return err == nil, err
}

// IDTokenClaims returns the claims of the ID token, as verified at sign-in or at the last refresh. [ErrNotAuthenticated] if
// nobody is signed in.
func (s *Session) IDTokenClaims(ctx context.Context) (IDTokenClaims, error) {
	user, err := s.User(ctx)
	return user.Claims(), err
}

// Person is the little that every page shows of whoever is signed in.
type Person struct {
	Subject     string `json:"sub"`
	DisplayName string `json:"name"` // [Profile.DisplayName]; empty if there is none
	Picture     string `json:"picture,omitempty"`
	Email       string `json:"email,omitempty"`

	Organizations []Organization `json:"orgs,omitempty"` // whose member the person is; by name, or by ID where that is not known
	Active        string         `json:"org,omitempty"`  // the ID of the active one; see [Session.SetOrganization]
	Left          string         `json:"left,omitempty"` // see [Session.LeftOrganization]
}

// Person takes a fraction of the time of [Session.IDTokenClaims]. [ErrNotAuthenticated] if nobody is signed in.
func (s *Session) Person(ctx context.Context) (Person, error) {
	r, err := s.current(ctx)
	r.person.Organizations = slices.Clone(r.person.Organizations) // the caller's own
	return r.person, err
}

// current returns the identity, after asking Logto if that is due.
func (s *Session) current(ctx context.Context) (record, error) {
	r, err := s.identity(ctx, nil)
	if err == nil && s.client.isDue(r.asked, s.storage) {
		s.asked.Do(func() { s.revalidate(ctx) })
		r, err = s.identity(ctx, nil)
	}
	return r, err
}

// record is both records of a session. The identity is three lines: when Logto was asked last, the [Person], and the payload of
// the ID token as it came. So the claims are stored once, and the ID token can still be put together to the letter.
type record struct {
	asked   time.Time
	person  Person
	payload []byte

	// What follows is the other record.
	IDTokenHeader    string                 `json:"h"`
	IDTokenSignature string                 `json:"s"`
	RefreshToken     string                 `json:"r,omitempty"`
	Access           map[string]storedToken `json:"a"` // by target.key
}

// storedToken is an access token until it is renewed.
type storedToken struct {
	Value   string `json:"v"`
	Scope   string `json:"s,omitempty"`
	Expires int64  `json:"e"` // seconds since 1970
	Renew   int64  `json:"n"` // from when on it is not used any more
}

func (t storedToken) usable(now time.Time) bool { return t.Value != "" && now.Unix() < t.Renew }

func (t storedToken) token() Token {
	return Token{Value: Secret(t.Value), Scopes: strings.Fields(t.Scope), Expiry: time.Unix(t.Expires, 0)}
}

// opaque is the access token for Logto itself; empty if there is none.
func (r record) opaque() Secret { return Secret(r.Access[target{}.key()].Value) }

func (r record) claims() (claims IDTokenClaims, err error) {
	err = claims.UnmarshalJSON(r.payload)
	return claims, err
}

// setIDToken takes over a verified ID token.
func (r *record) setIDToken(raw string) {
	parts := strings.Split(raw, ".")
	r.IDTokenHeader, r.IDTokenSignature = parts[0], parts[2]
	r.payload, _ = base64.RawURLEncoding.DecodeString(parts[1])
}

// idToken puts the ID token together again.
func (r record) idToken() string {
	return r.IDTokenHeader + "." + base64.RawURLEncoding.EncodeToString(r.payload) + "." + r.IDTokenSignature
}

// errUnreadable: a record is not as this version writes it.
var errUnreadable = errors.New("unreadable session")

var newline = []byte("\n")

// parse reads what can be read, also with an error. tokens may be nil: they are not looked at.
func (s *Session) parse(identity, tokens []byte) (record, error) {
	asked, rest, _ := bytes.Cut(identity, newline)
	line, payload, _ := bytes.Cut(rest, newline)
	seconds, _ := strconv.ParseInt(string(asked), 10, 64) // what is no number was asked never
	person, err := s.personOf(line)
	r := record{asked: time.Unix(seconds, 0), person: person, payload: payload}
	if tokens != nil {
		r.Access = map[string]storedToken{}
		err = errors.Join(err, json.Unmarshal(tokens, &r))
	}
	if err != nil {
		return r, fmt.Errorf("%w: %w", errUnreadable, err)
	}
	return r, nil
}

// personOf decodes the person only once for all who ask in a request: their slices are not to be written to.
func (s *Session) personOf(line []byte) (person Person, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.line == nil || !bytes.Equal(line, s.line) {
		if err := json.Unmarshal(line, &person); err != nil {
			return Person{}, err
		}
		s.line, s.person = line, person
	}
	return s.person, nil
}

func (r record) encode() (identity, tokens []byte, err error) {
	person, err := json.Marshal(r.person)
	tokens, tokensErr := json.Marshal(r)
	asked := strconv.AppendInt(nil, r.asked.Unix(), 10)
	return bytes.Join([][]byte{asked, person, r.payload}, newline), tokens, errors.Join(err, tokensErr)
}

// read reads both records. errUnreadable comes with what could be read.
func (s *Session) read(ctx context.Context) (record, error) {
	tokens, err := s.storage.Tokens(ctx)
	if err != nil {
		return record{}, fmt.Errorf("read tokens: %w", err)
	}
	if tokens == nil {
		return record{}, ErrNotAuthenticated
	}
	return s.identity(ctx, tokens)
}

// identity reads the record that every page reads, beside the tokens if they were read.
func (s *Session) identity(ctx context.Context, tokens []byte) (record, error) {
	identity, err := s.storage.Identity(ctx)
	if err != nil {
		return record{}, fmt.Errorf("read identity: %w", err)
	}
	if identity == nil {
		return record{}, ErrNotAuthenticated
	}
	return s.parse(identity, tokens)
}

// update changes both records; see Storage.Update.
func (s *Session) update(ctx context.Context, change func(r *record) error) error {
	return s.storage.Update(ctx, func(identity, tokens []byte) ([]byte, []byte, error) {
		r, err := s.parse(identity, tokens)
		if err == nil {
			err = change(&r)
		}
		if err != nil {
			return nil, nil, err
		}
		return r.encode()
	})
}
