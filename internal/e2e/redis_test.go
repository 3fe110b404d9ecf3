//go:build unix

package e2e

import (
	"net"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
)

// redisServer is a real one, on a port and with files of its own. It writes each command to disk before it answers.
type redisServer struct {
	t       *testing.T
	program string
	address string
	dir     string
	process *exec.Cmd // nil while it is away
	client  *redis.Client

	mu      sync.Mutex
	outages []outage
}

// outage is from when it was told to end, was certainly away, and was started again; zero as long as that has not happened.
type outage struct{ told, from, to time.Time }

// newRedis starts one that is gone after the test.
func newRedis(t *testing.T) *redisServer {
	t.Helper()
	logging.Disable() // of go-redis: that Redis is away is no news here
	r := &redisServer{t: t, program: need(t, "redis-server"), address: freeAddress(t), dir: t.TempDir()}
	r.client = redis.NewClient(&redis.Options{Addr: r.address, Protocol: 2, DisableIdentity: true})
	t.Cleanup(func() {
		_ = r.client.Close()
		if r.process != nil {
			r.kill()
		}
	})
	r.start()
	return r
}

func (r *redisServer) url() string { return "redis://" + r.address }

// start starts it on what it had, and waits until it serves.
func (r *redisServer) start() {
	r.t.Helper()
	host, port, _ := net.SplitHostPort(r.address)
	r.process = exec.Command(r.program, "--bind", host, "--port", port, "--dir", r.dir, "--save", "",
		"--appendonly", "yes", "--appendfsync", "always", "--loglevel", "warning")
	endWithTest(r.process)
	r.note(func(last *outage) { last.to = time.Now() })
	must(r.t, r.process.Start())
	eventually(r.t, "redis-server answers", func() bool { return r.client.Ping(r.t.Context()).Err() == nil })
}

// stop ends it in good order, kill at once.
func (r *redisServer) stop() { r.end(syscall.SIGTERM) }
func (r *redisServer) kill() { r.end(syscall.SIGKILL) }

func (r *redisServer) end(signal syscall.Signal) {
	r.t.Helper()
	r.mu.Lock()
	r.outages = append(r.outages, outage{told: time.Now()})
	r.mu.Unlock()
	r.signal(signal)
	_ = r.process.Wait() // how it ended is what the signal said
	r.process = nil
	r.note(func(last *outage) { last.from = time.Now() })
}

// note changes the last outage, if there was one.
func (r *redisServer) note(change func(last *outage)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.outages); n > 0 {
		change(&r.outages[n-1])
	}
}

// away reports whether Redis was away all the time between two moments, or at least about then, give or take some. Of none
// it is never.
func (r *redisServer) away(from, to time.Time, some time.Duration) (certainly, perhaps bool) {
	if r == nil {
		return false, false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, o := range r.outages {
		back := o.to
		if back.IsZero() {
			back = to
		}
		certainly = certainly || !o.from.IsZero() && !o.from.After(from) && !back.Before(to)
		perhaps = perhaps || o.told.Before(to.Add(some)) && back.After(from.Add(-some))
	}
	return certainly, perhaps
}

// freeze lets it hang: it accepts connections, and answers nothing. thaw lets it go on.
func (r *redisServer) freeze() { r.signal(syscall.SIGSTOP) }
func (r *redisServer) thaw()   { r.signal(syscall.SIGCONT) }

func (r *redisServer) signal(signal syscall.Signal) {
	r.t.Helper()
	must(r.t, r.process.Process.Signal(signal))
}

// files returns the files in which it keeps what it was told.
func (r *redisServer) files() []string {
	r.t.Helper()
	names, err := filepath.Glob(filepath.Join(r.dir, "appendonlydir", "*"))
	must(r.t, err)
	if len(names) == 0 {
		r.t.Fatal("redis-server wrote no append-only file")
	}
	return names
}
