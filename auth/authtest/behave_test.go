package authtest_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"example.com/logto-gin-starter/auth/authtest"
)

// decode reads a JWT without verifying it.
func decode(t *testing.T, token string) (header, claims map[string]any, signature []byte) {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("not a JWT: %q", token)
	}
	for i, into := range []*map[string]any{&header, &claims} {
		text, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(text, into); err != nil {
			t.Fatal(err)
		}
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil {
		t.Fatal(err)
	}
	return header, claims, signature
}

func published(t *testing.T, srv *authtest.Server) jose.JSONWebKeySet {
	t.Helper()
	status, body, err := get(t.Context(), srv, srv.Issuer+"/jwks")
	if err != nil || status != http.StatusOK {
		t.Fatal(status, err)
	}
	var keys jose.JSONWebKeySet
	if err := json.Unmarshal(body, &keys); err != nil {
		t.Fatal(err)
	}
	return keys
}

func get(ctx context.Context, srv *authtest.Server, address string) (int, []byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return 0, nil, err
	}
	w, err := srv.Client().Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer w.Body.Close()
	body, err := io.ReadAll(w.Body)
	return w.StatusCode, body, err
}

func verifies(token string, keys jose.JSONWebKeySet) bool {
	algs := []jose.SignatureAlgorithm{jose.ES256, jose.ES384, jose.ES512, jose.RS256}
	parsed, err := jwt.ParseSigned(token, algs)
	if err != nil {
		return false
	}
	var claims map[string]any
	if parsed.Headers[0].KeyID != "" {
		return parsed.Claims(keys, &claims) == nil
	}
	for _, key := range keys.Keys {
		if parsed.Claims(key.Key, &claims) == nil {
			return true
		}
	}
	return false
}

func TestTokenMisbehaviour(t *testing.T) {
	srv := authtest.New(authtest.Options{Resources: []authtest.Resource{{Indicator: "https://api.example"}}})
	defer srv.Close()
	keys := published(t, srv)
	good := srv.LogoutToken("ada", authtest.Claim("jti", "same"))
	wantHeader, wantClaims, _ := decode(t, good)
	day := 24 * time.Hour
	for _, test := range []struct {
		name          string
		change        func(*authtest.JWT)
		verifies      bool
		header, claim map[string]any // what differs; nil: left out
	}{
		{"nothing", func(*authtest.JWT) {}, true, nil, nil},
		{"WrongIssuer", authtest.WrongIssuer, true, nil, map[string]any{"iss": "https://issuer.example/oidc"}},
		{"WrongAudience", authtest.WrongAudience, true, nil, map[string]any{"aud": "another-app"}},
		{"ForeignParty", authtest.ForeignParty, true, nil, map[string]any{"aud": []any{"app", "another-app"}, "azp": "another-app"}},
		{"WrongSubject", authtest.WrongSubject, true, nil, map[string]any{"sub": "somebodyelse"}},
		{"WrongNonce", authtest.WrongNonce, true, nil, map[string]any{"nonce": "another-nonce"}},
		{"WrongEvent", authtest.WrongEvent, true, nil, map[string]any{"events": map[string]any{"http://schemas.openid.net/event/other": map[string]any{}}}},
		{"NoClaim", authtest.NoClaim("sub"), true, nil, map[string]any{"sub": nil}},
		{"Claim", authtest.Claim("iat", "odd"), true, nil, map[string]any{"iat": "odd"}},
		{"Shifted", authtest.Shifted(-day), true, nil, map[string]any{
			"iat": wantClaims["iat"].(float64) - day.Seconds(), "exp": wantClaims["exp"].(float64) - day.Seconds(),
		}},
		{"NoHeader", authtest.NoHeader("kid"), true, map[string]any{"kid": nil}, nil},
		{"Header", authtest.Header("typ", "JWT"), true, map[string]any{"typ": "JWT"}, nil},
		{"Unsigned", authtest.Unsigned, false, map[string]any{"alg": "none"}, nil},
		{"SignedWithPublicKey", authtest.SignedWithPublicKey, false, map[string]any{"alg": "HS256"}, nil},
		{"SignedWithSecret", authtest.SignedWithSecret, false, map[string]any{"alg": "HS256"}, nil},
		{"SignedWithForeignKey", authtest.SignedWithForeignKey("ES384"), false, nil, nil},
		{"SignedWithForeignKey RS256", authtest.SignedWithForeignKey("RS256"), false, map[string]any{"alg": "RS256"}, nil},
		{"SignedOnOtherCurve", authtest.SignedOnOtherCurve, false, nil, nil},
		{"BrokenSignature", authtest.BrokenSignature, false, nil, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			raw := srv.LogoutToken("ada", authtest.Claim("jti", "same"), test.change)
			header, claims, signature := decode(t, raw)
			for _, part := range []struct{ got, good, differs map[string]any }{{header, wantHeader, test.header}, {claims, wantClaims, test.claim}} {
				want := maps.Clone(part.good)
				for name, value := range part.differs {
					want[name] = value
					if value == nil {
						delete(want, name)
					}
				}
				for _, name := range []string{"iat", "exp"} { // a second may pass between the two
					if part.differs[name] == nil {
						delete(want, name)
						delete(part.got, name)
					}
				}
				got, _ := json.Marshal(part.got)
				wanted, _ := json.Marshal(want)
				if string(got) != string(wanted) && test.name != "Shifted" {
					t.Errorf("got %s, want %s", got, wanted)
				}
			}
			if test.name == "Shifted" && (claims["exp"].(float64)-test.claim["exp"].(float64) > 1 || claims["iat"].(float64)-test.claim["iat"].(float64) > 1) {
				t.Errorf("iat %v, exp %v", claims["iat"], claims["exp"])
			}
			if verifies(raw, keys) != test.verifies {
				t.Errorf("verifies: %v, want %v", !test.verifies, test.verifies)
			}
			if (len(signature) == 0) != (test.name == "Unsigned") {
				t.Errorf("signature of %d bytes", len(signature))
			}
		})
	}
	if token := srv.AccessToken("ada", "https://api.example", authtest.Claim("scope", "x")); !verifies(token, keys) {
		t.Error("an access token does not verify")
	}
}

// TestTokenHooks signs in under each hook, and sees it in the tokens of that kind only.
func TestTokenHooks(t *testing.T) {
	p := newLocal(t, authtest.Options{Apps: []authtest.App{{
		ID: "app", Secret: "secret", RedirectURIs: []string{"http://localhost:3000/callback"}, AlwaysIssueRefreshToken: true,
	}}})
	p.local.OnIDToken(authtest.WrongSubject).Times(1)
	p.local.OnRefreshedIDToken(authtest.WrongIssuer)
	first := p.signedIn(t, p.browser())
	if _, claims := p.token(t, first.body["id_token"]); claims["sub"] != "somebodyelse" || claims["iss"] != p.issuer {
		t.Errorf("ID token %v", claims)
	}
	if _, claims := p.token(t, p.refresh(t, first.body["refresh_token"]).body["id_token"]); claims["iss"] == p.issuer {
		t.Errorf("refreshed ID token %v", claims)
	}
	p.local.Behave()
	if _, claims := p.token(t, p.signedIn(t, p.browser()).body["id_token"]); claims["sub"] == "somebodyelse" {
		t.Errorf("the hook outlived its one time: %v", claims)
	}
	hook := p.local.OnIDToken(authtest.WrongSubject)
	hook.Off()
	if _, claims := p.token(t, p.signedIn(t, p.browser()).body["id_token"]); claims["sub"] == "somebodyelse" {
		t.Errorf("the hook outlived Off: %v", claims)
	}
}

func TestCallbackMisbehaviour(t *testing.T) {
	p := newLocal(t, authtest.Options{})
	for _, test := range []struct {
		name   string
		change func(url.Values)
		want   func(url.Values) bool
	}{
		{"no iss", authtest.NoParam("iss"), func(q url.Values) bool { return !q.Has("iss") && q.Has("code") }},
		{"wrong iss", authtest.Param("iss", "https://evil.example"), func(q url.Values) bool { return q.Get("iss") == "https://evil.example" }},
		{"wrong state", authtest.Param("state", "x"), func(q url.Values) bool { return q.Get("state") == "x" }},
		{"refused", authtest.Refused("access_denied", "no"), func(q url.Values) bool { return q.Get("error") == "access_denied" && !q.Has("code") }},
	} {
		p.local.OnCallback(test.change).Times(1)
		if got := p.browser().visit(t, p.authURL(), false).callback; !test.want(got) {
			t.Errorf("%s: %v", test.name, got)
		}
	}
}

func TestEndpointMisbehaviour(t *testing.T) {
	inMemory := authtest.NewUnstarted("http://logto.example", authtest.Options{})
	overTCP := authtest.New(authtest.Options{})
	defer overTCP.Close()
	for name, srv := range map[string]*authtest.Server{"over TCP": overTCP, "in memory": inMemory} {
		t.Run(name, func(t *testing.T) { testEndpointMisbehaviour(t, srv) })
	}
}

func testEndpointMisbehaviour(t *testing.T, srv *authtest.Server) {
	address := srv.Issuer + "/.well-known/openid-configuration"
	is := func(status int, text string) func(int, []byte, error) bool {
		return func(s int, body []byte, err error) bool {
			return err == nil && s == status && strings.Contains(string(body), text)
		}
	}
	fails := func(status int, _ []byte, err error) bool { return err != nil && status == 0 }
	for _, test := range []struct {
		name string
		b    authtest.Behaviour
		want func(int, []byte, error) bool
	}{
		{"Status", authtest.Status(503), is(503, "server_error")},
		{"OAuthError", authtest.OAuthError(400, "invalid_grant", "no"), is(400, `"oidc.invalid_grant"`)},
		{"HTML", authtest.HTML(200), is(200, "<h1>")},
		{"Garbage", authtest.Garbage, is(200, "garbage")},
		{"Field", authtest.Field("issuer", "https://evil.example"), is(200, "https://evil.example")},
		{"NoField", authtest.NoField("issuer"), func(s int, body []byte, err error) bool {
			return err == nil && s == 200 && !strings.Contains(string(body), `"issuer"`) && json.Valid(body)
		}},
		{"Huge", authtest.Huge(10 << 20), func(_ int, body []byte, err error) bool { return err == nil && len(body) > 10<<20 && json.Valid(body) }},
		{"Reset", authtest.Reset, fails},
		{"LoseAnswer", authtest.LoseAnswer, fails},
		{"CutOff", authtest.CutOff, func(s int, body []byte, err error) bool {
			return s == 200 && len(body) > 0 && errors.Is(err, io.ErrUnexpectedEOF)
		}},
		{"RedirectLoop", authtest.RedirectLoop, func(_ int, _ []byte, err error) bool {
			return err != nil && strings.Contains(err.Error(), "10 redirects")
		}},
		{"Hang", authtest.Hang, func(_ int, _ []byte, err error) bool { return errors.Is(err, context.DeadlineExceeded) }},
		{"Delay", authtest.Delay(50 * time.Millisecond), is(200, "issuer")},
		{"DelayAnswer", authtest.DelayAnswer(50 * time.Millisecond), is(200, "issuer")},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			if strings.HasPrefix(test.name, "Huge") {
				ctx = t.Context()
			}
			srv.On(authtest.Discovery, test.b)
			defer srv.Behave()
			begin := time.Now()
			status, body, err := get(ctx, srv, address)
			if !test.want(status, body, err) {
				t.Errorf("%d %.200s %v", status, body, err)
			}
			if strings.HasPrefix(test.name, "Delay") && time.Since(begin) < 50*time.Millisecond {
				t.Error("no delay")
			}
		})
	}
	srv.Forget()
	srv.On(authtest.Discovery, authtest.Status(500)).Times(2)
	var statuses []int
	for range 3 {
		status, _, err := get(t.Context(), srv, address)
		if err != nil {
			t.Fatal(err)
		}
		statuses = append(statuses, status)
	}
	if statuses[0] != 500 || statuses[1] != 500 || statuses[2] != 200 {
		t.Errorf("twice 500, then 200: %v", statuses)
	}
	if seen := srv.Requests(authtest.Discovery); len(seen) != 3 || seen[0].Status != 500 || seen[2].Status != 200 || srv.Count(authtest.Discovery) != 3 {
		t.Errorf("seen %+v", seen)
	}
}

func TestKeys(t *testing.T) {
	srv := authtest.New(authtest.Options{})
	defer srv.Close()
	first := srv.KeyID()
	old := srv.LogoutToken("ada")
	second := srv.RotateKey()
	keys := published(t, srv)
	if len(keys.Keys) != 2 || keys.Keys[0].KeyID != second || srv.KeyID() != second || first == second {
		t.Fatalf("after a rotation: %v", keys)
	}
	if !verifies(old, keys) || !verifies(srv.LogoutToken("ada"), keys) {
		t.Error("a rotation made tokens invalid")
	}
	if !verifies(srv.LogoutToken("ada", authtest.NoHeader("kid")), keys) {
		t.Error("without kid no key fits")
	}
	srv.WithdrawKey(first)
	if verifies(old, published(t, srv)) {
		t.Error("a withdrawn key is still published")
	}
	srv.WithdrawKey(second)
	if len(published(t, srv).Keys) != 1 {
		t.Error("the last key was withdrawn")
	}
	rsa := srv.RotateKey("RS256")
	if header, _, _ := decode(t, srv.LogoutToken("ada")); header["alg"] != "RS256" || header["kid"] != rsa || !verifies(srv.LogoutToken("ada"), published(t, srv)) {
		t.Errorf("header %v", header)
	}
	srv.On(authtest.Keys, authtest.NoKeys).Times(1)
	if keys := published(t, srv); len(keys.Keys) != 0 {
		t.Errorf("NoKeys published %d", len(keys.Keys))
	}
	srv.On(authtest.Keys, authtest.DuplicateKeyIDs).Times(1)
	if keys := published(t, srv); len(keys.Keys) != 4 || len(keys.Key(rsa)) != 2 {
		t.Errorf("DuplicateKeyIDs: %v", keys)
	}
	srv.On(authtest.Keys, authtest.UnusableKeys).Times(1)
	if _, body, err := get(t.Context(), srv, srv.Issuer+"/jwks"); err != nil || !strings.Contains(string(body), `"XYZ"`) || !strings.Contains(string(body), rsa) {
		t.Errorf("UnusableKeys: %v %s", err, body)
	}
}

func TestSigningAlgorithms(t *testing.T) {
	for alg, announced := range map[string]string{
		"ES256": `["ES256"]`, "ES384": `["ES384"]`, "ES512": `["ES512"]`, "RS256": `["PS256","RS256"]`,
	} {
		srv := authtest.NewUnstarted("http://logto.example", authtest.Options{SigningAlg: alg})
		if !verifies(srv.LogoutToken("ada"), published(t, srv)) {
			t.Errorf("%s does not verify", alg)
		}
		if _, body, err := get(t.Context(), srv, srv.Issuer+"/.well-known/openid-configuration"); err != nil ||
			!strings.Contains(string(body), `"id_token_signing_alg_values_supported":`+announced) {
			t.Errorf("%s is not announced: %v %s", alg, err, body)
		}
	}
}
