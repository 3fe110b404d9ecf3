package session

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// underLoad makes requests of all browsers until stop is called, which returns how many were answered and how many found
// Redis away. Whatever happens to Redis, nobody may be anybody else, or nobody.
func underLoad(t *testing.T, s *Store, jars []jar) (stop func() (answered, away int64)) {
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	var fine, unavailable atomic.Int64
	for i, j := range jars {
		all.Go(func() {
			for ctx.Err() == nil {
				who, took, err := j.page(t, s)
				switch {
				case errors.Is(err, ErrUnavailable):
					unavailable.Add(1)
				case err != nil || who != fmt.Sprint("person", i):
					t.Errorf("person%d is %q, %v", i, who, err)
					return
				default:
					fine.Add(1)
				}
				if took > atMost {
					t.Errorf("a request took %v", took)
				}
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
	stop = sync.OnceValues(func() (int64, int64) {
		cancel()
		all.Wait()
		return fine.Load(), unavailable.Load()
	})
	t.Cleanup(func() { _, _ = stop() })
	return stop
}

// replicated waits until a master's replicas have what it has.
func replicated(t *testing.T, rdb *redis.Client, replicas int) {
	t.Helper()
	eventually(t, func() error {
		if n, err := rdb.Wait(t.Context(), replicas, time.Second).Result(); int(n) < replicas {
			return fmt.Errorf("%d of %d replicas: %v", n, replicas, err)
		}
		return nil
	})
}

// startCluster starts three masters with a replica each.
func startCluster(t *testing.T) []*server {
	nodes := make([]*server, 6)
	create := []string{"--cluster", "create"}
	for i := range nodes {
		nodes[i] = startRedis(t, "--cluster-enabled", "yes", "--cluster-node-timeout", "4000", "--cluster-port", fmt.Sprint(freePort(t)),
			"--repl-diskless-sync-delay", "0", "--cluster-replica-validity-factor", "0")
		create = append(create, nodes[i].addr())
	}
	redisCLI(t, append(create, "--cluster-replicas", "1", "--cluster-yes")...)
	for _, node := range nodes {
		node.wait(func(rdb *redis.Client) error {
			info, err := rdb.ClusterInfo(t.Context()).Result()
			if err != nil || !strings.Contains(info, "cluster_state:ok") || !strings.Contains(info, "cluster_known_nodes:6") {
				return fmt.Errorf("%w: %s", err, info)
			}
			if nodes := rdb.ClusterNodes(t.Context()).Val(); strings.Count(nodes, " slave ")+strings.Count(nodes, ",slave ") != 3 {
				return fmt.Errorf("not three replicas: %s", nodes)
			}
			if role := rdb.Info(t.Context(), "replication").Val(); strings.Contains(role, "role:slave") && !strings.Contains(role, "master_link_status:up") {
				return errors.New("replica is not in step")
			}
			return nil
		})
	}
	return nodes
}

func TestCluster(t *testing.T) {
	if testing.Short() {
		t.Skip("a Redis Cluster takes long to start: left out with -short")
	}
	t.Parallel()
	nodes := startCluster(t)
	s := open(t, fmt.Sprintf("redis://%s?addr=%s", nodes[0].addr(), nodes[1].addr()), DefaultConfig())
	jars := signedIn(t, s.Store, 50)
	t.Run("everything", func(t *testing.T) { everything(t, s) })
	t.Run("a user of its own", func(t *testing.T) {
		for _, node := range nodes {
			user := append(strings.Fields(leastUser), "+cluster|slots", "+asking")
			redisCLI(t, append([]string{"-e", "-p", fmt.Sprint(node.port), "ACL", "SETUSER", "app"}, user...)...)
		}
		s := open(t, fmt.Sprintf("redis://app:p%%2540ss:word%%2F@%s?addr=%s", nodes[0].addr(), nodes[1].addr()), DefaultConfig())
		everything(t, s)
		moveSlots(t, s, nodes[1], signedIn(t, s.Store, 50))
	})
	t.Run("two keys", func(t *testing.T) {
		old := NewKey()
		j, rotated := jar{}, s.withKeys(NewKey(), old)
		j.signIn(t, s.withKeys(old), "grace", "grace's")
		j.signIn(t, rotated, "grace", "grace's")
		if got := j.who(t, rotated); got != "grace" {
			t.Errorf("signed in as %q", got)
		}
		_, err := s.withKeys(old).EndBy(t.Context(), "grace", "") // an instance that knows only the old one
		must(t, err)
		b, _ := jar{}.load(t, rotated)
		if started, err := b.Start(t.Context(), "grace", "", time.Now().Add(-time.Minute), nil, nil); started || err != nil {
			t.Errorf("Start = %v, %v; want it overtaken", started, err)
		}
	})
	t.Run("one command", func(t *testing.T) {
		if got := s.sent.during(func() { jars[0].who(t, s.Store) }); got != 1 {
			t.Errorf("a page costs %d commands", got)
		}
	})
	t.Run("moved slot", func(t *testing.T) { moveSlots(t, s, nodes[0], jars) })
	t.Run("person on the way", func(t *testing.T) { movePerson(t, s, nodes) })
	t.Run("hanging master", func(t *testing.T) {
		stop := underLoad(t, s.Store, jars)
		must(t, nodes[2].cmd.Process.Signal(syscall.SIGSTOP))
		began := time.Now()
		for _, j := range jars {
			eventually(t, func() error { _, _, err := j.page(t, s.Store); return err })
		}
		t.Logf("all answered again after %v", time.Since(began))
		must(t, nodes[2].cmd.Process.Signal(syscall.SIGCONT))
		time.Sleep(time.Second)
		stop()
		recovered(t, s.Store, jars...)
	})
	t.Run("killed master", func(t *testing.T) {
		for _, node := range nodes {
			if rdb := node.client(); strings.Contains(rdb.Info(t.Context(), "replication").Val(), "role:master") {
				replicated(t, rdb, 1)
			}
		}
		stop := underLoad(t, s.Store, jars)
		time.Sleep(300 * time.Millisecond)
		nodes[0].kill()
		began := time.Now()
		for _, j := range jars {
			eventually(t, func() error { _, _, err := j.page(t, s.Store); return err })
		}
		if took := time.Since(began); took > 20*time.Second { // Redis needs two or three
			t.Errorf("all answered again after %v", took)
		}
		fine, away := stop()
		t.Logf("%d requests were answered, %d found Redis away", fine, away)
		if away == 0 {
			t.Error("there was no outage")
		}
		recovered(t, s.Store, jars...)
	})
}

// movePerson looks at a person's sessions while one of them, or their index, is on its way to another node: nobody is signed
// out by that.
func movePerson(t *testing.T, s *site, nodes []*server) {
	ctx := t.Context()
	for _, moved := range []string{"session", "index"} {
		one, two := jar{}, jar{}
		one.signIn(t, s.Store, moved, "")
		two.signIn(t, s.Store, moved, "")
		at, other := find(one["sid"]), find(two["sid"])
		slot := s.rdb.ClusterKeySlot(ctx, at.key()).Val()
		var from, to *server
		for _, node := range nodes {
			switch isMaster := strings.Contains(node.client().Info(ctx, "replication").Val(), "role:master"); {
			case isMaster && node.client().Exists(ctx, at.key()).Err() == nil:
				from = node
			case isMaster:
				to = node
			}
		}
		must(t, to.client().Do(ctx, "CLUSTER", "SETSLOT", slot, "IMPORTING", from.client().Do(ctx, "CLUSTER", "MYID").Val()).Err())
		toID := to.client().Do(ctx, "CLUSTER", "MYID").Val()
		must(t, from.client().Do(ctx, "CLUSTER", "SETSLOT", slot, "MIGRATING", toID).Err())
		first := at.key()
		if moved == "index" {
			first = at.person()
		}
		must(t, from.client().Migrate(ctx, "127.0.0.1", fmt.Sprint(to.port), first, 0, time.Second).Err())
		_, _ = s.MarkDue(ctx, moved) // may fail, and loses nothing
		two.do(t, s.Store, func(b *Browser) { _, _ = b.Sessions(ctx) })
		for _, key := range []string{at.person(), at.key(), other.key()} {
			_ = from.client().Migrate(ctx, "127.0.0.1", fmt.Sprint(to.port), key, 0, time.Second)
		}
		for _, node := range nodes {
			node.client().Do(ctx, "CLUSTER", "SETSLOT", slot, "NODE", toID)
		}
		for _, j := range []jar{one, two} {
			eventually(t, func() error {
				return s.rdb.SetRange(ctx, find(j["sid"]).key(), int64(len("0000000001 ")), "1000000000000").Err()
			})
			if got := j.who(t, s.Store); got != moved {
				t.Errorf("while its person's %s moved, a session became that of %q", moved, got)
			}
		}
	}
}

// moveSlots moves a third of the slots to another master, under load.
func moveSlots(t *testing.T, s *site, node *server, jars []jar) {
	var ids []string
	for line := range strings.Lines(node.client().ClusterNodes(t.Context()).Val()) {
		if fields := strings.Fields(line); strings.Contains(fields[2], "master") && len(fields) > 8 { // has slots
			ids = append(ids, fields[0])
		}
	}
	stop := underLoad(t, s.Store, jars)
	redisCLI(t, "--cluster", "reshard", node.addr(), "--cluster-from", ids[0], "--cluster-to", ids[1], "--cluster-slots", "1500", "--cluster-yes")
	time.Sleep(200 * time.Millisecond)
	fine, away := stop()
	t.Logf("%d requests were answered, %d found Redis away", fine, away)
	recovered(t, s.Store, jars...)
}

// everything uses all that the package does with Redis once.
func everything(t *testing.T, s *site) {
	ctx, j := t.Context(), jar{}
	must(t, j.values(t, s.Store, set("k", "v")))
	j.do(t, s.Store, func(b *Browser) {
		if first, err := b.UseSignIn(ctx, randomID(), time.Minute); !first || err != nil {
			t.Errorf("UseSignIn = %v, %v", first, err)
		}
		starts(t, b, "ada", "sid", []byte("identity of ada"), []byte("t"))
	})
	j.do(t, s.Store, func(b *Browser) {
		s.rdb.SetRange(ctx, b.at.key(), int64(len("0000000001 ")), "1000000000000") // long not seen
		held, release, err := b.Lock(ctx)
		must(t, err)
		must(t, b.Update(held, func(i, tokens []byte) ([]byte, []byte, error) { return i, append(tokens, '!'), nil }))
		release()
		counted, err := s.CountedBrowser(httptest.NewRecorder(), j.request(ctx))
		if must(t, err); counted.Places() != 1 {
			t.Errorf("counted %d places", counted.Places())
		}
		tokens, err := b.Tokens(ctx)
		if string(tokens) != "t!" || err != nil {
			t.Errorf("Tokens = %q, %v", tokens, err)
		}
	})
	j.who(t, s.Store) // extends
	if got := j.get(t, s.Store, "k"); got != "v" {
		t.Errorf("k = %v", got)
	}
	others := []jar{{}, {}, {}}
	for _, other := range others {
		other.signIn(t, s.Store, "ada", "sid 2")
	}
	j.do(t, s.Store, func(b *Browser) {
		all, err := b.Sessions(ctx)
		if len(all) != 4 || err != nil || !all[0].Current || time.Since(all[0].Seen) > time.Minute {
			t.Errorf("Sessions = %v, %v", all, err)
		}
		ends(t, b, all[1].ID)
		if n, err := s.EndBy(ctx, "", "sid 2"); n != 2 || err != nil {
			t.Errorf("EndBy = %d, %v", n, err)
		}
		if n, err := b.EndOthers(ctx); n != 0 || err != nil {
			t.Errorf("EndOthers = %d, %v", n, err)
		}
		must(t, b.End(ctx))
	})
	if n, err := s.EndBy(ctx, "", randomID()); n != 0 || err != nil {
		t.Errorf("EndBy of nobody = %d, %v", n, err)
	}
	if n, err := s.MarkDue(ctx, "ada"); n != 0 || err != nil {
		t.Errorf("MarkDue of nobody = %d, %v", n, err)
	}
	jti := randomID()
	must(t, s.Note(ctx, jti, time.Minute))
	if noted, err := s.Noted(ctx, jti); !noted || err != nil {
		t.Errorf("Noted = %v, %v", noted, err)
	}
	must(t, s.Ping(ctx))
}

func TestSentinel(t *testing.T) {
	if testing.Short() {
		t.Skip("Sentinels take long to start: left out with -short")
	}
	t.Parallel()
	master := startRedis(t, "--repl-diskless-sync-delay", "0")
	replicas := []*server{
		startRedis(t, "--replicaof", "127.0.0.1 "+fmt.Sprint(master.port)),
		startRedis(t, "--replicaof", "127.0.0.1 "+fmt.Sprint(master.port)),
	}
	replicated(t, master.client(), 2)
	sentinels := make([]*server, 3)
	for i := range sentinels {
		conf := writeFile(t, fmt.Sprintf("sentinel monitor main 127.0.0.1 %d 2\nsentinel down-after-milliseconds main 1000\n"+
			"sentinel failover-timeout main 6000\nsentinel parallel-syncs main 2\n", master.port))
		sentinels[i] = &server{t: t, port: freePort(t)}
		sentinels[i].args = []string{conf, "--sentinel", "--port", strconv.Itoa(sentinels[i].port), "--bind", "127.0.0.1", "--dir", t.TempDir()}
		sentinels[i].start()
		t.Cleanup(sentinels[i].kill)
	}
	for _, sentinel := range sentinels {
		sentinel.wait(func(rdb *redis.Client) error {
			out, err := rdb.Do(t.Context(), "SENTINEL", "CKQUORUM", "main").Text()
			if err != nil || !strings.HasPrefix(out, "OK 3") {
				return fmt.Errorf("%s: %w", out, err)
			}
			list, err := rdb.Do(t.Context(), "SENTINEL", "REPLICAS", "main").Slice()
			if len(list) != 2 {
				return fmt.Errorf("%d replicas: %w", len(list), err)
			}
			return nil
		})
	}
	s := open(t, fmt.Sprintf("redis://%s/0?master_name=main&addr=%s&addr=%s", sentinels[0].addr(), sentinels[1].addr(), sentinels[2].addr()), DefaultConfig())
	jars := signedIn(t, s.Store, 20)
	t.Run("everything", func(t *testing.T) { everything(t, s) })

	after := func(name string, wait func() bool, disrupt func()) {
		t.Run(name, func(t *testing.T) {
			stop := underLoad(t, s.Store, jars)
			time.Sleep(200 * time.Millisecond)
			began := time.Now()
			disrupt()
			eventually(t, func() error {
				if !wait() {
					return errors.New("no failover yet")
				}
				_, _, err := jars[0].page(t, s.Store)
				return err
			})
			t.Logf("answered again after %v", time.Since(began))
			time.Sleep(200 * time.Millisecond)
			fine, away := stop()
			t.Logf("%d requests were answered, %d found Redis away", fine, away)
			recovered(t, s.Store, jars...)
		})
	}
	current := func() string {
		addr, _ := sentinels[0].client().Do(t.Context(), "SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main").StringSlice()
		return strings.Join(addr, ":")
	}
	replicated(t, master.client(), 2)
	after("forced failover", func() bool { return current() != master.addr() }, func() {
		redisCLI(t, "-p", fmt.Sprint(sentinels[0].port), "SENTINEL", "FAILOVER", "main")
	})
	var second *server
	for _, replica := range replicas {
		if replica.addr() == current() {
			second = replica
		}
	}
	replicated(t, second.client(), 1)
	after("killed master", func() bool { return current() != second.addr() }, second.kill)
}
