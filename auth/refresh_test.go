package auth_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/logto-gin-starter/auth"
	"example.com/logto-gin-starter/auth/authtest"
)

// These tests run on a clock of their own: an hour passes in no time, and what is concurrent is certain.

// TestTokenIsCached until shortly before it expires.
func TestTokenIsCached(t *testing.T) {
	tests := []struct {
		life, cached time.Duration
	}{
		{time.Hour, time.Hour - 30*time.Second},
		{10 * time.Second, 8 * time.Second}, // not half of it, for the sake of being early
	}
	for _, tt := range tests {
		synctest.Test(t, func(t *testing.T) {
			a := newApp(t, inMemory, func(s *setup) { s.idp.AccessTokenLife = tt.life })
			a.signIn(t)
			first := a.token(t, shopping)
			if life := time.Until(first.Expiry); life != tt.life {
				t.Errorf("expires in %v, want %v", life, tt.life)
			}
			time.Sleep(tt.cached - time.Second)
			if a.token(t, shopping).Value != first.Value {
				t.Errorf("%v: not kept", tt.life)
			}
			a.wantCalls(t, authtest.Token, 1)
			time.Sleep(time.Second)
			if a.token(t, shopping).Value == first.Value {
				t.Errorf("%v: used too long", tt.life)
			}
			a.wantCalls(t, authtest.Token, 2)
		})
	}
}

// token must succeed.
func (a *app) token(tb testing.TB, resource string, options ...auth.TokenOption) auth.Token {
	tb.Helper()
	token, err := a.session.AccessToken(context.Background(), resource, options...)
	if err != nil {
		tb.Fatal(err)
	}
	return token
}

// TestTokenWithoutLife: a token of which Logto does not say how long it lives is used for a while, not for ever.
func TestTokenWithoutLife(t *testing.T) {
	for _, answer := range []authtest.Behaviour{authtest.NoField("expires_in"), authtest.Field("expires_in", "long")} {
		synctest.Test(t, func(t *testing.T) {
			a := newApp(t, inMemory)
			a.idp.On(authtest.Token, answer)
			a.signIn(t)
			a.token(t, shopping)
			a.token(t, shopping)
			a.wantCalls(t, authtest.Token, 1)
			time.Sleep(6 * time.Minute)
			a.token(t, shopping)
			a.wantCalls(t, authtest.Token, 2)
		})
	}
}

// TestTokensAreKeptApart: by resource, organization and scopes, in whatever order these are given.
func TestTokensAreKeptApart(t *testing.T) {
	a := newApp(t)
	a.signIn(t)
	targets := []struct {
		resource string
		options  []auth.TokenOption
	}{
		{"", nil}, // came with the sign-in
		{shopping, nil},
		{store, nil},
		{"", []auth.TokenOption{auth.WithOrganization(acme)}},
		{shopping, []auth.TokenOption{auth.WithOrganization(acme)}},
		{shopping, []auth.TokenOption{auth.WithScopes("read:products")}},
		{shopping, []auth.TokenOption{auth.WithScopes("read:products", "write:products")}},
		{shopping, []auth.TokenOption{auth.WithScopes("read:products"), auth.WithOrganization(acme)}},
	}
	values := map[auth.Secret]bool{}
	for range 2 {
		for _, target := range targets {
			values[a.token(t, target.resource, target.options...).Value] = true
		}
	}
	values[a.token(t, shopping, auth.WithScopes("write:products", "read:products")).Value] = true
	if len(values) != len(targets) {
		t.Errorf("%d tokens for %d targets", len(values), len(targets))
	}
	a.wantCalls(t, authtest.Token, len(targets)-1)
}

func TestForceRefresh(t *testing.T) {
	a := newApp(t)
	a.signIn(t)
	first, second := a.token(t, shopping), a.token(t, shopping, auth.ForceRefresh())
	if first.Value == second.Value || a.token(t, shopping).Value != second.Value {
		t.Error("not renewed, or not kept")
	}
	a.wantCalls(t, authtest.Token, 2)
}

// TestRefreshOfOne: a hundred who want the same expired token make one request.
func TestRefreshOfOne(t *testing.T) {
	for name, options := range map[string][]auth.TokenOption{"expired": nil, "forced": {auth.ForceRefresh()}} {
		synctest.Test(t, func(t *testing.T) {
			a := newApp(t, inMemory, rotating)
			a.signIn(t)
			old := a.token(t, shopping)
			if options == nil {
				time.Sleep(time.Hour)
			}
			a.forget()
			a.idp.On(authtest.Token, authtest.DelayAnswer(time.Second)) // all are there before the first is done
			tokens := a.hundred(t, func(int) (auth.Token, error) {
				return a.client.Session(a.storage).AccessToken(t.Context(), shopping, options...)
			})
			for _, token := range tokens {
				if token.Value != tokens[0].Value || token.Value == old.Value {
					t.Fatal("not all got the same new token")
				}
			}
			if got := a.idp.Count(authtest.Token); got != 1 {
				t.Errorf("%s: %d refreshes", name, got)
			}
		})
	}
}

// hundred asks for tokens concurrently.
func (a *app) hundred(tb testing.TB, ask func(i int) (auth.Token, error)) []auth.Token {
	tb.Helper()
	tokens, failures := make([]auth.Token, 100), make(chan error)
	for i := range tokens {
		go func() {
			token, err := ask(i)
			tokens[i] = token
			failures <- err
		}()
	}
	for range tokens {
		a.wantError(tb, <-failures, nil)
	}
	return tokens
}

// TestRefreshOfMany: a hundred who want different tokens of one session never refresh at the same time, and no token is
// lost, although each refresh spends the refresh token of the one before.
func TestRefreshOfMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		resource := func(i int) string { return fmt.Sprint("https://api.example/", i) }
		a := newApp(t, inMemory, rotating, func(s *setup) {
			s.config.Resources, s.idp.Resources = nil, nil
			for i := range 100 {
				s.config.Resources = append(s.config.Resources, resource(i))
				s.idp.Resources = append(s.idp.Resources, authtest.Resource{Indicator: resource(i)})
			}
		})
		a.signIn(t)
		a.idp.On(authtest.Token, authtest.DelayAnswer(100*time.Millisecond))
		tokens := a.hundred(t, func(i int) (auth.Token, error) {
			return a.client.Session(a.storage).AccessToken(t.Context(), resource(i))
		})
		var last time.Time
		for _, request := range a.idp.Requests(authtest.Token) {
			if request.Begin.Before(last) || request.Status != http.StatusOK {
				t.Errorf("a refresh began at %v, before the last one ended at %v; status %d", request.Begin, last, request.Status)
			}
			last = request.End
		}
		for i, token := range tokens {
			if claims, err := token.Claims(); err != nil || claims.Audience[0] != resource(i) || a.token(t, resource(i)).Value != token.Value {
				t.Errorf("token %d was lost, or is another one: %v", i, err)
			}
		}
		a.wantCalls(t, authtest.Token, 100)
	})
}

// TestRotationIsSavedFirst: before the ID token that came along is even looked at.
func TestRotationIsSavedFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApp(t, inMemory, rotating)
		a.signIn(t)
		var refreshToken string
		saved := make(chan string, 1)
		a.idp.On(authtest.Token, authtest.EditJSON(func(answer map[string]any) { refreshToken = answer["refresh_token"].(string) }))
		a.idp.RotateKey() // so that the ID token needs a look at the keys
		a.idp.On(authtest.Keys, func(http.Handler) http.Handler {
			return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				saved <- a.storage.records()
				<-r.Context().Done()
			})
		})
		a.wantError(t, access(shopping)(a.session), auth.ErrProvider) // nobody knows whether the answer is good
		if !strings.Contains(<-saved, refreshToken) {
			t.Error("the rotated refresh token was not saved before the ID token was verified")
		}
		a.idp.Behave()
		time.Sleep(time.Minute) // the one before would be refused by now
		a.token(t, store)
	})
}

// TestRotationOutlivesTheStorage: a storage that fails for a while loses no refresh token.
func TestRotationOutlivesTheStorage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApp(t, inMemory, rotating)
		a.signIn(t)
		away, failures := errors.New("storage is away"), 0
		a.storage.onUpdate = func() error {
			if failures++; failures < 50 {
				return away
			}
			return nil
		}
		first := a.token(t, shopping)
		time.Sleep(time.Minute)
		if a.token(t, shopping).Value != first.Value {
			t.Error("the access token was not saved")
		}
		a.token(t, store)

		// But it is not waited for for ever, and if nothing was rotated, not at all.
		for _, bound := range []time.Duration{30 * time.Second, 0} {
			begin := time.Now()
			failures = -1000
			_, err := a.session.AccessToken(t.Context(), shopping, auth.ForceRefresh())
			a.wantError(t, err, away)
			if waited := time.Since(begin); waited != bound {
				t.Errorf("waited %v, want %v", waited, bound)
			}
			failures = 50
			a.signIn(t)
			a.idp.On(authtest.Token, authtest.NoField("refresh_token"))
		}
	})
}

// TestRefreshTokenIsKept: an answer without one means that the old one goes on.
func TestRefreshTokenIsKept(t *testing.T) {
	a := newApp(t)
	a.signIn(t)
	a.idp.On(authtest.Token, authtest.NoField("refresh_token"))
	a.token(t, shopping)
	a.token(t, store)
	requests := a.idp.Requests(authtest.Token)
	if len(requests) != 2 || requests[0].Form.Get("refresh_token") != requests[1].Form.Get("refresh_token") {
		t.Errorf("%d refreshes, or with different tokens", len(requests))
	}
}

// TestRefreshTokenRotates: each refresh uses the token that the one before brought.
func TestRefreshTokenRotates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApp(t, inMemory, rotating)
		a.signIn(t)
		seen := map[string]bool{}
		for range 5 {
			a.token(t, shopping, auth.ForceRefresh())
			time.Sleep(time.Minute) // longer than a spent one works
		}
		for _, request := range a.idp.Requests(authtest.Token) {
			seen[request.Form.Get("refresh_token")] = true
		}
		if len(seen) != 5 {
			t.Errorf("%d refresh tokens in 5 refreshes", len(seen))
		}
	})
}

// TestGrantEnds: when Logto no longer gives tokens, the session has ended, whichever call meets it.
func TestGrantEnds(t *testing.T) {
	for _, ask := range []func(*auth.Session) error{access(shopping), organization(acme), access("", auth.ForceRefresh())} {
		a := newApp(t)
		a.signIn(t)
		a.idp.RevokeGrants("ada")
		err := ask(a.session)
		a.wantError(t, err, auth.ErrSignInRequired)
		a.wantAnswer(t, err, http.StatusBadRequest, "invalid_grant")
		a.wantError(t, ask(a.session), auth.ErrNotAuthenticated)
		a.wantCalls(t, authtest.Token, 1) // the same token is not tried again
		if a.isSignedIn(t) {
			t.Error("still signed in")
		}
	}
}

// TestGrantWithoutOfflineAccess: without a refresh token there is nothing to ask Logto with.
func TestGrantWithoutOfflineAccess(t *testing.T) {
	a := newApp(t)
	if _, err := a.callback(a.visit(t, auth.SignInOptions{Prompt: []auth.Prompt{auth.PromptLogin}})); err != nil {
		t.Fatal(err)
	}
	a.forget()
	a.wantError(t, access(shopping)(a.session), auth.ErrSignInRequired)
	a.wantCalls(t, authtest.Token, 0)
	if _, err := a.session.FetchUserInfo(t.Context()); err != nil {
		t.Errorf("the access token of the sign-in was not used: %v", err)
	}
}

// TestRefreshLosesARace: if the stored refresh token has changed when Logto says that ours is spent, ours is not the last
// word; the new one is tried, once.
func TestRefreshLosesARace(t *testing.T) {
	for name, want := range map[string]error{"the winner's token is good": nil, "the winner's token is bad": auth.ErrSignInRequired} {
		t.Run(name, func(t *testing.T) {
			a := newApp(t, rotating)
			a.signIn(t)
			winner := a.elsewhere(t)
			if want != nil {
				a.idp.RevokeGrants("ada")
			}
			a.idp.On(authtest.Token, authtest.OAuthError(http.StatusBadRequest, "invalid_grant", "grant request is invalid")).Times(1)
			a.idp.On(authtest.Token, a.overtaken(t, winner)).Times(1)
			a.wantError(t, access(shopping)(a.session), want)
			a.wantCalls(t, authtest.Token, 2)
		})
	}
}

// elsewhere refreshes the same session on another instance, whose save is late, and returns what it will save.
func (a *app) elsewhere(tb testing.TB) *authtest.Memory {
	tb.Helper()
	var storage authtest.Memory
	identity, _ := a.storage.Identity(tb.Context())
	tokens, _ := a.storage.Tokens(tb.Context())
	if _, err := storage.Start(tb.Context(), "", "", time.Now(), identity, tokens); err != nil {
		tb.Fatal(err)
	}
	if _, err := a.client.Session(&storage).AccessToken(tb.Context(), store, auth.ForceRefresh()); err != nil {
		tb.Fatal(err)
	}
	a.forget()
	return &storage
}

// overtaken saves the tokens of another refresh before the endpoint does anything.
func (a *app) overtaken(tb testing.TB, faster auth.Storage) authtest.Behaviour {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			err := a.storage.Memory.Update(r.Context(), func(identity, _ []byte) ([]byte, []byte, error) {
				tokens, err := faster.Tokens(r.Context())
				return identity, tokens, err
			})
			if err != nil {
				tb.Error(err)
			}
			next.ServeHTTP(w, r)
		})
	}
}

// TestRefreshFails: Logto's errors arrive as they are, and the session is as it was.
func TestRefreshFails(t *testing.T) {
	for _, tt := range append([]brokenAnswer{
		{"invalid_target", authtest.OAuthError(http.StatusBadRequest, "invalid_target", "resource indicator is missing, or unknown"), 400},
		{"insufficient_scope", authtest.OAuthError(http.StatusForbidden, "insufficient_scope", "refresh token missing required scope"), 403},
		{"invalid_client", authtest.OAuthError(http.StatusUnauthorized, "invalid_client", "client authentication failed"), 401},
		{"no access token", authtest.NoField("access_token"), 0},
		{"an error under 200", authtest.Body(http.StatusOK, "application/json", `{"error":"invalid_grant"}`), 0},
	}, broken...) {
		t.Run(tt.name, func(t *testing.T) {
			a := newApp(t)
			a.signIn(t)
			before := a.storage.records()
			bad := a.idp.On(authtest.Token, tt.answer)
			err := access(shopping)(a.session)
			a.wantBroken(t, err, tt)
			if errors.Is(err, auth.ErrSignInRequired) || a.storage.records() != before {
				t.Errorf("the session was changed: %v", err)
			}
			a.wantCalls(t, authtest.Token, 1)
			bad.Off()
			a.token(t, shopping)
		})
	}
}

// TestRefreshWithoutDiscovery: an application that has just started while Logto is away keeps its sessions.
func TestRefreshWithoutDiscovery(t *testing.T) {
	a := newApp(t)
	a.signIn(t)
	before := a.storage.records()
	a.session = a.newClient(t).Session(a.storage)
	a.idp.On(authtest.Discovery, authtest.Status(http.StatusServiceUnavailable)).Times(2)
	a.wantError(t, access(shopping)(a.session), auth.ErrProvider)
	_, err := a.session.FetchUserInfo(t.Context())
	a.wantError(t, err, auth.ErrProvider)
	a.wantCalls(t, authtest.Token, 0, authtest.UserInfo, 0)
	if a.storage.records() != before {
		t.Error("the session was changed")
	}
	a.token(t, shopping)
}

// TestRefreshRefused: what Logto itself refuses.
func TestRefreshRefused(t *testing.T) {
	a := newApp(t)
	plain := a.newClient(t, func(c *auth.Config) { c.Scopes, c.Resources = nil, []string{store} })
	a.session = plain.Session(a.storage)
	a.signIn(t) // without the organizations, and for one API
	all := a.client.Session(a.storage)
	tests := []struct {
		name   string
		ask    func(*auth.Session) error
		status int
		code   string
	}{
		{"a resource that the sign-in did not name", access(shopping), http.StatusBadRequest, "invalid_target"},
		{"an organization without the scope", organization(acme), http.StatusForbidden, "insufficient_scope"},
		{"an organization of others", organization(globex), http.StatusForbidden, "access_denied"},
		{"an API within it", access(store, auth.WithOrganization(globex)), http.StatusForbidden, "access_denied"},
		{"a scope that the sign-in did not name", access(store, auth.WithScopes("email")), http.StatusBadRequest, "invalid_scope"},
	}
	before := a.storage.records()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.ask(all)
			a.wantAnswer(t, err, tt.status, tt.code)
			if answer, ok := errors.AsType[*auth.OAuthError](err); ok && answer.LogtoCode != "oidc."+tt.code {
				t.Errorf("Logto's code is %q", answer.LogtoCode)
			}
			if a.storage.records() != before {
				t.Error("the session was changed")
			}
		})
	}
	a.token(t, store)
}

// TestRefreshHangs: it ends within its own bound, whatever the caller's is, and tells that it was a time-out.
func TestRefreshHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApp(t, inMemory)
		a.signIn(t)
		before, begin := a.storage.records(), time.Now()
		a.idp.On(authtest.Token, authtest.Hang)
		err := access(shopping)(a.session)
		a.wantError(t, err, auth.ErrProvider)
		if waited := time.Since(begin); !auth.IsTimeout(err) || waited > 30*time.Second {
			t.Errorf("after %v: %v", waited, err)
		}
		if a.storage.records() != before {
			t.Error("the session was changed")
		}
		a.idp.Behave()
		a.token(t, shopping)
	})
}

// TestRefreshGoesOn although the browser has gone: Logto may have rotated the refresh token already.
func TestRefreshGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApp(t, inMemory, rotating)
		a.signIn(t)
		a.idp.On(authtest.Token, authtest.DelayAnswer(5*time.Second))
		ctx, leave := context.WithTimeout(t.Context(), time.Second)
		defer leave()
		token, err := a.session.AccessToken(ctx, shopping)
		if err != nil || ctx.Err() == nil {
			t.Errorf("%v, %v", err, ctx.Err())
		}
		if a.token(t, shopping).Value != token.Value {
			t.Error("not saved")
		}
		time.Sleep(time.Minute)
		a.token(t, store)
	})
}

// TestRefreshWithoutTheLock: there is none.
func TestRefreshWithoutTheLock(t *testing.T) {
	a := newApp(t)
	a.signIn(t)
	away := errors.New("storage is away")
	a.storage.onLock = func(context.Context) (context.Context, error) { return nil, away }
	a.wantError(t, access(shopping)(a.session), away)
	a.wantCalls(t, authtest.Token, 0)
}

// TestRefreshWaits for the lock, but not for ever.
func TestRefreshWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApp(t, inMemory)
		a.signIn(t)
		_, release, err := a.storage.Lock(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		err = access(shopping)(a.session)
		a.wantError(t, err, context.DeadlineExceeded)
		if waited := time.Since(begin); !auth.IsTimeout(err) || waited > 30*time.Second {
			t.Errorf("after %v: %v", waited, err)
		}
		ctx, leave := context.WithTimeout(t.Context(), time.Second)
		defer leave()
		begin = time.Now()
		_, err = a.session.AccessToken(ctx, shopping)
		a.wantError(t, err, context.DeadlineExceeded)
		if waited := time.Since(begin); waited != time.Second {
			t.Errorf("a request that was over waited %v", waited)
		}
		release()
		for range 50 { // a request that is over, and a lock that is free: nothing is begun
			_, err = a.session.AccessToken(ctx, shopping)
			a.wantError(t, err, context.DeadlineExceeded)
		}
		a.wantCalls(t, authtest.Token, 0)
		a.token(t, shopping)
	})
}

// TestRefreshLosesTheLock in the middle: the token that came is saved all the same, unless somebody was faster.
func TestRefreshLosesTheLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApp(t, inMemory, rotating)
		a.signIn(t)
		a.idp.On(authtest.Token, authtest.DelayAnswer(5*time.Second))
		a.storage.onLock = func(held context.Context) (context.Context, error) {
			held, cancel := context.WithTimeout(held, time.Second)
			t.Cleanup(cancel)
			return held, nil
		}
		first := a.token(t, shopping)
		if a.token(t, shopping).Value != first.Value {
			t.Error("not saved")
		}
		time.Sleep(time.Minute)
		a.token(t, store)

		a.idp.Behave()
		faster := a.elsewhere(t)
		a.idp.On(authtest.Token, authtest.DelayAnswer(5*time.Second))
		a.idp.On(authtest.Token, a.overtaken(t, faster))
		a.token(t, shopping, auth.ForceRefresh())
		want, _ := faster.Tokens(t.Context()) // Memory's reads do not fail
		if got, _ := a.storage.Tokens(t.Context()); string(got) != string(want) {
			t.Errorf("what was saved meanwhile was overwritten: %s, want %s", got, want)
		}
	})
}

// TestSignOutDuringARefresh: it is not undone.
func TestSignOutDuringARefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApp(t, inMemory, rotating)
		a.signIn(t)
		a.idp.On(authtest.Token, authtest.DelayAnswer(5*time.Second))
		failure := make(chan error)
		go func() { failure <- access(shopping)(a.session) }()
		synctest.Wait()
		if _, err := a.session.SignOut(t.Context(), auth.SignOutOptions{}); err != nil {
			t.Fatal(err)
		}
		a.wantError(t, <-failure, auth.ErrNotAuthenticated)
		if a.isSignedIn(t) {
			t.Error("the refresh has brought the session back")
		}
	})
}

// paused is a storage as the application's is: under the lock, the records are those that came with it. The process stands still
// right after that, until the lock has passed to somebody else, who refreshes.
type paused struct {
	*storage
	pause            func()
	identity, tokens []byte
}

func (p *paused) Lock(ctx context.Context) (context.Context, func(), error) {
	held, release, err := p.storage.Lock(ctx)
	if err != nil || p.pause == nil {
		return held, release, err
	}
	p.identity, _ = p.storage.Identity(ctx)
	p.tokens, _ = p.storage.Tokens(ctx)
	held, lose := context.WithCancel(held)
	p.pause()
	p.pause = nil
	lose() // as the renewal does when it is asked for the first time
	return held, release, nil
}

func (p *paused) Tokens(ctx context.Context) ([]byte, error) {
	if p.tokens != nil {
		defer func() { p.tokens = nil }()
		return p.tokens, nil
	}
	return p.storage.Tokens(ctx)
}

// A lock that is lost before anything is sent: the refresh token may have been rotated away, and Logto revokes the grant of one that
// comes then.
func TestRefreshNeedsTheLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApp(t, inMemory, rotating)
		a.signIn(t)
		p := &paused{storage: a.storage}
		p.pause = func() {
			faster := a.elsewhere(t)
			if _, err := a.client.Session(faster).AccessToken(t.Context(), store); err != nil {
				t.Fatal(err)
			}
			identity, _ := faster.Identity(t.Context())
			tokens, _ := faster.Tokens(t.Context())
			err := a.storage.Update(t.Context(), func([]byte, []byte) ([]byte, []byte, error) { return identity, tokens, nil })
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(5 * time.Second)
		}
		if _, err := a.client.Session(p).AccessToken(t.Context(), shopping); err == nil {
			t.Error("a token without the lock")
		}
		if n := a.idp.Count(authtest.Token); n > 1 {
			t.Errorf("the token endpoint was called %d times", n)
		}
		if !a.isSignedIn(t) {
			t.Error("the person is signed out")
		}
	})
}
