package session

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"
)

// A copy of Redis must hold no token and no name, and sign nobody in; and nobody who can write to Redis may become
// somebody else. So a value is sealed with a key that is derived from two secrets: one that only the browser keeps, and
// one that only the server keeps (SESSION_KEY). Without a server's key, the first alone must do.

// NewKey returns a new server's key, for SESSION_KEY.
func NewKey() string { return encoding.EncodeToString(random(secretSize)) }

// parseKeys returns the server's keys. Without any it is one that changes nothing.
func parseKeys(text string) ([][]byte, error) {
	var keys [][]byte
	for word := range strings.FieldsSeq(text) {
		key := decodeText(word, secretSize)
		if key == nil {
			return nil, errors.New("not a key")
		}
		keys = append(keys, key)
	}
	if keys == nil {
		keys = [][]byte{nil}
	}
	return keys, nil
}

// place is where a session lies, and how it is sealed.
type place struct {
	tag, id string        // id is public: it leads to nothing without the secret
	aeads   []cipher.AEAD // one for each of the server's keys: the first seals, all open
}

// place returns the one that a cookie's tag and secret lead to. Its name does not depend on the server's keys, so that a
// session is found by one command while they are rotated.
func (s *Store) place(tag string, secret []byte) *place {
	at := &place{tag: tag, id: hash("session id", string(secret))[:shortID]}
	for _, key := range s.keys {
		at.aeads = append(at.aeads, newAEAD(key, secret, "session"))
	}
	return at
}

// key names the session, person the index of the sessions with the same tag. The braces keep both in one cluster slot.
func (p *place) key() string    { return "session:{" + p.tag + "}:" + p.id }
func (p *place) person() string { return personKey(p.tag) }

func personKey(tag string) string { return "person:{" + tag + "}" }

// seal encrypts a field's value, and binds it to the field and the session: moved elsewhere, it opens nowhere.
func (p *place) seal(field string, value []byte) string {
	return string(p.aeads[0].Seal(nil, nil, value, []byte(p.key()+" "+field)))
}

// open is seal's inverse. What it returns is never nil.
func (p *place) open(field, sealed string) (value []byte, err error) {
	bound := []byte(p.key() + " " + field)
	for i, aead := range p.aeads {
		data := []byte(sealed)
		if value, err = aead.Open(data[:0], nil, data, bound); err == nil { // in place
			p.aeads = p.aeads[i : i+1] // what began under an older key, as its tag did, ends with it
			return value, nil
		}
	}
	return nil, err
}

// person is who is signed in, as it is sealed: nothing of it can be changed in Redis.
type person struct {
	begun    time.Time // bounds the session's life, whatever Redis says
	due      int64     // the session's count of reasons to ask the provider again, when it was last asked
	subject  string
	identity []byte // the record that every page reads
}

func (p person) marshal() []byte {
	data := binary.BigEndian.AppendUint64(nil, uint64(p.begun.UnixMilli()))
	data = binary.BigEndian.AppendUint32(data, uint32(p.due))
	data = binary.BigEndian.AppendUint16(data, uint16(len(p.subject)))
	return append(append(data, p.subject...), p.identity...)
}

// openPerson opens what a session's field h holds.
func (p *place) openPerson(sealed string) (*person, error) {
	data, err := p.open("h", sealed)
	if err != nil {
		return nil, err
	}
	const head = 8 + 4 + 2
	if len(data) < head || len(data) < head+int(binary.BigEndian.Uint16(data[12:])) {
		return nil, errors.New("the record is cut off")
	}
	end := head + int(binary.BigEndian.Uint16(data[12:]))
	return &person{
		begun:    time.UnixMilli(int64(binary.BigEndian.Uint64(data))),
		due:      int64(binary.BigEndian.Uint32(data[8:])),
		subject:  string(data[head:end]),
		identity: data[end:],
	}, nil
}

// tags returns the tags of a subject, one for each of the server's keys: new sessions have the first. A tag is a hash that
// tells nobody without the key whether a subject whom they know is signed in.
func (s *Store) tags(subject string) []string {
	tags := make([]string, len(s.keys))
	for i, key := range s.keys {
		if tags[i] = hash("person", subject); key != nil {
			mac := hmac.New(sha256.New, key)
			mac.Write([]byte(format + " person\x00" + subject)) // never fails, by its documentation
			tags[i] = encoding.EncodeToString(mac.Sum(nil)[:idSize])
		}
	}
	return tags
}

// format is part of every derivation. Changing it makes all older values unknown, which is to say: signed out.
const format = "v5"

// derive makes a key from a browser's secret and the server's key: HMAC (RFC 2104), as a function that nobody can foretell who
// lacks either. The secret has always the same length. purpose tells apart what has the same secret.
func derive(key, secret []byte, purpose string) []byte {
	if key == nil {
		key, secret = secret, nil
	}
	mac := hmac.New(sha256.New, key)
	mac.Write(secret) // never fails, by its documentation
	mac.Write([]byte(format + " " + purpose))
	return mac.Sum(nil)
}

// newAEAD returns AES-256-GCM, under a derived key, that puts a random nonce before each value. Saves of one session are
// far fewer than the 2³² that a key with random nonces allows.
func newAEAD(key, secret []byte, purpose string) cipher.AEAD {
	return certain(cipher.NewGCMWithRandomNonce(certain(aes.NewCipher(derive(key, secret, purpose)))))
}

// certain returns the value of what can't fail: settings are valid, and the lengths of keys are constants.
func certain[T any](value T, err error) T {
	if err != nil {
		panic(fmt.Sprintf("session: %v", err))
	}
	return value
}
