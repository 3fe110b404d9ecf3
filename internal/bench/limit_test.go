//go:build linux

package bench

import (
	"net/http"
	"net/url"
	"testing"
	"time"

	"example.com/logto-gin-starter/auth/authtest"
)

// The limit does the least, and not less: it refuses whom a relying party must refuse.
func TestLimit(t *testing.T) {
	if testing.Short() {
		t.Skip("left out: -short")
	}
	s := newSurroundings(t)
	p := s.start(buildLimit(t, "welcome", "{{.Name}} {{.Picture}}"))
	s.signIn(p)
	for name, change := range map[string]func(url.Values){
		"the state of another browser": authtest.Param("state", "another"),
		"no state":                     authtest.NoParam("state"),
	} {
		s.wantRefused(p, name, s.logto.OnCallback(change))
	}
	for name, change := range map[string]func(*authtest.JWT){
		"the nonce of another sign-in":    authtest.WrongNonce,
		"no nonce":                        authtest.NoClaim("nonce"),
		"a token of another issuer":       authtest.WrongIssuer,
		"a token for another application": authtest.WrongAudience,
		"an expired token":                authtest.Shifted(-24 * time.Hour),
		"a token that nobody signed":      authtest.Unsigned,
		"a broken signature":              authtest.BrokenSignature,
	} {
		s.wantRefused(p, name, s.logto.OnIDToken(change))
	}
}

// wantRefused wants no sign-in while the provider misbehaves.
func (s *surroundings) wantRefused(p *program, misbehaviour string, hook *authtest.Hook) {
	s.t.Helper()
	defer hook.Off()
	if _, err := s.signsIn(p, http.DefaultTransport, "ada"); err == nil {
		s.t.Errorf("%s: signed in", misbehaviour)
	}
}
