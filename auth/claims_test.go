package auth_test

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"example.com/logto-gin-starter/auth"
)

// canonical is JSON with sorted names, by which two texts can be compared; numbers stay as they are written.
func canonical(tb testing.TB, text []byte) string {
	tb.Helper()
	var value any
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	if err := decoder.Decode(&value); err != nil {
		tb.Fatalf("%s: %v", text, err)
	}
	out, err := json.Marshal(value)
	if err != nil {
		tb.Fatal(err)
	}
	return string(out)
}

// TestClaimsRoundTrip: what comes out is what came in, though only some of it is known by name.
func TestClaimsRoundTrip(t *testing.T) {
	const required = `"iss":"i","sub":"s","aud":"a","exp":1700003600,"iat":1700000000`
	tests := []struct{ name, json string }{
		{"required", `{` + required + `}`},
		{"null", `{` + required + `,"name":null,"username":null,"picture":null,` +
			`"email_verified":null,"address":null,"roles":null,"created_at":null,"custom_data":null}`},
		{"empty", `{` + required + `,"name":"","roles":[],"custom_data":{},"identities":{},` +
			`"sso_identities":[],"organizations":[],"email_verified":false,"created_at":0}`},
		{"odd types", `{` + required + `,"name":1,"email_verified":"true","address":"street","roles":"admin",` +
			`"created_at":"2026","updated_at":1.5,"custom_data":[],"identities":[1],"sso_identities":{},"organizations":[1]}`},
		{"address of Logto's", `{` + required + `,"address":{"streetAddress":"1 High Street","postal_code":"1","x":[null]}}`},
		{"unknown", `{` + required + `,"https://example.com/c":{"a":[1,2.50,null]},"created":"x",` +
			`"Sub":"another","NAME":"x","":"empty"}`},
		{"large and precise numbers", `{` + required + `,"custom_data":{"n":123456789012345678901234567890,"f":1.000000000000000000001},"n":1e400}`},
		{"the rest", `{` + required + `,"auth_time":1699999999,"nonce":"n","azp":"a","at_hash":"h","sid":"d","jti":"j","client_id":"c","scope":"a b","nbf":1,"organization_id":"o"}`},
		{"several audiences", `{"iss":"i","sub":"s","aud":["a","b"],"exp":1700003600.5,"iat":1}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, value := range []any{new(auth.IDTokenClaims), new(auth.UserInfo)} {
				if err := json.Unmarshal([]byte(tt.json), value); err != nil {
					t.Fatal(err)
				}
				text, err := json.Marshal(value)
				if err != nil || canonical(t, text) != canonical(t, []byte(tt.json)) {
					t.Errorf("%T: %s, %v", value, text, err)
				}
			}
		})
	}
	t.Run("of an access token", func(t *testing.T) {
		const text = `{"jti":"j","iss":"i","sub":"s","aud":"a","client_id":"c","exp":2,"iat":1,"scope":null,"custom":{"x":1}}`
		var claims auth.AccessTokenClaims
		if err := json.Unmarshal([]byte(text), &claims); err != nil {
			t.Fatal(err)
		}
		if out, err := json.Marshal(claims); err != nil || canonical(t, out) != canonical(t, []byte(text)) {
			t.Errorf("%s, %v", out, err)
		}
	})
}

// TestClaimsWrong: claims on which the session rests must be of their type.
func TestClaimsWrong(t *testing.T) {
	for _, text := range []string{
		`null`, `[]`, `"sub"`, `7`, `{"sub":7}`, `{"iss":{}}`, `{"aud":7}`, `{"aud":[7]}`, `{"exp":"1"}`, `{"sid":[]}`,
	} {
		var claims auth.IDTokenClaims
		if err := json.Unmarshal([]byte(text), &claims); err == nil {
			t.Errorf("%s was accepted: %+v", text, claims)
		}
	}
}

func TestClaim(t *testing.T) {
	var person struct {
		Name auth.Claim[string] `json:"name,omitzero"`
	}
	tests := []struct {
		json         string
		value        string
		ok           bool
		zero, isNull bool
	}{
		{`{}`, "", false, true, false},
		{`{"name":null}`, "", false, false, true},
		{`{"name":""}`, "", true, false, false},
		{`{"name":"Ada"}`, "Ada", true, false, false},
		{`{"name":7}`, "", false, false, false},
		{`{"name":{"a":[]}}`, "", false, false, false},
	}
	for _, tt := range tests {
		person.Name = auth.Claim[string]{}
		if err := json.Unmarshal([]byte(tt.json), &person); err != nil {
			t.Fatal(err)
		}
		value, ok := person.Name.Get()
		if value != tt.value || ok != tt.ok || person.Name.Value() != value || person.Name.IsZero() != tt.zero || person.Name.IsNull() != tt.isNull {
			t.Errorf("%s: %q, %t, zero %t, null %t", tt.json, value, ok, person.Name.IsZero(), person.Name.IsNull())
		}
		if text, err := json.Marshal(person); err != nil || string(text) != tt.json {
			t.Errorf("%s became %s, %v", tt.json, text, err)
		}
	}
	made := auth.ClaimOf(map[string]any{"a": 1})
	if text, err := json.Marshal(made); err != nil || string(text) != `{"a":1}` || made.IsZero() || made.Value()["a"] != 1.0 { // as JSON reads it
		t.Errorf("made %s, %v", text, err)
	}
	if text, err := json.Marshal(auth.Claim[string]{}); err != nil || string(text) != "null" {
		t.Errorf("an absent claim by itself is %s, %v", text, err)
	}
}

func TestDisplayName(t *testing.T) {
	tests := []struct{ json, want string }{
		{`{"sub":"s","name":"Ada","username":"ada","email":"ada@example.com","phone_number":"1"}`, "Ada"},
		{`{"sub":"s","name":null,"username":"ada","email":"ada@example.com"}`, "ada"},
		{`{"sub":"s","name":"","username":7,"email":"ada@example.com"}`, "ada@example.com"},
		{`{"sub":"s","phone_number":"1"}`, "1"},
		{`{"sub":"s"}`, ""},
	}
	for _, tt := range tests {
		var info auth.UserInfo
		if err := json.Unmarshal([]byte(tt.json), &info); err != nil || info.DisplayName() != tt.want {
			t.Errorf("%s is called %q, %v, want %q", tt.json, info.DisplayName(), err, tt.want)
		}
	}
}

// TestPerson: what every page shows is what the ID token says.
func TestPerson(t *testing.T) {
	a := newApp(t)
	a.signIn(t)
	claims, err := a.session.IDTokenClaims(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	person, err := a.session.Person(t.Context())
	want := auth.Person{
		Subject: claims.Subject, DisplayName: claims.DisplayName(), Picture: claims.Picture.Value(), Email: "ada@example.com",
		Organizations: []auth.Organization{{ID: acme, Name: "Acme"}},
	}
	if err != nil || !reflect.DeepEqual(person, want) {
		t.Errorf("%+v, %v", person, err)
	}
}

func TestTimes(t *testing.T) {
	when := time.Date(2026, 1, 5, 9, 0, 0, 500e6, time.UTC)
	if got := auth.NumericDate(float64(when.UnixMilli()) / 1000).Time(); !got.Equal(when) {
		t.Errorf("%v, want %v", got, when)
	}
	if got := auth.Millis(when.UnixMilli()).Time(); !got.Equal(when) {
		t.Errorf("%v, want %v", got, when)
	}
	if past, future := auth.NumericDate(-1e300).Time(), auth.NumericDate(1e300).Time(); !past.Before(when) || !future.After(when) {
		t.Errorf("%v, %v", past, future)
	}
}

// TestContext: what a guard puts into the context comes out of it, and nothing else does.
func TestContext(t *testing.T) {
	user, caller := auth.NewUser(auth.IDTokenClaims{Subject: "u", Profile: auth.Profile{Roles: auth.ClaimOf([]string{"admin"})}}), auth.Caller{Subject: "c"}
	if claims := user.Claims(); user.Subject != "u" || !claims.HasRole("admin") || new(auth.User).Claims().HasRole("admin") {
		t.Errorf("%+v", claims)
	}
	withUser, withCaller := auth.WithUser(t.Context(), user), auth.WithCaller(t.Context(), caller)
	if auth.UserFrom(withUser) != user || auth.UserFrom(withCaller) != nil {
		t.Errorf("%+v, %+v", auth.UserFrom(withUser), auth.UserFrom(withCaller))
	}
	if got, ok := auth.CallerFrom(withCaller); !ok || got.Subject != "c" {
		t.Errorf("%+v, %t", got, ok)
	}
	if got, ok := auth.CallerFrom(withUser); ok || got.Subject != "" {
		t.Errorf("%+v, %t", got, ok)
	}
}

// TestAddress: Logto's spellings are read, the standard ones win, and the JSON stays what came.
func TestAddress(t *testing.T) {
	raw := `{"streetAddress":"1 High Street","postalCode":"AB1","postal_code":"CD2","locality":"London"}`
	var info auth.UserInfo
	if err := json.Unmarshal([]byte(`{"sub":"s","address":`+raw+`}`), &info); err != nil {
		t.Fatal(err)
	}
	want := auth.Address{StreetAddress: "1 High Street", PostalCode: "CD2", Locality: "London"}
	if got := info.Address.Value(); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if out, err := json.Marshal(info.Address); string(out) != raw || err != nil {
		t.Errorf("JSON %s, %v", out, err)
	}
}
