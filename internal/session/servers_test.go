package session

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// server is a redis-server process of a test, on a loopback port.
type server struct {
	t    testing.TB
	port int
	args []string
	cmd  *exec.Cmd
}

// startRedis starts a redis-server, and ends it with the test. Without one on this machine the test is skipped, but
// not in CI.
func startRedis(t testing.TB, args ...string) *server {
	t.Helper()
	s := &server{t: t, port: freePort(t)}
	s.args = append([]string{"--port", fmt.Sprint(s.port), "--bind", "127.0.0.1", "--dir", t.TempDir(), "--save", ""}, args...)
	s.start()
	t.Cleanup(s.kill)
	s.wait(func(rdb *redis.Client) error { return rdb.Ping(context.Background()).Err() })
	return s
}

// program returns the path of a program that the test needs.
func program(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	switch {
	case err == nil:
		return path
	case os.Getenv("CI") == "true":
		t.Fatalf("%s is missing", name)
	default:
		t.Skipf("%s is not installed: left out", name)
	}
	return ""
}

func (s *server) start() {
	s.t.Helper()
	s.cmd = exec.Command(program(s.t, "redis-server"), s.args...)
	must(s.t, s.cmd.Start())
}

// kill ends the process as a power cut would.
func (s *server) kill() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait() // it was killed: an error is right
}

func (s *server) addr() string { return fmt.Sprintf("127.0.0.1:%d", s.port) }

// client returns a client that waits and tries again, unlike ours.
func (s *server) client() *redis.Client {
	rdb := redis.NewClient(&redis.Options{Addr: s.addr(), Protocol: 2})
	s.t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

// wait waits until ready returns nil.
func (s *server) wait(ready func(*redis.Client) error) {
	s.t.Helper()
	rdb := s.client()
	eventually(s.t, func() error { return ready(rdb) })
}

// eventually waits until ready returns nil, for at most a minute.
func eventually(t testing.TB, ready func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if err = ready(); err == nil {
			return
		}
	}
	t.Fatalf("not within a minute: %v", err)
}

func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port
}

// open returns a store as the application would have it, on a URL.
func open(t testing.TB, url string, cfg Config) *site {
	t.Helper()
	rdb, err := Open(RedisConfig{URL: Secret(url)})
	must(t, err)
	t.Cleanup(func() { _ = rdb.Close() })
	s := &site{rdb: rdb, sent: &counter{}, log: &strings.Builder{}}
	rdb.AddHook(s.sent)
	s.Store = NewStore(rdb, cfg, Options{Log: slog.New(slog.NewTextHandler(s.log, nil))})
	return s
}

// redisCLI runs redis-cli.
func redisCLI(t testing.TB, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, program(t, "redis-cli"), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("redis-cli %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func writeFile(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "redis.conf")
	must(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}
