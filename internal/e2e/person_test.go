//go:build unix

package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"
	"time"

	"example.com/logto-gin-starter/auth/authtest"
)

// person uses an application over HTTP, with the cookies of one browser; redirects are looked at one by one. Its methods
// may be called concurrently, and return errors, for some tests expect them.
type person struct {
	app     string // its address
	client  *http.Client
	browser *authtest.Browser // the same browser, as far as the provider sees it
}

func newPerson(t *testing.T, app string, logto *authtest.Server) *person {
	t.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: 256}
	t.Cleanup(transport.CloseIdleConnections)
	return &person{app, newClient(transport), logto.Browser()}
}

// newClient returns one without any cookies.
func newClient(transport http.RoundTripper) *http.Client {
	jar, _ := cookiejar.New(nil) // without options nothing can be wrong
	return &http.Client{
		Transport:     transport,
		Jar:           jar,
		Timeout:       45 * time.Second, // longer than the application gives itself
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// answer is a response, read.
type answer struct {
	status int
	header http.Header
	body   string
}

func (a answer) location() string { return a.header.Get("Location") }

// session returns the session's cookie that the answer sets; nil if it sets none.
func (a answer) session() *http.Cookie {
	for _, cookie := range (&http.Response{Header: a.header}).Cookies() {
		if cookie.Name == "sid" {
			return cookie
		}
	}
	return nil
}

// isOutage reports whether the answer is what an outage of Redis must look like.
func (a answer) isOutage() bool {
	return a.status == http.StatusServiceUnavailable && a.header.Get("Retry-After") != "" && a.header.Get("Set-Cookie") == ""
}

// get asks for a page, as a browser does.
func (p *person) get(ctx context.Context, address string) (answer, error) {
	return p.do(ctx, http.MethodGet, address, "text/html", nil)
}

// getJSON asks for a page's data, as a program does.
func (p *person) getJSON(ctx context.Context, address string) (answer, error) {
	return p.do(ctx, http.MethodGet, address, "application/json", nil)
}

// post sends a form.
func (p *person) post(ctx context.Context, address string, form url.Values) (answer, error) {
	return p.do(ctx, http.MethodPost, address, "text/html", form)
}

// do sends a request to a path of the application's, or to any URL.
func (p *person) do(ctx context.Context, method, address, accept string, form url.Values) (answer, error) {
	if strings.HasPrefix(address, "/") {
		address = p.app + address
	}
	request, err := http.NewRequestWithContext(ctx, method, address, strings.NewReader(form.Encode()))
	if err != nil {
		return answer{}, err
	}
	request.Header.Set("Accept", accept)
	if method == http.MethodPost {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	response, err := p.client.Do(request)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return answer{response.StatusCode, response.Header, string(body)}, err
}

// signIn goes all the way.
func (p *person) signIn(ctx context.Context, username string) error {
	callback, err := p.toCallback(ctx, username)
	if err != nil {
		return err
	}
	a, err := p.get(ctx, callback)
	if err == nil && a.status != http.StatusSeeOther {
		err = fmt.Errorf("GET /callback: %d: %.300s", a.status, a.body)
	}
	return err
}

// toCallback signs in at the provider, and returns the address at the application to which that leads.
func (p *person) toCallback(ctx context.Context, username string) (string, error) {
	a, err := p.get(ctx, "/sign-in")
	if err != nil {
		return "", err
	}
	if a.status != http.StatusSeeOther {
		return "", fmt.Errorf("GET /sign-in: %d: %.300s", a.status, a.body)
	}
	return p.browser.SignIn(ctx, a.location(), username)
}

// isSignedIn asks the application.
func (p *person) isSignedIn(ctx context.Context) (bool, error) {
	a, err := p.getJSON(ctx, "/protected/sessions")
	switch {
	case err != nil:
		return false, err
	case a.status == http.StatusOK, a.status == http.StatusUnauthorized:
		return a.status == http.StatusOK, nil
	}
	return false, fmt.Errorf("GET /protected/sessions: %d: %.300s", a.status, a.body)
}

// wantSignedIn compares what isSignedIn says.
func (p *person) wantSignedIn(t *testing.T, want bool, when string) {
	t.Helper()
	if got, err := p.isSignedIn(t.Context()); err != nil || got != want {
		t.Errorf("%s: signed in: %v, %v; want %v", when, got, err, want)
	}
}

// signInBriefly signs ada in with an access token that has expired when this returns.
func signInBriefly(t *testing.T, app string, logto *authtest.Server) *person {
	t.Helper()
	hook := logto.On(authtest.Token, authtest.Field("expires_in", 1))
	ada := newPerson(t, app, logto)
	must(t, ada.signIn(t.Context(), "ada"))
	hook.Off()
	time.Sleep(time.Second)
	logto.Forget()
	return ada
}

// wantRefresh asks for a new token, which works only while the grant at the provider stands.
func (p *person) wantRefresh(t *testing.T) {
	t.Helper()
	a, err := p.post(t.Context(), ownToken, nil)
	if err != nil || a.status != http.StatusOK {
		t.Errorf("another refresh: %d %.2000s, %v", a.status, a.body, err)
	}
}

// copyCookies takes over what the application has set in another browser.
func (p *person) copyCookies(from *person) error {
	u, err := url.Parse(p.app)
	if err != nil {
		return err
	}
	p.client.Jar.SetCookies(u, from.client.Jar.Cookies(u))
	return nil
}
