//go:build unix

package e2e

import (
	"bytes"
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"example.com/logto-gin-starter/auth/authtest"
)

// Asked to end, the application takes no new requests, finishes those in flight, and exits with 0.
func TestTermination(t *testing.T) {
	heavy(t)
	t.Parallel()
	i, logto := startOne(t)
	ada := newPerson(t, i.url, logto)
	must(t, ada.signIn(t.Context(), "ada"))

	arrived, proceed := make(chan struct{}), make(chan struct{})
	logto.On(authtest.UserInfo, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			close(arrived)
			<-proceed
			next.ServeHTTP(w, r)
		})
	}).Times(1)
	inFlight := make(chan error, 1)
	go func() {
		a, err := ada.getJSON(t.Context(), ownUserInfo)
		if err == nil && (a.status != http.StatusOK || !strings.Contains(a.body, "ada@example.com")) {
			err = errors.New(http.StatusText(a.status) + ": " + a.body)
		}
		inFlight <- err
	}()
	<-arrived
	i.terminate()
	eventually(t, "no new connections", func() bool {
		conn, err := net.Dial("tcp", strings.TrimPrefix(i.url, "http://"))
		if err == nil {
			_ = conn.Close()
		}
		return errors.Is(err, syscall.ECONNREFUSED)
	})
	close(proceed)
	if err := <-inFlight; err != nil {
		t.Errorf("the request in flight: %v", err)
	}
	if code := i.exitCode(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// startOne starts an instance with a provider and a Redis.
func startOne(t *testing.T) (*instance, *authtest.Server) {
	t.Helper()
	address := freeAddress(t)
	logto, options := newLogto(t, "http://"+address)
	return startInstance(t, address, settings("http://"+address, address, newRedis(t).url(), logto, options)), logto
}

// The binary checks its own health, for an image without a shell.
func TestHealthcheck(t *testing.T) {
	heavy(t)
	t.Parallel()
	i, _ := startOne(t)
	if code, output := runProgram(t, build(t, "."), i.environ, "-healthcheck"); code != 0 || output != "" {
		t.Errorf("of a running application: exit code %d, %s", code, output)
	}
	i.terminate()
	i.exitCode()
	if code, output := runProgram(t, build(t, "."), i.environ, "-healthcheck"); code != 1 || output == "" {
		t.Errorf("of none: exit code %d, %q", code, output)
	}
}

// A first signal lets requests finish, and a second one does not wait for them. An argument that is no flag starts nothing.
func TestSignals(t *testing.T) {
	heavy(t)
	t.Parallel()
	address := freeAddress(t)
	logto, options := newLogto(t, "http://"+address)
	i := startInstance(t, address, append(settings("http://"+address, address, newRedis(t).url(), logto, options), "SHUTDOWN_DELAY=1h"))
	i.terminate()
	eventually(t, "the instance is about to stop", func() bool {
		status, err := get(t.Context(), i.url+"/readyz")
		return err == nil && status == http.StatusServiceUnavailable
	})
	i.terminate()
	if code := i.exitCode(); code != -1 { // a signal ended it
		t.Errorf("exit code %d", code)
	}
	if code, output := runProgram(t, build(t, "."), i.environ, "check"); code != 2 || !strings.Contains(output, "unknown argument check") {
		t.Errorf("an argument that is no flag: exit code %d, %s", code, output)
	}
}

// Wrong and missing settings stop the start, with one line for each that says what to set and quotes no secret.
func TestFaultySettings(t *testing.T) {
	heavy(t)
	t.Parallel()
	for _, test := range []struct {
		name    string
		environ []string
		faults  []string // how each one's line begins, after the program's name
	}{
		{"none at all", nil, []string{
			"LOGTO_ENDPOINT (logto.endpoint", "LOGTO_APP_ID (logto.app_id", "LOGTO_APP_SECRET (logto.app_secret",
		}},
		{"all of them wrong", []string{
			"LISTEN_ADDR=3000", "BASE_URL=ftp://www.example.com/hunter2", "LOGTO_ENDPOINT=logto.hunter2", "LOGTO_SCOPES=hunter2\"",
			"LOGTO_RESOURCES=hunter2", "REDIS_URL=redis://me:hunter2@localhost:port/0", "SESSION_IDLE_TIMEOUT=hunter2",
			"SESSION_ABSOLUTE_TIMEOUT=1s", "LOGTO_APP_ID=app",
		}, []string{
			"LISTEN_ADDR (server.listen_addr", "BASE_URL (server.base_url", "LOGTO_ENDPOINT (logto.endpoint",
			"LOGTO_SCOPES (logto.scopes", "LOGTO_RESOURCES (logto.resources", "REDIS_URL (redis.url",
			"SESSION_IDLE_TIMEOUT (session.idle_timeout", "SESSION_ABSOLUTE_TIMEOUT (session.absolute_timeout",
			"LOGTO_APP_SECRET (logto.app_secret",
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			code, output := runProgram(t, build(t, "."), test.environ)
			if code != 1 {
				t.Errorf("exit code %d", code)
			}
			for _, fault := range test.faults {
				if strings.Count(output, "logto-gin-starter: "+fault) != 1 {
					t.Errorf("want one line that begins with %q", fault)
				}
			}
			if !strings.Contains(output, "go run ./demo") {
				t.Error("the way to look around without settings is not named")
			}
			for line := range strings.Lines(output) {
				if (strings.Contains(line, "REDIS_URL") || strings.Contains(line, "SECRET")) && strings.Contains(line, "hunter2") {
					t.Errorf("a secret in %q", line)
				}
			}
		})
	}
}

// The demo needs nothing, says what runs where, ends at once when asked, and says so if its port is taken.
func TestDemo(t *testing.T) {
	heavy(t)
	t.Parallel()
	program, app, provider := build(t, "demo"), freeAddress(t), freeAddress(t)
	var output bytes.Buffer
	demo := exec.Command(program, "-app", app, "-provider", provider)
	demo.Stdout, demo.Stderr, demo.Env = &output, &output, []string{}
	endWithTest(demo)
	must(t, demo.Start())
	defer demo.Process.Kill()
	eventually(t, "the demo serves", func() bool {
		status, err := get(t.Context(), "http://"+app+"/readyz")
		return err == nil && status == http.StatusOK
	})
	status, err := get(t.Context(), "http://"+provider+"/style.css")
	if err != nil || status != http.StatusOK {
		t.Errorf("the provider: %d, %v", status, err)
	}
	code, text := runProgram(t, program, nil, "-app", app, "-provider", freeAddress(t))
	if code != 1 || !strings.Contains(text, app+" is in use by another program") {
		t.Errorf("a second demo on the same port: exit code %d, %s", code, text)
	}
	must(t, demo.Process.Signal(os.Interrupt))
	if err := demo.Wait(); err != nil {
		t.Errorf("the demo ended with %v", err)
	}
	for _, want := range []string{"http://" + app, "http://" + provider, "ada ", "grace ", "go run ."} {
		if !strings.Contains(output.String(), want) {
			t.Errorf("the demo does not say %q:\n%s", want, output.String())
		}
	}
}

// runProgram runs one to its end, with this environment and nothing else.
func runProgram(t *testing.T, path string, environ []string, args ...string) (code int, output string) {
	t.Helper()
	command := exec.CommandContext(t.Context(), path, args...)
	command.Dir, command.Env = t.TempDir(), append([]string{}, environ...)
	text, err := command.CombinedOutput()
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		t.Fatal(err)
	}
	return command.ProcessState.ExitCode(), string(text)
}
