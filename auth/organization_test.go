package auth_test

import (
	"net/http"
	"reflect"
	"testing"
	"time"

	"example.com/logto-gin-starter/auth"
	"example.com/logto-gin-starter/auth/authtest"
)

// person is whom pages show.
func (a *app) person(tb testing.TB) auth.Person {
	tb.Helper()
	person, err := a.session.Person(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	return person
}

// wantActive compares the active organization; none if name is empty.
func (a *app) wantActive(tb testing.TB, name string) {
	tb.Helper()
	if active, ok := a.person(tb).ActiveOrganization(); active.Name != name || ok != (name != "") {
		tb.Errorf("active is %+v, want %q", active, name)
	}
}

func (a *app) setOrganization(tb testing.TB, id string, want error) {
	tb.Helper()
	a.wantError(tb, a.session.SetOrganization(tb.Context(), id), want)
}

func (a *app) refresh(tb testing.TB) {
	tb.Helper()
	if _, err := a.session.AccessToken(tb.Context(), "", auth.ForceRefresh()); err != nil {
		tb.Fatal(err)
	}
}

func TestActiveOrganization(t *testing.T) {
	a := newApp(t)
	a.setOrganization(t, acme, auth.ErrNotAuthenticated)
	a.signIn(t)
	a.wantActive(t, "")
	a.setOrganization(t, globex, auth.ErrNotMember)
	a.setOrganization(t, acme, nil)
	a.wantActive(t, "Acme")
	a.refresh(t)
	a.wantActive(t, "Acme")
	a.signIn(t) // again, as for a fresh auth_time
	a.wantActive(t, "Acme")
	a.setOrganization(t, globex, auth.ErrNotMember)
	a.wantActive(t, "Acme")
	a.setOrganization(t, "", nil)
	a.wantActive(t, "")

	a.setOrganization(t, acme, nil)
	a.idp.Join("grace", acme)
	if _, err := a.callback(a.visitAs(t, "grace", auth.SignInOptions{Prompt: []auth.Prompt{auth.PromptLogin, auth.PromptConsent}})); err != nil {
		t.Fatal(err) // in the same browser
	}
	a.wantActive(t, "") // it was not her choice
	if left := a.person(t).Left; left != "" {
		t.Errorf("grace is told that she left %s", left)
	}
	a.signIn(t)
	a.wantActive(t, "") // it was another session
}

// TestLostMembership: with the membership it is no longer active, and that is told once.
func TestLostMembership(t *testing.T) {
	a := newApp(t)
	a.signIn(t)
	a.setOrganization(t, acme, nil)
	a.idp.Leave("ada", acme)
	a.refresh(t)
	a.wantActive(t, "")
	for _, want := range []string{"Acme", ""} {
		if name, err := a.session.LeftOrganization(t.Context()); name != want || err != nil {
			t.Errorf("left %q, %v, want %q", name, err, want)
		}
	}
	a.idp.Join("ada", acme)
	a.refresh(t)
	a.wantActive(t, "")
	a.setOrganization(t, acme, nil)
}

// TestOrganizationsFailClosed: a claim that is no list of IDs is no membership.
func TestOrganizationsFailClosed(t *testing.T) {
	for name, change := range map[string]func(*authtest.JWT){
		"absent": authtest.NoClaim("organizations"),
		"null":   authtest.Claim("organizations", nil),
		"text":   authtest.Claim("organizations", acme),
		"object": authtest.Claim("organizations", map[string]any{acme: true}),
		"mixed":  authtest.Claim("organizations", []any{acme, 7}),
	} {
		t.Run(name, func(t *testing.T) {
			a := newApp(t)
			a.signIn(t)
			a.setOrganization(t, acme, nil)
			a.idp.OnRefreshedIDToken(change)
			a.refresh(t)
			a.wantActive(t, "")
			a.setOrganization(t, acme, auth.ErrNotMember)
		})
	}
}

// TestOrganizationNames: a sign-in does not fail for want of them, and they come later.
func TestOrganizationNames(t *testing.T) {
	for name, later := range map[string]func(*app){
		"with the next refresh": func(a *app) { a.refresh(t) },
		"with user info": func(a *app) {
			if _, err := a.session.FetchUserInfo(t.Context()); err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := newApp(t)
			a.idp.On(authtest.UserInfo, authtest.Status(http.StatusBadGateway)).Times(1)
			a.signIn(t)
			a.setOrganization(t, acme, nil)
			a.wantActive(t, acme)
			later(a)
			a.wantActive(t, "Acme")
			calls := len(a.idp.Requests(authtest.UserInfo))
			a.refresh(t)
			a.wantCalls(t, authtest.UserInfo, calls) // what is known is not asked for
		})
	}
	a := newApp(t, withoutOrganizations)
	a.signIn(t)
	a.wantCalls(t, authtest.UserInfo, 0)
	if got := a.person(t).Organizations; got != nil {
		t.Errorf("without the scope: %v", got)
	}
}

func TestRoles(t *testing.T) {
	parse := func(text string) (claims auth.IDTokenClaims) {
		if err := claims.UnmarshalJSON([]byte(text)); err != nil {
			t.Fatal(err)
		}
		return claims
	}
	tests := []struct {
		name, claims string
		role, inAcme bool
	}{
		{"has", `{"roles":["x","admin"],"organization_roles":["other:x","acme:admin"]}`, true, true},
		{"has others", `{"roles":["administrator","Admin"],"organization_roles":["acme:administrator","other:admin",":admin","acme"]}`, false, false},
		{"absent", `{}`, false, false},
		{"null", `{"roles":null,"organization_roles":null}`, false, false},
		{"empty", `{"roles":[],"organization_roles":[]}`, false, false},
		{"text", `{"roles":"admin","organization_roles":"acme:admin"}`, false, false},
		{"object", `{"roles":{"admin":true},"organization_roles":{"acme":["admin"]}}`, false, false},
		{"list of odd things", `{"roles":["admin",1],"organization_roles":["acme:admin",null,{}]}`, false, false},
		{"other case", `{"Roles":["admin"],"ORGANIZATION_ROLES":["acme:admin"]}`, false, false},
	}
	for _, tt := range tests {
		claims := parse(tt.claims)
		if got := claims.HasRole("y", "admin"); got != tt.role {
			t.Errorf("%s: role %t", tt.name, got)
		}
		if got := claims.HasOrganizationRole("acme", "y", "admin"); got != tt.inAcme {
			t.Errorf("%s: organization role %t", tt.name, got)
		}
		if claims.HasRole() || claims.HasOrganizationRole("acme") || claims.HasOrganizationRole("", "admin") {
			t.Errorf("%s: no role is had", tt.name)
		}
	}
	if got := parse(tests[0].claims).RolesIn("acme"); !reflect.DeepEqual(got, []string{"admin"}) {
		t.Errorf("roles in acme: %v", got)
	}
}

func TestACRValues(t *testing.T) {
	tests := []struct {
		name   string
		change func(*authtest.JWT)
		want   error
	}{
		{"as asked", authtest.Claim("acr", auth.ACRMFA), nil},
		{"absent", authtest.NoClaim("acr"), auth.ErrUnmetAuthentication}, // a Logto before 1.46
		{"null", authtest.Claim("acr", nil), auth.ErrUnmetAuthentication},
		{"another", authtest.Claim("acr", "urn:logto:acr:1fa"), auth.ErrUnmetAuthentication},
		{"odd type", authtest.Claim("acr", []any{auth.ACRMFA}), auth.ErrUnmetAuthentication},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := newApp(t)
			a.idp.OnIDToken(tt.change)
			_, err := a.callback(a.visit(t, auth.SignInOptions{ACRValues: []string{auth.ACRMFA}}))
			a.wantError(t, err, tt.want)
			if a.isSignedIn(t) != (tt.want == nil) {
				t.Errorf("signed in: %t", a.isSignedIn(t))
			}
		})
	}
}

func TestSignedInWithin(t *testing.T) {
	a := newApp(t)
	now := time.Now().Unix()
	for name, tt := range map[string]struct {
		authTime int64
		want     bool
	}{
		"missing":            {0, false},
		"just now":           {now, true},
		"a little ahead":     {now + 20, true},
		"in the future":      {now + 60, false},
		"within the leeway":  {now - 85, true},
		"too long ago":       {now - 95, false},
		"before 1970":        {-1, false},
		"beyond all numbers": {1 << 62, false},
	} {
		claims := auth.IDTokenClaims{AuthTime: auth.NumericDate(tt.authTime)}
		if got := a.client.SignedInWithin(time.Minute, claims); got != tt.want {
			t.Errorf("%s: %t", name, got)
		}
	}
	if a.client.SignedInWithin(200*365*24*time.Hour, auth.IDTokenClaims{}) {
		t.Error("missing passes for long ago")
	}
}

func TestAccountURL(t *testing.T) {
	a := newApp(t)
	if got := a.client.AccountURL(auth.AccountSecurity, homeURI, "th"); got != "" {
		t.Errorf("without the Account Center: %s", got)
	}
	on := a.newClient(t, func(c *auth.Config) { c.AccountCenter = true })
	want := a.idp.URL + "/account/profile?redirect=http%3A%2F%2Flocalhost%3A3000%2F&ui_locales=th"
	if got := on.AccountURL(auth.AccountProfile, homeURI, "th"); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
