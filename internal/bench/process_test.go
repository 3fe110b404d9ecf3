//go:build linux

package bench

import (
	"bufio"
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"example.com/logto-gin-starter/auth/authtest"
	sample "example.com/logto-gin-starter/auth/authtest/people"
	"example.com/logto-gin-starter/internal/session"
)

// patience is for what should take a moment: it only ends a test that hangs.
const patience = 20 * time.Second

// surroundings are what all programs share.
type surroundings struct {
	t     *testing.T
	redis string // its address
	logto *authtest.Server
	app   authtest.App // as which they are all registered there
	key   string       // SESSION_KEY
}

func newSurroundings(t *testing.T) *surroundings {
	t.Helper()
	address := freeAddress(t)
	options := sample.Options("http://"+address, "")
	for i := range people {
		other := options.Users[0] // ada
		other.Username, other.Subject = person(int64(i)), fmt.Sprint("subject", i)
		options.Users = append(options.Users, other)
	}
	logto, err := authtest.Start(address, "", options)
	must(t, err)
	t.Cleanup(logto.Close)
	return &surroundings{t, startRedis(t), logto, options.Apps[0], session.NewKey()}
}

// person is what one of many is called at the provider, who are all like ada.
func person(i int64) (username string) { return fmt.Sprint("ada", i) }

// startRedis starts a redis-server that writes nothing to disk.
func startRedis(t *testing.T) (address string) {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil && os.Getenv("CI") != "true" {
		t.Skip("left out: needs redis-server")
	}
	must(t, err)
	address = freeAddress(t)
	host, port, _ := net.SplitHostPort(address)
	run(t, exec.Command(path, "--bind", host, "--port", port, "--dir", t.TempDir(), "--save", "", "--loglevel", "warning"))
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		if conn, err := net.Dial("tcp", address); err == nil {
			_ = conn.Close()
			return address
		}
		if time.Now().After(end) {
			t.Fatal("redis-server does not answer")
		}
	}
}

// run starts a process that ends with the test.
func run(t *testing.T, command *exec.Cmd) {
	t.Helper()
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	must(t, command.Start())
	t.Cleanup(func() { end(command) })
}

// end ends a process, unless it has ended.
func end(command *exec.Cmd) {
	_ = command.Process.Kill()
	_ = command.Wait()
}

// freeAddress returns one of this machine's, below the ports that it gives to outgoing connections.
func freeAddress(t *testing.T) string {
	t.Helper()
	for range 100 {
		address := fmt.Sprint("127.0.0.1:", 20_000+rand.IntN(12_000))
		if listener, err := net.Listen("tcp", address); err == nil {
			_ = listener.Close()
			return address
		}
	}
	t.Fatal("no port is free")
	return ""
}

// binary is a program that can be started.
type binary struct {
	path string
	args []string
	db   int // in Redis: what one version writes another need not understand
}

// buildApp builds the application as the Dockerfile does, with its settings beside it.
func buildApp(t *testing.T) binary {
	t.Helper()
	dockerfile, err := os.ReadFile("../../Dockerfile")
	must(t, err)
	line := regexp.MustCompile(`(?m)^RUN (CGO_ENABLED=0 go build .*) -o /out/app \.$`).FindSubmatch(dockerfile)
	if line == nil {
		t.Fatal("the Dockerfile does not say how to build the application")
	}
	path := build(t, string(line[1]), ".")
	settings, err := os.ReadFile("../../config.yaml")
	must(t, err)
	must(t, os.WriteFile(filepath.Join(filepath.Dir(path), "config.yaml"), settings, 0o600))
	return binary{path: path}
}

// buildLimit builds the limit, without what the Dockerfile does for a smaller image at the cost of time.
func buildLimit(t *testing.T, pages ...string) binary {
	t.Helper()
	path := build(t, `CGO_ENABLED=0 go build -trimpath -tags nomsgpack -ldflags="-s -w"`, "./internal/bench/testdata/limit")
	for i, page := range pages {
		pages[i] = filepath.Join(filepath.Dir(path), fmt.Sprint(i, ".html"))
		must(t, os.WriteFile(pages[i], []byte(page), 0o600))
	}
	return binary{path: path, args: pages, db: 1}
}

func build(t *testing.T, command, pkg string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "program")
	build := exec.CommandContext(t.Context(), "sh", "-c", command+` -o "$0" "$1"`, path, pkg)
	build.Dir = "../.."
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", command, pkg, err, output)
	}
	return path
}

// program is one that runs.
type program struct {
	t       *testing.T
	url     string
	isLimit bool
	process *exec.Cmd
	log     *tail
	took    time.Duration // from exec to the first 200
}

// start starts a program in its folder, with the settings of production, on one core.
func (s *surroundings) start(b binary, settings ...string) *program {
	s.t.Helper()
	address := freeAddress(s.t)
	p := &program{t: s.t, url: "http://" + address, isLimit: b.args != nil, log: &tail{}}
	s.app.RedirectURIs = append(s.app.RedirectURIs, p.url+"/callback")
	s.logto.Register(s.app)
	p.process = exec.Command(b.path, b.args...)
	p.process.Dir = filepath.Dir(b.path)
	p.process.Stderr = p.log // a pipe, as from a container
	p.process.Env = append([]string{
		"GOMAXPROCS=1",
		"LISTEN_ADDR=" + address, "BASE_URL=" + p.url,
		fmt.Sprintf("REDIS_URL=redis://%s/%d", s.redis, b.db), "SESSION_KEY=" + s.key,
		"RATE_LIMIT=900000000/s", // counts, and refuses nobody
		"LOGTO_ENDPOINT=" + s.logto.URL, "LOGTO_APP_ID=" + s.app.ID, "LOGTO_APP_SECRET=" + s.app.Secret,
		"LOGTO_SCOPES=" + scopes,
	}, settings...)
	began := time.Now()
	run(s.t, p.process)
	for home(address) != http.StatusOK {
		if time.Since(began) > patience {
			s.t.Fatalf("%s does not answer:\n%s", b.path, p.log)
		}
		time.Sleep(100 * time.Microsecond)
	}
	p.took = time.Since(began)
	return p
}

func (p *program) end() { end(p.process) }

// home asks for the home page over a connection of its own. It returns the status, 0 without an answer.
func home(address string) int {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return 0
	}
	defer conn.Close()
	if _, err := fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", address); err != nil {
		return 0
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0
	}
	return response.StatusCode
}

// cpu returns the CPU time that the process has used: all threads, user and system, by the kernel's clock.
func (p *program) cpu() time.Duration {
	p.t.Helper()
	clock := int32(^p.process.Process.Pid<<3 | 2) // as clock_getcpuclockid(3) makes it
	var used unix.Timespec
	if err := unix.ClockGettime(clock, &used); err != nil {
		p.t.Fatalf("read the CPU clock: %v; the log ends with\n%s", err, p.log)
	}
	return time.Duration(used.Nano())
}

// resident returns the memory that the process has, in MiB.
func (p *program) resident() float64 {
	p.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.process.Process.Pid))
	must(p.t, err)
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	var kib float64
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		p.t.Fatalf("VmRSS: %v", err)
	}
	return kib / 1024
}

// tail keeps the last of what is written to it, but for what is no fault.
type tail struct {
	mu   sync.Mutex
	text []byte
}

// Write implements io.Writer.
func (t *tail) Write(text []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for line := range bytes.Lines(text) {
		if !bytes.Contains(line, []byte(`"level":"INFO"`)) {
			t.text = append(t.text, line...)
		}
	}
	t.text = t.text[max(0, len(t.text)-2<<10):]
	return len(text), nil
}

// String implements fmt.Stringer.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text)
}

// must ends the test at an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
