package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	// callTimeout bounds each request.
	callTimeout = 20 * time.Second
	// maxAnswer bounds the body of each answer, in bytes.
	maxAnswer = 8 << 20
	// pageSize is the most that Logto gives at once.
	pageSize = 100
)

// logto is the Management API of a Logto of one's own (the tenant "default").
type logto struct {
	endpoint  string // where the API is
	admin     string // where its tokens come from
	adminHost string // the name by which Logto knows its admin tenant, if not by the address in admin
	secret    string
	token     string
	http      *http.Client
}

func newLogto(endpoint, admin, adminHost, secret string) *logto {
	return &logto{
		endpoint: strings.TrimRight(endpoint, "/"), admin: strings.TrimRight(admin, "/"), adminHost: adminHost, secret: secret,
		http: &http.Client{Timeout: callTimeout},
	}
}

// connect waits until Logto answers, and gets a token that outlives this program.
func (l *logto) connect(ctx context.Context) error {
	for {
		err := l.get(ctx, "/api/status", nil)
		if err == nil {
			break
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for Logto: %w (%w)", err, ctx.Err())
		case <-time.After(time.Second):
		}
	}
	form := url.Values{"grant_type": {"client_credentials"}, "resource": {"https://default.logto.app/api"}, "scope": {"all"}}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, l.admin+"/oidc/token", strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	request.Host = l.adminHost
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.SetBasicAuth("m-default", url.QueryEscape(l.secret)) // this application is there from the start
	var answer struct {
		Token string `json:"access_token"`
	}
	if _, err := l.do(request, &answer); err != nil {
		return fmt.Errorf("get a token for the Management API: %w", err)
	}
	l.token = answer.Token
	return nil
}

func (l *logto) get(ctx context.Context, path string, answer any) error {
	_, err := l.call(ctx, http.MethodGet, path, nil, answer)
	return err
}

func (l *logto) post(ctx context.Context, path string, body, answer any) error {
	_, err := l.call(ctx, http.MethodPost, path, body, answer)
	return err
}

func (l *logto) patch(ctx context.Context, path string, body any) error {
	_, err := l.call(ctx, http.MethodPatch, path, body, nil)
	return err
}

// object is what everything in Logto has a part of.
type object struct {
	ID        string
	Name      string
	Type      string // of an application or a role
	Indicator string // of an API resource
	Username  string
	Config    struct{ URL string } // of a webhook
}

// list returns all objects at path, however many pages they take.
func (l *logto) list(ctx context.Context, path string) ([]object, error) {
	var all []object
	for page := 1; ; page++ {
		var some []object
		header, err := l.call(ctx, http.MethodGet, fmt.Sprintf("%s?page=%d&page_size=%d", path, page, pageSize), nil, &some)
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
		if total, _ := strconv.Atoi(header.Get("Total-Number")); len(all) >= total || len(some) == 0 {
			return all, nil
		}
	}
}

// hasPassword reports whether this is the person's password now.
func (l *logto) hasPassword(ctx context.Context, userID, password string) (bool, error) {
	err := l.post(ctx, "/api/users/"+userID+"/password/verify", map[string]string{"password": password}, nil)
	if refused, ok := errors.AsType[*refusal](err); ok && refused.status == http.StatusUnprocessableEntity {
		return false, nil
	}
	return err == nil, err
}

func (l *logto) call(ctx context.Context, method, path string, body, answer any) (http.Header, error) {
	data, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	if body == nil {
		data = nil
	}
	request, err := http.NewRequestWithContext(ctx, method, l.endpoint+path, bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+l.token)
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	return l.do(request, answer)
}

func (l *logto) do(request *http.Request, answer any) (http.Header, error) {
	response, err := l.http.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return nil, err
	}
	if response.StatusCode >= 300 {
		refused := &refusal{call: request.Method + " " + request.URL.Path, status: response.StatusCode}
		_ = json.Unmarshal(data, refused) // a proxy in between may answer anything
		return nil, refused
	}
	if answer == nil {
		return response.Header, nil
	}
	if err := json.Unmarshal(data, answer); err != nil {
		return nil, fmt.Errorf("%s %s: %w", request.Method, request.URL.Path, err)
	}
	return response.Header, nil
}

// refusal is an answer that is not a success.
type refusal struct {
	call    string
	status  int
	Code    string `json:"code"`
	Message string `json:"message"`
}

func (r *refusal) Error() string {
	text := fmt.Sprintf("Logto answers %s with %d %s %s", r.call, r.status, r.Code, r.Message)
	return strings.Join(strings.Fields(text), " ") // one line
}
