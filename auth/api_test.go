package auth_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"example.com/logto-gin-starter/auth"
	"example.com/logto-gin-starter/auth/authtest"
)

// api is a program that only receives tokens, guarded by need. It answers with who called.
func (a *app) api(t *testing.T, need auth.Permission) *httptest.Server {
	t.Helper()
	verifier, err := auth.NewVerifier(auth.Config{Endpoint: a.idp.URL})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(verifier.Require(need)(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		caller, ok := auth.CallerFrom(r.Context())
		if !ok || caller.Claims.Subject != caller.Subject || caller.Claims.ID == "" {
			t.Errorf("caller %+v", caller)
		}
		if err := json.NewEncoder(w).Encode(caller); err != nil {
			t.Error(err)
		}
	})))
	t.Cleanup(server.Close)
	return server
}

// call calls an API.
func call(t *testing.T, server *httptest.Server, authorization ...string) (answer *http.Response, body map[string]any) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	if authorization != nil {
		request.Header["Authorization"] = authorization
	}
	answer, err = server.Client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if err := json.NewDecoder(answer.Body).Decode(&body); err != nil {
		t.Fatal(err)
	}
	return answer, body
}

// TestRequire is each answer of a guarded API.
func TestRequire(t *testing.T) {
	a := newApp(t)
	need := auth.Permission{Resource: shopping, Scopes: []string{"read:products", "write:products"}}
	guarded, nowhere := a.api(t, need), a.api(t, auth.Permission{Scopes: need.Scopes})
	good := a.idp.AccessToken("ada", shopping)
	scope := func(value any) string {
		return "Bearer " + a.idp.AccessToken("ada", shopping, authtest.Claim("scope", value))
	}
	const insufficient = `Bearer realm="api", error="insufficient_scope", scope="read:products write:products"`
	tests := []struct {
		name          string
		server        *httptest.Server
		authorization []string
		status        int
		code          string
		challenge     string
	}{
		{"good", guarded, []string{"Bearer " + good}, 200, "", ""},
		{"scheme in capitals", guarded, []string{"BEARER " + good}, 200, "", ""},
		{"these scopes alone", guarded, []string{scope("write:products read:products")}, 200, "", ""},
		{"no header", guarded, nil, 401, "unauthorized", `Bearer realm="api"`},
		{"an empty header", guarded, []string{""}, 401, "unauthorized", `Bearer realm="api"`},
		{"no token", guarded, []string{"Bearer"}, 401, "unauthorized", `Bearer realm="api"`},
		{"another scheme", guarded, []string{"Basic YTpi"}, 401, "unauthorized", `Bearer realm="api"`},
		{"the token alone", guarded, []string{good}, 401, "unauthorized", `Bearer realm="api"`},
		{"garbage", guarded, []string{"Bearer garbage"}, 401, "invalid_token", `Bearer realm="api", error="invalid_token"`},
		{"two tokens", guarded, []string{"Bearer " + good + " " + good}, 401, "invalid_token", `Bearer realm="api", error="invalid_token"`},
		{"of another API", guarded, []string{"Bearer " + a.idp.AccessToken("ada", store)}, 401, "invalid_token", `Bearer realm="api", error="invalid_token"`},
		{"forged", guarded, []string{"Bearer " + a.idp.AccessToken("ada", shopping, authtest.SignedWithForeignKey("ES384"))}, 401, "invalid_token", `Bearer realm="api", error="invalid_token"`},
		{"one scope is missing", guarded, []string{scope("read:products delete:products")}, 403, "insufficient_scope", insufficient},
		{"no scope", guarded, []string{scope("")}, 403, "insufficient_scope", insufficient},
		{"scopes in a list", guarded, []string{scope(need.Scopes)}, 403, "insufficient_scope", insufficient},
		{"nothing is demanded", nowhere, []string{"Bearer " + good}, 404, "not_found", ""},
		{"nothing is demanded, and no token", nowhere, nil, 404, "not_found", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			answer, body := call(t, tt.server, tt.authorization...)
			if got := answer.Header.Get("WWW-Authenticate"); answer.StatusCode != tt.status || got != tt.challenge {
				t.Errorf("%d %s, want %d %s", answer.StatusCode, got, tt.status, tt.challenge)
			}
			if tt.status == 200 {
				if body["Subject"] != a.idp.User("ada").Subject || body["ClientID"] != a.config.AppID || body["Organization"] != "" {
					t.Errorf("caller %v", body)
				}
				return
			}
			wantScope := any(nil)
			if tt.status == 403 {
				wantScope = "read:products write:products"
			}
			if body["error"] != tt.code || body["scope"] != wantScope || !strings.HasPrefix(answer.Header.Get("Content-Type"), "application/json") {
				t.Errorf("%v %v", answer.Header, body)
			}
		})
	}
}

// TestOrganizations: what a token permits within an organization it permits nowhere else, and the other way round.
func TestOrganizations(t *testing.T) {
	a := newApp(t)
	resource, within, itself := auth.Permission{Resource: shopping}, auth.Permission{Resource: shopping, Organization: acme}, auth.Permission{Organization: acme}
	guards := []auth.Permission{resource, within, itself}
	servers := []*httptest.Server{a.api(t, resource), a.api(t, within), a.api(t, itself)}
	organization := auth.OrganizationAudience(acme)
	in := func(id any) func(*authtest.JWT) { return authtest.Claim("organization_id", id) }
	audiences := func(list ...string) func(*authtest.JWT) { return authtest.Claim("aud", list) }
	tests := []struct {
		name     string
		audience string
		change   func(*authtest.JWT)
		opens    []auth.Permission
	}{
		{"of the resource", shopping, authtest.NoClaim("organization_id"), []auth.Permission{resource}},
		{"of the resource, and other audiences", shopping, audiences(store, shopping), []auth.Permission{resource}},
		{"of the resource within the organization", shopping, in(acme), []auth.Permission{within}},
		{"of the resource within another one", shopping, in(globex), nil},
		{"of the resource, organization in other letters", shopping, in(strings.ToUpper(acme)), nil},
		{"of another resource within the organization", store, in(acme), nil},
		{"of the organization", organization, authtest.NoClaim("organization_id"), []auth.Permission{itself}},
		{"of another organization", auth.OrganizationAudience(globex), authtest.NoClaim("organization_id"), nil},
		{"of the organization, in its name too", organization, in(acme), []auth.Permission{itself}},
		{"of the organization, in another's name", organization, in(globex), nil},
		{"of the resource and the organization", shopping, audiences(shopping, organization), []auth.Permission{itself}},
		{"of the resource and the organization, within it", shopping, func(t *authtest.JWT) { audiences(shopping, organization)(t); in(acme)(t) }, []auth.Permission{within, itself}},
		{"of the resource and another organization", shopping, audiences(shopping, auth.OrganizationAudience(globex)), nil},
		{"of two organizations", organization, audiences(organization, auth.OrganizationAudience(globex)), nil},
		{"of an organization without a name", shopping, audiences(shopping, auth.OrganizationAudience("")), nil},
		{"organization null", shopping, in(nil), nil},
		{"organization empty", shopping, in(""), nil},
		{"organization a number", shopping, in(7), nil},
		{"organization false", shopping, in(false), nil},
		{"organization a list", shopping, in([]string{acme}), nil},
		{"organization an empty list", shopping, in([]string{}), nil},
		{"organization an object", shopping, in(map[string]string{"id": acme}), nil},
		{"the organization's, organization null", organization, in(nil), nil},
		{"the organization's, organization empty", organization, in(""), nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			token := a.idp.AccessToken("ada", tt.audience, tt.change)
			for i, need := range guards {
				answer, body := call(t, servers[i], "Bearer "+token)
				opens := slices.ContainsFunc(tt.opens, func(p auth.Permission) bool {
					return p.Resource == need.Resource && p.Organization == need.Organization
				})
				if opens && (answer.StatusCode != 200 || body["Organization"] != need.Organization) {
					t.Errorf("guard %+v: %d %v", need, answer.StatusCode, body)
				}
				if !opens && (answer.StatusCode != 401 || body["error"] != "invalid_token") {
					t.Errorf("guard %+v: %d %v, want a refusal", need, answer.StatusCode, body)
				}
			}
		})
	}
}

// TestRequireWithoutLogto: not to know is no refusal, and ends with its cause.
func TestRequireWithoutLogto(t *testing.T) {
	for name, of := range map[string]authtest.Endpoint{"discovery": authtest.Discovery, "keys": authtest.Keys} {
		t.Run(name, func(t *testing.T) {
			a := newApp(t)
			a.idp.On(of, authtest.Reset)
			guarded := a.api(t, auth.Permission{Resource: shopping})
			answer, body := call(t, guarded, "Bearer "+a.idp.AccessToken("ada", shopping))
			if answer.StatusCode != 503 || body["error"] != "temporarily_unavailable" || answer.Header.Get("Retry-After") == "" || answer.Header.Get("WWW-Authenticate") != "" {
				t.Errorf("%d %v %v", answer.StatusCode, answer.Header, body)
			}
			if answer, _ := call(t, guarded); answer.StatusCode != 401 {
				t.Errorf("without a token: %d", answer.StatusCode)
			}
			a.idp.Behave()
			if answer, body := call(t, guarded, "Bearer "+a.idp.AccessToken("ada", shopping)); answer.StatusCode != 200 {
				t.Errorf("%d %v", answer.StatusCode, body)
			}
		})
	}
}

// TestNewVerifier: a wrong address is told at once, a Logto that is away is not asked.
func TestNewVerifier(t *testing.T) {
	for _, config := range []auth.Config{
		{},
		{Endpoint: "tenant.logto.app"},
		{Endpoint: "https://tenant.logto/oidc"},
		{Endpoint: "https://tenant.logto.app", InternalEndpoint: "logto:3001"},
	} {
		config.Transport = unreachable{}
		if verifier, err := auth.NewVerifier(config); err == nil || verifier != nil {
			t.Errorf("%q: %v, %v", config.Endpoint, verifier, err)
		}
	}
	a := newApp(t, inMemory)
	var asked []string
	inside := transport(func(r *http.Request) (*http.Response, error) {
		asked = append(asked, r.URL.Host)
		return a.idp.Client().Transport.RoundTrip(r)
	})
	verifier, err := auth.NewVerifier(auth.Config{Endpoint: a.idp.URL + "/", InternalEndpoint: "http://logto:3001", Transport: inside})
	if err != nil || verifier.Issuer() != a.idp.Issuer || len(asked) > 0 {
		t.Errorf("%v, %v, asked %v", verifier, err, asked)
	}
	claims, err := verifier.VerifyAccessToken(t.Context(), a.idp.AccessToken("ada", shopping), shopping)
	if err != nil || claims.Subject != a.idp.User("ada").Subject || !slices.Equal(asked, []string{"logto:3001", "logto:3001"}) {
		t.Errorf("%+v, %v, asked %v", claims, err, asked)
	}
}
