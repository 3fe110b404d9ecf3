package authtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
)

// Browser is a person's browser as far as the provider sees it: cookies, forms and redirects, over HTTP. It stops where
// the way leads back to the application.
type Browser struct {
	server *Server
	client *http.Client
}

// Browser returns one without any cookies.
func (s *Server) Browser() *Browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		panic("authtest: make a cookie jar: " + err.Error()) // never: it has no options that could be wrong
	}
	return &Browser{s, &http.Client{Transport: s.client.Transport, Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}}
}

// SignIn does what a person does after an application sent them to authorizationURL, in a browser of their own. It returns
// the URL at the application that the provider sends them back to, with a code or with an error.
func (s *Server) SignIn(ctx context.Context, authorizationURL, username string) (string, error) {
	return s.Browser().SignIn(ctx, authorizationURL, username)
}

// SignIn goes to authorizationURL and signs username in, unless the provider answers at once because somebody is. It says
// yes to what else is asked: it is that person at a connector, follows a one-time token, and approves a second factor.
func (b *Browser) SignIn(ctx context.Context, authorizationURL, username string) (string, error) {
	page, target, err := b.follow(ctx, http.MethodGet, authorizationURL, nil)
	for steps := 0; err == nil && target == "" && steps < 3; steps++ {
		form := url.Values{
			"interaction": {page.Query().Get("interaction")},
			"username":    {username}, "password": {b.server.User(username).Password},
		}
		path := page.Path
		switch {
		case strings.HasPrefix(path, "/direct/"):
			form.Set("account", username)
		case path == "/register":
			path = "/sign-in"
		}
		page, target, err = b.follow(ctx, http.MethodPost, b.server.URL+path, form)
	}
	if err == nil && target == "" {
		err = fmt.Errorf("authtest: %s refused %s", page.Path, username)
	}
	return target, err
}

// SignUp goes to authorizationURL and makes a new account.
func (b *Browser) SignUp(ctx context.Context, authorizationURL string, user User) (string, error) {
	page, target, err := b.follow(ctx, http.MethodGet, authorizationURL, nil)
	if err != nil || target != "" {
		return target, err
	}
	return b.submit(ctx, "/register", url.Values{
		"interaction": {page.Query().Get("interaction")},
		"username":    {user.Username}, "password": {user.Password}, "name": {user.Name}, "email": {user.Email},
	})
}

// SignOut goes to the end-session URL that the application gave, and says yes if asked. It returns the URL that the
// provider leads to afterwards: at the application, or its own.
func (b *Browser) SignOut(ctx context.Context, endSessionURL string) (string, error) {
	body, target, err := b.fetch(ctx, http.MethodGet, endSessionURL, nil)
	if err != nil || target != "" {
		return target, err
	}
	_, rest, found := strings.Cut(body, `name="interaction" value="`)
	id, _, _ := strings.Cut(rest, `"`)
	if !found {
		return "", errors.New("authtest: the provider neither ended the session nor asked")
	}
	_, target, err = b.fetch(ctx, http.MethodPost, b.server.Issuer+"/session/end/confirm", url.Values{"interaction": {id}})
	return target, err
}

func (b *Browser) submit(ctx context.Context, path string, form url.Values) (string, error) {
	_, target, err := b.follow(ctx, http.MethodPost, b.server.URL+path, form)
	if err == nil && target == "" {
		err = fmt.Errorf("authtest: %s refused %s", path, form.Get("username"))
	}
	return target, err
}

// follow follows redirects within the provider. It returns the page where they end, or the URL outside that they lead to.
func (b *Browser) follow(ctx context.Context, method, address string, form url.Values) (page *url.URL, target string, err error) {
	for range 10 {
		_, target, err = b.fetch(ctx, method, address, form)
		if err != nil {
			return nil, "", err
		}
		if target == "" {
			page, err = url.Parse(address)
			return page, "", err
		}
		if !strings.HasPrefix(target, b.server.URL+"/") {
			return nil, target, nil
		}
		method, address, form = http.MethodGet, target, nil
	}
	return nil, "", errors.New("authtest: too many redirects")
}

// fetch returns a body, or where it redirects to. An answer of 400 and more is an error, with its body.
func (b *Browser) fetch(ctx context.Context, method, address string, form url.Values) (body, target string, err error) {
	request, err := http.NewRequestWithContext(ctx, method, address, strings.NewReader(form.Encode()))
	if err != nil {
		return "", "", fmt.Errorf("authtest: %w", err)
	}
	if method == http.MethodPost {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	response, err := b.client.Do(request)
	if err != nil {
		return "", "", fmt.Errorf("authtest: %w", err)
	}
	defer response.Body.Close()
	if location, err := response.Location(); err == nil {
		return "", location.String(), nil
	}
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return "", "", fmt.Errorf("authtest: %w", err)
	}
	if response.StatusCode >= http.StatusBadRequest {
		return "", "", fmt.Errorf("authtest: %s %s: %s: %s", method, request.URL.Path, response.Status, text)
	}
	return string(text), "", nil
}

// inMemory hands requests to a handler as a server would. A handler that gives up its connection breaks the request.
type inMemory struct{ handler http.Handler }

// RoundTrip implements http.RoundTripper.
func (m inMemory) RoundTrip(out *http.Request) (*http.Response, error) {
	in := out.Clone(out.Context())
	in.RequestURI, in.RemoteAddr, in.Host = out.URL.RequestURI(), "192.0.2.1:1234", out.URL.Host
	if in.Body == nil {
		in.Body = http.NoBody
	}
	answer := httptest.NewRecorder()
	done := make(chan bool, 1)
	go func() {
		defer func() {
			broken := recover()
			if broken != nil && broken != http.ErrAbortHandler {
				panic(broken)
			}
			done <- broken != nil
		}()
		m.handler.ServeHTTP(answer, in)
	}()
	select {
	case <-out.Context().Done():
		return nil, out.Context().Err()
	case broken := <-done:
		if broken && !answer.Flushed {
			return nil, errors.New("connection reset by peer")
		}
		response := answer.Result()
		response.Request = out
		if broken {
			response.Body = io.NopCloser(io.MultiReader(response.Body, brokenBody{}))
		}
		return response, nil
	}
}

// brokenBody is what follows where an answer was cut off.
type brokenBody struct{}

// Read implements io.Reader.
func (brokenBody) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }
