package auth_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/go-jose/go-jose/v4"

	"example.com/logto-gin-starter/auth"
	"example.com/logto-gin-starter/auth/authtest"
)

// addTokens adds seeds of a header and a payload, in which words in capitals stand for what only the run knows; see fill.
func addTokens(f *testing.F) {
	for _, payload := range []string{
		`{REQUIRED}`,
		`{REQUIRED,"nonce":"NONCE"}`,
		`{REQUIRED,"jti":"JTI","events":{"http://schemas.openid.net/event/backchannel-logout":{}}}`,
		`{REQUIRED,"client_id":"c","scope":"a b"}`,
		`{REQUIRED,"nonce":"NONCE","name":null,"email_verified":"yes","roles":{},"custom_data":[[[]]]}`,
		`{REQUIRED,"nonce":"NONCE","nonce":null,"sub":"another","SUB":"x","aud":["APP","another-app"]}`,
		`{REQUIRED,"jti":"JTI","events":{"http://schemas.openid.net/event/backchannel-logout":null},"sid":null}`,
		`{REQUIRED,"nonce":"NONCE","exp":1e400,"iat":-1e400,"nbf":1e300}`,
		`{"iss":"ISSUER","aud":"APP","sub":"ada","nonce":"NONCE","iat":NOW,"exp":9223372036854775807}`,
		`{"iss":["ISSUER"],"aud":{"APP":1},"sub":7,"exp":"NOW","iat":null}`,
		`{REQUIRED,"_claim_names":{"a":"b"},"_claim_sources":{}}`,
		`null`, `[]`, `"`, ``, "\x00", `{"sub":"\ud800"}`,
	} {
		for _, typ := range []string{"", "JWT", "at+jwt", "logout+jwt"} {
			f.Add(typ, payload)
		}
	}
}

// fill puts what a good token has into a payload.
func (a *app) fill(payload, nonce string) string {
	now := time.Now().Unix()
	payload = strings.ReplaceAll(payload, "REQUIRED", fmt.Sprintf(`"iss":"ISSUER","aud":"APP","sub":"ada","iat":NOW,"exp":%d`, now+600))
	return strings.NewReplacer("ISSUER", a.idp.Issuer, "APP", a.config.AppID, "NOW", fmt.Sprint(now), "NONCE", nonce, "JTI", nonce).Replace(payload)
}

// signAs makes a token of this payload, to the byte, with a signature that is good.
func signAs(f testing.TB, typ, payload string) func(*authtest.JWT) {
	return func(t *authtest.JWT) {
		options := (&jose.SignerOptions{}).WithHeader("kid", t.Header["kid"])
		if typ != "" {
			options = options.WithHeader("typ", typ)
		}
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES384, Key: t.Key}, options)
		if err != nil {
			f.Fatal(err)
		}
		t.Finish = func(string) string {
			signed, err := signer.Sign([]byte(payload))
			if err != nil {
				f.Fatal(err)
			}
			token, err := signed.CompactSerialize()
			if err != nil {
				f.Fatal(err)
			}
			return token
		}
	}
}

// wantGood checks what was accepted against the payload itself, read in another way.
func (a *app) wantGood(tb testing.TB, payload, audience string) map[string]any {
	tb.Helper()
	var claims map[string]any
	if err := json.Unmarshal([]byte(payload), &claims); err != nil {
		tb.Fatalf("accepted, though %v: %q", err, payload)
	}
	audiences, isList := claims["aud"].([]any)
	if !isList {
		audiences = []any{claims["aud"]}
	}
	var meant bool
	for _, aud := range audiences {
		meant = meant || aud == audience
	}
	exp, hasExp := claims["exp"].(float64)
	iat, hasIat := claims["iat"].(float64)
	now := float64(time.Now().Unix())
	if !meant || claims["iss"] != a.idp.Issuer || !hasExp || exp < now-31 || !hasIat || iat > now+31 {
		tb.Fatalf("accepted: %s", payload)
	}
	return claims
}

// FuzzIDToken: any payload that Logto signs.
func FuzzIDToken(f *testing.F) {
	addTokens(f)
	a := newApp(f, inMemory)
	f.Fuzz(func(t *testing.T, typ, payload string) {
		query := a.visit(t, auth.SignInOptions{})
		requests := a.idp.Requests(authtest.Authorization)
		nonce := requests[len(requests)-1].Form.Get("nonce")
		payload = a.fill(payload, nonce)
		a.idp.OnIDToken(signAs(t, typ, payload)).Times(1)
		result, err := a.callback(query)
		if err != nil {
			if !errors.Is(err, auth.ErrInvalidToken) {
				t.Fatal(err)
			}
			return
		}
		claims := a.wantGood(t, payload, a.config.AppID)
		if claims["nonce"] != nonce || claims["sub"] != result.Claims.Subject || result.Claims.Subject == "" {
			t.Fatalf("accepted: %s", payload)
		}
		if again, err := a.session.IDTokenClaims(t.Context()); err != nil || again.Subject != result.Claims.Subject {
			t.Fatalf("%+v, %v", again, err)
		}
	})
}

// FuzzLogoutToken: any payload that Logto signs.
func FuzzLogoutToken(f *testing.F) {
	addTokens(f)
	a := newApp(f, inMemory)
	f.Fuzz(func(t *testing.T, typ, payload string) {
		payload = a.fill(payload, "id")
		client := a.newClient(t) // that has not seen the jti
		got, err := client.VerifyLogoutToken(t.Context(), a.idp.LogoutToken("ada", signAs(t, typ, payload)))
		if err != nil {
			if !errors.Is(err, auth.ErrInvalidToken) {
				t.Fatal(err)
			}
			return
		}
		claims := a.wantGood(t, payload, a.config.AppID)
		events, _ := claims["events"].(map[string]any)
		if _, isObject := events[logoutEvent].(map[string]any); !isObject {
			t.Fatalf("accepted without the event: %s", payload)
		}
		_, hasNonce := claims["nonce"]
		if hasNonce || claims["jti"] != got.ID || got.ID == "" || got.Subject+got.SessionID == "" {
			t.Fatalf("accepted: %s", payload)
		}
	})
}

// FuzzToken: any text that pretends to be a token.
func FuzzToken(f *testing.F) {
	a := newApp(f, inMemory)
	good := []string{a.idp.AccessToken("ada", shopping), a.idp.LogoutToken("ada")}
	for _, token := range append(good, "", "..", "a.b.c", "{}", `{"payload":"","signatures":[]}`, "eyJ0eXAiOiJhdCtqd3QifQ..",
		good[0]+"\n", strings.ReplaceAll(good[0], ".", " . ")) {
		f.Add(token)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		text := strings.Join(strings.Fields(raw), "") // as a copy with line ends would be
		if _, err := a.client.VerifyAccessToken(t.Context(), raw, shopping); err == nil && text != good[0] {
			t.Fatalf("accepted: %q", raw)
		}
		if _, err := a.newClient(t).VerifyLogoutToken(t.Context(), raw); err == nil && text != good[1] {
			t.Fatalf("accepted: %q", raw)
		}
		_, _ = auth.Token{Value: auth.Secret(raw)}.Claims() // must not panic
	})
}

// FuzzOAuthError: any body with which the token endpoint may refuse.
func FuzzOAuthError(f *testing.F) {
	for _, body := range []string{
		`{"error":"invalid_grant","error_description":"grant request is invalid","code":"oidc.invalid_grant"}`,
		`{"error":"access_denied","error_description":null,"code":7}`, `{"error":["a"]}`, `{"error":"a\r\nb\u0000\u202e"}`,
		`{"error_description":"` + strings.Repeat("é", 1000) + `"}`, `[]`, `null`, ``, `<html>`, "{\"error\":\"\xff\"}", `error=invalid_grant`,
	} {
		f.Add(400, "application/json", body)
		f.Add(200, "application/json", body)
		f.Add(503, "text/plain", body)
	}
	a := newApp(f, inMemory)
	a.signIn(f)
	f.Fuzz(func(t *testing.T, status int, contentType, body string) {
		if status < 200 || status > 599 || status == http.StatusNoContent || status == http.StatusNotModified {
			t.Skip("these have no body")
		}
		a.idp.On(authtest.Token, authtest.Body(status, contentType, body)).Times(1)
		before := a.storage.records()
		err := access(shopping, auth.ForceRefresh())(a.session)
		if err == nil {
			if status > 299 || !strings.Contains(body, "access_token") {
				t.Fatalf("%d %q gave a token", status, body)
			}
			t.Skip("that was one")
		}
		answer, isAnswer := errors.AsType[*auth.OAuthError](err)
		if isAnswer == errors.Is(err, auth.ErrProvider) || isAnswer && answer.Status != status {
			t.Fatalf("%d %q: %v", status, body, err)
		}
		if text := err.Error(); strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) || len(text) > 4000 {
			t.Fatalf("error text %q", text)
		}
		ended := errors.Is(err, auth.ErrSignInRequired)
		if ended != (isAnswer && answer.Code == "invalid_grant") || ended == a.isSignedIn(t) {
			t.Fatalf("%d %q: the session has ended is %v", status, body, ended)
		}
		if ended {
			a.signIn(t)
		} else if a.storage.records() != before {
			t.Fatalf("%d %q changed the session", status, body)
		}
	})
}

// FuzzClaims: any JSON. What is accepted comes out as it came in.
func FuzzClaims(f *testing.F) {
	for _, text := range []string{
		`{"sub":"s","name":null,"email":7,"address":{"a":[]},"created_at":1e300,"x":{"y":null}}`,
		`{"sub":"s","iss":"i","aud":["a"],"exp":1.5,"iat":0,"auth_time":null}`, `{"sub":null}`, `{"sub":"a","sub":"b"}`,
		`{"Sub":"x","sub":"s","NAME":"x"}`, `{"sub":"s","roles":["a",1],"custom_data":{"a":{"b":1e400}}}`, `{}`, `null`, `[]`, ``, `{"":""}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		_ = json.Unmarshal(text, new(auth.IDTokenClaims)) // must not panic
		_ = json.Unmarshal(text, new(auth.AccessTokenClaims))
		var info auth.UserInfo
		if json.Unmarshal(text, &info) != nil {
			return
		}
		out, err := json.Marshal(info)
		if err != nil {
			t.Fatal(err)
		}
		var came, went map[string]json.RawMessage
		if err := errors.Join(json.Unmarshal(text, &came), json.Unmarshal(out, &went)); err != nil {
			t.Fatal(err)
		}
		delete(came, "sub") // is always text on the way out
		delete(went, "sub")
		in, _ := json.Marshal(came) // was unmarshalled just now
		back, _ := json.Marshal(went)
		if canonical(t, in) != canonical(t, back) {
			t.Fatalf("%s became %s", text, out)
		}
	})
}

// FuzzCallback: any query. Only the right one spends the code.
func FuzzCallback(f *testing.F) {
	for _, query := range []string{
		"code=CODE&state=STATE&iss=ISSUER", "code=CODE&state=STATE", "state=STATE&iss=ISSUER&error=access_denied", "",
		"code=CODE&state=STATE&state=STATE&iss=ISSUER", "code=CODE&code=x&state=STATE&iss=ISSUER", "code=&state=STATE&iss=ISSUER",
		"CODE=CODE&STATE=STATE&ISS=ISSUER", "error=%0d%0a&error_description=%ff&state=STATE&iss=ISSUER", "state=%53TATE", "%zz;&&=",
	} {
		f.Add(query)
	}
	a := newApp(f, inMemory)
	f.Fuzz(func(t *testing.T, raw string) {
		right := a.visit(t, auth.SignInOptions{})
		raw = strings.NewReplacer("CODE", right.Get("code"), "STATE", right.Get("state"), "ISSUER", url.QueryEscape(a.idp.Issuer)).Replace(raw)
		query, _ := url.ParseQuery(raw) // a server goes on with what it could read
		a.forget()
		_, err := a.session.HandleSignInCallback(context.Background(), query)
		meant := len(query["state"]) == 1 && query.Get("state") == right.Get("state") && len(query["iss"]) == 1 && query.Get("iss") == a.idp.Issuer &&
			len(query["code"]) == 1 && query.Get("code") != "" && !query.Has("error") && len(query["error_description"]) < 2
		if sent := a.idp.Count(authtest.Token) == 1; sent != meant {
			t.Fatalf("%q: code sent: %t", raw, sent)
		}
		if good := meant && query.Get("code") == right.Get("code"); good != (err == nil) {
			t.Fatalf("%q: %v", raw, err)
		}
		_, isAnswer := errors.AsType[*auth.OAuthError](err)
		if err != nil && !isAnswer && !errors.Is(err, auth.ErrUnknownSignIn) && !errors.Is(err, auth.ErrInvalidCallback) {
			t.Fatalf("%q: %v", raw, err)
		}
		if err != nil && strings.ContainsFunc(err.Error(), func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Fatalf("%q: %q", raw, err)
		}
	})
}
