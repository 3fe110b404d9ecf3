package authtest

import (
	"cmp"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha512" // for crypto.SHA384 and crypto.SHA512
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// JWT is a token about to be signed. A function given to OnIDToken and the like may change all of it.
type JWT struct {
	Header map[string]any      // kid, and typ except in ID tokens; alg is added from Alg
	Claims map[string]any      // times are int64
	Alg    string              // "none" leaves the signature empty
	Key    any                 // *ecdsa.PrivateKey, *rsa.PrivateKey, or []byte for HMAC
	Finish func(string) string // changes the finished token; nil: nothing

	app App
}

// signed returns the compact form. It signs by hand, because a library refuses much of what misbehaviour asks for.
func (t *JWT) signed() string {
	t.Header["alg"] = t.Alg
	input := encode(t.Header) + "." + encode(t.Claims)
	token := input + "." + base64.RawURLEncoding.EncodeToString(sign(t.Alg, t.Key, []byte(input)))
	if t.Finish != nil {
		token = t.Finish(token)
	}
	return token
}

func encode(part map[string]any) string {
	text, err := json.Marshal(part)
	if err != nil {
		panic("authtest: a token can't carry this: " + err.Error())
	}
	return base64.RawURLEncoding.EncodeToString(text)
}

func sign(alg string, key any, input []byte) []byte {
	if alg == "none" {
		return nil
	}
	hash := map[string]crypto.Hash{"256": crypto.SHA256, "384": crypto.SHA384, "512": crypto.SHA512}[alg[2:]]
	digest := hash.New()
	switch key := key.(type) {
	case []byte:
		mac := hmac.New(hash.New, key)
		mac.Write(input)
		return mac.Sum(nil)
	case *rsa.PrivateKey:
		digest.Write(input)
		signature, err := rsa.SignPKCS1v15(nil, key, hash, digest.Sum(nil))
		if err != nil {
			panic("authtest: sign: " + err.Error())
		}
		return signature
	case *ecdsa.PrivateKey:
		digest.Write(input)
		r, s, err := ecdsa.Sign(rand.Reader, key, digest.Sum(nil))
		if err != nil {
			panic("authtest: sign: " + err.Error())
		}
		size := (key.Params().BitSize + 7) / 8
		return append(r.FillBytes(make([]byte, size)), s.FillBytes(make([]byte, size))...)
	}
	panic("authtest: a JWT needs an ECDSA or RSA private key, or bytes")
}

// keyring is the provider's keys: the one that signs, and before it the previous one, which Logto keeps until the next
// rotation.
type keyring struct {
	mu   sync.Mutex
	keys []signingKey
}

type signingKey struct {
	id, alg string
	private crypto.Signer
}

func newKey(alg string) signingKey {
	var private crypto.Signer
	var err error
	switch alg {
	case "ES256":
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ES384":
		private, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "ES512":
		private, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case "RS256":
		private, err = rsa.GenerateKey(rand.Reader, 2048)
	default:
		panic("authtest: no key for the algorithm " + alg)
	}
	if err != nil {
		panic("authtest: make a key: " + err.Error())
	}
	return signingKey{randomID(43), alg, private}
}

// rotate adds a key that signs from now on, by the algorithm of the one before if none is given.
func (k *keyring) rotate(alg string) signingKey {
	if alg == "" {
		alg = k.current().alg
	}
	key := newKey(alg)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.keys = append(k.keys[max(0, len(k.keys)-1):], key)
	return key
}

func (k *keyring) current() signingKey {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.keys[len(k.keys)-1]
}

// algorithms are those that discovery announces: all that the published keys are fit for.
func (k *keyring) algorithms() (list []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, key := range slices.Backward(k.keys) {
		if key.alg == "RS256" {
			list = append(list, "PS256")
		}
		list = append(list, key.alg)
	}
	return both(list, list)
}

func (k *keyring) published() jose.JSONWebKeySet {
	k.mu.Lock()
	defer k.mu.Unlock()
	var set jose.JSONWebKeySet
	for _, key := range slices.Backward(k.keys) {
		set.Keys = append(set.Keys, publish(key))
	}
	return set
}

func publish(key signingKey) jose.JSONWebKey {
	alg := key.alg
	if alg == "RS256" {
		alg = "" // Logto names none, for PS256 would be right too
	}
	return jose.JSONWebKey{Key: key.private.Public(), KeyID: key.id, Algorithm: alg, Use: "sig"}
}

// RotateKey makes a new key and signs with it from now on. It returns the kid. The key before it stays published until the
// next rotation, and older ones do not. The algorithm stays unless another one is given; discovery announces those of all
// published keys.
func (s *Server) RotateKey(alg ...string) string {
	return s.keys.rotate(cmp.Or(alg...)).id
}

// WithdrawKey takes a key out of the published ones. The last one stays.
func (s *Server) WithdrawKey(kid string) {
	s.keys.mu.Lock()
	defer s.keys.mu.Unlock()
	if len(s.keys.keys) > 1 {
		s.keys.keys = slices.DeleteFunc(s.keys.keys, func(k signingKey) bool { return k.id == kid })
	}
}

// KeyID returns the kid that signs at present.
func (s *Server) KeyID() string { return s.keys.current().id }

// mint signs claims for app, after the hooks of this kind and the given functions had their say.
func (s *Server) mint(kind hookKind, app App, header, claims map[string]any, change ...func(*JWT)) string {
	key := s.keys.current()
	header["kid"] = key.id
	t := &JWT{Header: header, Claims: claims, Alg: key.alg, Key: key.private, app: app}
	for _, f := range append(take[func(*JWT)](&s.hooks, kind), change...) {
		f(t)
	}
	return t.signed()
}

// AccessToken mints a token for an API as a person would get it, with all permissions they have there. The audience is an
// API resource's indicator or "urn:logto:organization:<id>". The application is the first one of Options.Apps.
func (s *Server) AccessToken(who, audience string, change ...func(*JWT)) string {
	s.mu.Lock()
	user := s.user(who)
	scopes := s.permissions(user, audience, "")
	if id, ok := strings.CutPrefix(audience, organizationURN); ok {
		scopes = s.organizationScopes(user, id)
	}
	s.mu.Unlock()
	app := s.opts.Apps[0]
	return s.mint(onAccessToken, app, map[string]any{"typ": "at+jwt"},
		s.accessClaims(app, user.Subject, audience, scopes), change...)
}

func (s *Server) accessClaims(app App, subject, audience string, scopes []string) map[string]any {
	now := s.opts.Now()
	return map[string]any{
		"jti": randomID(43), "sub": subject, "iss": s.Issuer, "aud": audience, "client_id": app.ID,
		"iat": now.Unix(), "exp": now.Add(s.opts.AccessTokenLife).Unix(), "scope": strings.Join(scopes, " "),
	}
}

// LogoutToken mints a back-channel logout token for the first application, as EndSession would send it: the sid is that of
// the person's newest session, if the application requires one.
func (s *Server) LogoutToken(who string, change ...func(*JWT)) string {
	s.mu.Lock()
	subject := s.user(who).Subject
	app := s.apps[s.opts.Apps[0].ID]
	var sid string
	var newest time.Time
	for _, session := range s.sessions {
		if session.subject == subject && !session.authTime.Before(newest) {
			newest, sid = session.authTime, session.sids[app.ID]
		}
	}
	s.mu.Unlock()
	return s.logoutToken(app, subject, sid, change...)
}

func (s *Server) logoutToken(app App, subject, sid string, change ...func(*JWT)) string {
	now := s.opts.Now()
	claims := map[string]any{
		"iss": s.Issuer, "aud": app.ID, "sub": subject, "iat": now.Unix(), "exp": now.Add(2 * time.Minute).Unix(),
		"jti": randomID(43), "events": map[string]any{logoutEvent: map[string]any{}},
	}
	if app.BackchannelLogoutSession {
		claims["sid"] = sid
	}
	return s.mint(onLogoutToken, app, map[string]any{"typ": "logout+jwt"}, claims, change...)
}

// hint returns the claims of an ID token that this provider issued, however old it is.
func (s *Server) hint(token string) (claims jwt.Claims, ok bool) {
	parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.ES256, jose.ES384, jose.ES512, jose.RS256})
	if err != nil || parsed.Claims(s.keys.published(), &claims) != nil {
		return claims, false
	}
	return claims, claims.Issuer == s.Issuer && len(claims.Audience) == 1
}

func (s *Server) jwks(w http.ResponseWriter, _ *http.Request) error {
	return writeJSON(w, http.StatusOK, s.keys.published())
}

// randomID returns n random characters, in the style of Logto's identifiers, codes and opaque tokens.
func randomID(n int) string {
	random := make([]byte, n)
	_, _ = rand.Read(random) // never fails
	return base64.RawURLEncoding.EncodeToString(random)[:n]
}
