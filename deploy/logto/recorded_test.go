package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

var record = flag.Bool("record", false, "write what TestLogto sees to testdata; that Logto must be new, and is left with the sample in it")

const recording = "testdata/logto-1.42.json"

// exchange is one request to the Management API and its answer.
type exchange struct {
	Request string          `json:"request"`
	Body    json.RawMessage `json:"body,omitempty"`
	Status  int             `json:"status"`
	Paged   bool            `json:"paged,omitempty"` // the answer is a page of a list, whose length it tells
	Answer  json.RawMessage `json:"answer,omitempty"`
}

// recorder notes what passes through it.
type recorder struct{ exchanges []exchange }

func (r *recorder) RoundTrip(request *http.Request) (*http.Response, error) {
	e := exchange{Request: request.Method + " " + request.URL.RequestURI()}
	if request.Body != nil {
		data, err := io.ReadAll(request.Body)
		if err != nil {
			return nil, err
		}
		request.Body = io.NopCloser(bytes.NewReader(data))
		if json.Valid(data) {
			e.Body = data
		}
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(response.Body)
	response.Body.Close()
	response.Body = io.NopCloser(bytes.NewReader(data))
	e.Status, e.Paged = response.StatusCode, response.Header.Get("Total-Number") != ""
	if json.Valid(data) {
		e.Answer = data
	}
	r.exchanges = append(r.exchanges, e)
	return response, err
}

// TestLogto prepares a real Logto under names of its own, twice, and leaves it as it was.
func TestLogto(t *testing.T) {
	endpoint, admin, secret := os.Getenv("LOGTO_TEST_ENDPOINT"), os.Getenv("LOGTO_TEST_ADMIN_ENDPOINT"), os.Getenv("LOGTO_TEST_MANAGEMENT_SECRET")
	if endpoint == "" || admin == "" || secret == "" {
		t.Skip("left out: needs a Logto to try it on, by LOGTO_TEST_ENDPOINT, LOGTO_TEST_ADMIN_ENDPOINT and LOGTO_TEST_MANAGEMENT_SECRET")
	}
	notes := &recorder{}
	api := newLogto(endpoint, admin, "", secret)
	api.http.Transport = notes
	s := newSample("http://localhost:3000", "http://app:3000/backchannel-logout", "http://app:3000/webhooks/logto", "ada", "analytical engine")
	if !*record {
		s.rename(fmt.Sprint(time.Now().UnixNano()))
		t.Cleanup(func() { notes.undo(t, api) })
	}
	if err := api.connect(t.Context()); err != nil {
		t.Fatal(explain(err))
	}
	first := mustPrepare(t, api, s, "")
	seen := len(notes.exchanges)
	if again := mustPrepare(t, api, s, first.appID); !reflect.DeepEqual(again, first) {
		t.Errorf("first %+v, then %+v", first, again)
	}
	for _, e := range notes.exchanges[seen:] {
		if !strings.HasPrefix(e.Request, "GET ") {
			t.Errorf("the second run does %s", e.Request)
		}
	}
	notes.exchanges = notes.exchanges[:seen]
	elsewhere := s
	elsewhere.app.redirectURI, elsewhere.app.signOutURI = "http://localhost:3100/callback", "http://localhost:3100/"
	elsewhere.webhook.events = append([]string{"User.Created"}, s.webhook.events...)
	elsewhere.people = slices.Clone(s.people)
	elsewhere.people[0].Avatar = strings.Replace(s.people[0].Avatar, "3000", "3100", 1)
	mustPrepare(t, api, elsewhere, first.appID)
	for password, want := range map[string]bool{s.people[0].Password: true, "another": false} {
		if got, err := api.hasPassword(t.Context(), first.userIDs[0], password); err != nil || got != want {
			t.Errorf("password %q: %v, %v", password, got, err)
		}
	}
	for _, e := range slices.Clone(notes.exchanges) { // what is there can't be made again
		if at, ok := strings.CutPrefix(e.Request, "POST "); ok && e.Status < 300 && unique[at[strings.LastIndex(at, "/")+1:]] != nil && bytes.Contains(e.Body, []byte(`"name"`)) {
			if err := api.post(t.Context(), at, e.Body, nil); err == nil {
				t.Errorf("%s %s, for the second time: no error", e.Request, e.Body)
			}
		}
	}
	if *record {
		notes.save(t)
	}
}

func mustPrepare(t *testing.T, api *logto, s sample, appID string) result {
	t.Helper()
	r, err := (&preparer{api: api, out: t.Output()}).prepare(t.Context(), s, appID)
	if err != nil {
		t.Fatal(explain(err))
	}
	return r
}

// rename keeps the sample apart from what the tenant has.
func (s *sample) rename(suffix string) {
	s.app.name += suffix
	s.webhook.name += suffix
	s.webhook.uri += "?" + suffix
	for i := range s.organizations {
		s.organizations[i].name += suffix
	}
	for i := range s.people {
		person := &s.people[i]
		person.Username += suffix
		if person.PrimaryEmail != "" {
			person.PrimaryEmail, person.PrimaryPhone = suffix+person.PrimaryEmail, suffix[:15]
		}
		for i := range person.roles {
			person.roles[i] += suffix
		}
		members := map[string]string{}
		for organization, role := range person.members {
			members[organization+suffix] = role + suffix
		}
		person.members = members
	}
	for i := range s.resources {
		s.resources[i].indicator += "/" + suffix
	}
	for _, r := range []*role{&s.roles[0], &s.roles[1], &s.organizationRoles[0], &s.organizationRoles[1]} {
		r.name += suffix
		for i := range r.permissions {
			r.permissions[i] += ":" + suffix
		}
		grants := map[string][]string{}
		for indicator, names := range r.grants {
			grants[indicator+"/"+suffix] = names
		}
		r.grants = grants
	}
}

// undo deletes what was made, the last first, and sets back what there is only one of.
func (r *recorder) undo(t *testing.T, api *logto) {
	seen := slices.Clone(r.exchanges)
	for _, e := range slices.Backward(seen) {
		method, at, _ := strings.Cut(e.Request, " ")
		var body any
		switch {
		case method == http.MethodPost && strings.HasPrefix(at, "/api/"):
			var made object
			if _ = json.Unmarshal(e.Answer, &made); made.ID == "" {
				continue
			}
			method, at = http.MethodDelete, at+"/"+made.ID
		case method == http.MethodPatch && strings.Count(at, "/") == 2:
			first := slices.IndexFunc(seen, func(e exchange) bool { return e.Request == "GET "+at })
			before, _ := decoded(seen[first].Answer).(map[string]any)
			fields := map[string]any{}
			for name := range decoded(e.Body).(map[string]any) {
				fields[name] = before[name]
			}
			body = fields
		default:
			continue
		}
		if _, err := api.call(context.Background(), method, at, body, nil); err != nil {
			t.Error(err)
		}
	}
}

var secrets = regexp.MustCompile(`"(secret|value|signingKey)":"[^"]*"`)

func (r *recorder) save(t *testing.T) {
	t.Helper()
	var out bytes.Buffer
	for _, e := range r.exchanges {
		if strings.HasPrefix(e.Request, "POST /oidc/") {
			e.Answer = nil // a token
		}
		line, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(append(secrets.ReplaceAll(line, []byte(`"$1":"-"`)), '\n'))
	}
	if err := os.WriteFile(recording, out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestFakeIsLikeLogto sends the recorded requests to the fake: each answer must have the same status, and nothing in it
// that the real one's has not.
func TestFakeIsLikeLogto(t *testing.T) {
	data, err := os.ReadFile(recording)
	if err != nil {
		t.Fatal(err)
	}
	notes := &recorder{}
	f := newFake(t)
	api := newLogto(f.URL, f.URL, "admin.local", fakeSecret)
	if err := api.connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	api.http.Transport = notes
	ids := map[string]string{} // the fake's, by the real one's
	for line := range bytes.Lines(data) {
		var want exchange
		if err := json.Unmarshal(line, &want); err != nil {
			t.Fatal(err)
		}
		method, at, _ := strings.Cut(want.Request, " ")
		if at == "/oidc/token" || want.Body == nil && method != http.MethodGet {
			continue
		}
		var body any
		if want.Body != nil {
			body = json.RawMessage(replaced(string(want.Body), ids))
		}
		_, _ = api.call(t.Context(), method, replaced(at, ids), body, nil) // a refusal may be what is recorded
		got := notes.exchanges[len(notes.exchanges)-1]
		if got.Status != want.Status || got.Paged != want.Paged {
			t.Errorf("%s %s: %d, paged %v; the real one: %d, paged %v", want.Request, want.Body, got.Status, got.Paged, want.Status, want.Paged)
		}
		if got.Answer != nil && want.Status < 300 {
			for _, problem := range invented(want.Request, decoded(got.Answer), decoded(want.Answer), ids) {
				t.Error(problem)
			}
		}
	}
}

func replaced(text string, ids map[string]string) string {
	for real, ours := range ids {
		text = strings.ReplaceAll(text, real, ours)
	}
	return text
}

func decoded(data json.RawMessage) (value any) {
	_ = json.Unmarshal(data, &value) // the recorder saw that it is valid
	return value
}

// invented compares an answer of the fake with the real one, and learns which IDs mean the same. Of a list, every object
// that the setup made must be in both; a real Logto has some more.
func invented(at string, got, want any, ids map[string]string) (problems []string) {
	switch got := got.(type) {
	case map[string]any:
		want, _ := want.(map[string]any)
		if id, ok := want["id"].(string); ok && ids[id] == "" && got["id"] != nil {
			ids[id] = got["id"].(string)
		}
		for _, key := range slices.Sorted(maps.Keys(got)) {
			if key == "id" && ids[fmt.Sprint(want[key])] == got[key] || key == "value" || key == "signingKey" {
				continue
			}
			problems = append(problems, invented(at+" "+key, got[key], want[key], ids)...)
		}
	case []any:
		want, _ := want.([]any)
		known := map[any]any{}
		for _, object := range want {
			if object, ok := object.(map[string]any); ok && ids[fmt.Sprint(object["id"])] != "" {
				known[ids[object["id"].(string)]] = object
			}
		}
		for i, element := range got {
			counterpart := any(nil)
			if object, ok := element.(map[string]any); ok && object["id"] != nil {
				counterpart = known[object["id"]]
				delete(known, object["id"])
			} else if i < len(want) {
				counterpart = want[i]
			}
			problems = append(problems, invented(fmt.Sprint(at, " ", i), element, counterpart, ids)...)
		}
		for id := range known {
			problems = append(problems, fmt.Sprintf("%s lacks %v", at, id))
		}
	default:
		if got != want {
			problems = append(problems, fmt.Sprintf("%s: %v; the real one: %v", at, got, want))
		}
	}
	return problems
}
