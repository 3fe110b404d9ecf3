// Package compose runs docker-compose.yml for real and meets it with a browser. It takes a container engine, so it runs
// only on demand:
//
//	COMPOSE_TEST=1 go test ./deploy/compose
package compose

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"example.com/logto-gin-starter/auth/authtest"
)

// patience is for one step in the browser, on a busy machine.
const patience = 30 * time.Second

// A person who types `docker compose up` can sign in; all ports are other ones than usual, and everything follows.
func TestUp(t *testing.T) {
	s := newStack(t)
	s.compose("build")
	start := time.Now()
	screen := s.up()
	t.Logf("up in %v", time.Since(start).Round(time.Second))
	s.compose("up", "--wait")
	log := s.compose("logs", "--no-log-prefix", "setup")
	invitation := regexp.MustCompile(`Open +(\S+)\n +Sign in +as (\w+), [^,]+, with the password (\S+)\n`).FindStringSubmatch(log)
	if invitation == nil || invitation[1] != s.app {
		t.Fatalf("the setup does not say that the application is at %s:\n%s", s.app, log)
	}
	username, password := invitation[2], invitation[3]
	_, after, shown := strings.Cut(screen, password)
	if ours := regexp.MustCompile(`(?m)^\S+-1 `).FindAllString(after, -1); !shown || len(ours) > 5 || slices.Contains(ours, "logto-1 ") {
		t.Errorf("how to sign in is not at the end of\n%s", screen)
	}

	t.Run("demo person", func(t *testing.T) { s.signInAndOut(t, username, password) })
	t.Run("confined", s.wantConfined)
	t.Run("no secret left", s.wantNoSecret)
	t.Run("new person", s.register)
	t.Run("up again", func(t *testing.T) {
		before := s.containers()
		s.compose("up", "--wait")
		if after := s.containers(); !slices.Equal(before, after) {
			t.Errorf("containers were %v, are %v", before, after)
		}
		log := strings.TrimPrefix(s.compose("logs", "--no-log-prefix", "setup"), log)
		if strings.Contains(log, "made") || !strings.Contains(log, password) {
			t.Errorf("the second setup says\n%s", log)
		}
		s.wantNoSecret(t)
	})
	t.Run("down", func(t *testing.T) {
		s.compose("down", "--volumes")
		if left := s.docker("volume", "ls", "--quiet", "--filter", "label=com.docker.compose.project="+project); left != "" {
			t.Errorf("left: %s", left)
		}
	})
}

// signInAndOut does what the demo person can do.
func (s *stack) signInAndOut(t *testing.T, username, password string) {
	b := newBrowser(t)
	b.open(s.app + "/sign-in?return_to=/protected/userinfo")
	b.at(s.logto + "/sign-in")
	b.fill("identifier", username)
	b.fill("password", password)
	b.click("button[type=submit]")
	b.at(s.app + "/protected/userinfo")
	b.says("Ada Lovelace", "ada@example.com", "66812345678", "merchant", "1815-12-10")
	b.wait("showing the picture", "document.querySelector('.avatar img').naturalWidth > 0")
	b.open(s.app + "/protected/tokens")
	b.says("https://shopping.your-app.com/api", "https://store.your-app.com/api")
	b.click(`article:has([name=organization]) button`)
	b.says("urn:logto:organization:", "invite:members")
	b.click(`article:has([value="https://store.your-app.com/api"]) button`)
	b.says("read:orders")
	b.click(`article button[name=call]`)
	b.says(`"scopes": [`)
	b.open(s.app + "/")
	b.click(`form[action="/sign-out"] button`)
	b.says("Create account")
	b.open(s.app + "/sign-in") // a session left at Logto would sign the same person in without asking
	b.at(s.logto + "/sign-in")
}

// register makes a new person, whom Logto then signs out by itself, of the application too.
func (s *stack) register(t *testing.T) {
	b := newBrowser(t)
	b.open(s.app + "/sign-up")
	b.at(s.logto + "/register")
	b.fill("identifier", "mary")
	b.click("button[type=submit]")
	b.fill("newPassword", "nanosecond 11.8 inches")
	b.fill("confirmPassword", "nanosecond 11.8 inches")
	b.click("button[type=submit]")
	b.at(s.app + "/")
	b.open(s.app + "/protected/userinfo")
	b.says("mary")
	b.open(s.logto + "/oidc/session/end")
	b.at(s.logto + "/oidc/session/end/success")
	b.open(s.app + "/")
	b.says("Create account")
	if log := s.compose("logs", "app"); !strings.Contains(log, `"route":"/backchannel-logout","status":200`) {
		t.Errorf("no back-channel logout in\n%s", log)
	}
}

// With a Logto of one's own, three variables start the application and Redis, and nothing else; what is built is not pulled.
func TestOwnLogto(t *testing.T) {
	s := newStack(t, "LOGTO_ENDPOINT=http://logto.invalid", "LOGTO_APP_ID=mine", "LOGTO_APP_SECRET=secret")
	if screen := s.up("--no-deps", "redis", "app"); strings.Contains(screen, "app Pull") {
		t.Errorf("tries to pull the application:\n%s", screen)
	}
	if running := s.compose("ps", "--services"); strings.TrimSpace(running) != "app\nredis" {
		t.Errorf("running: %s", running)
	}
	s.wantLogto(t, "unavailable")
}

// A Logto on this machine has another address in a container than in the browser.
func TestOwnLogtoOnThisMachine(t *testing.T) {
	port := freePort(t)
	s := newStack(t, "LOGTO_ENDPOINT=http://localhost:"+port, "LOGTO_INTERNAL_ENDPOINT=http://host.docker.internal:"+port, "LOGTO_APP_ID=mine", "LOGTO_APP_SECRET=secret")
	gateway := strings.TrimSpace(s.docker("network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Gateway}}"))
	logto, err := authtest.Start(gateway+":"+port, "http://localhost:"+port, authtest.Options{})
	if err != nil { // Docker Desktop has its bridge elsewhere, and leads to 127.0.0.1
		logto, err = authtest.Start("127.0.0.1:"+port, "http://localhost:"+port, authtest.Options{})
	}
	if err != nil {
		t.Fatal(err)
	}
	defer logto.Close()
	s.up("--no-deps", "redis", "app")
	s.wantLogto(t, "ok")
}

// wantLogto wants an application that is ready, and what it says of Logto.
func (s *stack) wantLogto(t *testing.T, want string) {
	t.Helper()
	response, err := http.Get(s.app + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var state struct{ Redis, Logto string }
	if err := json.NewDecoder(response.Body).Decode(&state); err != nil || state.Redis != "ok" || state.Logto != want {
		t.Errorf("ready: %+v, %v; want Redis, and Logto %s", state, err, want)
	}
}

// The image's application reads the config.yaml that the Dockerfile puts into it.
func TestConfigFile(t *testing.T) {
	s := newStack(t)
	s.compose("build", "app")
	container := strings.TrimSpace(s.docker("create", project+"-app"))
	defer s.docker("rm", "--force", container)
	file := filepath.Join(t.TempDir(), "config.yaml")
	s.docker("cp", container+":/config.yaml", file)
	shipped, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text := string(shipped)
	for key, value := range map[string]string{"listen_addr": ":3999", "endpoint": "http://logto.invalid", "app_id": "mine", "app_secret": "s"} {
		text = regexp.MustCompile(`(?m)^  `+key+`: *"[^"]*"`).ReplaceAllString(text, "  "+key+`: "`+value+`"`)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	s.docker("cp", file, container+":/config.yaml")
	s.docker("start", container)
	for until := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		log, err := exec.Command("docker", "logs", container).CombinedOutput()
		if strings.Contains(string(log), `"address":"[::]:3999"`) {
			return
		}
		if err != nil || time.Now().After(until) {
			t.Fatalf("not listening where the file says: %v\n%s", err, log)
		}
	}
}

// TestDockerfile needs no engine. Where nothing else is said, the image starts in its user's home folder.
func TestDockerfile(t *testing.T) {
	data, err := os.ReadFile("../../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	stages := strings.Split(string(data), "\nFROM ")
	for _, want := range []string{"WORKDIR /", "COPY config.yaml /"} {
		if last := stages[len(stages)-1]; !slices.Contains(strings.Split(last, "\n"), want) {
			t.Errorf("the last stage lacks %s:\n%s", want, last)
		}
	}
}

const project = "logto-gin-starter-test"

// stack is docker-compose.yml under another name, on free ports.
type stack struct {
	t          *testing.T
	app, logto string
	env        []string
}

func newStack(t *testing.T, env ...string) *stack {
	t.Helper()
	if os.Getenv("COMPOSE_TEST") == "" {
		t.Skip("left out: needs a container engine and some minutes; COMPOSE_TEST=1 runs it")
	}
	appPort, logtoPort := freePort(t), freePort(t)
	s := &stack{
		t: t, app: "http://localhost:" + appPort, logto: "http://localhost:" + logtoPort,
		env: append(os.Environ(), append(env, "APP_PORT="+appPort, "LOGTO_PORT="+logtoPort)...),
	}
	s.compose("down", "--volumes", "--rmi", "local") // what an earlier run may have left
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(s.compose("logs", "--tail", "20"))
		}
		s.compose("down", "--volumes", "--rmi", "local")
	})
	return s
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String()) // as net.Listen made it
	return port
}

func (s *stack) compose(args ...string) string {
	s.t.Helper()
	return s.docker(append(composeArgs(), args...)...)
}

func composeArgs() []string {
	return []string{"compose", "--project-name", project, "--env-file", "/dev/null"}
}

// up does what a person does, and returns what they see until the application listens. It goes on until the test ends.
func (s *stack) up(args ...string) string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Minute)
	cmd := exec.CommandContext(ctx, "docker", slices.Concat(composeArgs(), []string{"up"}, args)...)
	cmd.Dir, cmd.Env = "../..", s.env
	out, err := cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // killed, or the containers have ended
	})
	var screen strings.Builder
	for lines := bufio.NewScanner(out); lines.Scan(); {
		fmt.Fprintln(&screen, lines.Text())
		if strings.Contains(lines.Text(), `"msg":"listening"`) {
			go func() { _, _ = io.Copy(io.Discard, out) }() // or else it would wait to be read
			return screen.String()
		}
	}
	s.t.Fatalf("the application does not listen:\n%s", screen.String())
	return ""
}

func (s *stack) docker(args ...string) string {
	s.t.Helper()
	cmd := exec.Command("docker", args...)
	cmd.Dir, cmd.Env = "../..", s.env
	var errors strings.Builder
	cmd.Stderr = &errors
	out, err := cmd.Output()
	if err != nil {
		s.t.Fatalf("docker %s: %v\n%s", strings.Join(args, " "), err, errors.String())
	}
	return string(out)
}

func (s *stack) containers() []string {
	s.t.Helper()
	return strings.Fields(s.compose("ps", "--quiet", "--no-trunc"))
}

// wantConfined wants containers without privileges, and no more published than the two ports.
func (s *stack) wantConfined(t *testing.T) {
	const format = `{{.Name}} {{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}} {{.HostConfig.SecurityOpt}}` +
		`{{range .NetworkSettings.Ports}}{{range .}} {{.HostIp}}:{{.HostPort}}{{end}}{{end}}`
	for line := range strings.Lines(s.docker(append([]string{"inspect", "--format", format}, s.containers()...)...)) {
		fields := strings.Fields(line)
		if !slices.Equal(fields[1:4], []string{"true", "[ALL]", "[no-new-privileges:true]"}) {
			t.Errorf("not confined: %s", line)
		}
		for _, address := range fields[4:] {
			port, local := strings.CutPrefix(address, "127.0.0.1:")
			if !local || !strings.HasSuffix(s.app, ":"+port) && !strings.HasSuffix(s.logto, ":"+port) {
				t.Errorf("published: %s", line)
			}
		}
	}
}

// wantNoSecret wants the volume empty through which the setup gets the secret of the Management API.
func (s *stack) wantNoSecret(t *testing.T) {
	if left := s.compose("run", "--rm", "--no-deps", "--entrypoint", "ls", "secret", "-A", "/volumes/management"); left != "" {
		t.Errorf("left: %s", left)
	}
}

// browser is one tab of a new Chromium.
type browser struct {
	t   *testing.T
	ctx context.Context
}

func newBrowser(t *testing.T) browser {
	t.Helper()
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]),
		chromedp.Flag("no-sandbox", os.Geteuid() == 0), // it refuses to have one for root
	)
	ctx, stop := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(stop)
	ctx, stop = chromedp.NewContext(ctx)
	t.Cleanup(stop)
	if err := chromedp.Do(ctx); err != nil { // here, for it lives as long as the context of its first use
		t.Fatal(err)
	}
	return browser{t, ctx}
}

func (b browser) do(what string, action chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, action); err != nil {
		b.t.Fatalf("%s: %v\n%s", what, err, b.page())
	}
}

func (b browser) open(url string) { b.t.Helper(); b.do("open "+url, chromedp.Navigate(url)) }

func (b browser) click(selector string) {
	b.t.Helper()
	b.do("click "+selector, chromedp.Click(chromedp.CSS(selector), chromedp.NodeVisible))
}

func (b browser) fill(name, text string) {
	b.t.Helper()
	b.do("fill "+name, chromedp.SendKeys(chromedp.CSS(`input[name="`+name+`"]`), text, chromedp.NodeVisible))
}

// at waits until the browser is at an address, whatever its query.
func (b browser) at(url string) {
	b.t.Helper()
	b.wait("at "+url, fmt.Sprintf("location.origin + location.pathname === %q && document.readyState === 'complete'", url))
}

// says waits until the page has all of the texts.
func (b browser) says(texts ...string) {
	b.t.Helper()
	for _, text := range texts {
		b.wait("says "+text, fmt.Sprintf("document.body.innerText.includes(%q)", text))
	}
}

// wait asks again and again, for a page in between takes the question with it.
func (b browser) wait(what, condition string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	for {
		if ok, err := chromedp.Run(ctx, chromedp.Evaluate[bool](condition)); err == nil && ok {
			return
		}
		select {
		case <-ctx.Done():
			b.t.Fatalf("not %s, but\n%s", what, b.page())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// page is what a failure shows.
func (b browser) page() string {
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string]("location.href + '\\n' + document.body.innerText"))
	if err != nil {
		return err.Error()
	}
	return text
}
