package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/logto-gin-starter/internal/session"
)

// machine is what surrounds the setup: a Logto, the volumes and the environment.
type machine struct {
	*fake
	env    map[string]string
	secret string             // of the Management API, which the service "secret" writes before each run
	stop   context.CancelFunc // ends the run, in tests of that
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	f := newFake(t)
	return &machine{fake: f, secret: fakeSecret, env: map[string]string{
		"LOGTO_ENDPOINT": f.URL, "LOGTO_ADMIN_ENDPOINT": f.URL, "LOGTO_ADMIN_HOST": "admin.local",
		"LOGTO_MANAGEMENT_SECRET_FILE": filepath.Join(t.TempDir(), "secret"),
		"BASE_URL":                     "http://localhost:3000", "BACKCHANNEL_LOGOUT_URI": "http://app:3000/backchannel-logout",
		"WEBHOOK_URI": "http://app:3000/webhooks/logto", "CREDENTIALS_DIR": t.TempDir(),
	}}
}

// run runs the setup as main does, and returns what it prints.
func (m *machine) run(ctx context.Context) (string, error) {
	var out strings.Builder
	m.requests = nil
	_ = os.WriteFile(m.env["LOGTO_MANAGEMENT_SECRET_FILE"], []byte(m.secret+"\n"), 0o600) // where there is no folder, there is no file
	err := run(ctx, func(name string) string { return m.env[name] }, &out)
	return out.String(), err
}

func (m *machine) mustRun(t *testing.T) string {
	t.Helper()
	out, err := m.run(t.Context())
	if err != nil {
		t.Fatal(explain(err))
	}
	return out
}

// writes are the requests that change something.
func (m *machine) writes() []string {
	return slices.DeleteFunc(slices.Clone(m.requests), func(r string) bool {
		return strings.HasPrefix(r, "GET ") || r == "POST /oidc/token" || strings.HasSuffix(r, "/password/verify")
	})
}

// state is all that Logto holds, with names instead of IDs.
func (m *machine) state() map[string]any {
	names := map[string]string{}
	for _, table := range m.tables {
		for _, object := range table {
			names[fmt.Sprint(object["id"])] = nameOf(object)
		}
	}
	state := map[string]any{"sign-in": m.signIn, "account-center": m.account}
	for at, table := range m.tables {
		segments := strings.Split(at, "/")
		for i, segment := range segments {
			if name, ok := names[segment]; ok {
				segments[i] = name
			}
		}
		objects := map[string]any{}
		for _, object := range table {
			objects[nameOf(object)] = without(object, "id", "password", "value")
		}
		state[strings.Join(segments, "/")] = objects
	}
	return state
}

// nameOf tells apart what the state may hold several of.
func nameOf(object row) string {
	return fmt.Sprint(object["name"], " ", object["indicator"], " ", object["username"], " ", object["type"])
}

func without(object row, keys ...string) row {
	object = maps.Clone(object)
	for _, key := range keys {
		delete(object, key)
	}
	return object
}

func (m *machine) file(name string) string { return folder(m.env["CREDENTIALS_DIR"]).load(name) }

func TestFresh(t *testing.T) {
	m := newMachine(t)
	out := m.mustRun(t)
	made := newSample("http://localhost:3000", "", "", "ada", "")
	var resources []string
	for _, r := range made.resources {
		resources = append(resources, r.indicator)
	}
	app := m.tables["/api/applications"][0]
	for name, want := range map[string]string{
		"app_id": app["id"].(string), "app_secret": "value of Default secret",
		"resources":   strings.Join(resources, " "),
		"webhook_key": "key of " + made.webhook.name, "account_center": "true",
	} {
		if got := m.file(name); got != want {
			t.Errorf("file %s = %q, want %q", name, got, want)
		}
		if info, err := os.Stat(filepath.Join(m.env["CREDENTIALS_DIR"], name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("file %s: %v, %v", name, info.Mode(), err)
		}
	}
	for _, scope := range []string{"custom_data", "urn:logto:scope:organizations", "read:orders", "invite:members"} {
		if !slices.Contains(strings.Fields(m.file("scopes")), scope) {
			t.Errorf("scopes %q lack %s", m.file("scopes"), scope)
		}
	}
	want := `{"backchannelLogoutSessionRequired":true,"backchannelLogoutUri":"http://app:3000/backchannel-logout","postLogoutRedirectUris":["http://localhost:3000/"],"redirectUris":["http://localhost:3000/callback"]}`
	if got, _ := json.Marshal(app["oidcClientMetadata"]); string(got) != want {
		t.Errorf("application: %s", got)
	}
	want = `{"config":{"url":"http://app:3000/webhooks/logto"},"events":["User.SuspensionStatus.Updated","User.Deleted","User.Data.Updated","PostResetPassword","Organization.Membership.Updated"],"name":"` + made.webhook.name + `"}`
	if got := m.tables["/api/hooks"]; len(got) != 1 || asJSON(without(got[0], "id", "signingKey")) != want {
		t.Errorf("webhooks: %v", got)
	}
	password := m.tables["/api/users"][0]["password"]
	if end := fmt.Sprintf("\n  Open     http://localhost:3000\n  Sign in  as ada, an administrator, with the password %s\n"+
		"  Sign in  as grace, who has no role, with the password %s\n           or create an account\n\n", password, password); !strings.HasSuffix(out, end) {
		t.Errorf("the log ends with %q, want %q", out[strings.LastIndex(out, "made"):], end)
	}
	state := m.state()
	for relation, want := range map[string]string{
		"/api/roles/merchant <nil> <nil> User/scopes":                                           "read:orders read:products write:products",
		"/api/users/Ada Lovelace <nil> ada <nil>/roles":                                         "admin merchant",
		"/api/users/<nil> <nil> grace <nil>/roles":                                              "",
		"/api/organizations/Acme <nil> <nil> <nil>/users/<nil> <nil> grace <nil>/roles":         "member",
		"/api/organizations/Initech <nil> <nil> <nil>/users":                                    "Ada",
		"/api/organizations/Initech <nil> <nil> <nil>/users/Ada Lovelace <nil> ada <nil>/roles": "member",
		"/api/organization-roles/admin <nil> <nil> User/scopes":                                 "invite:members read:members",
		"/api/organization-roles/admin <nil> <nil> User/resource-scopes":                        "delete:products read:products",
		"/api/organizations/Acme <nil> <nil> <nil>/users":                                       "<nil> Ada",
		"/api/organizations/Acme <nil> <nil> <nil>/users/Ada Lovelace <nil> ada <nil>/roles":    "admin",
		"/api/resources/Store API https://store.your-app.com/api <nil> <nil>/scopes":            "read:orders read:products write:products",
		"/api/applications/" + made.app.name + " <nil> <nil> Traditional/secrets":               "Default",
	} {
		related, _ := state[relation].(map[string]any)
		var got []string
		for name := range related {
			got = append(got, strings.Fields(name)[0])
		}
		slices.Sort(got)
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %s, want %s", relation, got, want)
		}
	}
}

func TestTwice(t *testing.T) {
	m := newMachine(t)
	first := m.mustRun(t)
	before := map[string]os.FileInfo{}
	for _, name := range []string{"app_secret", "session_key"} {
		info, err := os.Stat(filepath.Join(m.env["CREDENTIALS_DIR"], name))
		if err != nil {
			t.Fatal(err)
		}
		before[name] = info
	}
	second := m.mustRun(t)
	for name, info := range before {
		if after, err := os.Stat(filepath.Join(m.env["CREDENTIALS_DIR"], name)); err != nil || !os.SameFile(info, after) {
			t.Errorf("file %s is another one: %v", name, err)
		}
	}
	if writes := m.writes(); len(writes) > 0 {
		t.Errorf("the second run does %q", writes)
	}
	if !strings.HasSuffix(first, second) || strings.Contains(second, "made") {
		t.Errorf("the second run prints %q", second)
	}
}

// What a version lacks is left out.
func TestOlderVersion(t *testing.T) {
	m := newMachine(t)
	m.account = nil
	delete(m.signIn, "unknownSessionRedirectUrl")
	m.mustRun(t)
	if _, there := m.signIn["unknownSessionRedirectUrl"]; there || m.file("account_center") != "false" {
		t.Errorf("account_center %q, sign-in %v", m.file("account_center"), m.signIn)
	}
}

func TestAccountCenter(t *testing.T) {
	m := newMachine(t)
	m.mustRun(t)
	fields, _ := m.account["fields"].(map[string]any)
	if m.account["enabled"] != true || fields["name"] != "Edit" || m.signIn["unknownSessionRedirectUrl"] != "http://localhost:3000/" {
		t.Errorf("%v, %v", m.account, m.signIn)
	}
}

// The session key is one that the application takes, and each installation has its own.
func TestSessionKey(t *testing.T) {
	m, other := newMachine(t), newMachine(t)
	m.mustRun(t)
	other.mustRun(t)
	cfg := session.DefaultConfig()
	cfg.Key = session.Secret(m.file("session_key"))
	if err := cfg.Validate(); err != nil || cfg.Key == "" || m.file("session_key") == other.file("session_key") {
		t.Errorf("session key of %d characters: %v", len(cfg.Key), err)
	}
}

// A secret that opens everything in Logto does not stay when the work is done; until then another run needs it.
func TestSecretDeleted(t *testing.T) {
	m := newMachine(t)
	m.interrupt = from(9, failed)
	if _, err := m.run(t.Context()); err == nil {
		t.Fatal("no error")
	}
	file := m.env["LOGTO_MANAGEMENT_SECRET_FILE"]
	if _, err := os.Stat(file); err != nil {
		t.Errorf("after half of the work: %v", err)
	}
	m.interrupt = nil
	for range 2 {
		m.mustRun(t)
		if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("after all of it: %v", err)
		}
	}
}

// Wherever it is killed, the next run ends where one alone would have.
func TestKilled(t *testing.T) {
	whole := newMachine(t)
	whole.mustRun(t)
	want, calls := asJSON(whole.state()), len(whole.requests)
	for _, what := range []fate{lost, unanswered} {
		for n := 1; n <= calls; n++ {
			m := newMachine(t)
			ctx, cancel := context.WithCancel(t.Context())
			m.interrupt = func(call int) fate {
				if call < n {
					return answered
				}
				cancel()
				return what
			}
			if _, err := m.run(ctx); err == nil {
				t.Fatalf("killed at call %d, and no error", n)
			}
			m.interrupt = nil
			out := m.mustRun(t)
			if got := asJSON(m.state()); got != want {
				t.Fatalf("killed at call %d (fate %d):\n%s\nwant\n%s", n, what, got, want)
			}
			if person := m.tables["/api/users"][0]; !strings.Contains(out, person["password"].(string)) {
				t.Errorf("killed at call %d (fate %d): the password printed is not the person's", n, what)
			}
		}
	}
}

func TestChangedByHand(t *testing.T) {
	for name, change := range byHand() {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			m.mustRun(t)
			change(m)
			known := m.find("/api/applications/" + m.file("app_id"))
			var before, after any
			_ = json.Unmarshal([]byte(asJSON(m.state())), &before) // what was just marshalled
			m.mustRun(t)
			_ = json.Unmarshal([]byte(asJSON(m.state())), &after)
			for _, problem := range missing("", before, after) {
				t.Error(problem)
			}
			if m.mustRun(t); len(m.writes()) > 0 {
				t.Errorf("the run after that does %q", m.writes())
			}
			app := m.find("/api/applications/" + m.file("app_id"))
			if known != nil && known["id"] != app["id"] {
				t.Errorf("the application is %v now, was %v", app, known)
			}
			if !slices.ContainsFunc(m.tables["/api/applications/"+m.file("app_id")+"/secrets"], func(secret row) bool {
				return secret["value"] == m.file("app_secret") && secret["expiresAt"] == nil
			}) {
				t.Errorf("the secret handed over is %q", m.file("app_secret"))
			}
			uris := asJSON(app["oidcClientMetadata"])
			if app["type"] != "Traditional" || !strings.Contains(uris, "http://localhost:3000/callback") || !strings.Contains(uris, `"http://localhost:3000/"`) {
				t.Errorf("the application can't sign anybody in: %v", app)
			}
			if !slices.ContainsFunc(m.tables["/api/hooks"], func(hook row) bool {
				return hook["signingKey"] == m.file("webhook_key") && strings.Contains(asJSON(hook["events"]), "PostResetPassword")
			}) {
				t.Errorf("the webhook's key handed over is %q, of %v", m.file("webhook_key"), m.tables["/api/hooks"])
			}
		})
	}
}

// byHand are changes that somebody may have made since the first run.
func byHand() map[string]func(*machine) {
	first := func(m *machine, table string) row { return m.tables[table][0] }
	scopes := func(m *machine, table string) string { return table + "/" + first(m, table)["id"].(string) + "/scopes" }
	return map[string]func(*machine){
		"nothing before": func(m *machine) { clear(m.tables) },
		"application renamed, with addresses of its own": func(m *machine) {
			app := first(m, "/api/applications")
			app["name"] = "My shop"
			app["oidcClientMetadata"] = row{
				"redirectUris": []any{"https://shop.example/callback"}, "postLogoutRedirectUris": []any{},
				"backchannelLogoutUri": "https://shop.example/logout", "backchannelLogoutSessionRequired": false,
			}
		},
		"another application of that name": func(m *machine) {
			delete(m.tables, "/api/applications")
			m.add("/api/applications", row{"name": newSample("", "", "", "ada", "").app.name, "type": "MachineToMachine"})
		},
		"application secret replaced": func(m *machine) {
			at := "/api/applications/" + first(m, "/api/applications")["id"].(string) + "/secrets"
			m.tables[at] = []row{{"name": "mine", "value": "mine", "expiresAt": 1.0}}
		},
		"webhook renamed, with a new key": func(m *machine) {
			hook := first(m, "/api/hooks")
			hook["name"], hook["signingKey"], hook["enabled"] = "Mine", "new", false
		},
		"webhook moved, with other events": func(m *machine) {
			hook := first(m, "/api/hooks")
			hook["config"], hook["events"] = row{"url": "https://shop.example/hook", "headers": row{"a": "b"}}, []any{"User.Created", "User.Deleted"}
			m.add("/api/hooks", row{"name": "another", "events": []any{"User.Deleted"}, "config": row{"url": "https://elsewhere.example"}})
		},
		"role and resource with more": func(m *machine) {
			first(m, "/api/resources")["accessTokenTtl"] = 60.0
			first(m, "/api/roles")["description"] = "changed"
			more := m.add(scopes(m, "/api/resources"), row{"name": "more"})
			at := scopes(m, "/api/roles")
			m.tables[at] = append(m.tables[at], more)
		},
		"role with less": func(m *machine) { delete(m.tables, scopes(m, "/api/roles")) },
		"person changed": func(m *machine) {
			ada := first(m, "/api/users")
			ada["name"], ada["password"], ada["avatar"], ada["customData"] = "Augusta", "changed", "https://elsewhere.example/me.png", row{}
		},
		"an Account Center with less, and another address for lost pages": func(m *machine) {
			m.account["fields"] = row{"name": "Edit"}
			m.signIn["unknownSessionRedirectUrl"] = "https://shop.example/"
		},
		"sign-in by e-mail, with a policy": func(m *machine) {
			m.signIn["passwordPolicy"] = row{"length": row{"min": 12.0}}
			m.signIn["signIn"] = row{"methods": []any{row{"identifier": "email", "password": true, "verificationCode": true, "isPasswordPrimary": true}}}
			m.signIn["signUp"] = row{"identifiers": []any{"email"}, "password": true, "verify": true}
		},
		"more than a page of others": func(m *machine) {
			for i := range 250 {
				m.add("/api/users", row{"username": fmt.Sprint("user", i)})
				m.add("/api/resources", row{"indicator": fmt.Sprint("https://", i)})
			}
		},
	}
}

// missing compares deeply: what there was must still be there. Only lists and objects may have grown.
func missing(at string, before, after any) (problems []string) {
	switch before := before.(type) {
	case map[string]any:
		after, _ := after.(map[string]any)
		for key, value := range before {
			now, ok := after[key]
			if !ok {
				return []string{fmt.Sprintf("%s/%s is gone", at, key)}
			}
			problems = append(problems, missing(at+"/"+key, value, now)...)
		}
	case []any:
		after, _ := after.([]any)
		for i, value := range before {
			if !slices.ContainsFunc(after, func(now any) bool { return asJSON(now) == asJSON(value) }) {
				problems = append(problems, fmt.Sprintf("%s/%d is gone", at, i))
			}
		}
	default:
		if before != after {
			problems = append(problems, fmt.Sprintf("%s was %v, is %v", at, before, after))
		}
	}
	return problems
}

// Another port: everything that depends on it follows, and what was registered before stays.
func TestBaseURLChanged(t *testing.T) {
	m := newMachine(t)
	m.mustRun(t)
	m.env["BASE_URL"] = "http://localhost:3100/"
	m.mustRun(t)
	uris := asJSON(m.tables["/api/applications"][0]["oidcClientMetadata"])
	for _, uri := range []string{"http://localhost:3000/callback", "http://localhost:3100/callback", "http://localhost:3100/"} {
		if !strings.Contains(uris, `"`+uri+`"`) {
			t.Errorf("%s lacks %s", uris, uri)
		}
	}
	if avatar := m.tables["/api/users"][0]["avatar"].(string); !strings.HasPrefix(avatar, "http://localhost:3100/static/") {
		t.Errorf("picture at %s", avatar)
	}
}

func TestPassword(t *testing.T) {
	m := newMachine(t)
	m.env["DEMO_USERNAME"], m.env["DEMO_PASSWORD"] = "grace", "given" // and the other is ada then
	if out := m.mustRun(t); !strings.Contains(out, "as grace, an administrator, with the password given\n") {
		t.Errorf("given: %s", out)
	}
	m.env["DEMO_PASSWORD"] = ""
	if out := m.mustRun(t); !strings.Contains(out, "the password given\n") {
		t.Errorf("given the last time: %s", out)
	}
	m.tables["/api/users"][0]["password"] = "changed"
	if out := m.mustRun(t); !strings.Contains(out, "a password that was changed") {
		t.Errorf("changed: %s", out)
	}
}

// Bad luck takes one line, and that says what to do.
func TestBadLuck(t *testing.T) {
	tests := []struct {
		name   string
		happen func(*machine)
		say    string
	}{
		{"Logto is not there", func(m *machine) { m.Close() }, "docker compose logs logto"},
		{"Logto fails", func(m *machine) { m.interrupt = from(9, failed) }, "/scopes with 500 internal_server_error no: `docker compose logs logto`"},
		{"Logto stops", func(m *machine) { m.interrupt = from(9, lost) }, "docker compose logs logto"},
		{"stopped", func(m *machine) { m.interrupt = func(int) fate { m.stop(); return lost } }, "goes on where it stopped"},
		{"no secret", func(m *machine) { m.env["LOGTO_MANAGEMENT_SECRET_FILE"] = "/nowhere/secret" }, "no such file or directory: `docker compose up` writes it"},
		{"another database's secret", func(m *machine) { m.secret = "other" }, "docker compose down -v"},
		{"no secret in the database", func(m *machine) { m.secret = "" }, "docker compose down -v"},
		{"not the admin tenant", func(m *machine) { m.env["LOGTO_ADMIN_HOST"] = "" }, "oidc.invalid_client"},
		{"no volume", func(m *machine) { m.env["CREDENTIALS_DIR"] += "/x" }, "save demo_password"},
		{"a name in use", func(m *machine) { m.add("/api/roles", row{"name": "merchant", "type": "MachineToMachine"}) }, "POST /api/roles with 422 in_use no: something made by hand is in the way"},
		{"settings missing", func(m *machine) { m.env["BASE_URL"], m.env["CREDENTIALS_DIR"] = "", "" }, "set BASE_URL, CREDENTIALS_DIR"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := newMachine(t)
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			ctx, m.stop = context.WithCancel(ctx)
			defer m.stop()
			tt.happen(m)
			_, err := m.run(ctx)
			if err == nil {
				t.Fatal("no error")
			}
			if text := explain(err).Error(); !strings.Contains(text, tt.say) || strings.Contains(text, "\n") || strings.Contains(text, fakeSecret) {
				t.Errorf("says %q, want %q", text, tt.say)
			}
		})
	}
}

func from(n int, what fate) func(int) fate {
	return func(call int) fate {
		if call < n {
			return answered
		}
		return what
	}
}

func asJSON(value any) string {
	data, err := json.Marshal(value)
	if err != nil {
		return err.Error()
	}
	return string(data)
}
