package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// redisServer is a real one, with its files in dir. It writes each command to disk before it answers.
type redisServer struct {
	address, dir string
	process      *exec.Cmd // nil while it is away
	client       *redis.Client

	mu      sync.Mutex
	outages []outage
}

// outage is from when it was killed, was certainly away, and was started again; zero as long as that has not happened.
type outage struct{ killed, from, to time.Time }

func newRedis(dir string) *redisServer {
	address := freeAddress()
	return &redisServer{
		address: address, dir: dir, client: redis.NewClient(&redis.Options{Addr: address, Protocol: 2, DisableIdentity: true}),
	}
}

// start starts it on what it had, and waits until it serves.
func (r *redisServer) start(ctx context.Context) error {
	program, err := exec.LookPath("redis-server")
	if err != nil {
		return errors.New("needs redis-server, which is not in PATH (Debian: apt install redis-server)")
	}
	host, port, _ := net.SplitHostPort(r.address)
	process := exec.Command(program, "--bind", host, "--port", port, "--dir", r.dir, "--save", "",
		"--appendonly", "yes", "--appendfsync", "always", "--loglevel", "warning")
	tie(process)
	r.mu.Lock()
	if n := len(r.outages); n > 0 {
		r.outages[n-1].to = time.Now()
	}
	r.mu.Unlock()
	if err := process.Start(); err != nil {
		return err
	}
	r.process = process
	return eventually(ctx, "redis-server answers", func() bool { return r.client.Ping(ctx).Err() == nil })
}

func (r *redisServer) kill() {
	r.mu.Lock()
	r.outages = append(r.outages, outage{killed: time.Now()})
	r.mu.Unlock()
	_ = r.process.Process.Kill() // it may have ended
	_ = r.process.Wait()         // as the signal said
	r.process = nil
	r.mu.Lock()
	r.outages[len(r.outages)-1].from = time.Now()
	r.mu.Unlock()
}

func (r *redisServer) close() {
	_ = r.client.Close()
	if r.process != nil {
		r.kill()
	}
}

// away reports whether Redis was away all the time between two moments, or at least about then, give or take some.
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
		perhaps = perhaps || o.killed.Before(to.Add(some)) && back.After(from.Add(-some))
	}
	return certainly, perhaps
}

// kind is a kind of key, by the first word of its name.
type kind struct {
	name    string
	keys    int
	bytes   int64
	longest time.Duration // that one of them still has to live
}

// look returns what is in Redis. A key without a lifetime is a violation.
func (r *redisServer) look(ctx context.Context, t *tally) ([]kind, error) {
	var kinds []kind
	var cursor uint64
	for first := true; first || cursor != 0; first = false {
		keys, next, err := r.client.Scan(ctx, cursor, "", 1000).Result()
		if err != nil {
			return nil, fmt.Errorf("look into Redis: %w", err)
		}
		cursor = next
		lives, sizes := make([]*redis.DurationCmd, len(keys)), make([]*redis.IntCmd, len(keys))
		_, err = r.client.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i, key := range keys {
				lives[i], sizes[i] = p.PTTL(ctx, key), p.MemoryUsage(ctx, key)
			}
			return nil
		})
		if err != nil && !errors.Is(err, redis.Nil) { // Nil: a key has ended meanwhile
			return nil, fmt.Errorf("look into Redis: %w", err)
		}
		t.add("keys looked at", len(keys))
		for i, key := range keys {
			name, _, _ := strings.Cut(key, ":")
			at := slices.IndexFunc(kinds, func(k kind) bool { return k.name == name })
			if at < 0 {
				at, kinds = len(kinds), append(kinds, kind{name: name})
			}
			k := &kinds[at]
			k.keys, k.bytes, k.longest = k.keys+1, k.bytes+sizes[i].Val(), max(k.longest, lives[i].Val())
			if lives[i].Val() == -1 {
				t.violate(everyKeyEnds, "a key of kind %s", name)
			}
		}
	}
	slices.SortFunc(kinds, func(a, b kind) int { return cmp.Compare(a.name, b.name) })
	return kinds, nil
}

// size returns how much memory Redis uses, and for how many keys.
func (r *redisServer) size(ctx context.Context) (memory, keys int64, err error) {
	info, err := r.client.Info(ctx, "memory").Result()
	if err != nil {
		return 0, 0, fmt.Errorf("look into Redis: %w", err)
	}
	_, rest, _ := strings.Cut(info, "used_memory:")
	text, _, _ := strings.Cut(rest, "\r\n")
	if memory, err = strconv.ParseInt(text, 10, 64); err != nil {
		return 0, 0, fmt.Errorf("look into Redis: %w", err)
	}
	keys, err = r.client.DBSize(ctx).Result()
	return memory, keys, err
}
