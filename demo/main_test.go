package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"

	"example.com/logto-gin-starter/auth"
	"example.com/logto-gin-starter/auth/authtest"
)

// free returns an address of this machine that nobody uses.
func free(t *testing.T) string {
	t.Helper()
	for range 100 { // below the ports that the system gives to others meanwhile
		address := fmt.Sprint("127.0.0.1:", 20_000+rand.IntN(12_000))
		if listener, err := net.Listen("tcp", address); err == nil {
			_ = listener.Close()
			return address
		}
	}
	t.Fatal("no port is free")
	return ""
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
func start(t *testing.T, d demo) (text string, stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	out, done := started{make(chan string, 1)}, make(chan error, 1)
	go func() { done <- d.run(ctx, out) }()
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
	text, stop := start(t, demo{app: app, provider: provider})
	if lines := strings.Split(strings.TrimSpace(text), "\n"); len(lines) != 6 || !strings.HasSuffix(lines[0], " http://"+app) || !strings.Contains(lines[1], "http://"+provider) || !strings.Contains(lines[2], "ada") || !strings.Contains(lines[3], "grace") {
		t.Errorf("it says\n%s", text)
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	person := &http.Client{Jar: jar}
	signIn := visit(t, person, "http://"+app+"/sign-in?return_to=/protected/sessions", nil)
	if page := visit(t, person, "http://"+provider+"/sign-in", ada(t, signIn)); !strings.Contains(page, "Ada Lovelace") {
		t.Errorf("nobody is signed in on\n%s", page)
	}
	who := visit(t, person, "http://"+app+"/api/me", nil)
	for _, text := range []string{"Acme", "Initech", "merchant"} {
		if !strings.Contains(who, text) {
			t.Errorf("no %s in %s", text, who)
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

// ada fills in the form of the provider's page.
func ada(t *testing.T, page string) url.Values {
	t.Helper()
	interaction := regexp.MustCompile(`name="interaction" value="([^"]+)"`).FindStringSubmatch(page)
	if len(interaction) != 2 {
		t.Fatalf("no way to sign in on\n%s", page)
	}
	return url.Values{"interaction": interaction[1:], "username": {"ada"}, "password": {"analytical"}}
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

// TestProviderOnly: an application that is started with what it prints has a provider.
func TestProviderOnly(t *testing.T) {
	app, provider := free(t), free(t)
	text, stop := start(t, demo{app: "https://" + app, provider: provider, providerOnly: true})
	printed := map[string]string{}
	for _, found := range regexp.MustCompile(`(?m)^export (\w+)='(.*)'$`).FindAllStringSubmatch(text, -1) {
		printed[found[1]] = strings.TrimSpace(found[2])
	}
	if !strings.Contains(printed["LOGTO_SCOPES"], auth.ScopeOrganizations) || printed["LOGTO_RESOURCES"] == "" {
		t.Errorf("it prints %s", text)
	}
	client, err := auth.New(auth.Config{Endpoint: printed["LOGTO_ENDPOINT"], AppID: printed["LOGTO_APP_ID"], AppSecret: auth.Secret(printed["LOGTO_APP_SECRET"])})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	session := client.Session(new(authtest.Memory))
	address, err := session.SignIn(t.Context(), auth.SignInOptions{RedirectURI: "https://" + app + "/callback"})
	if err != nil {
		t.Fatal(err)
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	person := &http.Client{Jar: jar, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if r.URL.Host == app {
			return http.ErrUseLastResponse
		}
		return nil
	}}
	response, err := person.PostForm("http://"+provider+"/sign-in", ada(t, visit(t, person, address, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	callback, err := response.Location()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := session.HandleSignInCallback(t.Context(), callback.Query()); err != nil {
		t.Errorf("the callback: %v", err)
	}
	if conn, err := net.Dial("tcp", app); err == nil {
		_ = conn.Close()
		t.Error("an application listens too")
	}
	if err := stop(); err != nil {
		t.Errorf("stopped with %v", err)
	}
}

// TestSettings: the file and the environment say what the demo need not set itself.
func TestSettings(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("config.yaml", []byte("session: {idle_timeout: never}\nlogto: {endpoint: nowhere}\nredis: {url: nowhere}"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SESSION_ABSOLUTE_TIMEOUT", "long")
	t.Setenv("LOGTO_ENDPOINT", "nowhere")
	t.Setenv("LISTEN_ADDR", "nowhere")
	err := demo{app: free(t), provider: free(t)}.run(t.Context(), io.Discard)
	if err == nil || !strings.Contains(err.Error(), "SESSION_IDLE_TIMEOUT") || !strings.Contains(err.Error(), "SESSION_ABSOLUTE_TIMEOUT") || strings.Count(err.Error(), "\n") != 1 {
		t.Errorf("with two faults: %v", err)
	}
	t.Setenv("SESSION_ABSOLUTE_TIMEOUT", "2h")
	t.Setenv("SESSION_IDLE_TIMEOUT", "1h")
	_, stop := start(t, demo{app: free(t), provider: free(t)})
	if err := stop(); err != nil {
		t.Errorf("without: %v", err)
	}
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
		err := demo{app: ports[0], provider: ports[1]}.run(t.Context(), &out)
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
