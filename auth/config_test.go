package auth_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"example.com/logto-gin-starter/auth"
	"example.com/logto-gin-starter/auth/authtest"
)

func TestConfigValidate(t *testing.T) {
	good := auth.Config{Endpoint: "https://tenant.logto.app", AppID: "app", AppSecret: "hunter22"}
	tests := []struct {
		name   string
		change func(*auth.Config)
		faults []string // names of the settings
	}{
		{"good", func(*auth.Config) {}, nil},
		{"all there is", func(c *auth.Config) {
			c.Endpoint, c.InternalEndpoint = "http://localhost:3001/", "http://logto:3001"
			c.Scopes, c.Resources = []string{"email", "read:products", auth.ScopeOrganizations}, []string{"https://api.example/v1", "urn:api"}
			c.DirectSignIn = []string{"social:google", "sso:c0nnector"}
		}, nil},
		{"empty", func(c *auth.Config) { *c = auth.Config{} }, []string{"Endpoint", "AppID", "AppSecret"}},
		{"no scheme", func(c *auth.Config) { c.Endpoint = "tenant.logto.app" }, []string{"Endpoint"}},
		{"no host", func(c *auth.Config) { c.Endpoint = "https://" }, []string{"Endpoint"}},
		{"a port alone", func(c *auth.Config) { c.Endpoint = "https://:3001" }, []string{"Endpoint"}},
		{"another scheme", func(c *auth.Config) { c.Endpoint = "ftp://tenant.logto.app" }, []string{"Endpoint"}},
		{"a password", func(c *auth.Config) { c.Endpoint = "https://user:hunter22@tenant.logto.app" }, []string{"Endpoint"}},
		{"the issuer", func(c *auth.Config) { c.Endpoint = "https://tenant.logto.app/oidc/" }, []string{"Endpoint"}},
		{"a query", func(c *auth.Config) { c.Endpoint = "https://tenant.logto.app?a=hunter22" }, []string{"Endpoint"}},
		{"an empty query", func(c *auth.Config) { c.Endpoint = "https://tenant.logto.app?" }, []string{"Endpoint"}},
		{"a fragment", func(c *auth.Config) { c.InternalEndpoint = "http://logto#" }, []string{"InternalEndpoint"}},
		{"no URL at all", func(c *auth.Config) { c.InternalEndpoint = "http://%zz" }, []string{"InternalEndpoint"}},
		{"scopes", func(c *auth.Config) { c.Scopes = []string{"a b", "", `q"`, "é"} }, []string{"Scopes", "Scopes", "Scopes", "Scopes"}},
		{"resources", func(c *auth.Config) {
			c.Resources = []string{"/api", "https://api.example/#f", "https://api.example/a b"}
		},
			[]string{"Resources", "Resources", "Resources"}},
		{"direct sign-in", func(c *auth.Config) { c.DirectSignIn = []string{"google", "oauth:google"} }, []string{"DirectSignIn", "DirectSignIn"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			config := good
			tt.change(&config)
			err := config.Validate()
			var got []string
			if joined, ok := err.(interface{ Unwrap() []error }); ok {
				for _, fault := range joined.Unwrap() {
					setting, _, _ := strings.Cut(fault.Error(), " ")
					if strings.Contains(fault.Error(), "hunter22") {
						t.Fatalf("fault %v", fault)
					}
					got = append(got, setting)
				}
			}
			if fmt.Sprint(got) != fmt.Sprint(tt.faults) {
				t.Errorf("faults %v, want %v: %v", got, tt.faults, err)
			}
			if client, err := auth.New(config); (err == nil) != (tt.faults == nil) || (client != nil) != (err == nil) {
				t.Errorf("New: %v, %v", client, err)
			}
		})
	}
}

func TestNewMakesNoRequest(t *testing.T) {
	a := newApp(t)
	if len(a.idp.Requests()) != 0 {
		t.Errorf("requests %v", a.idp.Requests())
	}
	if a.client.Issuer() != a.idp.Issuer {
		t.Errorf("issuer %s", a.client.Issuer())
	}
}

// TestClientIsImmutable: a caller's slices are the caller's.
func TestClientIsImmutable(t *testing.T) {
	a := newApp(t)
	a.config.Resources[0], a.config.Scopes[0] = "https://other.example", "other"
	a.client.Resources()[1] = "https://other.example"
	request := a.authorizationRequest(t, auth.SignInOptions{})
	if got := request["resource"]; got[0] != shopping || a.client.Resources()[1] != store {
		t.Errorf("resources %v, %v", got, a.client.Resources())
	}
	if scope := request.Get("scope"); !strings.HasPrefix(scope, "openid profile offline_access email ") {
		t.Errorf("scope %s", scope)
	}
	a.signIn(t)
	_, err := a.session.AccessToken(t.Context(), "https://other.example")
	a.wantError(t, err, auth.ErrUnknownResource)
}

// TestInternalEndpoint: connections go elsewhere, addresses and tokens are those of the public endpoint.
func TestInternalEndpoint(t *testing.T) {
	var asked []string
	a := newApp(t, inMemory, func(s *setup) { s.config.InternalEndpoint = "http://logto:3001/" })
	a.config.Transport = transport(func(r *http.Request) (*http.Response, error) {
		asked = append(asked, r.URL.String()+" for "+r.Host)
		return a.idp.Client().Transport.RoundTrip(r)
	})
	a.session = a.newClient(t).Session(a.storage)
	a.authorizationRequest(t, auth.SignInOptions{}) // at the public endpoint
	if want := "http://logto:3001/oidc/.well-known/openid-configuration for logto.example"; fmt.Sprint(asked) != "["+want+"]" {
		t.Errorf("asked %v, want %s", asked, want)
	}
	a.signIn(t) // and its issuer is the public one
}

type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestDefaultTransportReplaced by something else, as tracing does.
func TestDefaultTransportReplaced(t *testing.T) {
	usual, traced := http.DefaultTransport, 0
	http.DefaultTransport = transport(func(r *http.Request) (*http.Response, error) {
		traced++
		return usual.RoundTrip(r)
	})
	defer func() { http.DefaultTransport = usual }()
	a := newApp(t)
	if err := a.client.Ready(t.Context()); err != nil || traced != 1 {
		t.Errorf("%d requests, %v", traced, err)
	}
}

// TestRedaction: whatever prints them, types that hold a secret do not show it.
func TestRedaction(t *testing.T) {
	const secret = "hunter22-hunter22"
	config := auth.Config{Endpoint: "https://tenant.logto.app", AppID: "app", AppSecret: secret}
	client, err := auth.New(config)
	if err != nil {
		t.Fatal(err)
	}
	token := auth.Token{Value: secret, Scopes: []string{"read:products"}, Expiry: time.Now()}
	values := map[string]any{
		"Secret": auth.Secret(secret), "*Secret": new(auth.Secret(secret)), "Token": token, "*Token": &token,
		"Config": config, "*Config": &config, "Client": client, "Session": client.Session(&authtest.Memory{}),
		"[]Token": []auth.Token{token}, "map": map[string]auth.Secret{"a": secret}, "in a struct": struct{ T any }{token},
	}
	for name, value := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t"} {
			if text := fmt.Sprintf(verb, value); strings.Contains(text, "hunter22") || strings.Contains(strings.ToLower(text), "68756e746572") {
				t.Errorf("%s of %s: %s", verb, name, text)
			}
		}
		if text, err := json.Marshal(value); bytes.Contains(text, []byte("hunter22")) {
			t.Errorf("JSON of %s: %s, %v", name, text, err)
		}
		var text bytes.Buffer
		slog.New(slog.NewTextHandler(&text, nil)).Info("log", "value", value, slog.Group("group", "value", value))
		slog.New(slog.NewJSONHandler(&text, nil)).Info("log", "value", value, slog.Group("group", "value", value))
		if strings.Contains(text.String(), "hunter22") {
			t.Errorf("slog of %s: %s", name, text.String())
		}
	}
	if string(token.Value) != secret || token.Value.String() == secret {
		t.Error("the secret can't be used")
	}
}
