package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// row is an object of the Management API.
type row = map[string]any

// fake is as much of Logto as the setup meets; TestFakeIsLikeLogto holds it against a recording of the real one.
// Collections are kept by their path, so that a path is all there is to know about one.
type fake struct {
	*httptest.Server

	mu       sync.Mutex
	tables   map[string][]row
	signIn   row
	account  row // the Account Center; nil: a version that has none
	lastID   int
	requests []string

	// interrupt is asked before a request, with its number; what it returns happens to the request.
	interrupt func(n int) fate
}

// fate is what can happen to a request.
type fate int

const (
	answered   fate = iota
	lost            // it never arrives
	unanswered      // it arrives, and the answer is lost
	failed          // by Logto's own fault
)

const fakeSecret = "the secret of m-default"

func newFake(t *testing.T) *fake {
	t.Helper()
	f := &fake{tables: map[string][]row{}, signIn: row{
		"signInMode": "SignInAndRegister", "passwordPolicy": row{}, "unknownSessionRedirectUrl": nil,
		"signUp": row{"identifiers": []any{"username"}, "password": true, "verify": false},
		"signIn": row{"methods": []any{row{"identifier": "username", "password": true, "verificationCode": false, "isPasswordPrimary": true}}},
	}, account: row{"enabled": false, "fields": row{}}}
	f.Server = httptest.NewServer(http.HandlerFunc(f.serve))
	t.Cleanup(f.Close)
	return f
}

func (f *fake) serve(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests = append(f.requests, r.Method+" "+r.URL.Path)
	what := answered
	if f.interrupt != nil {
		what = f.interrupt(len(f.requests))
	}
	switch what {
	case lost:
		panic(http.ErrAbortHandler)
	case failed:
		refuse(w, http.StatusInternalServerError, "internal_server_error")
	case unanswered:
		f.answer(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	default:
		f.answer(w, r)
	}
}

func (f *fake) answer(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/api/status":
		w.WriteHeader(http.StatusNoContent)
		return
	case r.URL.Path == "/oidc/token":
		f.token(w, r)
		return
	case r.Header.Get("Authorization") != "Bearer token":
		refuse(w, http.StatusUnauthorized, "auth.unauthorized")
		return
	}
	var body row
	if r.Method != http.MethodGet {
		_ = json.NewDecoder(r.Body).Decode(&body) // the real one is as silent about more than it wants
	}
	switch {
	case r.URL.Path == "/api/sign-in-exp":
		for key, value := range body {
			f.signIn[key] = value
		}
		reply(w, http.StatusOK, f.signIn)
	case r.URL.Path == "/api/account-center" && f.account == nil:
		refuse(w, http.StatusNotFound, "entity.not_found")
	case r.URL.Path == "/api/account-center":
		for key, value := range body {
			f.account[key] = value
		}
		reply(w, http.StatusOK, f.account)
	case strings.HasSuffix(r.URL.Path, "/password/verify"):
		user := f.find(path.Dir(path.Dir(r.URL.Path)))
		if user == nil || user["password"] != body["password"] {
			refuse(w, http.StatusUnprocessableEntity, "session.invalid_credentials")
			return
		}
		w.WriteHeader(http.StatusNoContent)
	case r.Method == http.MethodPost:
		f.create(w, r.URL.Path, body)
	case r.Method == http.MethodPatch:
		object := f.find(r.URL.Path)
		for key, value := range body {
			object[key] = value
		}
		reply(w, http.StatusOK, shown(object))
	default:
		f.read(w, r)
	}
}

func (f *fake) token(w http.ResponseWriter, r *http.Request) {
	id, secret, _ := r.BasicAuth()
	if r.Host != "admin.local" || id != "m-default" || secret != strings.ReplaceAll(fakeSecret, " ", "+") {
		refuse(w, http.StatusUnauthorized, "oidc.invalid_client")
		return
	}
	if r.FormValue("grant_type") != "client_credentials" || r.FormValue("resource") != "https://default.logto.app/api" || r.FormValue("scope") != "all" {
		refuse(w, http.StatusBadRequest, "oidc.invalid_target")
		return
	}
	reply(w, http.StatusOK, row{"access_token": "token", "expires_in": 3600, "token_type": "Bearer", "scope": "all"})
}

// read answers with one object, or with a page of a collection.
func (f *fake) read(w http.ResponseWriter, r *http.Request) {
	if object := f.find(r.URL.Path); object != nil {
		reply(w, http.StatusOK, shown(object))
		return
	}
	if f.find(path.Dir(r.URL.Path)) == nil && strings.Count(r.URL.Path, "/") > 2 {
		refuse(w, http.StatusNotFound, "entity.not_found")
		return
	}
	all := []row{}
	for _, object := range slices.Backward(f.tables[r.URL.Path]) { // the newest first
		all = append(all, shown(object))
	}
	if page, _ := strconv.Atoi(r.URL.Query().Get("page")); page > 0 {
		size, _ := strconv.Atoi(r.URL.Query().Get("page_size"))
		w.Header().Set("Total-Number", strconv.Itoa(len(all)))
		all = all[min((page-1)*size, len(all)):min(page*size, len(all))]
	}
	reply(w, http.StatusOK, all)
}

// create adds a new object to a collection, or existing ones to one that relates them: then the body has their IDs.
func (f *fake) create(w http.ResponseWriter, at string, body row) {
	status := http.StatusCreated
	if slices.Contains([]string{"/api/applications", "/api/roles", "/api/users"}, at) {
		status = http.StatusOK
	}
	for field, ids := range body {
		if !strings.HasSuffix(field, "Ids") {
			continue
		}
		for _, id := range ids.([]any) {
			f.tables[at] = append(f.tables[at], f.byID(id.(string)))
		}
		w.WriteHeader(status)
		return
	}
	for _, field := range unique[path.Base(at)] {
		if slices.ContainsFunc(f.tables[at], func(o row) bool { return o[field] == body[field] }) {
			refuse(w, http.StatusUnprocessableEntity, "in_use")
			return
		}
	}
	reply(w, status, shown(f.add(at, body)))
}

// unique is what no two objects of a collection may share. The names of applications and organizations are not among it.
var unique = map[string][]string{
	"resources": {"indicator"}, "scopes": {"name"}, "roles": {"name"}, "organization-scopes": {"name"},
	"organization-roles": {"name"}, "users": {"username", "primaryEmail", "primaryPhone"},
}

func (f *fake) add(at string, body row) row {
	object := row{}
	for key, value := range body {
		object[key] = value
	}
	if at == "/api/hooks" {
		object["signingKey"] = fmt.Sprintf("key of %v", object["name"])
	}
	if path.Base(at) == "secrets" {
		object["value"] = fmt.Sprintf("value of %v", object["name"])
	} else {
		f.lastID++
		object["id"] = fmt.Sprintf("id%010d", f.lastID)
	}
	f.tables[at] = append(f.tables[at], object)
	if at == "/api/applications" {
		f.add(at+"/"+object["id"].(string)+"/secrets", row{"name": "Default secret", "expiresAt": nil})
	}
	return object
}

// find returns the object whose path this is.
func (f *fake) find(at string) row {
	for _, object := range f.tables[path.Dir(at)] {
		if object["id"] == path.Base(at) {
			return object
		}
	}
	return nil
}

func (f *fake) byID(id string) row {
	for _, table := range f.tables {
		for _, object := range table {
			if object["id"] == id {
				return object
			}
		}
	}
	return nil
}

// shown is an object without what is never told.
func shown(object row) row {
	public := row{}
	for key, value := range object {
		if key != "password" {
			public[key] = value
		}
	}
	return public
}

func reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // to a client that may have gone away
}

func refuse(w http.ResponseWriter, status int, code string) {
	reply(w, status, row{"code": code, "message": "no"})
}
