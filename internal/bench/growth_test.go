//go:build linux

package bench

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"golang.org/x/sync/errgroup"

	"example.com/logto-gin-starter/internal/session"
)

// A page costs a large site's application as much as a small one's, and over few and many connections as little more than the
// limit as over some. It fails above what must be.
func TestGrowth(t *testing.T) {
	need(t, *growth > 0, "-growth 1000000")
	const small, looked = 1000, 1000 // sessions at all, and that are looked at
	s := newSurroundings(t)
	app := buildApp(t)
	limit, ours := s.start(buildLimit(t, s.pages(app)...)), s.start(app)

	var rows []*row
	var costs [][2]cost
	for _, n := range []int{1, 32, 512} {
		rows = append(rows, &row{name: fmt.Sprintf("home, signed in, over %d connections: µs, ÷ limit", n), ratio: true, must: 1.30, goal: 1.10})
		costs = append(costs, [2]cost{
			{1000, limit.visitors(n, limit.request("/", asHTML, s.signIn(limit)))},
			{1000, ours.visitors(n, ours.request("/", asHTML, s.signIn(ours)))},
		})
	}
	programs := [][2]*program{{limit, ours}, {limit, ours}, {limit, ours}}

	rows = append(rows, &row{name: fmt.Sprintf("home, signed in, at %d sessions: µs, ÷ at %d", *growth, small), ratio: true, must: 1.02, goal: 1})
	var pair [2]*program
	var both [2]cost
	for i, n := range []int{small, *growth} {
		address := startRedis(t)
		// Nobody is asked again at Logto, where these sessions are not.
		p := s.start(app, "REDIS_URL=redis://"+address, "SESSION_REVALIDATE=24h")
		config := session.DefaultConfig()
		config.Key = session.Secret(s.key)
		store := session.NewStore(openRedis(t, address), config, session.Options{})
		identity, tokens := s.known(store, p)
		cookies := fill(t, store, n, func() ([]byte, []byte) { return identity, tokens })
		var requests [][]byte
		for i := range looked {
			requests = append(requests, p.request("/", asHTML, "sid="+cookies[i*n/looked]))
		}
		pair[i], both[i] = p, cost{1000, p.visitors(visitors, requests...)}
	}
	programs, costs = append(programs, pair), append(costs, both)

	for round := range 100 { // short ones: two percent are less than the noise of a few
		for n, r := range rows {
			for _, i := range turns(round, 2) {
				r.add(i, programs[n][i].spends(costs[n][i]).Seconds()*1e6)
			}
		}
	}
	report(t, 1, rows)
}

// known returns what a session has after a sign-in.
func (s *surroundings) known(store *session.Store, p *program) (identity, tokens []byte) {
	s.t.Helper()
	r := httptest.NewRequestWithContext(s.t.Context(), http.MethodGet, "/", nil)
	r.Header.Set("Cookie", s.signIn(p))
	browser, err := store.Browser(httptest.NewRecorder(), r)
	must(s.t, err)
	identity, err = browser.Identity(s.t.Context())
	must(s.t, err)
	tokens, err = browser.Tokens(s.t.Context())
	must(s.t, err)
	if identity == nil || tokens == nil {
		s.t.Fatal("the sign-in left no session")
	}
	return identity, tokens
}

// However long the application is used, its memory and its goroutines, at rest, stay as they are after the first part of that time.
func TestSoak(t *testing.T) {
	need(t, *soak > 0, "-soak 5m")
	const parts = 10
	s := newSurroundings(t)
	metrics := freeAddress(t)
	host, port, _ := net.SplitHostPort(metrics)
	p := s.start(buildApp(t), "OTEL_METRICS_EXPORTER=prometheus", "OTEL_EXPORTER_PROMETHEUS_HOST="+host, "OTEL_EXPORTER_PROMETHEUS_PORT="+port)
	ada := s.signIn(p)
	all := slices.Concat(
		p.visitors(visitors/2, p.request("/", asHTML, ada)), p.visitors(visitors/4, p.request("/", asHTML, "")),
		p.visitors(visitors/4, p.request("/protected/userinfo", asJSON, ada)), s.signIns(p, 1),
	)
	var resident, goroutines []float64
	var text bytes.Buffer
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "visits\tresident, MiB\tgoroutines\t")
	for range parts {
		visits := use(t, p, all, *soak/parts)
		s.logto.Forget()
		time.Sleep(time.Second)
		resident, goroutines = append(resident, p.resident()), append(goroutines, readGoroutines(t, metrics))
		fmt.Fprintf(w, "%d\t%.1f\t%v\t\n", visits, resident[len(resident)-1], goroutines[len(goroutines)-1])
	}
	_ = w.Flush() // to memory
	t.Logf("%v in %d parts\n\n%s", *soak, parts, &text)
	for name, values := range map[string][]float64{"memory": resident, "goroutines": goroutines} {
		if early, late := slices.Max(values[1:parts/2]), slices.Max(values[parts/2:]); late > 1.1*early {
			t.Errorf("%s: %.1f at most in the first half, then %.1f", name, early, late)
		}
	}
}

// use lets all visitors make visits for a time, and returns how many these were.
func use(t *testing.T, p *program, all []visit, life time.Duration) (visits int) {
	t.Helper()
	made := make([]int, len(all))
	var group errgroup.Group
	end := time.Now().Add(life)
	for i, visit := range all {
		group.Go(func() error {
			for time.Now().Before(end) {
				if err := visit(); err != nil {
					return err
				}
				made[i]++
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatalf("%v; the log ends with\n%s", err, p.log)
	}
	for _, n := range made {
		visits += n
	}
	return visits
}

// readGoroutines returns how many the application says that it has.
func readGoroutines(t *testing.T, metrics string) (n float64) {
	t.Helper()
	response, err := http.Get("http://" + metrics + "/metrics")
	must(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	must(t, err)
	for line := range strings.Lines(string(body)) {
		if _, err := fmt.Sscanf(line, "go_goroutine_count %g", &n); err == nil {
			return n
		}
	}
	t.Fatalf("no go_goroutine_count in %s", body)
	return 0
}
