package routes

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"example.com/logto-gin-starter/auth/authtest"
)

// direct lets people go to other identity providers.
func direct(set *setup) {
	set.client.DirectSignIn = []string{"social:google", "social:github", "sso:c0nnector"}
}

// TestWaysIntoSignIn: what /sign-in takes, and what it ignores as it would an old link.
func TestWaysIntoSignIn(t *testing.T) {
	s := newSite(t, direct)
	b := s.browser(t)
	usual := b.get("/sign-in")
	parameters := func(a reply) string {
		t.Helper()
		b.want(a, 303, "")
		u, err := url.Parse(a.header.Get("Location"))
		if err != nil || !strings.HasPrefix(u.String(), s.logto.Issuer+"/auth?") {
			t.Fatalf("leads to %s", a.header.Get("Location"))
		}
		query := u.Query()
		before, _ := url.Parse(usual.header.Get("Location"))
		for name, value := range before.Query() {
			if name != "prompt" || slices.Equal(query[name], value) {
				query.Del(name)
			}
		}
		return query.Encode()
	}
	const login = "max_age=3600&prompt=login+consent"
	long := strings.Repeat("x", 129)
	for query, want := range map[string]string{
		"organization_id=" + acme:                      "organization_id=" + acme,
		"organization_id=a b":                          "",
		"organization_id=":                             "",
		"organization_id=" + long:                      "",
		"direct=social:google":                         "direct_sign_in=social%3Agoogle",
		"direct=sso:c0nnector":                         "direct_sign_in=sso%3Ac0nnector",
		"direct=social:facebook":                       "", // not listed
		"direct=google":                                "",
		"direct=social:google social:github":           "",
		"login_hint=ada@example.com":                   "login_hint=ada%40example.com",
		"login_hint=%2B66812345678":                    "login_hint=%2B66812345678",
		"login_hint=%E0%B8%AD":                         "login_hint=%E0%B8%AD",
		"login_hint=a%0D%0Ab":                          "",
		"login_hint=+a":                                "",
		"login_hint=" + long + long:                    "",
		"max_age=60":                                   "max_age=60",
		"max_age=0":                                    login,
		"max_age=-1":                                   "",
		"max_age=1.5":                                  "",
		"max_age=99999999999999999999":                 "",
		"prompt=login":                                 login,
		"prompt=none":                                  "",
		"prompt=login&max_age=60":                      "max_age=60&prompt=login+consent",
		"acr_values=urn:logto:acr:mfa":                 "acr_values=urn%3Alogto%3Aacr%3Amfa",
		"acr_values=urn:logto:acr:1fa":                 "",
		"one_time_token=t0ken-_&email=ada@example.com": "login_hint=ada%40example.com&" + strings.Replace(login, "&", "&one_time_token=t0ken-_&", 1),
		"one_time_token=t0ken":                         "", // whose?
		"one_time_token=t0ken&email=ada":               "",
		"one_time_token=a.b&email=ada@example.com":     "",
		"email=ada@example.com":                        "",
		"first_screen=reset_password&redirect_uri=https://x&a=b": "",
		"one_time_token=t&email=b@example.com&login_hint=ada":    "login_hint=b%40example.com&" + strings.Replace(login, "&", "&one_time_token=t&", 1),
	} {
		for _, path := range []string{"/sign-in?", "/sign-up?"} {
			more := ""
			if path == "/sign-up?" {
				more = "first_screen=register"
			}
			got := parameters(b.get(path + strings.ReplaceAll(query, " ", "%20")))
			values, _ := url.ParseQuery(want + "&" + more)
			if got != values.Encode() {
				t.Errorf("%s%s sends %q, want %q", path, query, got, values.Encode())
			}
		}
	}
	a := b.get("/sign-in?one_time_token=t0ken&email=ada@example.com")
	if a.header.Get("Referrer-Policy") != "no-referrer" {
		t.Errorf("Referrer-Policy %q", a.header.Get("Referrer-Policy"))
	}
	other := newSite(t)
	other.logto.On(authtest.Discovery, authtest.Status(502))
	b = other.browser(t)
	if a := b.get("/sign-in?one_time_token=s3cret&email=ada@example.com&return_to=/x"); a.status != 502 || strings.Contains(a.body, "s3cret") || !strings.Contains(a.body, `href="/sign-in?return_to=%2Fx"`) {
		t.Errorf("%d %s", a.status, a.body)
	}
	for _, log := range []string{s.log.text(), other.log.text()} {
		if strings.Contains(log, "t0ken") || strings.Contains(log, "s3cret") || strings.Contains(log, "example.com") {
			t.Errorf("the log says too much: %s", log)
		}
	}
}

// TestDirectButtons: one for each identity provider that is listed, and nothing without.
func TestDirectButtons(t *testing.T) {
	s := newSite(t, direct)
	home := s.browser(t).get("/").body
	for _, button := range []string{
		`href="/sign-in?direct=social%3agoogle">Continue with Google<`, `href="/sign-in?direct=social%3agithub">Continue with GitHub<`,
		`href="/sign-in?direct=sso%3ac0nnector">Continue with SSO<`,
	} {
		if !strings.Contains(home, button) {
			t.Errorf("no %s in %s", button, home)
		}
	}
	if home := newSite(t).browser(t).get("/").body; strings.Contains(home, "direct=") {
		t.Errorf("none is listed: %s", home)
	}
}

// TestSetOrganization is the switcher's address.
func TestSetOrganization(t *testing.T) {
	s := newSite(t)
	b := s.signedIn(t, "ada")
	set := func(id, returnTo string, status int, location string) reply {
		t.Helper()
		a := b.post("/organization", url.Values{"id": {id}, "return_to": {returnTo}})
		b.want(a, status, location)
		return a
	}
	isActive := func(name string) {
		t.Helper()
		if body := b.get("/protected/sessions").body; strings.Contains(body, `value="`+acme+`" selected>Acme<`) != (name != "") ||
			strings.Contains(body, `<span class="fine">Acme</span>`) != (name != "") {
			t.Errorf("active is not %q: %s", name, body)
		}
	}
	isActive("")
	set("gl0bexcorp02", "/", 403, "")
	set("nonsense\n", "/", 403, "")
	set(acme, "https://evil.example/", 303, "/")
	isActive("Acme")
	set("", "/protected/sessions?a=b", 303, "/protected/sessions?a=b")
	isActive("")
	set(acme, "//evil.example", 303, "/")
	b.want(b.post("/organization", url.Values{"id": {acme}}, "Sec-Fetch-Site", "cross-site"), 403, "")

	// Another browser of the same person has its own.
	other := s.signedIn(t, "ada")
	if strings.Contains(other.get("/").body, " selected>") {
		t.Error("active in another browser too")
	}

	// The membership ends: it is said once, and over.
	s.logto.Leave("ada", acme)
	if _, err := s.app.Sessions.MarkDue(t.Context(), "4dal0velace0"); err != nil {
		t.Fatal(err)
	}
	const told = "You are no longer a member of Acme"
	if body := b.get("/sign-out").body; !strings.Contains(body, told) || strings.Contains(body, `<span class="fine">Acme`) {
		t.Errorf("not told: %s", body)
	}
	if body := b.get("/").body; strings.Contains(body, told) {
		t.Error("told twice")
	}
	set(acme, "/", 403, "")

	s.redis.down()
	b.want(b.post("/organization", url.Values{"id": {acme}}), 503, "")
}

// TestNoOrganizations: without the scope there is no switcher, and no error.
func TestNoOrganizations(t *testing.T) {
	s := newSite(t, func(set *setup) { set.client.Scopes = nil })
	b := s.signedIn(t, "ada")
	for _, path := range []string{"/", "/own/userinfo", "/protected/sessions"} {
		if a := b.get(path); a.status != 200 || strings.Contains(a.body, "<select") {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	b.want(b.post("/organization", url.Values{"id": {""}}), 303, "/")
	b.want(b.post("/organization", url.Values{"id": {acme}}), 403, "")
}

// TestManyOrganizations: a person with 200.
func TestManyOrganizations(t *testing.T) {
	s := newSite(t, func(set *setup) {
		set.provider.Organizations = nil
		for i := range 200 {
			set.provider.Organizations = append(set.provider.Organizations, authtest.Organization{
				ID: fmt.Sprintf("org%09d", i), Name: fmt.Sprintf("Organization %d & sons", i), Members: map[string][]string{"ada": {"admin"}},
				Roles: []authtest.OrganizationRole{{Name: "admin"}},
			})
		}
	})
	b := s.signedIn(t, "ada")
	b.want(b.post("/organization", url.Values{"id": {"org000000123"}}), 303, "/")
	body := b.get("/sign-out").body
	if strings.Count(body, "<option ") != 201 || !strings.Contains(body, ` selected>Organization 123 &amp; sons<`) {
		t.Errorf("switcher: %s", body)
	}
	if got := s.redis.during(func() { b.get("/sign-out") }); !slices.Equal(got, []string{"GETRANGE"}) {
		t.Errorf("a page costs %q", got)
	}
	got := decode[struct {
		Organization  string
		Organizations []struct{ Roles []string }
	}](t, b.get("/api/me"))
	if len(got.Organizations) != 200 || got.Organization != "org000000123" || got.Organizations[7].Roles[0] != "admin" {
		t.Errorf("%+v", got)
	}
}

// TestAccount: the link to Logto's Account Center, and the way back, on which the new name is there.
func TestAccount(t *testing.T) {
	s := newSite(t, func(set *setup) { set.client.AccountCenter = true })
	b := s.signedIn(t, "ada")
	link := `<a href="` + s.logto.URL + `/account/security?redirect=` + url.QueryEscape(s.url+"/account/done") + `&amp;ui_locales=en">Manage your account</a>`
	if body := b.get("/").body; !strings.Contains(body, link) {
		t.Errorf("no %s in %s", link, body)
	}
	ada := s.logto.User("ada")
	ada.Name = "Augusta Ada King"
	s.logto.SetUser(ada)
	b.want(b.get("/account/done"), 303, "/")
	if body := b.get("/").body; !strings.Contains(body, "Augusta Ada King") {
		t.Errorf("the old name: %s", body)
	}
	b.want(b.get("/account/done", "Sec-Fetch-Dest", "image"), 403, "")
	if body := newSite(t).signedIn(t, "ada").get("/").body; strings.Contains(body, "Manage your account") {
		t.Error("a link without an Account Center")
	}
}

// TestSwitchAccount: the link asks for the sign-in page, and another person's session begins anew.
func TestSwitchAccount(t *testing.T) {
	s := newSite(t)
	b := s.signedIn(t, "ada")
	b.post("/organization", url.Values{"id": {acme}})
	const link = "/sign-in?prompt=login&return_to=%2fprotected%2fsessions"
	if body := b.get("/protected/sessions").body; !strings.Contains(body, `href="`+strings.ReplaceAll(link, "&", "&amp;")+`"`) {
		t.Errorf("no link: %s", body)
	}
	a := b.get(b.begin(link, "grace"))
	b.want(a, 303, "/protected/sessions")
	if body := b.get("/").body; !strings.Contains(body, "grace") || strings.Contains(body, " selected>") {
		t.Errorf("not grace's: %s", body)
	}
}
