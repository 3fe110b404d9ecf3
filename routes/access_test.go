package routes

import (
	"strings"
	"testing"
)

func TestAccessAddresses(t *testing.T) {
	s := newSite(t)
	s.wantAddresses(t, []address{
		{"GET", "/protected/access", want{303, toSignIn("/protected/access")}, want{401, ""}, want{200, ""}, want{200, ""}},
		{"GET", "/protected/access/role", want{303, toSignIn("/protected/access/role")}, want{401, ""}, want{403, ""}, want{403, ""}},
		{"POST", "/protected/access/role", want{303, toSignIn("/protected/access/role")}, want{401, ""}, want{403, ""}, want{403, ""}},
	})
	s.wantMethods(t, map[string][]string{"/protected/access": {"GET", "HEAD"}, "/protected/access/role": {"GET", "HEAD", "POST"}})
}

// A program gets what the page shows.
func TestAccessForPrograms(t *testing.T) {
	b := newSite(t).signedIn(t, "ada")
	if a := b.getJSON("/protected/access"); a.status != 200 || a.body != `{"organization":false,"organization_role":false,"role":false}` {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// TestAccessWithoutOrganizations: without the scope the page is shown too.
func TestAccessWithoutOrganizations(t *testing.T) {
	b := newSite(t, func(set *setup) { set.client.Scopes = nil }).signedIn(t, "ada")
	if a := b.get("/protected/access"); a.status != 200 || strings.Contains(a.body, "<select") {
		t.Errorf("%d %s", a.status, a.body)
	}
}
