//go:build unix

package e2e

import (
	"bytes"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/redis/go-redis/v9"
)

// counted is what the table shows, in this order.
var counted = []string{
	"instances killed", "  of these in the middle of a refresh", "  refreshes that may have been broken off",
	"  signed out by that while Redis was away or hung too", "Redis killed",
	"sign-ins", "  overtaken by an end", "  begun again", "pages shown to people who are signed in",
	"refreshes", "  refused by the provider",
	"sign-outs", "sign-outs of all other browsers", "back-channel logouts", "  not acknowledged",
	"sessions ended by these", "  tries to use them again",
	"503 while Redis was away", "503 although Redis was there", "502 of the load balancer: the instance died",
	"502 and 504: the provider's fault", "500", "answers cut off", "other unexpected answers",
	"keys looked at", "log lines read",
}

// An invariant is what must hold, in words.
type invariant string

const (
	rightPerson       invariant = "1  nobody is shown as somebody else"
	endedStaysEnded   invariant = "2  a session that was ended never works again"
	overtakenStaysOut invariant = "2b a sign-in from before an end leads to no session that works after it"
	noSignOut         invariant = "3  nobody is signed out without a cause"
	noSignOutByKill   invariant = "3k nobody is signed out by a kill in the middle of a refresh"
	everyKeyEnds      invariant = "4  every key in Redis has a lifetime"
	outageIsOutage    invariant = "5  an outage is 503 with Retry-After, and changes no cookie"
	cleanLogs         invariant = "6  no panic in a log, and nothing secret or personal"
	nothingLeft       invariant = "7  after all sign-outs Redis has but marks and notes, which end"
)

var invariants = []invariant{
	rightPerson, endedStaysEnded, overtakenStaysOut, noSignOut, noSignOutByKill, everyKeyEnds, outageIsOutage, cleanLogs, nothingLeft,
}

// tally counts, invariants too: how often they were violated. Its zero value is ready.
type tally struct {
	mu     sync.Mutex
	counts map[string]int
	notes  []string
}

func (t *tally) add(what string, n int) (now int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.counts == nil {
		t.counts = map[string]int{}
	}
	t.counts[what] += n
	return t.counts[what]
}

func (t *tally) violate(i invariant, format string, args ...any) {
	t.add(string(i), 1)
	t.note("violated: "+string(i)+": "+format, args...)
}

// note keeps something worth a look, at most eight of each kind.
func (t *tally) note(format string, args ...any) {
	if t.add(format, 1) <= 8 {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.notes = append(t.notes, time.Now().Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
	}
}

// table returns all that was counted, as text.
func (t *tally) table(left map[string]kind) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var text bytes.Buffer
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, what := range counted {
		fmt.Fprintf(table, "%d\t %s\n", t.counts[what], what)
	}
	fmt.Fprint(table, "\t\nviolations\t of\n")
	for _, i := range invariants {
		fmt.Fprintf(table, "%d\t %s\n", t.counts[string(i)], i)
	}
	fmt.Fprint(table, "\t\nkeys\tbytes\tlongest life\t left in Redis after everybody has signed out\n")
	for _, name := range slices.Sorted(maps.Keys(left)) {
		fmt.Fprintf(table, "%d\t%d\t%v\t %s\n", left[name].keys, left[name].bytes, left[name].longest.Round(time.Second), name)
	}
	_ = table.Flush() // to memory
	return text.String() + "\n" + strings.Join(t.notes, "\n")
}

// suspect is a panic; a token, code, cookie, state or verifier, each longer than any word of ours; or somebody's name,
// subject or e-mail address.
var suspect = regexp.MustCompile(`panic|fatal error|[A-Za-z0-9_-]{40,}|person-\d{5}`)

// readLog reads what an instance wrote until it ended, and leaves nothing of it.
func (t *tally) readLog(output *bytes.Buffer) {
	for line := range strings.Lines(output.String()) {
		t.add("log lines read", 1)
		if suspect.MatchString(line) {
			t.violate(cleanLogs, "%.300s", line)
		}
	}
	output.Reset()
}

// kind is a kind of key in Redis.
type kind struct {
	keys    int
	bytes   int64
	longest time.Duration // that one of them still has to live
}

// mayStay are the kinds that may be left after all sign-outs, and for how long.
var mayStay = map[string]time.Duration{
	"session, the mark of one that has ended": 14 * 24 * time.Hour,
	"ended": time.Hour + 5*time.Minute,
	"sid":   24*time.Hour + 5*time.Minute, // as an unused session
	"once":  time.Hour + 30*time.Second,
	"lock":  2 * time.Second, // of an instance that was killed
}

// look returns what is in Redis. A key without a lifetime is a violation.
func (r *redisServer) look(t *testing.T, count *tally) map[string]kind {
	t.Helper()
	keys, err := r.client.Keys(t.Context(), "*").Result()
	must(t, err)
	lives, sizes := make([]*redis.DurationCmd, len(keys)), make([]*redis.IntCmd, len(keys))
	values := make([]*redis.StringCmd, len(keys))
	_, _ = r.client.Pipelined(t.Context(), func(p redis.Pipeliner) error { // a key may have ended, or be no string
		for i, key := range keys {
			lives[i], sizes[i], values[i] = p.PTTL(t.Context(), key), p.MemoryUsage(t.Context(), key), p.Get(t.Context(), key)
		}
		return nil
	})
	count.add("keys looked at", len(keys))
	kinds := map[string]kind{}
	for i, key := range keys {
		name, _, _ := strings.Cut(key, ":")
		if name == "session" && endedMark.MatchString(values[i].Val()) {
			name += ", the mark of one that has ended"
		}
		k := kinds[name]
		kinds[name] = kind{k.keys + 1, k.bytes + sizes[i].Val(), max(k.longest, lives[i].Val())}
		if lives[i].Val() == -1 {
			count.violate(everyKeyEnds, "a key of kind %s", name)
		}
	}
	return kinds
}

// endedMark is what a session that has ended leaves in its place: why, when, and whether its browser is still to be told.
var endedMark = regexp.MustCompile(`^[a-z]+ \d+ [01]$`)

// judge judges what is left after everybody has signed out.
func (t *tally) judge(left map[string]kind) {
	for name, k := range left {
		if k.longest > mayStay[name] {
			t.violate(nothingLeft, "%d of %s, for up to %v", k.keys, name, k.longest.Round(time.Second))
		}
	}
}
