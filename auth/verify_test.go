package auth_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"

	"example.com/logto-gin-starter/auth"
	"example.com/logto-gin-starter/auth/authtest"
)

// BenchmarkJunkTokens compares a token that can't be good, as large as an Authorization header may be, with a good one. They
// take turns, so that whatever else the machine does slows both; "ratio" is what counts.
func BenchmarkJunkTokens(b *testing.B) {
	a := newApp(b)
	fill := authtest.Claim("junk", strings.Repeat("x", 9<<10))
	good := a.idp.AccessToken("ada", shopping)
	for _, tt := range []struct{ name, token string }{
		{"no token", strings.Repeat("x", 16<<10)},
		{"dots", strings.Repeat(".", 16<<10)},
		{"large header", a.idp.AccessToken("ada", shopping, authtest.Header("junk", strings.Repeat("x", 9<<10)))},
		{"another typ", a.idp.AccessToken("ada", shopping, fill, authtest.Header("typ", "JWT"))},
		{"HS256", a.idp.AccessToken("ada", shopping, fill, authtest.SignedWithSecret)},
		{"an algorithm not announced", a.idp.AccessToken("ada", shopping, fill, authtest.SignedWithForeignKey("RS256"))},
		{"unknown kid", a.idp.AccessToken("ada", shopping, fill, authtest.Header("kid", "nobody"))},
		{"unknown kid of 1 KB", a.idp.AccessToken("ada", shopping, fill, authtest.Header("kid", strings.Repeat("x", 1<<10)))},
	} {
		b.Run(tt.name, func(b *testing.B) {
			var took [2]time.Duration
			for b.Loop() {
				for i, token := range []string{tt.token, good} {
					start := time.Now()
					_, err := a.client.VerifyAccessToken(b.Context(), token, shopping)
					took[i] += time.Since(start)
					if (err == nil) != (i == 1) {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(took[0].Nanoseconds())/float64(b.N), "junk-ns/op")
			b.ReportMetric(float64(took[1].Nanoseconds())/float64(b.N), "good-ns/op")
			b.ReportMetric(float64(took[0])/float64(took[1]), "ratio")
			b.ReportMetric(0, "ns/op") // of both together, which says nothing
		})
	}
}

// capital renames a claim, which encoding/json would not notice.
func capital(name string) func(*authtest.JWT) {
	return func(t *authtest.JWT) {
		t.Claims[strings.ToUpper(name)] = t.Claims[name]
		delete(t.Claims, name)
	}
}

// TestVerifyAccessToken is what an API does with a token that it received.
func TestVerifyAccessToken(t *testing.T) {
	claim, noClaim, header := authtest.Claim, authtest.NoClaim, authtest.Header
	tests := []struct {
		name   string
		change func(*authtest.JWT)
		good   bool
	}{
		{"as it is", func(*authtest.JWT) {}, true},
		{"typ in full", header("typ", "application/at+jwt"), true},
		{"typ in other letters", header("typ", "AT+JWT"), true},
		{"no typ", authtest.NoHeader("typ"), false},
		{"typ JWT", header("typ", "JWT"), false},
		{"typ of a logout token", header("typ", "logout+jwt"), false},
		{"no kid", authtest.NoHeader("kid"), true},
		{"several audiences", func(t *authtest.JWT) { t.Claims["aud"] = []any{"https://other.example", t.Claims["aud"]} }, true},
		{"another audience", claim("aud", store), false},
		{"audience with a slash", claim("aud", shopping+"/"), false},
		{"no audience", noClaim("aud"), false},
		{"another issuer", authtest.WrongIssuer, false},
		{"no sub", noClaim("sub"), false},
		{"no client_id", noClaim("client_id"), false},
		{"no exp", noClaim("exp"), false},
		{"no iat", noClaim("iat"), false},
		{"exp in capitals", capital("exp"), false},
		{"iat in capitals", capital("iat"), false},
		{"aud in capitals", capital("aud"), false},
		{"iss in capitals", capital("iss"), false},
		{"expired", authtest.Shifted(-2 * time.Hour), false},
		{"from the future", authtest.Shifted(time.Hour), false},
		{"not valid yet", claim("nbf", time.Now().Add(time.Hour).Unix()), false},
		{"jti that is a number", claim("jti", 1), false},
		{"scope that is a list", claim("scope", []string{"read:products"}), true}, // of no permission
		{"unsigned", authtest.Unsigned, false},
		{"HS256 with the public key", authtest.SignedWithPublicKey, false},
		{"HS256 with the client secret", authtest.SignedWithSecret, false},
		{"signed by an unknown key", authtest.SignedWithForeignKey("ES384"), false},
		{"signed on another curve", authtest.SignedOnOtherCurve, false},
		{"an algorithm that was not announced", authtest.SignedWithForeignKey("RS256"), false},
		{"broken signature", authtest.BrokenSignature, false},
	}
	a := newApp(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			claims, err := a.newClient(t).VerifyAccessToken(t.Context(), a.idp.AccessToken("ada", shopping, tt.change), shopping)
			if tt.good {
				a.wantError(t, err, nil)
			} else {
				a.wantError(t, err, auth.ErrInvalidToken)
			}
			if (claims.Subject == a.idp.User("ada").Subject) != tt.good {
				t.Errorf("claims %+v", claims)
			}
			if tt.name == "scope that is a list" && claims.HasScopes("read:products") {
				t.Error("it permits something")
			}
		})
	}
	t.Run("no token at all", func(t *testing.T) {
		a.forget()
		client := a.newClient(t)
		header := func(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) + "." }
		for _, raw := range []string{"", ".", "..", "...", "a.b.c", "{}", strings.Repeat("x", 1<<20), "opaque-token",
			header(`{"typ":"at+jwt`) + ".", header(`{"typ":"at+jwt"}`) + "e30.AA",
			header(`{"typ":"at+jwt","alg":"none"}`) + "e30.", header(`{"typ":"at+jwt","alg":"HS256"}`) + "e30.AA",
			header(`{"typ":"at+jwt","alg":"ES384"}`) + "e30", header(`{"typ":"at+jwt","alg":"ES384"}`) + "e30.AA.AA",
			header(`{"typ":"at+jwt","alg":"ES384","kid":"`+strings.Repeat("x", 2000)+`"}`) + "e30.AA",
		} {
			_, err := client.VerifyAccessToken(t.Context(), raw, shopping)
			a.wantError(t, err, auth.ErrInvalidToken)
		}
		if got := a.idp.Requests(); len(got) != 0 {
			t.Errorf("%d requests because of them", len(got))
		}
	})
	t.Run("no audience to expect", func(t *testing.T) {
		_, err := a.client.VerifyAccessToken(t.Context(), a.idp.AccessToken("ada", ""), "")
		a.wantError(t, err, auth.ErrInvalidOption)
	})
	t.Run("other kinds of tokens", func(t *testing.T) {
		_, err := a.client.VerifyAccessToken(t.Context(), a.idp.LogoutToken("ada"), a.config.AppID)
		a.wantError(t, err, auth.ErrInvalidToken)
		_, err = a.client.VerifyLogoutToken(t.Context(), a.idp.AccessToken("ada", a.config.AppID))
		a.wantError(t, err, auth.ErrInvalidToken)
	})
}

func TestAccessTokenClaims(t *testing.T) {
	a := newApp(t)
	for audience, want := range map[string]string{shopping: "", auth.OrganizationAudience(acme): acme} {
		claims, err := a.client.VerifyAccessToken(t.Context(), a.idp.AccessToken("ada", audience), audience)
		if err != nil || claims.Organization() != want || !claims.HasScopes() || claims.HasScopes("delete:everything") {
			t.Errorf("claims %+v, %v", claims, err)
		}
	}
	claims, err := a.client.VerifyAccessToken(t.Context(), a.idp.AccessToken("ada", shopping, authtest.Claim("scope", "")), shopping)
	if err != nil || len(claims.Scopes()) != 0 || claims.HasScopes("") {
		t.Errorf("scopes %q, %v", claims.Scopes(), err)
	}
}

// TestKeys: a key set that is not as it should be, and what becomes of a good token.
func TestKeys(t *testing.T) {
	keys := func(edit func([]any) []any) authtest.Behaviour {
		return authtest.EditJSON(func(set map[string]any) { set["keys"] = edit(set["keys"].([]any)) })
	}
	edited := func(name string, value any) authtest.Behaviour {
		return keys(func(list []any) []any { list[0].(map[string]any)[name] = value; return list })
	}
	tests := append([]brokenAnswer{
		{"duplicate key IDs", authtest.DuplicateKeyIDs, 200},
		{"unusable keys among them", authtest.UnusableKeys, 200},
		{"without use and alg", keys(func(list []any) []any {
			key := list[0].(map[string]any)
			delete(key, "use")
			delete(key, "alg")
			return list
		}), 200},
		{"a hundred unusable ones before", keys(func(list []any) []any { return append(make([]any, 100), list...) }), 200},
		{"for encryption", edited("use", "enc"), 0},
		{"of another algorithm", edited("alg", "ES256"), -1},
		{"under another ID", edited("kid", "another"), -1},
		{"a point off the curve", edited("x", "AAAA"), 0},
		{"a symmetric key", keys(func([]any) []any { return []any{map[string]any{"kty": "oct", "k": "c2VjcmV0", "kid": "a"}} }), 0},
		{"none", authtest.NoKeys, 0},
		{"not a list", authtest.Field("keys", "none"), 0},
		{"no keys field", authtest.NoField("keys"), 0},
	}, broken...)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := newApp(t)
			a.idp.On(authtest.Keys, tt.answer)
			token := a.idp.AccessToken("ada", shopping)
			_, err := a.client.VerifyAccessToken(t.Context(), token, shopping)
			_, logoutErr := a.client.VerifyLogoutToken(t.Context(), a.idp.LogoutToken("ada"))
			want := auth.ErrProvider // whatever it is, it is not the token's fault
			switch tt.status {
			case 200:
				want = nil
			case -1:
				want = auth.ErrInvalidToken
			}
			a.wantError(t, err, want)
			a.wantError(t, logoutErr, want)
			if errors.Is(err, auth.ErrProvider) && errors.Is(err, auth.ErrInvalidToken) {
				t.Errorf("both Logto's and the token's fault: %v", err)
			}
			a.idp.Behave()
			_, err = a.client.VerifyAccessToken(t.Context(), token, shopping)
			a.wantError(t, err, nil)
		})
	}
}

// TestKeysAreAnnounced: the algorithms are those of discovery, cut by a list of asymmetric ones.
func TestKeysAreAnnounced(t *testing.T) {
	tests := []struct {
		name      string
		announced []string
		change    func(*authtest.JWT)
		good      bool
	}{
		{"among others", []string{"RS256", "ES384", "XY999"}, func(*authtest.JWT) {}, true},
		{"not announced", []string{"RS256"}, func(*authtest.JWT) {}, false},
		{"HS256 announced", []string{"HS256", "ES384"}, authtest.SignedWithSecret, false},
		{"HS256 announced, with the public key", []string{"HS256", "ES384"}, authtest.SignedWithPublicKey, false},
		{"none announced", []string{"none", "ES384"}, authtest.Unsigned, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := newApp(t)
			a.idp.On(authtest.Discovery, authtest.Field("id_token_signing_alg_values_supported", tt.announced))
			_, err := a.client.VerifyAccessToken(t.Context(), a.idp.AccessToken("ada", shopping, tt.change), shopping)
			if tt.good {
				a.wantError(t, err, nil)
			} else {
				a.wantError(t, err, auth.ErrInvalidToken)
			}
		})
	}
}

// TestKeysOfAnotherAlgorithm: after a change of the signing algorithm, the key of the new one is not used until
// discovery announces it.
func TestKeysOfAnotherAlgorithm(t *testing.T) {
	a := newApp(t)
	a.idp.RotateKey("ES256")
	a.idp.On(authtest.Discovery, authtest.Field("id_token_signing_alg_values_supported", []string{"ES384"}))
	_, err := a.client.VerifyAccessToken(t.Context(), a.idp.AccessToken("ada", shopping), shopping)
	a.wantError(t, err, auth.ErrInvalidToken)
}

// nobodys makes a token whose kid names no key: it costs Logto a request, unless the limit says no.
func (a *app) nobodys() string {
	return a.idp.AccessToken("ada", shopping, authtest.Header("kid", "nobody"))
}

// flood sends so many of them that strangers can't make us ask Logto any more.
func (a *app) flood(t *testing.T) {
	t.Helper()
	begin := time.Now()
	for i := range 1000 {
		_, err := a.client.VerifyAccessToken(t.Context(), a.nobodys(), shopping)
		if i < 5 {
			a.wantError(t, err, auth.ErrInvalidToken)
			continue
		}
		a.wantUnknown(t, err)
	}
	if waited := time.Since(begin); waited != 0 {
		t.Errorf("bad tokens were let wait %v", waited)
	}
}

// wantUnknown expects that a token could not be judged.
func (a *app) wantUnknown(t *testing.T, err error) {
	t.Helper()
	a.wantError(t, err, auth.ErrProvider)
	if errors.Is(err, auth.ErrInvalidToken) {
		t.Errorf("refused, though nobody has looked: %v", err)
	}
}

// TestKeysFlood: strangers' tokens with unknown keys make us ask Logto five times at once and then once a second.
func TestKeysFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApp(t, inMemory)
		a.flood(t)
		a.wantCalls(t, authtest.Keys, 5, authtest.Discovery, 1)
		_, err := a.client.VerifyAccessToken(t.Context(), a.idp.AccessToken("ada", shopping), shopping)
		a.wantError(t, err, nil)

		a.forget()
		for range 60 {
			time.Sleep(time.Second)
			for range 10 {
				_, _ = a.client.VerifyAccessToken(t.Context(), a.nobodys(), shopping) // as in flood
			}
		}
		a.wantCalls(t, authtest.Keys, 60, authtest.Discovery, 0)
	})
}

// TestKeysFloodOfAlgorithms: the same for an algorithm that discovery does not list, and discovery.
func TestKeysFloodOfAlgorithms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApp(t, inMemory)
		_, err := a.client.VerifyAccessToken(t.Context(), a.idp.AccessToken("ada", shopping), shopping)
		a.wantError(t, err, nil)
		a.forget()
		junk := a.idp.AccessToken("ada", shopping, authtest.SignedWithForeignKey("RS256"))
		for i := range 1000 {
			_, err := a.client.VerifyAccessToken(t.Context(), junk, shopping)
			if i < 4 { // one of five was needed to begin with
				a.wantError(t, err, auth.ErrInvalidToken)
				continue
			}
			a.wantUnknown(t, err)
		}
		a.wantCalls(t, authtest.Keys, 0, authtest.Discovery, 4)
	})
}

// TestForgedTokens: a bad signature by a key that is known is no reason to ask for others.
func TestForgedTokens(t *testing.T) {
	a := newApp(t)
	forged := authtest.SignedWithForeignKey("ES384")
	for range 20 {
		_, err := a.client.VerifyAccessToken(t.Context(), a.idp.AccessToken("ada", shopping, forged), shopping)
		a.wantError(t, err, auth.ErrInvalidToken)
		_, err = a.client.VerifyLogoutToken(t.Context(), a.idp.LogoutToken("ada", forged))
		a.wantError(t, err, auth.ErrInvalidToken)
	}
	a.wantCalls(t, authtest.Keys, 1, authtest.Discovery, 1)
}

// TestRotationInAFlood: a new key, even of another algorithm, costs nobody a sign-in, whatever strangers send. Tokens that
// come by way of strangers are not refused for it: they are good, or can't be judged for a second.
func TestRotationInAFlood(t *testing.T) {
	for _, alg := range []string{"ES384", "RS256"} {
		t.Run(alg, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newApp(t, inMemory)
				a.signIn(t)
				a.flood(t)
				if alg != "ES384" {
					for range 10 {
						_, _ = a.client.VerifyAccessToken(t.Context(), a.idp.AccessToken("ada", shopping, authtest.SignedWithForeignKey(alg)), shopping)
					}
				}
				query := a.visit(t, auth.SignInOptions{})
				old := a.idp.KeyID()
				a.idp.RotateKey(alg)
				a.idp.WithdrawKey(old)
				a.idp.On(authtest.Discovery, authtest.Field("id_token_signing_alg_values_supported", []string{alg}))

				_, err := a.client.VerifyLogoutToken(t.Context(), a.idp.LogoutToken("ada"))
				a.wantUnknown(t, err)
				_, err = a.client.VerifyAccessToken(t.Context(), a.idp.AccessToken("ada", shopping), shopping)
				a.wantUnknown(t, err)

				begin := time.Now()
				_, err = a.callback(query)
				a.wantError(t, err, nil)
				if waited := time.Since(begin); waited != 0 {
					t.Errorf("the sign-in waited %v", waited)
				}
				_, err = a.client.VerifyLogoutToken(t.Context(), a.idp.LogoutToken("ada"))
				a.wantError(t, err, nil)
			})
		})
	}
}

// TestRotationUnderTheSameName: a new key that is published under the old one's kid fails no sign-in either.
func TestRotationUnderTheSameName(t *testing.T) {
	a := newApp(t)
	a.signIn(t)
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a.idp.OnIDToken(func(t *authtest.JWT) { t.Key = key })
	a.idp.On(authtest.Keys, authtest.Field("keys", []jose.JSONWebKey{{Key: key.Public(), KeyID: a.idp.KeyID(), Algorithm: "ES384", Use: "sig"}}))
	_, err = a.callback(a.visit(t, auth.SignInOptions{}))
	a.wantError(t, err, nil)
	a.wantCalls(t, authtest.Keys, 1)
}

// TestRotationWithoutASignIn: the same, where only strangers' tokens tell of it.
func TestRotationWithoutASignIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApp(t, inMemory)
		a.signIn(t)
		a.flood(t)
		a.idp.RotateKey("RS256")
		a.idp.On(authtest.Discovery, authtest.Field("id_token_signing_alg_values_supported", []string{"RS256", "ES384"}))
		time.Sleep(time.Second)
		_, err := a.client.VerifyLogoutToken(t.Context(), a.idp.LogoutToken("ada"))
		a.wantError(t, err, nil)
	})
}

// TestRotationWhileKeysCome: an answer that Logto gave before the rotation is not the last word, however late it comes.
func TestRotationWhileKeysCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApp(t, inMemory)
		a.signIn(t)
		query := a.visit(t, auth.SignInOptions{})
		a.idp.On(authtest.Keys, authtest.DelayAnswer(time.Second)).Times(1)
		refused := make(chan error)
		go func() {
			a.idp.OnRefreshedIDToken(authtest.Header("kid", "nobody")).Times(1)
			_, err := a.session.AccessToken(t.Context(), shopping) // fetches the keys
			refused <- err
		}()
		synctest.Wait()
		a.idp.RotateKey()
		_, err := a.callback(query)
		a.wantError(t, err, nil)
		a.wantError(t, <-refused, auth.ErrInvalidToken)
		a.wantCalls(t, authtest.Keys, 2)
	})
}

// TestColdStart: once Logto is there, the first sign-in works at once, whatever was sent and tried before.
func TestColdStart(t *testing.T) {
	away := authtest.Status(http.StatusServiceUnavailable)
	for _, tt := range []struct {
		name   string
		of     authtest.Endpoint
		answer authtest.Behaviour
	}{
		{"no discovery", authtest.Discovery, away},
		{"discovery hangs", authtest.Discovery, authtest.Hang},
		{"no keys", authtest.Keys, away},
		{"keys hang", authtest.Keys, authtest.Hang},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newApp(t, inMemory)
				a.idp.On(tt.of, tt.answer)
				begin := time.Now()
				for time.Since(begin) < time.Minute {
					_, err := a.client.VerifyAccessToken(t.Context(), a.idp.AccessToken("ada", shopping), shopping)
					a.wantUnknown(t, err)
					_, err = a.client.VerifyAccessToken(t.Context(), a.nobodys(), shopping)
					a.wantUnknown(t, err)
					time.Sleep(100 * time.Millisecond)
				}
				if got := a.idp.Count(tt.of); got > 65 {
					t.Errorf("asked %d times in a minute", got)
				}
				go func() { // still under way when Logto is back
					_, _ = a.client.VerifyAccessToken(t.Context(), a.nobodys(), shopping)
				}()
				synctest.Wait()
				a.idp.Behave()
				begin = time.Now()
				a.signIn(t)
				if waited := time.Since(begin); waited != 0 {
					t.Errorf("the sign-in waited %v", waited)
				}
				time.Sleep(10 * time.Second) // what hangs ends
			})
		})
	}
}

// TestColdStartOfManySignIns: while Logto does not answer, sign-ins that are tried all the time neither wait long nor press
// it, and soon after it does, they work.
func TestColdStartOfManySignIns(t *testing.T) {
	for name, answer := range map[string]authtest.Behaviour{
		"fails": authtest.Status(http.StatusServiceUnavailable),
		"hangs": authtest.Hang,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newApp(t, inMemory)
				a.idp.On(authtest.Discovery, answer)
				begin := time.Now()
				for time.Since(begin) < time.Minute {
					try := time.Now()
					a.wantError(t, a.client.Ready(t.Context()), auth.ErrProvider)
					if waited := time.Since(try); waited > 2*time.Second && time.Since(begin) > 11*time.Second {
						t.Errorf("waited %v, though it was known that Logto is away", waited)
					}
					time.Sleep(100 * time.Millisecond)
				}
				if got := a.idp.Count(authtest.Discovery); got > 70 {
					t.Errorf("asked %d times in a minute", got)
				}
				a.idp.Behave()
				begin = time.Now()
				a.signIn(t)
				if waited := time.Since(begin); waited > time.Second {
					t.Errorf("the sign-in waited %v", waited)
				}
				time.Sleep(10 * time.Second) // what hangs ends
			})
		})
	}
}

// TestLostRequest: who comes while a request hangs does not hang with it once Logto is well again.
func TestLostRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApp(t, inMemory)
		a.idp.On(authtest.Discovery, authtest.Hang)
		go func() { _ = a.client.Ready(t.Context()) }()
		time.Sleep(500 * time.Millisecond)
		a.idp.Behave()
		begin := time.Now()
		a.signIn(t)
		if waited := time.Since(begin); waited > 2*time.Second {
			t.Errorf("the sign-in waited %v", waited)
		}
		time.Sleep(10 * time.Second) // what hangs ends
	})
}

// TestKeyWithdrawn: what is signed with a key that Logto has withdrawn is good for some minutes, not for ever.
func TestKeyWithdrawn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApp(t, inMemory)
		token := a.idp.AccessToken("ada", shopping)
		_, err := a.client.VerifyAccessToken(t.Context(), token, shopping)
		a.wantError(t, err, nil)
		old := a.idp.KeyID()
		a.idp.RotateKey()
		a.idp.WithdrawKey(old)
		time.Sleep(10 * time.Minute)
		_, err = a.client.VerifyAccessToken(t.Context(), token, shopping)
		a.wantError(t, err, auth.ErrInvalidToken)
	})
}

// TestKeysDuringAnOutage: the keys that are known serve for a while, and nobody waits long for others.
func TestKeysDuringAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApp(t, inMemory, func(s *setup) { s.idp.AccessTokenLife = 24 * time.Hour })
		token := a.idp.AccessToken("ada", shopping)
		verify := func() error {
			_, err := a.client.VerifyAccessToken(t.Context(), token, shopping)
			return err
		}
		a.wantError(t, verify(), nil)
		a.idp.On(authtest.Keys, authtest.Hang)
		time.Sleep(30 * time.Minute)
		begin := time.Now()
		for range 100 {
			a.wantError(t, verify(), nil)
		}
		if waited := time.Since(begin); waited > 2*time.Second {
			t.Errorf("100 verifications waited %v", waited)
		}
		time.Sleep(30 * time.Minute)
		a.wantError(t, verify(), auth.ErrProvider)
		a.idp.Behave()
		a.idp.On(authtest.Keys, authtest.Status(http.StatusServiceUnavailable)).Times(1)
		a.wantError(t, verify(), auth.ErrProvider)
		a.wantError(t, verify(), nil)
		time.Sleep(10 * time.Second) // what hangs ends
	})
}

// TestLogoutTokenReplay: a token is refused the second time for as long as it could be good.
func TestLogoutTokenReplay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApp(t, inMemory)
		token := a.idp.LogoutToken("ada")
		for i := range 5 {
			claims, err := a.client.VerifyLogoutToken(t.Context(), token)
			if i == 0 {
				a.wantError(t, err, nil)
				_, err = a.client.VerifyLogoutToken(t.Context(), token) // what it says was not done yet
				a.wantError(t, err, nil)
				a.wantError(t, a.client.LogoutDone(t.Context(), claims), nil)
			} else {
				a.wantError(t, err, auth.ErrInvalidToken)
			}
			time.Sleep(35 * time.Second) // five of them are beyond exp, and with leeway too
		}
		_, err := a.client.VerifyLogoutToken(t.Context(), a.idp.LogoutToken("ada"))
		a.wantError(t, err, nil)
	})
	t.Run("the memory of it fails", func(t *testing.T) {
		away := errors.New("storage is away")
		a := newApp(t, func(s *setup) { s.config.Replays = replays{away} })
		_, err := a.client.VerifyLogoutToken(t.Context(), a.idp.LogoutToken("ada"))
		a.wantError(t, err, away)
		if errors.Is(err, auth.ErrInvalidToken) {
			t.Error("that is not the token's fault")
		}
	})
}

type replays struct{ err error }

func (r replays) Noted(context.Context, string) (bool, error)       { return false, r.err }
func (r replays) Note(context.Context, string, time.Duration) error { return r.err }
