package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
)

// free returns an address of this machine that nobody uses.
func free(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// started tells when the demo has written what it has to say.
type started struct {
	text chan string
}

func (s started) Write(p []byte) (int, error) {
	s.text <- string(p)
	return len(p), nil
}

// start runs the demo; stop ends it and returns how.
func start(t *testing.T, app, provider string) (text string, stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	out, done := started{make(chan string, 1)}, make(chan error, 1)
	go func() { done <- run(ctx, app, provider, out) }()
	select {
	case text = <-out.text:
	case err := <-done:
		cancel()
		t.Fatalf("ended at once: %v", err)
	}
	return text, func() error { cancel(); return <-done }
}

// TestDemo starts it, signs in and out as a person does, and ends it.
func TestDemo(t *testing.T) {
	app, provider := free(t), free(t)
	text, stop := start(t, app, provider)
	if lines := strings.Split(strings.TrimSpace(text), "\n"); len(lines) != 6 || !strings.HasSuffix(lines[0], " http://"+app) || !strings.Contains(lines[1], "http://"+provider) || !strings.Contains(lines[2], "ada") || !strings.Contains(lines[3], "grace") {
		t.Errorf("it says\n%s", text)
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	person := &http.Client{Jar: jar}
	signIn := visit(t, person, "http://"+app+"/sign-in?return_to=/protected/userinfo", nil)
	interaction := regexp.MustCompile(`name="interaction" value="([^"]+)"`).FindStringSubmatch(signIn)
	if len(interaction) != 2 {
		t.Fatalf("no way to sign in on\n%s", signIn)
	}
	account := url.Values{"interaction": interaction[1:], "username": {"ada"}, "password": {"analytical"}}
	if page := visit(t, person, "http://"+provider+"/sign-in", account); !strings.Contains(page, "ada@example.com") {
		t.Errorf("no user info on\n%s", page)
	}
	tokens := "http://" + app + "/protected/tokens"
	for _, page := range []struct {
		form url.Values
		says []string
	}{
		{nil, []string{"shopping.your-app.com", "store.your-app.com", "Acme", "Initech"}},
		{url.Values{"resource": {"https://shopping.your-app.com/api"}}, []string{"read:products"}},
		{url.Values{"organization": {"acme00corp01"}}, []string{"invite:members"}},
	} {
		shown := visit(t, person, tokens, page.form)
		for _, text := range page.says {
			if !strings.Contains(shown, text) {
				t.Errorf("no %s on the page of tokens after %v", text, page.form)
			}
		}
	}
	if home := visit(t, person, "http://"+app+"/sign-out", url.Values{}); strings.Contains(home, "Ada") || !strings.Contains(home, `href="/sign-up"`) {
		t.Errorf("signed out, to\n%s", home)
	}

	// A connection on which nothing was asked, as browsers keep one to spare. Another is served after it, so it is accepted.
	spare, err := net.Dial("tcp", app)
	if err != nil {
		t.Fatal(err)
	}
	defer spare.Close()
	visit(t, &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, "http://"+app+"/", nil)

	if err := stop(); err != nil {
		t.Errorf("stopped with %v", err)
	}
	for _, address := range []string{app, provider} {
		if conn, err := net.Dial("tcp", address); err == nil {
			_ = conn.Close()
			t.Errorf("%s still listens", address)
		}
	}
}

// visit returns the page where redirects end.
func visit(t *testing.T, person *http.Client, address string, form url.Values) string {
	t.Helper()
	method := http.MethodGet
	if form != nil {
		method = http.MethodPost
	}
	request, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Accept", "text/html")
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	response, err := person.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Errorf("%s: %s %v", address, response.Status, err)
	}
	return string(text)
}

func TestPortInUse(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	address, other := taken.Addr().String(), free(t)
	for _, ports := range [][2]string{{address, other}, {other, address}} {
		var out bytes.Buffer
		err := run(t.Context(), ports[0], ports[1], &out)
		if err == nil || !strings.Contains(err.Error(), address+" is in use by another program") || out.Len() > 0 {
			t.Errorf("%v after %q", err, out.String())
		}
		if conn, err := net.Dial("tcp", other); err == nil {
			_ = conn.Close()
			t.Errorf("the other part still listens")
		}
	}
}

// TestTimePasses: what the in-memory Redis keeps for a while is gone after it.
func TestTimePasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		redis := miniredis.NewMiniRedis()
		if err := redis.Set("session", "some"); err != nil {
			t.Fatal(err)
		}
		redis.SetTTL("session", time.Minute)
		go passTime(t.Context(), redis)
		time.Sleep(59 * time.Second)
		if synctest.Wait(); !redis.Exists("session") {
			t.Error("gone too early")
		}
		time.Sleep(2 * time.Second)
		if synctest.Wait(); redis.Exists("session") {
			t.Error("still there")
		}
	})
}
