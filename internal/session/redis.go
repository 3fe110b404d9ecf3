package session

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Open returns a client for the Redis that a URL names. It connects when it is used. The forms are go-redis's:
//
//	redis://user:password@host:6379/0                      one server; rediss:// with TLS, unix:// a socket
//	redis://user:password@host:6379?addr=host2:6379&…      a Cluster, by some of its nodes (addr names it: repeat the only one)
//	redis://host:26379/0?master_name=main&addr=host2:26379&username=…&password=…
//	                                                       a master by its Sentinels; a user before the host is the Sentinels'
//
// With rediss, every node must have a certificate for the host in the URL, of an authority that the system trusts (or
// that the environment variable SSL_CERT_FILE adds). Pool sizes may be given as go-redis documents them. Time-outs and
// retries are ours, whatever the URL says: a refused connection is known within milliseconds, and a silent Redis costs
// one bounded wait. Replicas are never read, for one may not know yet who has just signed in or out.
//
// A Redis user for this package alone needs the keys session:*, lock:*, person:*, sid:*, ended:* and once:* (and rate:* for the limit),
// and the commands hello ping select get set getrange setrange del exists pexpire pttl time zadd zrem zrange zscore zcount
// zremrangebyscore evalsha eval; for a Cluster also cluster|slots and asking. With info too, the eviction policy is looked at.
func Open(cfg RedisConfig) (redis.UniversalClient, error) {
	open, err := parse(string(cfg.URL))
	if err != nil {
		return nil, err
	}
	return open(), nil
}

// parse returns the constructor for a URL's form. go-redis's own messages may quote a part of a password, and stay here.
func parse(text string) (func() redis.UniversalClient, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "redis" && u.Scheme != "rediss" && u.Scheme != "unix" {
		return nil, errors.New("url must look like redis://[user:password@]host:port/0, with special characters of a password percent-encoded")
	}
	query := u.Query()
	for option, ours := range map[string]string{
		"dial_timeout": "1s", "pool_timeout": "1s", "read_timeout": "1s", "write_timeout": "1s",
		"max_retries": "-1",
		"protocol":    "2", // nothing here needs what a RESP3 server pushes, nor the look for it before each command
	} {
		query.Set(option, ours)
	}
	u.RawQuery = query.Encode()
	quiet := &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	switch {
	case query.Has("master_name"):
		o, err := redis.ParseFailoverURL(u.String())
		if err != nil || o.MasterName == "" {
			return nil, errors.New("url is not a URL of Redis Sentinels: unknown option, no master_name, or not a number where one is needed")
		}
		o.DialerRetries, o.ContextTimeoutEnabled, o.DisableIdentity = 1, true, true
		o.ReplicaOnly, o.RouteByLatency, o.RouteRandomly = false, false, false
		return func() redis.UniversalClient { return redis.NewFailoverClient(o) }, nil
	case query.Has("addr"):
		o, err := redis.ParseClusterURL(u.String())
		if err != nil || strings.Trim(u.Path, "/0") != "" {
			return nil, errors.New("url is not a URL of a Redis Cluster: unknown option, database other than 0, or not a number where one is needed")
		}
		o.DialerRetries, o.ContextTimeoutEnabled, o.DisableIdentity, o.MaintNotificationsConfig = 1, true, true, quiet
		o.ReadOnly, o.RouteByLatency, o.RouteRandomly = false, false, false
		o.MaxRedirects = 3
		o.DisableRoutingPolicies = true            // they ask the nodes about each command first, in a time of their own
		o.ClusterStateReloadInterval = time.Second // a dead master's slots are looked for only then, so not go-redis's minute
		return func() redis.UniversalClient { return redis.NewClusterClient(o) }, nil
	}
	o, err := redis.ParseURL(u.String())
	if err != nil {
		return nil, errors.New("url is not a URL of one Redis server: unknown option, or not a number where one is needed")
	}
	o.DialerRetries, o.ContextTimeoutEnabled, o.DisableIdentity, o.MaintNotificationsConfig = 1, true, true, quiet
	return func() redis.UniversalClient { return redis.NewClient(o) }, nil
}

// What Redis may cost: one command; one that a request can do without; all commands of a request together, and each one more
// after that. An Update begins to count anew.
const (
	patience      = 1500 * time.Millisecond
	shortPatience = 500 * time.Millisecond
	allPatience   = 2 * time.Second
	lastPatience  = 250 * time.Millisecond
)

//go:embed scripts.lua
var lua string

// scripts are those of scripts.lua by name. Each begins with what stands before the first.
var scripts = func() map[string]*redis.Script {
	parts, all := strings.Split(lua, "\n-- name: "), make(map[string]*redis.Script)
	for _, part := range parts[1:] {
		name, text, _ := strings.Cut(part, "\n")
		all[strings.TrimSpace(name)] = redis.NewScript(parts[0] + "\n" + text)
	}
	return all
}()

// What the first number of a script's answer means.
const (
	gone     = int64(0) // there is no such session; the mark that it may have left follows
	done     = int64(1)
	conflict = int64(2) // not done; what follows is the session as it is
	refused  = int64(3) // not done, for the lock is another's, or the sign-in began too early
)

// conn sends commands to Redis, and bounds how long all of them wait.
type conn struct {
	rdb     redis.UniversalClient
	observe func(ctx context.Context, event, outcome string, value float64)
	waited  atomic.Int64 // until now, in ns
}

// conn returns one for what is no request's, or not only one's.
func (s *Store) conn() *conn { return &conn{rdb: s.rdb, observe: s.observe} }

// do gives a command its bound and its error. A client that went away is no outage.
func (c *conn) do(ctx context.Context, limit time.Duration, step string, command func(context.Context) error) error {
	began := time.Now()
	left := allPatience - time.Duration(c.waited.Load())
	bounded, cancel := context.WithTimeout(ctx, min(limit, max(left, lastPatience)))
	defer cancel()
	err := command(bounded)
	c.waited.Add(int64(time.Since(began)))
	switch {
	case err == nil, errors.Is(err, redis.Nil):
		return err
	case errors.Is(ctx.Err(), context.Canceled):
		return fmt.Errorf("%s: %w", step, context.Cause(ctx))
	}
	return fmt.Errorf("%s: %w: %w", step, ErrUnavailable, err)
}

// run runs a script. All but one answer with a list that begins with a code.
func (c *conn) run(ctx context.Context, limit time.Duration, script string, keys []string, args ...any) (reply []any, err error) {
	err = c.do(ctx, limit, script, func(ctx context.Context) (err error) {
		reply, err = scripts[script].Run(ctx, c.rdb, keys, args...).Slice()
		return err
	})
	return reply, err
}

// last returns the last part of an answer if that is a text, else "".
func last(reply []any) string { return text(reply[len(reply)-1]) }

// text returns what Redis answered if that is a text, else "".
func text(answer any) string {
	s, _ := answer.(string)
	return s
}
