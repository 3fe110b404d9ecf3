package session

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// page makes a request that reads the session and saves a value, as a test of what an outage does to both.
func (j jar) page(t testing.TB, s *Store) (who string, took time.Duration, err error) {
	began := time.Now()
	w, r := httptest.NewRecorder(), j.request(t.Context())
	defer func() {
		took = time.Since(began)
		if len(w.Header()) != 0 {
			t.Errorf("Set-Cookie: %v", w.Header())
		}
	}()
	b, err := s.Browser(w, r)
	if err != nil {
		return "", 0, err
	}
	identity, _ := b.Identity(r.Context())
	session, _ := s.Get(r, "sid")
	n, _ := session.Values["n"].(int)
	session.Values["n"] = n + 1
	return strings.TrimPrefix(string(identity), "identity of "), 0, session.Save(r, w)
}

// atMost is what a request may cost while Redis is away, and half a second for a busy machine.
const atMost = 2*time.Second + 500*time.Millisecond

// outage checks that every operation says that Redis is unavailable, sets no cookie, and soon enough.
func outage(t *testing.T, s *Store, j jar) {
	t.Helper()
	if _, took, err := j.page(t, s); !errors.Is(err, ErrUnavailable) || took > atMost {
		t.Errorf("a page: %v after %v", err, took)
	}
	began, w := time.Now(), httptest.NewRecorder()
	b, err := s.Browser(w, jar{}.request(t.Context())) // a visitor's page needs no Redis
	must(t, err)
	if _, err := b.Start(t.Context(), "eve", "sid", time.Now(), []byte("i"), []byte("t")); !errors.Is(err, ErrUnavailable) || time.Since(began) > atMost {
		t.Errorf("a sign-in: %v after %v", err, time.Since(began))
	}
	if len(w.Header()) != 0 {
		t.Errorf("Set-Cookie: %v", w.Header())
	}
}

func recovered(t *testing.T, s *Store, jars ...jar) {
	t.Helper()
	began := time.Now()
	eventually(t, func() error { return s.Ping(t.Context()) })
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("recovered after %v", took)
	}
	for i, j := range jars {
		var who string
		eventually(t, func() (err error) { who, _, err = j.page(t, s); return err })
		if who != fmt.Sprint("person", i) {
			t.Errorf("after the outage, person%d is %q", i, who)
		}
	}
	jar{}.signIn(t, s, "late", "sid")
}

func signedIn(t testing.TB, s *Store, n int) []jar {
	t.Helper()
	jars := make([]jar, n)
	for i := range jars {
		jars[i] = jar{}
		jars[i].signIn(t, s, fmt.Sprint("person", i), fmt.Sprint("sid", i))
	}
	return jars
}

// Redis is killed and started again under load: only errors that say so in between, and no session is lost.
func TestKilledUnderLoad(t *testing.T) {
	server := startRedis(t, "--appendonly", "yes", "--appendfsync", "always")
	s := open(t, "redis://"+server.addr(), DefaultConfig())
	jars := signedIn(t, s.Store, 20)
	ctx, stop := context.WithCancel(t.Context())
	var load sync.WaitGroup
	var fine, away atomic.Int64
	for i, j := range jars {
		load.Go(func() {
			for ctx.Err() == nil {
				who, took, err := j.page(t, s.Store)
				switch {
				case errors.Is(err, ErrUnavailable):
					away.Add(1)
				case err != nil || who != fmt.Sprint("person", i):
					t.Errorf("person%d is %q, %v", i, who, err)
					return
				default:
					fine.Add(1)
				}
				if took > atMost {
					t.Errorf("a request took %v", took)
				}
			}
		})
	}
	for range 3 {
		time.Sleep(200 * time.Millisecond)
		server.kill()
		time.Sleep(200 * time.Millisecond)
		server.start()
		eventually(t, func() error { return s.Ping(t.Context()) })
	}
	time.Sleep(200 * time.Millisecond)
	stop()
	load.Wait()
	recovered(t, s.Store, jars...)
	t.Logf("%d requests were answered, %d found Redis away", fine.Load(), away.Load())
	if fine.Load() == 0 || away.Load() == 0 {
		t.Error("there was no load, or no outage")
	}
}

// A Redis that hangs costs a request at most 2 s, however many wait.
func TestHanging(t *testing.T) {
	server := startRedis(t)
	s := open(t, "redis://"+server.addr(), DefaultConfig())
	jars := signedIn(t, s.Store, 100)
	b, _ := jars[0].load(t, s.Store)
	held, release, err := b.Lock(t.Context())
	must(t, err)
	must(t, server.cmd.Process.Signal(syscall.SIGSTOP))
	outage(t, s.Store, jars[0])
	var all sync.WaitGroup
	for _, j := range jars {
		all.Go(func() {
			if _, took, err := j.page(t, s.Store); !errors.Is(err, ErrUnavailable) || took > atMost {
				t.Errorf("one of 100 at once: %v after %v", err, took)
			}
		})
	}
	began := time.Now()
	err = b.Update(held, func(i, _ []byte) ([]byte, []byte, error) { return i, []byte("new"), nil })
	release()
	if took := time.Since(began); !errors.Is(err, ErrUnavailable) && !errors.Is(err, ErrLockLost) || took > atMost {
		t.Errorf("with a lock: %v after %v", err, took)
	}
	all.Wait()
	must(t, server.cmd.Process.Signal(syscall.SIGCONT))
	recovered(t, s.Store, jars...)
}

// A refusal is known at once.
func TestRefused(t *testing.T) {
	server := startRedis(t)
	s := open(t, "redis://"+server.addr(), DefaultConfig())
	jars := signedIn(t, s.Store, 2)
	server.kill()
	for range 20 {
		if _, took, err := jars[0].page(t, s.Store); !errors.Is(err, ErrUnavailable) || took > 50*time.Millisecond {
			t.Errorf("%v after %v", err, took)
		}
	}
	outage(t, s.Store, jars[0])
}

// What Redis refuses to do is an outage too; what it still does goes on.
func TestRefusals(t *testing.T) {
	for _, tt := range []struct {
		name        string
		begin, over []string // commands
		want        string   // in the error
		reads, ends bool     // still work
	}{
		{"read-only", []string{"REPLICAOF 127.0.0.1 1"}, []string{"REPLICAOF NO ONE"}, "READONLY", true, false},
		{"master down", []string{"CONFIG SET replica-serve-stale-data no", "REPLICAOF 127.0.0.1 1"}, []string{"REPLICAOF NO ONE"}, "MASTERDOWN", false, false},
		{"out of memory", []string{"CONFIG SET maxmemory 1"}, []string{"CONFIG SET maxmemory 0"}, "OOM", true, true},
		{"no permission", []string{"ACL SETUSER default -hmget -evalsha -eval"}, []string{"ACL SETUSER default +@all"}, "NOPERM", false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := startRedis(t)
			s := open(t, "redis://"+server.addr(), DefaultConfig())
			jars := signedIn(t, s.Store, 3)
			run := func(commands []string) {
				for _, command := range commands {
					redisCLI(t, append([]string{"-e", "-p", fmt.Sprint(server.port)}, strings.Fields(command)...)...)
				}
			}
			run(tt.begin)
			outage(t, s.Store, jars[0])
			if _, _, err := jars[0].page(t, s.Store); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %s", err, tt.want)
			}
			if tt.reads {
				if got := jars[0].who(t, s.Store); got != "person0" {
					t.Errorf("signed in as %q", got)
				}
			}
			if tt.ends {
				jars[2].do(t, s.Store, func(b *Browser) { must(t, b.End(t.Context())) })
			}
			run(tt.over)
			recovered(t, s.Store, jars[:2]...)
		})
	}
}

// While Redis loads its data it is away; the sessions are there when it is done.
func TestLoading(t *testing.T) {
	server := startRedis(t, "--appendonly", "yes", "--appendfsync", "always", "--aof-use-rdb-preamble", "no",
		"--key-load-delay", "300", "--loading-process-events-interval-bytes", "1024")
	s := open(t, "redis://"+server.addr(), DefaultConfig())
	jars := signedIn(t, s.Store, 3)
	_, err := s.rdb.Pipelined(t.Context(), func(p redis.Pipeliner) error {
		for i := range 30_000 { // ten seconds' worth, unless it is seen: Redis answers after each 1000
			p.Set(t.Context(), fmt.Sprint("filler", i), "", 0)
		}
		return nil
	})
	must(t, err)
	server.kill()
	server.start()
	loading := false
	eventually(t, func() error {
		_, _, err := jars[0].page(t, s.Store)
		if err != nil && !errors.Is(err, ErrUnavailable) {
			t.Fatal(err)
		}
		if err != nil && strings.Contains(err.Error(), "LOADING") && !loading {
			loading = true
			must(t, server.client().ConfigSet(t.Context(), "key-load-delay", "0").Err()) // it was seen
		}
		return err
	})
	if !loading {
		t.Error("Redis was never seen loading")
	}
	recovered(t, s.Store, jars...)
}

// Restarted empty, Redis knows nobody: everybody is a visitor, and signing in works.
func TestRestartedEmpty(t *testing.T) {
	server := startRedis(t)
	s := open(t, "redis://"+server.addr(), DefaultConfig())
	j := signedIn(t, s.Store, 1)[0]
	server.kill()
	server.start()
	eventually(t, func() error { return s.Ping(t.Context()) })
	if got := j.who(t, s.Store); got != "" {
		t.Errorf("signed in as %q", got)
	}
	j.signIn(t, s.Store, "person0", "")
	recovered(t, s.Store, j)
}

// A URL's form decides, and no message tells a part of its password.
func TestURLForms(t *testing.T) {
	for url, want := range map[string]string{
		"redis://localhost:6379/0":                                   "*redis.Client",
		"rediss://user:secret@localhost:6379/2":                      "*redis.Client",
		"unix:///run/redis.sock?db=1":                                "*redis.Client",
		"redis://user:secret@a:7000?addr=b:7001&addr=c:7002":         "*redis.ClusterClient",
		"redis://a:7000/0?addr=a:7000&read_only=true":                "*redis.ClusterClient",
		"redis://a:26379/1?master_name=main&addr=b:26379":            "*redis.Client",
		"rediss://a:26379?master_name=m&password=secret&username=u":  "*redis.Client",
		"redis://a:26379?master_name=m&route_by_latency=true":        "*redis.Client",
		"redis://a:6379?pool_size=5&dial_timeout=1h&max_retries=100": "*redis.Client",
		"":                                             "",
		"localhost:6379":                               "",
		"http://localhost":                             "",
		"redis://user:se#cret@localhost:6379":          "",
		"redis://user:secret/1@localhost:6379":         "",
		"redis://user:12?secret@localhost:6379":        "",
		"redis://user:secret@localhost:6379/x":         "",
		"redis://user:secret@localhost:port":           "",
		"redis://user:secret@a:7000/1?addr=b:7001":     "",
		"redis://user:secret@a:7000?addr=secret":       "",
		"redis://:secret@a:26379?master_name=":         "",
		"redis://a:26379?master_name=m&pasword=secret": "",
	} {
		cfg := RedisConfig{URL: Secret(url)}
		rdb, err := Open(cfg)
		if want == "" {
			if err == nil || !strings.HasPrefix(err.Error(), "url ") || strings.Contains(err.Error(), "cret") {
				t.Errorf("%s: %v", url, err)
			}
			continue
		}
		if got := fmt.Sprintf("%T", rdb); err != nil || got != want {
			t.Errorf("%s: %s, %v; want %s", url, got, err, want)
			continue
		}
		switch c := rdb.(type) {
		case *redis.Client:
			if o := c.Options(); o.MaxRetries != 0 || o.DialTimeout != time.Second || !o.ContextTimeoutEnabled {
				t.Errorf("%s: retries %d, dial time-out %v", url, o.MaxRetries, o.DialTimeout)
			}
		case *redis.ClusterClient:
			if o := c.Options(); o.ReadOnly || o.DialTimeout != time.Second || !o.ContextTimeoutEnabled {
				t.Errorf("%s: %+v", url, o)
			}
		}
		_ = rdb.Close()
	}
}

// loses loses the answers of one script, or keeps it from running.
type loses struct {
	script string
	before bool
	once   bool
	off    bool
}

func (l *loses) DialHook(next redis.DialHook) redis.DialHook { return next }
func (l *loses) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (l *loses) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		args := cmd.Args()
		is := !l.off && len(args) > 1 && args[1] == scripts[l.script].Hash()
		err := errors.New("read: connection reset by peer")
		if is && l.before {
			cmd.SetErr(err)
			return err
		}
		was := next(ctx, cmd)
		if is && was == nil {
			l.off = l.once
			cmd.SetErr(err)
			return err
		}
		return was
	}
}

// A second sign-in of a signed-in browser, during which the answer to the end of the old session is lost: the new one stays.
func TestLostAnswerInASecondSignIn(t *testing.T) {
	s, j := newSite(t, DefaultConfig(), Options{}), jar{}
	j.signIn(t, s.Store, "ada", "")
	warm := jar{}
	warm.signIn(t, s.Store, "grace", "")
	warm.do(t, s.Store, func(b *Browser) { must(t, b.End(t.Context())) }) // loads the script
	s.rdb.AddHook(&loses{script: "end session", once: true})
	b, w := j.load(t, s.Store)
	_, err := b.Start(t.Context(), "ada", "", time.Now(), []byte("identity of ada"), []byte("t"))
	must(t, err)
	j.keep(w)
	if got := j.who(t, s.Store); got != "ada" {
		t.Errorf("signed in as %q", got)
	}
}

// A session is not extended without the index that leads to it by the provider's session ID.
func TestSIDIndexAfterAFailure(t *testing.T) {
	inBubble(t, DefaultConfig(), func(t *testing.T, s *site) {
		j := jar{}
		j.signIn(t, s.Store, "ada", "sid-1")
		time.Sleep(23 * time.Hour)
		l := &loses{script: "index sid", before: true}
		s.rdb.AddHook(l)
		if j.who(t, s.Store) != "ada" {
			t.Fatal("not signed in")
		}
		l.off = true
		time.Sleep(22 * time.Hour)
		n, err := s.EndBy(t.Context(), "", "sid-1")
		if got := j.who(t, s.Store); got != "" {
			t.Errorf("a logout by sid ended %d, %v: still signed in as %q", n, err, got)
		}
	})
}

// What goroutines of one request do at once, the race detector looks at.
func TestGoroutinesOfARequest(t *testing.T) {
	s, j := newSite(t, DefaultConfig(), Options{}), jar{}
	j.signIn(t, s.Store, "ada", "sid-1")
	b, _ := j.load(t, s.Store)
	ctx := t.Context()
	var all sync.WaitGroup
	for range 4 {
		for _, f := range []func(){
			func() { _, _ = b.Identity(ctx) }, func() { _, _ = b.Tokens(ctx) }, func() { b.IsDue() }, func() { b.Span() }, func() { b.Label() },
			func() {
				if held, release, err := b.Lock(ctx); err == nil {
					_ = b.Update(held, func(i, tokens []byte) ([]byte, []byte, error) {
						return append(bytes.Clone(i), '!'), append(bytes.Clone(tokens), '!'), nil
					})
					release()
				}
			},
			func() {
				if held, release, err := b.TryLock(ctx, time.Millisecond); err == nil && held != nil {
					release()
				}
			},
			func() { _, _ = s.MarkDue(ctx, "ada") }, func() { _, _ = b.Sessions(ctx) }, func() { b.SealSignIn([]byte("x")) }, func() { b.OpenSignIn("x") },
			func() { _, _ = b.HasSession(ctx, "ada", "sid-1") },
			func() {
				if ending := b.Ending(); ending != nil {
					_, _ = b.Tell(ctx), ending.Why
				}
			},
			func() { time.Sleep(20 * time.Millisecond); _ = b.EndDead(ctx) },
		} {
			all.Go(f)
		}
	}
	all.Wait()
}

// slow lets each command take its time, unless its context ends before.
type slow struct{ by time.Duration }

func (l *slow) DialHook(next redis.DialHook) redis.DialHook { return next }
func (l *slow) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (l *slow) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		select {
		case <-time.After(l.by):
			return next(ctx, cmd)
		case <-ctx.Done():
			cmd.SetErr(ctx.Err())
			return ctx.Err()
		}
	}
}

// Redis is silent for three seconds, and then answers in 300 ms each, as one that has just failed over: who has a rotated token to
// save can save it, though all commands of the request together have had their two seconds.
func TestSlowRedisKeepsARotatedToken(t *testing.T) {
	inBubble(t, DefaultConfig(), func(t *testing.T, s *site) {
		j := jar{}
		j.signIn(t, s.Store, "ada", "")
		b, _ := j.load(t, s.Store)
		save := func(b *Browser) error {
			return b.Update(t.Context(), func(i, tokens []byte) ([]byte, []byte, error) { return i, []byte("the rotated one"), nil })
		}
		must(t, b.Update(t.Context(), func(i, tokens []byte) ([]byte, []byte, error) { return i, []byte("x"), nil })) // loads the script
		l := &slow{by: time.Hour}
		s.rdb.AddHook(l)
		began := time.Now()
		var err error
		for time.Since(began) < 30*time.Second { // as auth's saveRotated does
			if time.Since(began) > 3*time.Second {
				l.by = 300 * time.Millisecond
			}
			if err = save(b); err == nil {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
		other, _ := j.load(t, s.Store)
		t.Errorf("after %v: %v; a new request: %v", time.Since(began), err, save(other))
	})
}
