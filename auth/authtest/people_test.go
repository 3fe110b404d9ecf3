package authtest_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"example.com/logto-gin-starter/auth/authtest"
)

// What the provider has in common with Logto is tested in after_test.go.

func TestPeople(t *testing.T) {
	opts := authtest.Options{Organizations: []authtest.Organization{{ID: "acme"}, {ID: "globex", Members: map[string][]string{"ada": nil}}}}
	srv := authtest.NewUnstarted("http://logto.example", opts)
	srv.Join("ada", "acme")
	srv.Leave("ada", "globex")
	if members := opts.Organizations[1].Members; len(members) != 1 || opts.Organizations[0].Members != nil {
		t.Errorf("the options changed: %v", members)
	}
	before := srv.User("ada")
	srv.SetRoles(before.Subject, "reader")
	if ada := srv.User("ada"); !slices.Equal(ada.Roles, []string{"reader"}) || !ada.Updated.Equal(before.Updated) {
		t.Errorf("after SetRoles: %+v", ada)
	}
	srv.Suspend("ada")
	if ada := srv.User("ada"); !ada.Suspended || !ada.Updated.After(before.Updated) || ada.Subject != before.Subject {
		t.Errorf("after Suspend: %+v", ada)
	}
	srv.DeleteUser("ada")
	if ada := srv.User("ada"); ada.Subject != "" {
		t.Errorf("after DeleteUser: %+v", ada)
	}
	for name, call := range map[string]func(){
		"Suspend": func() { srv.Suspend("ada") }, "SetRoles": func() { srv.SetRoles("") }, "DeleteUser": func() { srv.DeleteUser("ada") },
		"Join": func() { srv.Join("grace", "nowhere") }, "Leave": func() { srv.Leave("nobody", "acme") },
		"SetSecret": func() { srv.SetSecret("nothing", "secret") },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if text, _ := recover().(string); !strings.HasPrefix(text, "authtest: no") {
					t.Errorf("panic: %q", text)
				}
			}()
			call()
		})
	}
}

func TestPagesOfTheAbsent(t *testing.T) {
	p, b, page := demoPage(t)
	p.local.Suspend("ada")
	for _, fields := range [][]string{{"account", "ada"}, {"username", "ada", "password", p.local.User("ada").Password}} {
		if w, body := b.submit(t, page, fields...); w.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(body, "This account is suspended.") {
			t.Errorf("%v: %s %s", fields, w.Status, body)
		}
	}
	if w, body := b.submit(t, page, "username", "ada", "password", "x"); w.StatusCode != http.StatusUnprocessableEntity || strings.Contains(body, "suspended") {
		t.Errorf("whoever guesses learns that the account is suspended: %s", body)
	}
	p.local.DeleteUser("grace")
	if _, body := b.do(t, http.MethodGet, page.String(), "", nil); strings.Contains(string(body), `value="grace"`) || !strings.Contains(string(body), `value="ada"`) {
		t.Errorf("the chooser offers %s", body)
	}
	if w, _ := b.submit(t, page, "account", "grace"); w.StatusCode != http.StatusUnprocessableEntity {
		t.Errorf("who was deleted chose their account: %s", w.Status)
	}
	p.local.Unsuspend("ada")
	if w, body := b.submit(t, page, "account", "ada"); w.StatusCode != http.StatusSeeOther {
		t.Errorf("no longer suspended: %s %s", w.Status, body)
	}
}

func TestResetPassword(t *testing.T) {
	p := newLocal(t, authtest.Options{Apps: refreshing()})
	address, posts := receiver(t)
	hook := authtest.Webhook{URL: address}
	p.local.RegisterWebhook(hook)
	b := p.browser()
	a := p.signedIn(t, b, "resource", "")
	p.local.ResetPassword("ada", "another password")
	body := wantPost(t, posts, hook, "PostResetPassword")
	if body["userId"] != p.local.User("ada").Subject || body["interactionEvent"] != "ForgotPassword" || body["data"] != nil {
		t.Errorf("posted %v", body)
	}
	p.wantAlive(t, a)
	if _, err := p.local.SignIn(t.Context(), p.authURL("resource", ""), "ada"); err != nil {
		t.Errorf("with the new password: %v", err)
	}
}
