package routes

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"example.com/logto-gin-starter/auth"
	"example.com/logto-gin-starter/auth/authtest"
)

const webhookKey = "the-signing-key"

// newHookedSite is one whose provider tells it everything.
func newHookedSite(t testing.TB, change ...func(*setup)) *site {
	t.Helper()
	s := newSite(t, append(change, func(set *setup) { set.client.WebhookKey = webhookKey + " an-older-one" })...)
	s.logto.RegisterWebhook(authtest.Webhook{ID: "hook", URL: s.url + "/webhooks/logto", SigningKey: webhookKey})
	return s
}

func sign(key, body string) string {
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(body))
	return hex.EncodeToString(mac.Sum(nil))
}

// event posts a webhook as Logto does.
func (s *site) event(t testing.TB, body, signature string) reply {
	t.Helper()
	return s.browser(t).do(http.MethodPost, "/webhooks/logto", body, "Content-Type", "application/json", "Sec-Fetch-Site", "", "Accept", "",
		authtest.SignatureHeader, signature)
}

// TestWebhookRequests: only what is signed with a key of ours counts, to the byte.
func TestWebhookRequests(t *testing.T) {
	s := newSite(t, func(set *setup) { set.client.WebhookKey = "new old" })
	now := time.Now().UTC().Format(time.RFC3339Nano)
	known := `{"event":"User.Deleted","createdAt":"` + now + `","data":{"id":"nobody"}}`
	unknown := `{"event":"Scope.Created","createdAt":"` + now + `","data":{}}`
	large := known[:len(known)-1] + `,"x":"` + strings.Repeat("x", 70<<10) + `"}`
	for _, tt := range []struct {
		name, body, signature string
		want                  int
	}{
		{"known", known, sign("new", known), 200},
		{"signed with the other key", known, sign("old", known), 200},
		{"upper case", known, strings.ToUpper(sign("new", known)), 200},
		{"unknown", unknown, sign("new", unknown), 200},
		{"about a list", `{"event":"Role.Scopes.Updated","createdAt":"` + now + `","data":[{"id":"x"}]}`, sign("new", `{"event":"Role.Scopes.Updated","createdAt":"`+now+`","data":[{"id":"x"}]}`), 200},
		{"of nobody", `{"event":"User.Deleted","createdAt":"` + now + `"}`, sign("new", `{"event":"User.Deleted","createdAt":"`+now+`"}`), 200},
		{"both keys as one", known, sign("new old", known), 401},
		{"no key", known, sign("", known), 401},
		{"signature of another body", known, sign("new", unknown), 401},
		{"no signature", known, "", 401},
		{"part of it", known, sign("new", known)[:32], 401},
		{"no hex", known, "?", 401},
		{"no JSON", "?", sign("new", "?"), 400},
		{"no event", "{}", sign("new", "{}"), 400},
		{"large", large, sign("new", large), 413},
	} {
		if a := s.event(t, tt.body, tt.signature); a.status != tt.want || a.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d, want %d: %s", tt.name, a.status, tt.want, a.body)
		}
	}
	for _, key := range s.redis.Keys() {
		if !strings.Contains(key, s.app.Sessions.Label("nobody")) {
			t.Errorf("what names nobody left %s", key)
		}
	}
	if a := s.browser(t).get("/webhooks/logto"); a.status != 405 {
		t.Errorf("GET: %d", a.status)
	}
	s.redis.down()
	if a := s.event(t, known, sign("new", known)); a.status != 503 || a.header.Get("Retry-After") == "" {
		t.Errorf("without Redis: %d", a.status)
	}
	s.redis.up()
	if a := newSite(t).event(t, known, sign("", known)); a.status != 404 {
		t.Errorf("without a key: %d", a.status)
	}
	if strings.Contains(s.log.text(), "nobody") {
		t.Error("the log names a subject")
	}
}

// What Logto calls is counted by what became of it, and the log says why. A caller who breaks off is no fault of ours.
func TestCallsAreCounted(t *testing.T) {
	counted := map[string]int{}
	s := newSite(t, func(set *setup) {
		set.client.WebhookKey = webhookKey
		set.app = func(app *App) {
			app.Observe = func(_ context.Context, event, outcome string, _ float64) { counted[event+" "+outcome]++ }
		}
	})
	body := `{"event":"User.Deleted","createdAt":"` + time.Now().UTC().Format(time.RFC3339Nano) + `","data":{"id":"nobody"}}`
	post := func(cut io.Reader) int {
		w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/webhooks/logto", cut)
		r.Header.Set(authtest.SignatureHeader, sign(webhookKey, body))
		s.web.Config.Handler.ServeHTTP(w, r)
		return w.Code
	}
	if got := post(io.MultiReader(strings.NewReader(`{"event":"User.Deleted","createdAt":"`), iotest.ErrReader(errors.New("read tcp 192.0.2.1")))); got != 401 {
		t.Errorf("cut off: %d", got)
	}
	s.event(t, body, sign(webhookKey, body))
	s.event(t, body, "")
	s.redis.down()
	s.event(t, body, sign(webhookKey, body))
	s.redis.up()
	want := map[string]int{ObservedWebhook + " completed": 1, ObservedWebhook + " refused": 2, ObservedWebhook + " failed": 1}
	if !maps.Equal(counted, want) {
		t.Errorf("%v, want %v", counted, want)
	}
	levels := map[any]int{}
	for _, line := range s.log.lines(t, "request") {
		if line["status"] != 200.0 && line["error"] == nil || strings.Contains(fmt.Sprint(line["error"]), "192.0.2.1") {
			t.Errorf("log: %v", line)
		}
		levels[line["level"]]++
	}
	if levels["ERROR"] != 1 {
		t.Errorf("log: %v", levels)
	}
}

// TestWebhooks: what happens at Logto is here at once.
func TestWebhooks(t *testing.T) {
	for name, tt := range map[string]struct {
		happen func(*authtest.Server)
		page   string // of home, after it
	}{
		"suspended":      {func(l *authtest.Server) { l.Suspend("ada") }, "You were signed out because your account was changed or blocked."},
		"deleted":        {func(l *authtest.Server) { l.DeleteUser("ada") }, "You were signed out because your account was changed or blocked."},
		"password reset": {func(l *authtest.Server) { l.ResetPassword("ada", "new") }, "You were signed out because your account was changed or blocked."},
		"unsuspended":    {func(l *authtest.Server) { l.Unsuspend("ada") }, "Hello, Ada Lovelace"},
		"renamed": {func(l *authtest.Server) {
			user := l.User("ada")
			user.Name = "Countess"
			l.SetUser(user)
		}, "Hello, Countess"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newHookedSite(t)
			b, other := s.signedIn(t, "ada"), s.signedIn(t, "grace")
			time.Sleep(2 * time.Millisecond) // the event is later than the sign-in
			tt.happen(s.logto)
			if a := b.get("/"); !strings.Contains(a.body, tt.page) {
				t.Errorf("home: %s", a.body)
			}
			if !other.isSignedIn() {
				t.Error("somebody else is signed out")
			}
			for _, line := range s.log.lines(t, "request") {
				if line["route"] == "/webhooks/logto" && (line["status"] != 200.0 || line["person"] == nil) {
					t.Errorf("log: %v", line)
				}
			}
		})
	}
	t.Run("left an organization", func(t *testing.T) {
		s := newHookedSite(t)
		b := s.signedIn(t, "ada")
		s.logto.Leave("ada", "acme00corp01")
		if a := b.getJSON("/api/me"); strings.Contains(a.body, "acme00corp01") {
			t.Errorf("the organization is still there: %s", a.body)
		}
		s.logto.Join("ada", "acme00corp01", "member")
		if a := b.getJSON("/api/me"); !strings.Contains(a.body, "acme00corp01") {
			t.Errorf("the organization is not back: %s", a.body)
		}
	})
}

// TestWebhookReplay: an event that comes again, or late, harms nobody who has signed in since.
func TestWebhookReplay(t *testing.T) {
	s := newHookedSite(t)
	before := s.signedIn(t, "ada")
	time.Sleep(2 * time.Millisecond)
	body := fmt.Sprintf(`{"event":%q,"createdAt":%q,"userId":%q}`, auth.EventPasswordReset, time.Now().UTC().Format("2006-01-02T15:04:05.000Z"), s.logto.User("ada").Subject)
	time.Sleep(2 * time.Millisecond)
	after := s.signedIn(t, "ada")
	for range 2 {
		if a := s.event(t, body, sign("an-older-one", body)); a.status != 200 {
			t.Fatalf("%d %s", a.status, a.body)
		}
		if before.isSignedIn() || !after.isSignedIn() {
			t.Errorf("signed in: %v from before, %v from after it", before.isSignedIn(), after.isSignedIn())
		}
	}
}

// Who has forgotten the password sets a new one on Logto's page, is led to its sign-in page, and signs in there: all within the
// sign-in that began here. The webhook that comes between does not refuse it.
func TestForgottenPassword(t *testing.T) {
	s := newHookedSite(t)
	b := s.browser(t)
	a := b.get("/sign-in?return_to=/protected/sessions")
	time.Sleep(2 * time.Millisecond)
	s.logto.ResetPassword("ada", "the new one") // posts PostResetPassword
	time.Sleep(2 * time.Millisecond)
	callback, err := b.logto.SignIn(t.Context(), a.header.Get("Location"), "ada")
	if err != nil {
		t.Fatal(err)
	}
	a = b.get(callback)
	if a.status != http.StatusSeeOther || !b.isSignedIn() {
		t.Errorf("callback: %d, %v", a.status, strings.Contains(a.body, "You were signed out"))
	}
}

// PATCH /api/users/{id}/custom-data and …/profile send User.Data.Updated with the custom data (the profile) as data: the person is
// in params.userId alone.
func TestCustomDataWebhook(t *testing.T) {
	for name, data := range map[string]string{
		"without an id": `{"theme":"dark"}`, "with an id of its own": `{"id":"GRACE"}`, "with another case": `{"ID":"GRACE"}`,
	} {
		t.Run(name, func(t *testing.T) {
			s := newHookedSite(t)
			b, grace := s.signedIn(t, "ada"), s.signedIn(t, "grace")
			data = strings.ReplaceAll(data, "GRACE", s.logto.User("grace").Subject)
			body := fmt.Sprintf(`{"event":"User.Data.Updated","createdAt":%q,"hookId":"hook","path":"/users/%[2]s/custom-data","matchedRoute":"/users/:userId/custom-data","params":{"userId":%[2]q},"data":%[3]s}`,
				time.Now().UTC().Format(time.RFC3339Nano), s.logto.User("ada").Subject, data)
			if a := s.event(t, body, sign(webhookKey, body)); a.status != 200 {
				t.Fatal(a.status)
			}
			s.logto.Forget()
			b.get("/")
			if n := s.logto.Count(authtest.Token); n != 1 {
				t.Errorf("ada's data changed, and her next page asked Logto %d times", n)
			}
			s.logto.Forget()
			grace.get("/")
			if n := s.logto.Count(authtest.Token); n != 0 {
				t.Errorf("grace's page asked Logto %d times", n)
			}
		})
	}
}
