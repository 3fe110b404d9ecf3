//go:build linux

// Package bench measures what the application costs beside the least that it could cost, which is the program in testdata/limit. Both
// run as processes of their own, on one core each, and take turns, so that whatever else the machine does slows both: the
// ratios count. What it measures is Linux's.
//
// Start reading at TestBench. process_test.go starts the programs and reads their clocks, visitor_test.go is who uses them,
// table_test.go what comes out, and growth_test.go has what a large site and a long time change.
package bench

import (
	"flag"
	"fmt"
	"html"
	"regexp"
	"strings"
	"testing"

	"example.com/logto-gin-starter/internal/session"
)

// All of it takes minutes; -v shows the tables:
//
//	go test ./internal/bench -v -run TestBench -rounds 30 -sessions 1000000 -against /path/of/an/earlier/binary
//	go test ./internal/bench -v -run TestGrowth -growth 1000000 -timeout 30m
//	go test ./internal/bench -v -run TestSoak -soak 5m
var (
	rounds   = flag.Int("rounds", 0, "TestBench: how often everything is measured; 0: it is left out")
	against  = flag.String("against", "", "TestBench: absolute path of another binary of the application, which is measured too, with the config.yaml beside it")
	sessions = flag.Int("sessions", 10_000, "TestBench: how many sessions Redis has when its memory is measured")
	growth   = flag.Int("growth", 0, "TestGrowth: how many sessions a large site has; 0: it is left out")
	soak     = flag.Duration("soak", 0, "TestSoak: how long the application is used; 0: it is left out")
)

const (
	// visitors use a program at once, so that it always has work to do: waiting and waking cost both the same, and would make
	// the ratios look better.
	visitors = 16
	// people sign in by turns: nobody has so many sessions that the oldest must end.
	people = 1000
	// scopes are all that Logto has about a person. Without organizations: their names would be another request to Logto in each
	// sign-in.
	scopes = "email phone address custom_data identities roles"
)

// need leaves a test out without its flag: it takes minutes, and says little on a machine that does something else.
func need(t *testing.T, flagged bool, example string) {
	t.Helper()
	if !flagged {
		t.Skipf("left out: it takes minutes, and a machine that does nothing else; %s runs it", example)
	}
}

// TestBench compares each row's median with what it must be. It fails only far above that, for machines are noisy.
func TestBench(t *testing.T) {
	need(t, *rounds > 0, "-rounds 10")
	s := newSurroundings(t)
	app := buildApp(t)
	binaries := []binary{buildLimit(t, s.pages(app)...), app} // as the columns of the table
	if *against != "" {
		binaries = append(binaries, binary{path: *against, db: 2})
	}
	programs, costs := make([]*program, len(binaries)), make([][]cost, len(binaries))
	for i, b := range binaries {
		programs[i] = s.start(b)
		costs[i] = s.costs(programs[i])
	}
	s.wantSamePages(programs[0], programs[1])

	begin, idle, loaded := row{name: "exec to first 200: ms", must: 10, goal: 8, reached: 14}, row{name: "resident, idle: MiB", must: 20, goal: 18},
		row{name: "resident, after load: MiB", must: 30, goal: 30}
	memory := row{name: fmt.Sprintf("Redis, of %d sessions: bytes for each", *sessions), must: 1900, goal: 1500}
	rows := []*row{
		{name: "home, signed in: µs, ÷ limit", ratio: true, must: 1.30, goal: 1.10, reached: 2.0},
		{name: "home, signed out: µs, ÷ limit", ratio: true, must: 1.00, goal: 0.80},
		{name: "the same: µs, ÷ limit without Redis", ratio: true, must: 1.00, goal: 0.80, reached: 1.7},
		{name: "user info as JSON: µs, ÷ limit", ratio: true, must: 1.80, goal: 1.50},
		{name: "a whole sign-in: µs, ÷ limit", ratio: true, must: 1.15, goal: 1.08, reached: 1.5},
	}
	for round := range *rounds {
		s.logto.Forget() // else it keeps all requests
		for n, r := range rows {
			for _, i := range turns(round, len(programs)) {
				r.add(i, programs[i].spends(costs[i][n]).Seconds()*1e6)
			}
		}
		for _, i := range turns(round, len(programs)) {
			p := s.start(binaries[i])
			begin.add(i, p.took.Seconds()*1e3)
			idle.add(i, p.resident())
			p.end()
			loaded.add(i, programs[i].resident())
		}
	}
	memory.add(1, bytesPerSession(t, *sessions))
	report(t, 1.5, append(rows, &begin, &idle, &loaded, &memory))
}

// bytesPerSession returns the memory that a Redis uses for each of n sessions: 700 bytes of claims, 500 of tokens, its own tables
// and connections. It is this tree's code that starts them, in this process: of another binary it says nothing.
func bytesPerSession(t *testing.T, n int) float64 {
	t.Helper()
	rdb := openRedis(t, startRedis(t))
	empty := usedMemory(t, rdb)
	fill(t, session.NewStore(rdb, session.DefaultConfig(), session.Options{}), n, func() (identity, tokens []byte) {
		return randomText(700), randomText(500)
	})
	return (usedMemory(t, rdb) - empty) / float64(n)
}

// turns returns the programs' numbers, first up and then down, so that none always comes after the same one.
func turns(round, n int) []int {
	order := make([]int, n)
	for i := range order {
		order[i] = i
		if round%2 == 1 {
			order[i] = n - 1 - i
		}
	}
	return order
}

// costs are what the table's first rows measure.
func (s *surroundings) costs(p *program) []cost {
	s.t.Helper()
	ada := s.signIn(p)
	out := p.request("/", asHTML, "")
	whole := out
	if p.isLimit {
		whole = p.request("/welcome", asHTML, ada)
	}
	return []cost{
		{3000, p.visitors(visitors, p.request("/", asHTML, ada))},
		{3000, p.visitors(visitors, whole)},
		{3000, p.visitors(visitors, out)},
		{1500, p.visitors(visitors, p.request("/protected/userinfo", asJSON, ada))},
		{160, s.signIns(p, visitors)},
	}
}

// pages returns the home page, signed out and signed in, as templates in which only what depends on the person is an action.
func (s *surroundings) pages(app binary) []string {
	s.t.Helper()
	p := s.start(app)
	defer p.end()
	ada := s.logto.User("ada")
	actions := strings.NewReplacer(html.EscapeString(ada.Name), "{{.Name}}", html.EscapeString(ada.Picture), "{{.Picture}}", ada.Email, "{{.Email}}",
		">"+ada.Name[:1]+"<", ">{{.Initial}}<")
	welcome, home := s.homes(p)
	home = signInTime.ReplaceAllString(actions.Replace(home), `<time datetime="{{.Since}}">{{.Ago}}</time>`)
	return []string{welcome, places.ReplaceAllString(home, ">{{.Places}}<")}
}

// What differs from one sign-in to the next.
var (
	signInTime = regexp.MustCompile(`<time datetime="[^"]+">[^<]+</time>`)
	places     = regexp.MustCompile(`>\d+ browsers?<`)
)

// homes returns what a program shows at home: signed out, and to ada.
func (s *surroundings) homes(p *program) (welcome, home string) {
	s.t.Helper()
	line := line{p: p}
	out, err := line.ask(p.request("/", asHTML, ""))
	must(s.t, err)
	in, err := line.ask(p.request("/", asHTML, s.signIn(p)))
	must(s.t, err)
	return string(out), string(in)
}

// wantSamePages ends the test if two programs do not show the same pages.
func (s *surroundings) wantSamePages(a, b *program) {
	s.t.Helper()
	welcomeA, homeA := s.homes(a)
	welcomeB, homeB := s.homes(b)
	for _, differs := range []*regexp.Regexp{signInTime, places} {
		homeA, homeB = differs.ReplaceAllString(homeA, ""), differs.ReplaceAllString(homeB, "")
	}
	if welcomeA != welcomeB || homeA != homeB {
		s.t.Fatalf("the limit's pages are not the application's:\n%s\n%s\n%s\n%s", welcomeA, welcomeB, homeA, homeB)
	}
}
