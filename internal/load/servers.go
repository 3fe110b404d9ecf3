package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9/logging"

	"example.com/logto-gin-starter/auth/authtest"
)

// servers are several instances with one Redis and one provider, behind one public address.
type servers struct {
	url       string // the load balancer's
	dir       string
	logto     *authtest.Server
	refreshes *refreshes
	redis     *redisServer
	slots     []atomic.Pointer[instance]
	environ   []string // of every instance
	arrived   atomic.Int64
	transport *http.Transport
	tally     *tally
	closers   []func()
}

// start builds the application and starts everything. It leaves nothing behind if it fails.
func start(ctx context.Context, o options, t *tally) (_ *servers, err error) {
	logging.Disable() // of go-redis: a Redis that is away is no news here
	s := &servers{
		tally: t, refreshes: newRefreshes(t), slots: make([]atomic.Pointer[instance], o.instances),
		transport: &http.Transport{MaxIdleConnsPerHost: 1024},
	}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.dir, err = os.MkdirTemp("", "load-"); err != nil {
		return nil, err
	}
	s.closers = append(s.closers, func() { _ = os.RemoveAll(s.dir) }) // what is left is in the system's temporary directory
	s.redis = newRedis(s.dir)
	s.closers = append(s.closers, s.redis.close)
	if err := s.redis.start(ctx); err != nil {
		return nil, err
	}
	build := exec.CommandContext(ctx, "go", "build", "-tags", "nomsgpack", "-o", s.program(), "example.com/logto-gin-starter")
	if output, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the application: %w\n%s", err, output)
	}
	balancer := serve(http.HandlerFunc(s.forward))
	s.url = balancer.URL
	s.closers = append(s.closers, func() { hangUp(balancer) })
	if s.logto, s.environ, err = startProvider(s.url, peopleOf(o.browsers)); err != nil {
		return nil, err
	}
	s.closers = append(s.closers, s.logto.Close)
	s.logto.On(authtest.Token, s.refreshes.watch)
	s.environ = append(s.environ, "REDIS_URL=redis://"+s.redis.address)
	for slot := range s.slots {
		if err := s.startInstance(ctx, slot); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *servers) program() string { return filepath.Join(s.dir, "app") }

func (s *servers) close() {
	for slot := range s.slots {
		if i := s.slots[slot].Load(); i != nil {
			i.kill()
		}
	}
	for len(s.closers) > 0 {
		last := len(s.closers) - 1
		s.closers[last]()
		s.closers = s.closers[:last]
	}
}

// scopes are all that the application can ask of the provider for these people.
const scopes = "email roles custom_data urn:logto:scope:organizations read:members read:products write:products read:orders"

// startProvider starts one with the demo's data and this many people more: it is strict, and access tokens live for
// seconds. It returns the application's settings too.
func startProvider(appURL string, people int) (*authtest.Server, []string, error) {
	address := freeAddress()
	_, port, _ := net.SplitHostPort(address)
	endpoint := "http://localhost:" + port // another host than the application's, as in production
	demo := authtest.Demo(endpoint, appURL)
	demo.RotateAlways, demo.AccessTokenLife = true, 5*time.Second
	for i := range people {
		who := personName(i)
		demo.Users = append(demo.Users, authtest.User{
			Subject: who, Username: who, Password: who, Name: "I am " + who, Email: who + "@example.com", Roles: []string{"merchant"},
		})
		if i%2 == 0 {
			demo.Organizations[0].Members[who] = []string{"member"}
		}
	}
	logto, err := authtest.Start(address, endpoint, demo)
	return logto, []string{
		"BASE_URL=" + appURL,
		"LOGTO_ENDPOINT=" + endpoint,
		"LOGTO_APP_ID=" + demo.Apps[0].ID,
		"LOGTO_APP_SECRET=" + demo.Apps[0].Secret,
		"LOGTO_SCOPES=" + scopes,
		"LOGTO_RESOURCES=" + demo.Resources[0].Indicator + " " + demo.Resources[1].Indicator,
		"RATE_LIMIT=off", // here all people come from one address
	}, err
}

// instance is the application as a process, from its start to its end.
type instance struct {
	url     string
	process *exec.Cmd
	inside  *httptest.Server // its own way to the provider, by which the provider knows it
	log     *logWatch
	ended   chan struct{}
}

// instanceHeader tells the provider which instance sent a request.
const instanceHeader = "X-Instance"

func (s *servers) startInstance(ctx context.Context, slot int) error {
	address := freeAddress()
	i := &instance{url: "http://" + address, log: &logWatch{tally: s.tally}, ended: make(chan struct{})}
	i.inside = serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Set(instanceHeader, i.inside.URL)
		s.logto.Handler().ServeHTTP(w, r)
	}))
	i.process = exec.Command(s.program())
	i.process.Dir, i.process.Stdout, i.process.Stderr = s.dir, i.log, i.log
	i.process.Env = append([]string{"LISTEN_ADDR=" + address, "LOGTO_INTERNAL_ENDPOINT=" + i.inside.URL}, s.environ...)
	tie(i.process)
	if err := i.process.Start(); err != nil {
		i.inside.Close()
		return err
	}
	go func() {
		_ = i.process.Wait() // hasEnded tells
		close(i.ended)
	}()
	err := eventually(ctx, "the application serves", func() bool {
		response, err := http.Get(i.url + "/healthz")
		if err == nil {
			_ = response.Body.Close()
		}
		return err == nil || i.hasEnded()
	})
	if err == nil && i.hasEnded() {
		err = errors.New("the application does not start")
	}
	if err != nil {
		i.kill()
		return fmt.Errorf("%w: %s", err, i.log.last)
	}
	s.slots[slot].Store(i)
	return nil
}

func (i *instance) kill() {
	_ = i.process.Process.Kill() // it may have ended
	<-i.ended
	hangUp(i.inside)
}

func (i *instance) hasEnded() bool {
	select {
	case <-i.ended:
		return true
	default:
		return false
	}
}

// killInstances kills one after the other, as the system does when memory is short, and starts it again.
func (s *servers) killInstances(ctx context.Context, o options) error {
	random := rand.New(rand.NewPCG(o.seed, 1<<32))
	for o.killInstance > 0 && sleep(ctx, around(random, o.killInstance)) {
		slot := random.IntN(len(s.slots))
		i := s.slots[slot].Load()
		broken := s.refreshes.killing(i.inside.URL)
		i.kill()
		s.tally.add("instances killed", 1)
		s.tally.add("  of these in the middle of a refresh", min(broken, 1))
		s.tally.add("  refreshes that may have been broken off", broken)
		sleep(ctx, 300*time.Millisecond)
		if err := s.startInstance(context.WithoutCancel(ctx), slot); err != nil {
			return err
		}
	}
	return nil
}

func (s *servers) killRedis(ctx context.Context, o options) error {
	random := rand.New(rand.NewPCG(o.seed, 2<<32))
	for o.killRedis > 0 && sleep(ctx, around(random, o.killRedis)) {
		s.redis.kill()
		s.tally.add("Redis killed", 1)
		sleep(ctx, around(random, time.Second))
		if err := s.redis.start(context.WithoutCancel(ctx)); err != nil {
			return err
		}
	}
	return nil
}

// around is between half of d and one and a half.
func around(random *rand.Rand, d time.Duration) time.Duration {
	return d/2 + time.Duration(random.Int64N(int64(d)))
}

// balancerHeader marks the answers that are none of the application's.
const balancerHeader = "X-Balancer"

// forward is a load balancer: each instance that lives in turn, and for a request that changes nothing the next one if one
// dies over it.
func (s *servers) forward(w http.ResponseWriter, r *http.Request) {
	first := int(s.arrived.Add(1))
	for try := range s.slots {
		i := s.slots[(first+try)%len(s.slots)].Load()
		if i == nil || i.hasEnded() {
			continue
		}
		target, _ := url.Parse(i.url)
		again := false
		proxy := httputil.ReverseProxy{
			Transport: s.transport,
			ErrorLog:  log.New(io.Discard, "", 0),
			Rewrite:   func(p *httputil.ProxyRequest) { p.SetURL(target) },
			ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
				if again = r.Method == http.MethodGet && r.Context().Err() == nil; !again {
					w.Header().Set(balancerHeader, "the instance died")
					w.WriteHeader(http.StatusBadGateway)
				}
			},
		}
		if proxy.ServeHTTP(w, r); !again {
			return
		}
	}
	w.Header().Set(balancerHeader, "no instance is left")
	w.WriteHeader(http.StatusBadGateway)
}

// serve is a server on this machine that says nothing of clients that went away.
func serve(handler http.Handler) *httptest.Server {
	server := httptest.NewUnstartedServer(handler)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.Start()
	return server
}

func hangUp(server *httptest.Server) {
	server.CloseClientConnections()
	server.Close()
}

// freeAddress is one at which nobody listens, below the ports that systems give to outgoing connections: a server that was
// killed gets the same one again.
func freeAddress() string {
	for {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(20_000+rand.IntN(12_000)))
		if listener, err := net.Listen("tcp", address); err == nil {
			_ = listener.Close()
			return address
		}
	}
}

// eventually waits for what should take a moment.
func eventually(ctx context.Context, what string, holds func() bool) error {
	for end := time.Now().Add(20 * time.Second); !holds(); {
		if time.Now().After(end) {
			return fmt.Errorf("%s: not within 20 seconds", what)
		}
		if !sleep(ctx, 10*time.Millisecond) {
			return fmt.Errorf("%s: %w", what, ctx.Err())
		}
	}
	return nil
}
