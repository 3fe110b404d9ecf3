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
}

// IsAuthenticated reports whether somebody is signed in.
func (s *Session) IsAuthenticated(ctx context.Context) (bool, error) {
	_, err := s.identity(ctx)
	if errors.Is(err, ErrNotAuthenticated) {
		return false, nil
	}
	return err == nil, err
}

// IDTokenClaims returns the claims of the ID token, as verified at sign-in or at the last refresh. [ErrNotAuthenticated] if
// nobody is signed in.
func (s *Session) IDTokenClaims(ctx context.Context) (IDTokenClaims, error) {
	user, err := s.User(ctx)
	if err != nil {
		return IDTokenClaims{}, err
	}
	return user.Claims(), nil
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
	identity, err := s.identity(ctx)
	if err != nil {
		return Person{}, err
	}
	return personOf(identity)
}

func (s *Session) identity(ctx context.Context) ([]byte, error) {
	identity, err := s.storage.Identity(ctx)
	if err == nil && identity != nil && s.client.isDue(identity, s.storage) {
		s.asked.Do(func() { s.revalidate(ctx) })
		identity, err = s.storage.Identity(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("read identity: %w", err)
	}
	if identity == nil {
		return nil, ErrNotAuthenticated
	}
	return identity, nil
}

// The session's two records: the identity is when Logto was asked last, a line for [Session.Person], and the payload of the
// ID token as it came; the tokens are a tokenSet. So the claims are stored once, and the ID token can still be put
// together to the letter.

var newline = []byte("\n")

func identityOf(asked time.Time, person Person, payload []byte) ([]byte, error) {
	line, err := json.Marshal(person)
	return slices.Concat(strconv.AppendInt(nil, asked.Unix(), 10), newline, line, newline, payload), err
}

func askedOf(identity []byte) time.Time {
	text, _, _ := bytes.Cut(identity, newline)
	seconds, _ := strconv.ParseInt(string(text), 10, 64) // what is no number was asked never
	return time.Unix(seconds, 0)
}

func personOf(identity []byte) (person Person, err error) {
	_, rest, _ := bytes.Cut(identity, newline)
	line, _, _ := bytes.Cut(rest, newline)
	if err := json.Unmarshal(line, &person); err != nil {
		return Person{}, fmt.Errorf("read identity: %w", err)
	}
	return person, nil
}

func payloadOf(identity []byte) []byte {
	_, rest, _ := bytes.Cut(identity, newline)
	_, payload, _ := bytes.Cut(rest, newline)
	return payload
}

type tokenSet struct {
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

// tokens reads the token record.
func (s *Session) tokens(ctx context.Context) (tokenSet, error) {
	data, err := s.storage.Tokens(ctx)
	if err != nil {
		return tokenSet{}, fmt.Errorf("read tokens: %w", err)
	}
	if data == nil {
		return tokenSet{}, ErrNotAuthenticated
	}
	return parseTokens(data)
}

func parseTokens(data []byte) (tokenSet, error) {
	var set tokenSet
	if err := json.Unmarshal(data, &set); err != nil {
		return tokenSet{}, fmt.Errorf("read tokens: %w", err)
	}
	if set.Access == nil {
		set.Access = map[string]storedToken{}
	}
	return set, nil
}

// update changes the token record; see Storage.Update.
func (s *Session) update(ctx context.Context, change func(identity []byte, set *tokenSet) (newIdentity []byte, err error)) error {
	return s.storage.Update(ctx, func(identity, tokens []byte) ([]byte, []byte, error) {
		set, err := parseTokens(tokens)
		if err != nil {
			return nil, nil, err
		}
		if identity, err = change(identity, &set); err != nil {
			return nil, nil, err
		}
		data, err := json.Marshal(set)
		return identity, data, err
	})
}

// setIDToken keeps the parts of a verified ID token that its payload, the identity record, lacks.
func (t *tokenSet) setIDToken(raw string) {
	header, rest, _ := strings.Cut(raw, ".")
	_, signature, _ := strings.Cut(rest, ".")
	t.IDTokenHeader, t.IDTokenSignature = header, signature
}

// idToken puts the ID token together again.
func (t *tokenSet) idToken(identity []byte) string {
	return t.IDTokenHeader + "." + base64.RawURLEncoding.EncodeToString(payloadOf(identity)) + "." + t.IDTokenSignature
}
