package session

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"
)

// A copy of Redis must hold no token and no name, and sign nobody in. So Redis knows neither a cookie nor a key: both
// the name under which a value lies and the key that seals it are derived from a secret that only the browser keeps.

// place is where a session lies, and how it is sealed.
type place struct {
	tag, id string // id is public: it leads to nothing without the secret
	aead    cipher.AEAD
}

// format is part of every derivation. Changing it makes all older values unknown, which is to say: signed out.
const format = "v1"

func newPlace(tag string, secret []byte) *place {
	material := derive(secret, "session")
	return &place{tag: tag, id: encoding.EncodeToString(material[:idSize]), aead: newAEAD(material[idSize:])}
}

// key names the session, person the index of the sessions with the same tag. The braces keep both in one cluster slot.
func (p *place) key() string    { return sessionPrefix(p.tag) + p.id }
func (p *place) person() string { return personKey(p.tag) }

func sessionPrefix(tag string) string { return "session:{" + tag + "}:" }
func personKey(tag string) string     { return "person:{" + tag + "}" }

// seal encrypts a field's value, and binds it to the field and the session: moved elsewhere, it opens nowhere.
func (p *place) seal(field string, value []byte) string {
	return string(p.aead.Seal(nil, nil, value, []byte(p.key()+" "+field)))
}

// open is seal's inverse. What it returns is never nil.
func (p *place) open(field, sealed string) ([]byte, error) {
	return p.aead.Open([]byte{}, nil, []byte(sealed), []byte(p.key()+" "+field))
}

// derive makes a public ID and a key from a secret; purpose tells apart what has the same secret. It is HKDF's info and
// not its salt, which says the same with and without zero bytes at its end.
func derive(secret []byte, purpose string) []byte {
	material, err := hkdf.Key(sha256.New, secret, nil, format+" "+purpose, idSize+32)
	if err != nil {
		panic(fmt.Sprintf("session: derive key: %v", err)) // the length is a constant within bounds
	}
	return material
}

// newAEAD returns AES-256-GCM that puts a random nonce before each value. Saves of one session are far fewer than the
// 2³² that a key with random nonces allows.
func newAEAD(key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(fmt.Sprintf("session: new cipher: %v", err)) // the length is a constant of AES
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(fmt.Sprintf("session: new GCM: %v", err)) // AES has the block size of GCM
	}
	return aead
}
