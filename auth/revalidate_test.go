package auth_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/logto-gin-starter/auth"
	"example.com/logto-gin-starter/auth/authtest"
)

// revalidating asks Logto again after five minutes.
func revalidating(s *setup) {
	inMemory(s)
	s.config.Revalidate = 5 * time.Minute
}

// request is a new one of the same browser.
func (a *app) request() { a.session = a.client.Session(a.storage) }

// name returns what a new request calls the person, and "" if nobody is signed in.
func (a *app) name(tb testing.TB) string {
	tb.Helper()
	a.request()
	claims, err := a.session.IDTokenClaims(tb.Context())
	if errors.Is(err, auth.ErrNotAuthenticated) {
		return ""
	}
	if err != nil {
		tb.Fatal(err)
	}
	person, err := a.session.Person(tb.Context())
	if err != nil || person.DisplayName != claims.Name.Value() {
		tb.Fatalf("pages say %q, %v; the claims %q", person.DisplayName, err, claims.Name.Value())
	}
	return person.DisplayName
}

// rename changes the person's name at Logto.
func (a *app) rename(name string) {
	user := a.idp.User("ada")
	user.Name = name
	a.idp.SetUser(user)
}

// TestRevalidation: once in a period Logto is asked, and what it says is what pages see from then on.
func TestRevalidation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApp(t, revalidating)
		a.signIn(t)
		a.rename("Countess")
		a.idp.SetRoles("ada")
		a.idp.Leave("ada", acme)
		time.Sleep(5*time.Minute - time.Second)
		if got := a.name(t); got != "Ada Lovelace" {
			t.Errorf("within the period: %q", got)
		}
		a.wantCalls(t, authtest.Token, 0)
		for range 3 {
			time.Sleep(time.Second)
			if got := a.name(t); got != "Countess" {
				t.Errorf("after it: %q", got)
			}
			claims, _ := a.session.IDTokenClaims(t.Context())
			if len(claims.Roles.Value()) > 0 || len(claims.Organizations.Value()) > 0 {
				t.Errorf("roles %v, organizations %v", claims.Roles.Value(), claims.Organizations.Value())
			}
			a.wantCalls(t, authtest.Token, 1)
		}
		time.Sleep(5 * time.Minute)
		a.token(t, shopping) // any refresh asks
		a.token(t, store)
		a.name(t)
		a.wantCalls(t, authtest.Token, 3)
	})
	t.Run("never", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a := newApp(t, inMemory)
			a.signIn(t)
			time.Sleep(24 * time.Hour)
			a.name(t)
			a.wantCalls(t, authtest.Token, 0)
		})
	})
}

// TestEndedAtLogto: whatever ended there ends here, within the period and one request.
func TestEndedAtLogto(t *testing.T) {
	for name, end := range map[string]func(a *app){
		"suspended":       func(a *app) { a.idp.Suspend("ada") },
		"deleted":         func(a *app) { a.idp.DeleteUser("ada") },
		"grants revoked":  func(a *app) { a.idp.RevokeGrants("ada") },
		"another secret":  nil, // ends nothing
		"rotated away":    nil,
		"another sub":     func(a *app) { a.idp.OnRefreshedIDToken(authtest.WrongSubject) },
		"bad token":       nil,
		"not a grant":     nil,
		"server error":    nil,
		"another session": nil,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newApp(t, revalidating)
				a.signIn(t)
				switch {
				case end != nil:
					end(a)
				case name == "another secret":
					a.idp.SetSecret(a.config.AppID, "another one")
				case name == "rotated away":
					a.idp.RotateKey("RS256")
					a.idp.RotateKey("RS256")
				case name == "bad token":
					a.idp.OnRefreshedIDToken(authtest.BrokenSignature)
				case name == "not a grant":
					a.idp.On(authtest.Token, authtest.OAuthError(http.StatusBadRequest, "invalid_request", "x"))
				case name == "server error":
					a.idp.On(authtest.Token, authtest.Status(http.StatusServiceUnavailable))
				case name == "another session":
					a.idp.DeleteSessions("ada")
				}
				time.Sleep(5 * time.Minute)
				for range 2 {
					if got := a.name(t); (got == "") != (end != nil) {
						t.Errorf("signed in as %q", got)
					}
					time.Sleep(time.Second)
				}
				a.client.Close()
			})
		})
	}
}

// TestRevalidationOfMany: of a hundred requests at once one asks, and none waits for it longer than it must.
func TestRevalidationOfMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApp(t, revalidating, rotating)
		a.signIn(t)
		a.rename("Countess")
		a.idp.On(authtest.Token, authtest.DelayAnswer(time.Second))
		time.Sleep(5 * time.Minute)
		began := time.Now()
		var names sync.Map
		var all sync.WaitGroup
		for i := range 100 {
			all.Go(func() {
				person, err := a.client.Session(a.storage).Person(t.Context())
				names.Store(i, person.DisplayName)
				if err != nil || time.Since(began) > time.Second {
					t.Errorf("%v after %v", err, time.Since(began))
				}
			})
		}
		all.Wait()
		var seen []string
		names.Range(func(_, name any) bool { seen = append(seen, name.(string)); return true })
		slices.Sort(seen)
		if got := slices.Compact(seen); !slices.Equal(got, []string{"Ada Lovelace", "Countess"}) {
			t.Errorf("they saw %q", got)
		}
		a.wantCalls(t, authtest.Token, 1)
	})
}

// TestRevalidationHangs: a Logto that does not answer ends nothing. The first page waits two seconds, those after it, of other
// sessions too, not at all, until it is tried again; and a token that came late is not lost.
func TestRevalidationHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApp(t, revalidating, rotating)
		a.signIn(t)
		other := a.storage
		a.storage = &storage{}
		a.request()
		a.signIn(t)
		a.rename("Countess")
		a.idp.On(authtest.Token, authtest.DelayAnswer(8*time.Second))
		time.Sleep(5 * time.Minute)
		waits := func() time.Duration {
			began := time.Now()
			if a.name(t) == "" {
				t.Error("signed out")
			}
			return time.Since(began)
		}
		if got := waits(); got != 2*time.Second {
			t.Errorf("the first page waited %v", got)
		}
		time.Sleep(time.Millisecond)
		began := time.Now()
		if _, err := a.client.Session(other).Person(t.Context()); err != nil || time.Since(began) != 0 {
			t.Errorf("a page of another session waited %v, %v", time.Since(began), err)
		}
		for range 6 {
			if got := waits(); got != 0 {
				t.Errorf("a later page waited %v", got)
			}
			time.Sleep(time.Second)
		}
		a.idp.Behave()
		time.Sleep(time.Minute)
		waits()
		time.Sleep(time.Minute)
		if got := a.name(t); got != "Countess" {
			t.Errorf("when it is back: %q", got)
		}
		a.token(t, shopping) // by the refresh token that came last
	})
}

// TestRevalidationDuringAnOutage: for as long as Logto is down it is asked now and then, by one request of an instance.
func TestRevalidationDuringAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApp(t, revalidating)
		a.signIn(t)
		storages := []*storage{a.storage}
		for range 9 { // other people, of other sessions
			a.storage = &storage{}
			a.request()
			a.signIn(t)
			storages = append(storages, a.storage)
		}
		a.idp.On(authtest.Token, authtest.Status(http.StatusBadGateway))
		time.Sleep(5 * time.Minute)
		for range 60 {
			for _, s := range storages {
				if person, err := a.client.Session(s).Person(t.Context()); err != nil || person.Subject == "" {
					t.Fatal(err)
				}
			}
			time.Sleep(time.Second)
		}
		if n := a.idp.Count(authtest.Token); n > 7 {
			t.Errorf("asked %d times in a minute", n)
		}
		a.idp.Behave()
		a.idp.SetRoles("ada")
		time.Sleep(20 * time.Second)
		for range 2 {
			for _, s := range storages {
				_, _ = a.client.Session(s).Person(t.Context())
			}
			time.Sleep(10 * time.Second)
		}
		for i, s := range storages {
			if claims, err := a.client.Session(s).IDTokenClaims(t.Context()); err != nil || len(claims.Roles.Value()) > 0 {
				t.Errorf("session %d: roles %v, %v", i, claims.Roles.Value(), err)
			}
		}
	})
}

// TestRevalidationByUserInfo: without a refresh token, the access token is what can be asked with.
func TestRevalidationByUserInfo(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(a *app)
		want   string
	}{
		"as it was": {func(*app) {}, "Ada Lovelace"},
		"renamed":   {func(a *app) { a.rename("Countess") }, "Countess"},
		"suspended": {func(a *app) { a.idp.Suspend("ada") }, ""},
		"cleared":   {func(a *app) { _ = a.session.ClearAccessTokens(context.Background()) }, ""},
		"expired":   {func(a *app) { time.Sleep(time.Hour) }, ""},
		"away":      {func(a *app) { a.idp.On(authtest.UserInfo, authtest.Status(http.StatusBadGateway)) }, "Ada Lovelace"},
		"another sub": {func(a *app) {
			a.idp.On(authtest.UserInfo, authtest.Field("sub", "somebodyelse"))
			a.rename("Countess")
		}, "Ada Lovelace"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newApp(t, revalidating)
				if _, err := a.callback(a.visit(t, auth.SignInOptions{Prompt: []auth.Prompt{auth.PromptLogin}})); err != nil {
					t.Fatal(err)
				}
				a.forget()
				a.idp.SetRoles("ada", "merchant")
				tt.change(a)
				time.Sleep(5 * time.Minute)
				if got := a.name(t); got != tt.want {
					t.Errorf("signed in as %q, want %q", got, tt.want)
				}
				if name != "cleared" {
					a.wantCalls(t, authtest.UserInfo, 1)
				}
				if tt.want == "" {
					return
				}
				claims, err := a.session.IDTokenClaims(t.Context())
				if err != nil || claims.Issuer != a.client.Issuer() || !slices.Equal(claims.Roles.Value(), []string{"merchant"}) {
					t.Errorf("claims %+v, %v", claims, err)
				}
				// Signing out works, with or without a hint.
				address, err := a.session.SignOut(t.Context(), auth.SignOutOptions{PostLogoutRedirectURI: homeURI})
				if err != nil {
					t.Fatal(err)
				}
				if target, err := a.browser.SignOut(t.Context(), address); err != nil || target != homeURI {
					t.Errorf("signed out to %q, %v", target, err)
				}
			})
		})
	}
}

// TestSecretIsReplaced at Logto, and in the file that holds it: nobody notices.
func TestSecretIsReplaced(t *testing.T) {
	for name, tt := range map[string]struct {
		again func() (auth.Secret, error)
		good  bool
	}{
		"the file has the new one": {func() (auth.Secret, error) { return "the new one", nil }, true},
		"the file has the old one": {func() (auth.Secret, error) { return "the old one", nil }, false},
		"the file is gone":         {func() (auth.Secret, error) { return "", errors.New("no such file") }, false},
		"no file":                  {nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			reads := 0
			a := newApp(t, func(s *setup) {
				s.idp.Apps[0].Secret, s.config.AppSecret = "the old one", "the old one"
				if tt.again != nil {
					s.config.SecretAgain = func() (auth.Secret, error) { reads++; return tt.again() }
				}
			})
			a.signIn(t)
			query := a.visit(t, auth.SignInOptions{})
			a.idp.SetSecret(a.config.AppID, "the new one")
			for _, call := range []func() error{
				func() error { return access(shopping)(a.session) },
				func() error { _, err := a.callback(query); return err },
				func() error { _, err := a.session.SignOut(t.Context(), auth.SignOutOptions{}); return err },
			} {
				err := call()
				if answer, _ := errors.AsType[*auth.OAuthError](err); tt.good && err != nil || !tt.good && err != nil && answer == nil {
					t.Errorf("error %v", err)
				}
			}
			if tt.good != (reads == 1) || strings.Contains(a.log.String(), " one") {
				t.Errorf("read %d times; log %s", reads, a.log)
			}
		})
	}
}

// TestWithdrawnHint: an ID token whose key Logto has withdrawn is no hint: Logto would answer with an error that leads nowhere.
func TestWithdrawnHint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApp(t, inMemory)
		a.signIn(t)
		for _, hinted := range []bool{true, false} {
			a.idp.RotateKey()
			time.Sleep(6 * time.Second)
			identity, _ := a.storage.Identity(t.Context())
			tokens, _ := a.storage.Tokens(t.Context())
			address, err := a.session.SignOut(t.Context(), auth.SignOutOptions{PostLogoutRedirectURI: homeURI})
			if err != nil || strings.Contains(address, "id_token_hint=") != hinted {
				t.Errorf("%s, %v; want a hint: %v", address, err, hinted)
			}
			if target, err := a.browser.SignOut(t.Context(), address); err != nil || target != homeURI {
				t.Errorf("Logto leads to %q, %v", target, err)
			}
			if _, err := a.storage.Start(t.Context(), "", "", time.Now(), identity, tokens); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestLeftOrganization: when Logto says that the person is no member, every token within the organization is forgotten, for an
// API would take them until they end. Tokens of others stay.
func TestLeftOrganization(t *testing.T) {
	a := newApp(t)
	a.signIn(t)
	within := []auth.TokenOption{auth.WithOrganization(acme)}
	a.token(t, shopping, within...)
	kept := a.token(t, store)
	first, err := a.session.OrganizationToken(t.Context(), acme)
	if err != nil {
		t.Fatal(err)
	}
	a.idp.Leave("ada", acme)
	if again, err := a.session.OrganizationToken(t.Context(), acme); err != nil || again.Value != first.Value {
		t.Fatalf("the kept token: %v", err)
	}
	_, err = a.session.OrganizationToken(t.Context(), acme, auth.ForceRefresh())
	a.wantAnswer(t, err, http.StatusForbidden, "access_denied")
	if err := access(shopping, within...)(a.session); err == nil {
		t.Error("a token within the organization was kept")
	}
	if a.token(t, store).Value != kept.Value || !a.isSignedIn(t) {
		t.Error("another token was lost, or the session")
	}
}

// TestOtherRights: tokens from before a role or a membership changed are not used after Logto has said so.
func TestOtherRights(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*authtest.Server)
		kept   bool
	}{
		"another name": {func(l *authtest.Server) {
			l.SetUser(authtest.User{Username: "ada", Name: "Countess", Roles: []string{"merchant"}})
		}, true},
		"a role taken":          {func(l *authtest.Server) { l.SetRoles("ada") }, false},
		"left an organization":  {func(l *authtest.Server) { l.Leave("ada", acme) }, false},
		"another role in there": {func(l *authtest.Server) { l.Join("ada", acme, "member") }, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newApp(t, revalidating)
				a.signIn(t)
				before := a.token(t, shopping)
				tt.change(a.idp)
				time.Sleep(5 * time.Minute)
				if a.name(t) == "" {
					t.Fatal("signed out")
				}
				if kept := a.token(t, shopping).Value == before.Value; kept != tt.kept {
					t.Errorf("the token was kept: %v", kept)
				}
			})
		})
	}
}

// TestUserInfoIsKept: what it says of the person is what pages show from then on, until the next ID token.
func TestUserInfoIsKept(t *testing.T) {
	a := newApp(t)
	a.signIn(t)
	before := a.storage.records()
	if _, err := a.session.FetchUserInfo(t.Context()); err != nil || a.storage.records() != before {
		t.Errorf("with no change, it was saved: %v", err)
	}
	a.rename("Countess")
	if _, err := a.session.FetchUserInfo(t.Context()); err != nil {
		t.Fatal(err)
	}
	person, err := a.session.Person(t.Context())
	if err != nil || person.DisplayName != "Countess" {
		t.Errorf("%+v, %v", person, err)
	}
	if claims, _ := a.session.IDTokenClaims(t.Context()); claims.Name.Value() != "Ada Lovelace" {
		t.Errorf("the ID token says %q", claims.Name.Value())
	}
}

// TestAbortedPage: a browser that goes away says nothing of Logto, and stops nobody from being asked about.
func TestAbortedPage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApp(t, revalidating)
		a.signIn(t)
		time.Sleep(4 * time.Minute)
		a.idp.On(authtest.UserInfo, authtest.Delay(time.Second))
		a.idp.On(authtest.Token, authtest.Delay(time.Second)).Times(1)
		for _, call := range []func(ctx context.Context) error{
			func(ctx context.Context) error { _, err := a.session.FetchUserInfo(ctx); return err },
			func(ctx context.Context) error { _, err := a.session.AccessToken(ctx, shopping); return err },
		} {
			ctx, leave := context.WithTimeout(t.Context(), 100*time.Millisecond)
			ctx, abort := context.WithCancel(ctx)
			time.AfterFunc(50*time.Millisecond, abort)
			_ = call(ctx)
			leave()
		}
		time.Sleep(5 * time.Minute)
		a.idp.Suspend("ada")
		if got := a.name(t); got != "" {
			t.Errorf("signed in as %q", got)
		}
	})
}

// browsers signs the person in with n browsers, and returns what each has.
func (a *app) browsers(tb testing.TB, n int) (storages []*storage) {
	for range n {
		a.storage = &storage{}
		a.request()
		a.signIn(tb)
		storages = append(storages, a.storage)
	}
	return storages
}

// An instance that starts while Logto is down knows no discovery document: it leaves Logto alone like every other.
func TestOutageWithoutDiscovery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApp(t, revalidating)
		storages := a.browsers(t, 20)
		time.Sleep(5 * time.Minute)
		restarted := a.newClient(t)
		a.idp.On(authtest.Discovery, authtest.Status(http.StatusBadGateway))
		a.forget()
		var slowest time.Duration
		for range 3 {
			for _, s := range storages {
				begin := time.Now()
				if person, err := restarted.Session(s).Person(t.Context()); err != nil || person.Subject == "" {
					t.Fatal(err)
				}
				slowest = max(slowest, time.Since(begin))
			}
		}
		if n := a.idp.Count(authtest.Discovery); n > 7 || slowest > 0 {
			t.Errorf("60 pages: Logto was asked %d times, one page waited %v", n, slowest)
		}
	})
}

// While Logto is down, and 20 sessions are due at once, one asks every ten seconds. Neither what strangers make us ask nor /readyz
// changes that, and neither keeps anybody from asking when Logto's discovery document alone can't be had.
func TestOutageIsWhatRefreshesSay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApp(t, revalidating)
		storages := a.browsers(t, 20)
		page := func() {
			var all sync.WaitGroup
			for _, s := range storages {
				all.Go(func() { _, _ = a.client.Session(s).Person(t.Context()) })
			}
			all.Wait()
			strangers := a.idp.AccessToken("ada", shopping)
			_, _ = a.client.VerifyAccessToken(t.Context(), strangers, shopping)
			_ = a.client.Ready(t.Context())
		}
		time.Sleep(5 * time.Minute)
		down := a.idp.On(authtest.Token, authtest.Status(http.StatusBadGateway))
		page()
		for range 3 {
			a.forget()
			page()
			a.wantCalls(t, authtest.Token, 0)
			time.Sleep(11 * time.Second)
			a.forget()
			page()
			a.wantCalls(t, authtest.Token, 1)
		}
		down.Off()
		a.idp.On(authtest.Discovery, authtest.Status(http.StatusBadGateway))
		a.idp.Suspend("ada")
		for range 10 {
			time.Sleep(5 * time.Second)
			_ = a.client.Ready(t.Context())
		}
		if person, err := a.client.Session(storages[0]).Person(t.Context()); err == nil {
			t.Errorf("suspended, and signed in as %s", person.DisplayName)
		}
	})
}

// askedAt makes the identity one of an instance with another clock.
func (s *storage) askedAt(tb testing.TB, at time.Time) {
	err := s.Update(context.Background(), func(identity, tokens []byte) ([]byte, []byte, error) {
		_, rest, _ := bytes.Cut(identity, []byte("\n"))
		return append(strconv.AppendInt(nil, at.Unix(), 10), append([]byte("\n"), rest...)...), tokens, nil
	})
	if err != nil {
		tb.Fatal(err)
	}
}

func TestAskedInTheFuture(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApp(t, revalidating)
		a.signIn(t)
		a.storage.askedAt(t, time.Now().Add(24*time.Hour))
		a.idp.Suspend("ada")
		time.Sleep(23 * time.Hour)
		if got := a.name(t); got != "" {
			t.Errorf("23 hours after the suspension, signed in as %q", got)
		}
	})
}

// A slow storage is not a Logto that is down.
func TestSlowStorageIsNoOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApp(t, revalidating)
		a.signIn(t)
		other := &storage{}
		a.storage, other = other, a.storage
		a.request()
		a.signIn(t)
		time.Sleep(5 * time.Minute)
		a.forget()
		a.storage.onUpdate = func() error { time.Sleep(3 * time.Second); return nil }
		if _, err := a.client.Session(a.storage).Person(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second) // it has ended, and well
		if _, err := a.client.Session(other).Person(t.Context()); err != nil {
			t.Fatal(err)
		}
		a.wantCalls(t, authtest.Token, 2)
	})
}
