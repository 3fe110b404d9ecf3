//go:build unix

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"example.com/logto-gin-starter/auth/authtest"
)

// instance is the application as a process of its own.
type instance struct {
	t       *testing.T
	url     string
	environ []string
	process *exec.Cmd
	ended   chan struct{} // closed when it has
	output  bytes.Buffer  // to be read after that
}

// startInstance starts one with these settings and nothing else in its environment.
func startInstance(t *testing.T, address string, environ []string) *instance {
	t.Helper()
	i := &instance{t: t, url: "http://" + address, environ: environ, ended: make(chan struct{})}
	i.process = exec.Command(build(t, "."))
	i.process.Dir, i.process.Env = t.TempDir(), environ
	i.process.Stdout, i.process.Stderr = &i.output, &i.output
	endWithTest(i.process)
	must(t, i.process.Start())
	go func() {
		_ = i.process.Wait() // exitCode tells
		close(i.ended)
	}()
	t.Cleanup(func() {
		i.kill()
		if t.Failed() && i.output.Len() > 0 {
			t.Logf("what the instance at %s wrote, at the end:\n%s", i.url, tail(i.output.String(), 3000))
		}
	})
	eventually(t, "the instance serves", func() bool {
		status, err := get(t.Context(), i.url+"/healthz")
		return err == nil && status == http.StatusOK
	})
	return i
}

// kill ends it as the system does when memory is short.
func (i *instance) kill() {
	_ = i.process.Process.Kill() // it may have ended
	<-i.ended
}

func (i *instance) hasEnded() bool {
	select {
	case <-i.ended:
		return true
	default:
		return false
	}
}

// terminate asks it to end, as an orchestrator does.
func (i *instance) terminate() { must(i.t, i.process.Process.Signal(syscall.SIGTERM)) }

// exitCode waits until it has ended.
func (i *instance) exitCode() int {
	i.t.Helper()
	select {
	case <-i.ended:
	case <-time.After(patience):
		i.t.Fatal("the instance does not end")
	}
	return i.process.ProcessState.ExitCode()
}

func tail(text string, length int) string { return text[max(0, len(text)-length):] }

// fleet is several instances with one Redis and one provider, behind one public address.
type fleet struct {
	url       string
	logto     *authtest.Server
	options   authtest.Options // the provider's
	redis     *redisServer
	environ   []string        // settings of each instance, beside the usual ones
	transport *http.Transport // of the load balancer
	arrived   atomic.Int64    // requests at the public address

	mu        sync.Mutex
	instances []*instance
}

// instanceHeader is how a request to the provider tells which instance sent it, by its URL.
const instanceHeader = "X-Instance"

// newFleet starts three instances that know one API and no organization.
func newFleet(t *testing.T) *fleet {
	t.Helper()
	return newFleetOn(t, func(options *authtest.Options) {
		options.Resources = options.Resources[:1]
		options.Organizations = nil
	})
}

// newFleetOn starts three instances. The provider is strict: each refresh rotates the refresh token, and one that is used
// again after its grace ends the grant.
func newFleetOn(t *testing.T, change func(*authtest.Options), environ ...string) *fleet {
	t.Helper()
	heavy(t)
	f := &fleet{environ: environ, redis: newRedis(t), transport: &http.Transport{MaxIdleConnsPerHost: 256}, instances: make([]*instance, 3)}
	public := httptest.NewServer(http.HandlerFunc(f.forward))
	t.Cleanup(public.Close)
	f.url = public.URL
	f.logto, f.options = newLogto(t, f.url, func(options *authtest.Options) {
		options.RotateAlways = true
		change(options)
	})
	for i := range f.instances {
		f.start(t, i)
	}
	return f
}

// start starts an instance, in the place of one that has ended or of none.
func (f *fleet) start(t *testing.T, place int) {
	t.Helper()
	address := freeAddress(t)
	// Each instance has a way of its own to the provider.
	inside := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Set(instanceHeader, "http://"+address)
		f.logto.Handler().ServeHTTP(w, r)
	}))
	t.Cleanup(inside.Close)
	environ := append(settings(f.url, address, f.redis.url(), f.logto, f.options), "LOGTO_INTERNAL_ENDPOINT="+inside.URL)
	environ = append(environ, f.environ...)
	i := startInstance(t, address, environ)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.instances[place] = i
}

// forward is a load balancer: each instance that lives in turn, and for a request that changes nothing the next one if one
// dies over it.
func (f *fleet) forward(w http.ResponseWriter, r *http.Request) {
	first := int(f.arrived.Add(1))
	f.mu.Lock()
	instances := slices.Clone(f.instances)
	f.mu.Unlock()
	for try := range instances {
		i := instances[(first+try)%len(instances)]
		if i == nil || i.hasEnded() {
			continue
		}
		target, _ := url.Parse(i.url)
		failed := false
		proxy := httputil.ReverseProxy{
			Transport: f.transport,
			ErrorLog:  log.New(io.Discard, "", 0), // an instance that dies in mid-answer is no news here
			Rewrite:   func(p *httputil.ProxyRequest) { p.SetURL(target) },
			ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
				if failed = r.Method == http.MethodGet && r.Context().Err() == nil; !failed {
					http.Error(w, fmt.Sprintf("load balancer: %v", err), http.StatusBadGateway)
				}
			},
		}
		if proxy.ServeHTTP(w, r); !failed {
			return
		}
	}
	http.Error(w, "load balancer: no instance is left", http.StatusBadGateway)
}

// at is the same person at one instance, past the load balancer: the cookies are those of the host.
func (p *person) at(i *instance) *person {
	there := *p
	there.app = i.url
	return &there
}

// get asks an instance, or any URL, without cookies.
func get(ctx context.Context, address string) (int, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return 0, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	return response.StatusCode, response.Body.Close()
}
