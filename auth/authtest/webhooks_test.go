package authtest_test

import (
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/logto-gin-starter/auth/authtest"
)

func TestWebhookRegistration(t *testing.T) {
	address, posts := receiver(t)
	hook := authtest.Webhook{ID: "one", URL: address, SigningKey: "first", Events: []string{"User.Deleted"}}
	all := authtest.Webhook{ID: "all", URL: address, SigningKey: "other"}
	srv := authtest.NewUnstarted("http://logto.example", authtest.Options{Webhooks: []authtest.Webhook{hook}})
	srv.Suspend("ada")
	wantNoPost(t, posts, "an event that was not asked for")
	hook.SigningKey = "second"
	srv.RegisterWebhook(hook)
	srv.DeleteUser("ada")
	wantPost(t, posts, hook, "User.Deleted")
	srv.RegisterWebhook(all)
	srv.DeleteUser("grace")
	wantPost(t, posts, hook, "User.Deleted")
	wantPost(t, posts, all, "User.Deleted")
	srv.SetUser(authtest.User{Username: "mary", Roles: []string{"reader"}})
	wantPost(t, posts, all, "User.Created")
	srv.SetUser(srv.User("mary"))
	srv.SetRoles("mary")
	wantNoPost(t, posts, "a change of nothing, or of roles,")
}

// TestWebhookHangs: an application that does not answer holds the provider for 10 s, and is not asked again.
func TestWebhookHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		hangs := &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			calls++
			<-r.Context().Done()
			return nil, r.Context().Err()
		})}
		var log strings.Builder
		srv := authtest.NewUnstarted("http://logto.example", authtest.Options{
			Backchannel: hangs, Webhooks: []authtest.Webhook{{URL: "http://app.example"}},
			Log: slog.New(slog.NewTextHandler(&log, nil)),
		})
		begin := time.Now()
		srv.Suspend("ada")
		if took := time.Since(begin); took != 10*time.Second || calls != 1 || !srv.User("ada").Suspended {
			t.Errorf("%d calls in %v", calls, took)
		}
		if !strings.Contains(log.String(), "User.SuspensionStatus.Updated") {
			t.Errorf("the log says %q", &log)
		}
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
