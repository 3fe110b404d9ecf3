package authtest

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Hook is one misbehaviour in force. It holds until Off, Behave or the end of its Times.
type Hook struct {
	hooks *hooks
	kind  hookKind
	call  any
	left  int // negative: without end
}

// Times limits the hook to the next n calls.
func (h *Hook) Times(n int) *Hook {
	h.hooks.mu.Lock()
	defer h.hooks.mu.Unlock()
	h.left = n
	return h
}

// Off ends the hook.
func (h *Hook) Off() { h.Times(0) }

type hookKind string

const (
	onIDToken        hookKind = "ID token"
	onRefreshedToken hookKind = "refreshed ID token"
	onAccessToken    hookKind = "access token"
	onLogoutToken    hookKind = "logout token"
	onCallback       hookKind = "callback"
)

type hooks struct {
	mu   sync.Mutex
	list []*Hook
}

func (h *hooks) add(kind hookKind, call any) *Hook {
	h.mu.Lock()
	defer h.mu.Unlock()
	hook := &Hook{h, kind, call, -1}
	h.list = append(h.list, hook)
	return hook
}

// take returns what applies to this call, oldest first, and counts it.
func take[F any](h *hooks, kind hookKind) (calls []F) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, hook := range h.list {
		if hook.kind != kind || hook.left == 0 {
			continue
		}
		hook.left = max(hook.left-1, -1)
		calls = append(calls, hook.call.(F))
	}
	h.list = slices.DeleteFunc(h.list, func(hook *Hook) bool { return hook.left == 0 })
	return calls
}

// Behave ends all misbehaviour.
func (s *Server) Behave() {
	s.hooks.mu.Lock()
	defer s.hooks.mu.Unlock()
	s.hooks.list = nil
}

// Behaviour changes how an endpoint answers: it is a middleware, so anything can be written as one.
type Behaviour = func(next http.Handler) http.Handler

// On makes an endpoint behave so. Of several hooks the newest is the outermost.
func (s *Server) On(e Endpoint, b Behaviour) *Hook { return s.hooks.add(hookKind(e), b) }

// OnIDToken changes the ID tokens that come for a code.
func (s *Server) OnIDToken(f func(*JWT)) *Hook { return s.hooks.add(onIDToken, f) }

// OnRefreshedIDToken changes the ID tokens that come with a refresh.
func (s *Server) OnRefreshedIDToken(f func(*JWT)) *Hook { return s.hooks.add(onRefreshedToken, f) }

// OnAccessToken changes the access tokens that are JWTs.
func (s *Server) OnAccessToken(f func(*JWT)) *Hook { return s.hooks.add(onAccessToken, f) }

// OnLogoutToken changes the tokens that go to an application's back channel.
func (s *Server) OnLogoutToken(f func(*JWT)) *Hook { return s.hooks.add(onLogoutToken, f) }

// OnCallback changes the query with which a browser returns to the application.
func (s *Server) OnCallback(f func(url.Values)) *Hook { return s.hooks.add(onCallback, f) }

// What follows changes a token.

// Claim sets a claim.
func Claim(name string, value any) func(*JWT) { return func(t *JWT) { t.Claims[name] = value } }

// NoClaim leaves a claim out.
func NoClaim(name string) func(*JWT) { return func(t *JWT) { delete(t.Claims, name) } }

// Header sets a header.
func Header(name string, value any) func(*JWT) { return func(t *JWT) { t.Header[name] = value } }

// NoHeader leaves a header out: kid, typ.
func NoHeader(name string) func(*JWT) { return func(t *JWT) { delete(t.Header, name) } }

// WrongIssuer names another issuer.
func WrongIssuer(t *JWT) { t.Claims["iss"] = "https://issuer.example/oidc" }

// WrongAudience is meant for another application.
func WrongAudience(t *JWT) { t.Claims["aud"] = "another-app" }

// ForeignParty is meant for this application too, but was issued to another one.
func ForeignParty(t *JWT) {
	t.Claims["aud"], t.Claims["azp"] = []any{t.Claims["aud"], "another-app"}, "another-app"
}

// WrongSubject is about somebody else.
func WrongSubject(t *JWT) { t.Claims["sub"] = "somebodyelse" }

// WrongNonce carries the nonce of another sign-in, also into a logout token, which must have none.
func WrongNonce(t *JWT) { t.Claims["nonce"] = "another-nonce" }

// WrongEvent is a logout token about another event.
func WrongEvent(t *JWT) {
	t.Claims["events"] = map[string]any{"http://schemas.openid.net/event/other": map[string]any{}}
}

// Shifted moves iat and exp: a day back for an expired token, an hour ahead for one from the future.
func Shifted(by time.Duration) func(*JWT) {
	return func(t *JWT) {
		for _, name := range []string{"iat", "exp"} {
			if at, ok := t.Claims[name].(int64); ok {
				t.Claims[name] = at + int64(by.Seconds())
			}
		}
	}
}

// Unsigned has the algorithm none.
func Unsigned(t *JWT) { t.Alg = "none" }

// SignedWithPublicKey is HS256 with the public key, in PEM, as the secret.
func SignedWithPublicKey(t *JWT) {
	der, err := x509.MarshalPKIXPublicKey(t.Key.(crypto.Signer).Public())
	if err != nil {
		panic("authtest: encode the public key: " + err.Error())
	}
	t.Alg, t.Key = "HS256", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// SignedWithSecret is HS256 with the application's secret.
func SignedWithSecret(t *JWT) { t.Alg, t.Key = "HS256", []byte(t.app.Secret) }

// SignedWithForeignKey is signed by a key of this algorithm that was never published; the header names the published one.
// With the provider's own algorithm it is a forgery, with another one an algorithm that was not announced.
func SignedWithForeignKey(alg string) func(*JWT) {
	key := newKey(alg)
	return func(t *JWT) { t.Alg, t.Key = alg, key.private }
}

// SignedOnOtherCurve keeps alg and kid but signs with a key of another curve.
func SignedOnOtherCurve(t *JWT) {
	alg := "ES256"
	if t.Alg == alg {
		alg = "ES384"
	}
	t.Key = newKey(alg).private
}

// BrokenSignature differs in one bit.
func BrokenSignature(t *JWT) {
	t.Finish = func(token string) string {
		i := strings.LastIndexByte(token, '.')
		signature, err := base64.RawURLEncoding.DecodeString(token[i+1:])
		if err != nil || len(signature) == 0 {
			return token
		}
		signature[len(signature)/2] ^= 1
		return token[:i+1] + base64.RawURLEncoding.EncodeToString(signature)
	}
}

// What follows changes the return to the application.

// Param sets a parameter: iss, state, code.
func Param(name, value string) func(url.Values) { return func(q url.Values) { q.Set(name, value) } }

// NoParam leaves a parameter out.
func NoParam(name string) func(url.Values) { return func(q url.Values) { q.Del(name) } }

// Refused returns with an error instead of a code.
func Refused(code, description string) func(url.Values) {
	return func(q url.Values) {
		q.Del("code")
		q.Set("error", code)
		q.Set("error_description", description)
	}
}

// What follows changes how an endpoint answers.

// instead answers without the endpoint having a part in it.
func instead(f http.HandlerFunc) Behaviour { return func(http.Handler) http.Handler { return f } }

// Body answers with this instead.
func Body(status int, contentType, body string) Behaviour {
	return instead(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body) // a client that went away is no concern of ours
	})
}

// Status answers with a status and Logto's error body for it.
func Status(status int) Behaviour {
	return OAuthError(status, "server_error", "oops! something went wrong")
}

// OAuthError answers with an error as Logto words it.
func OAuthError(status int, code, description string) Behaviour {
	return instead(func(w http.ResponseWriter, _ *http.Request) {
		writeError(w, &oauthError{status: status, code: code, description: description})
	})
}

// HTML answers with a web page where JSON is expected.
func HTML(status int) Behaviour {
	return Body(status, "text/html; charset=utf-8", "<!doctype html><title>Gateway</title><h1>It works!</h1>")
}

// Garbage answers with JSON that is none.
func Garbage(next http.Handler) http.Handler {
	return Body(http.StatusOK, "application/json", "{\"\x00garbage")(next)
}

// Delay waits before the endpoint does anything, for this long or until the request ends.
func Delay(d time.Duration) Behaviour {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if sleep(r, d) {
				next.ServeHTTP(w, r)
			}
		})
	}
}

// DelayAnswer lets the endpoint do its work at once, and answers later.
func DelayAnswer(d time.Duration) Behaviour {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			answer := httptest.NewRecorder()
			next.ServeHTTP(answer, r)
			if sleep(r, d) {
				replay(w, answer)
			}
		})
	}
}

func sleep(r *http.Request, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.Context().Done():
		return false
	}
}

func replay(w http.ResponseWriter, answer *httptest.ResponseRecorder) {
	maps.Copy(w.Header(), answer.Header())
	w.WriteHeader(answer.Code)
	_, _ = w.Write(answer.Body.Bytes())
}

// Hang never answers: it waits until the request ends.
func Hang(next http.Handler) http.Handler { return Delay(1<<63 - 1)(next) }

// Reset breaks the connection before the endpoint does anything.
func Reset(http.Handler) http.Handler { return http.HandlerFunc(reset) }

// LoseAnswer lets the endpoint do its work, then breaks the connection: a rotated refresh token is lost.
func LoseAnswer(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(httptest.NewRecorder(), r)
		reset(w, r)
	})
}

func reset(w http.ResponseWriter, _ *http.Request) {
	if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // RST instead of FIN
		}
		_ = conn.Close()
	}
	panic(http.ErrAbortHandler)
}

// CutOff breaks the connection in the middle of the body.
func CutOff(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := httptest.NewRecorder()
		next.ServeHTTP(answer, r)
		answer.Header().Set("Content-Length", strconv.Itoa(answer.Body.Len()))
		answer.Body.Truncate(answer.Body.Len() / 2)
		replay(w, answer)
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
}

// RedirectLoop redirects to the same address for ever.
func RedirectLoop(http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, r.URL.RequestURI(), http.StatusTemporaryRedirect)
	})
}

// EditJSON changes the object that the endpoint answers with.
func EditJSON(edit func(map[string]any)) Behaviour {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			answer := httptest.NewRecorder()
			next.ServeHTTP(answer, r)
			var object map[string]any
			decoder := json.NewDecoder(bytes.NewReader(answer.Body.Bytes()))
			decoder.UseNumber()
			if decoder.Decode(&object) == nil {
				edit(object)
				answer.Body.Reset()
				_ = json.NewEncoder(answer.Body).Encode(object) // it was JSON before
			}
			replay(w, answer)
		})
	}
}

// Field sets a field of the JSON answer.
func Field(name string, value any) Behaviour {
	return EditJSON(func(object map[string]any) { object[name] = value })
}

// NoField leaves a field of the JSON answer out.
func NoField(name string) Behaviour {
	return EditJSON(func(object map[string]any) { delete(object, name) })
}

// Huge pads the JSON answer with this many bytes.
func Huge(bytes int) Behaviour { return Field("padding", strings.Repeat("x", bytes)) }

// NoKeys publishes none.
func NoKeys(next http.Handler) http.Handler { return Field("keys", []any{})(next) }

// DuplicateKeyIDs publishes a foreign key under each kid, before the right one.
func DuplicateKeyIDs(next http.Handler) http.Handler {
	return editKeys(next, func(keys []any) []any {
		var doubled []any
		for _, right := range keys {
			key := newKey("ES384")
			key.id, _ = right.(map[string]any)["kid"].(string)
			doubled = append(doubled, publish(key), right)
		}
		return doubled
	})
}

// UnusableKeys publishes keys of kinds that nobody knows or that are not for signatures, before the right ones.
func UnusableKeys(next http.Handler) http.Handler {
	return editKeys(next, func(keys []any) []any {
		enc := publish(newKey("ES384"))
		enc.Use, enc.Algorithm = "enc", "ECDH-ES"
		return append([]any{
			map[string]any{"kty": "XYZ", "kid": "unknown-kty"},
			map[string]any{"kty": "EC", "crv": "P-999", "x": "AQ", "y": "AQ", "kid": "unknown-crv"},
			map[string]any{"kty": "OKP", "crv": "X25519", "x": strings.Repeat("A", 43), "kid": "x25519"},
			map[string]any{},
			enc,
		}, keys...)
	})
}

func editKeys(next http.Handler, edit func([]any) []any) http.Handler {
	return EditJSON(func(set map[string]any) {
		keys, _ := set["keys"].([]any)
		set["keys"] = edit(keys)
	})(next)
}
