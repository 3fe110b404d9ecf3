package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"sync"
	"text/tabwriter"
	"time"
)

// counted is what the table shows, in this order.
var counted = []string{
	"instances killed", "  of these in the middle of a refresh", "  refreshes that may have been broken off",
	"  signed out by that while Redis was away or hung too", "Redis killed",
	"sign-ins", "  begun again", "pages shown to people who are signed in", "refreshes", "  refused by the provider",
	"sign-outs", "sign-outs of all other browsers", "back-channel logouts", "  not acknowledged",
	"sessions ended by these", "  tries to use them again",
	"503 while Redis was away", "503 although Redis was there", "502 of the load balancer: the instance died",
	"502 and 504: the provider's fault", "500", "answers cut off", "other unexpected answers",
	"keys looked at", "log lines read",
}

// An invariant is what must hold, in words.
type invariant string

const (
	rightPerson     invariant = "1  nobody is shown as somebody else"
	endedStaysEnded invariant = "2  a session that was ended never works again"
	noSignOut       invariant = "3  nobody is signed out without a cause"
	noSignOutByKill invariant = "3k nobody is signed out by a kill in the middle of a refresh"
	everyKeyEnds    invariant = "4  every key in Redis has a lifetime"
	outageIsOutage  invariant = "5  an outage is 503 with Retry-After, and changes no cookie"
	cleanLogs       invariant = "6  no panic in a log, and nothing secret or personal"
	nothingLeft     invariant = "7  an hour after all sign-outs Redis is empty"
)

var invariants = []invariant{
	rightPerson, endedStaysEnded, noSignOut, noSignOutByKill, everyKeyEnds, outageIsOutage, cleanLogs, nothingLeft,
}

// tally counts. Its zero value is ready.
type tally struct {
	mu         sync.Mutex
	counts     map[string]int
	violations map[invariant]int
	notes      []string
}

func (t *tally) add(what string, n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.counts == nil {
		t.counts = map[string]int{}
	}
	t.counts[what] += n
}

// violate counts a violation, and keeps the first ones in words.
func (t *tally) violate(i invariant, format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.violations == nil {
		t.violations = map[invariant]int{}
	}
	if t.violations[i]++; t.violations[i] <= 5 {
		t.write("violated: "+string(i)+": "+format, args...)
	}
}

// note keeps something worth a look.
func (t *tally) note(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.notes) < 40 {
		t.write(format, args...)
	}
}

// write needs the lock.
func (t *tally) write(format string, args ...any) {
	t.notes = append(t.notes, time.Now().Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
}

// longestMarker is how long something may stay in Redis after everybody has signed out: the longest that a sign-in may take.
const longestMarker = time.Hour + time.Minute

var errViolated = errors.New("an invariant was violated")

// print writes the table. Its error is errViolated if there was a violation.
func (t *tally) print(out io.Writer, left []kind) error {
	for _, k := range left {
		if k.longest > longestMarker {
			t.violate(nothingLeft, "%d keys of kind %s live for up to %v", k.keys, k.name, k.longest.Round(time.Second))
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, what := range counted {
		fmt.Fprintf(table, "%d\t %s\n", t.counts[what], what)
	}
	fmt.Fprint(table, "\t\nviolations\t of\n")
	for _, i := range invariants {
		fmt.Fprintf(table, "%d\t %s\n", t.violations[i], i)
	}
	fmt.Fprint(table, "\t\nkeys\tbytes\tlongest life\t left in Redis after everybody has signed out\n")
	for _, k := range left {
		fmt.Fprintf(table, "%d\t%d\t%v\t %s\n", k.keys, k.bytes, k.longest.Round(time.Second), k.name)
	}
	_ = table.Flush() // if that fails there is nowhere to say so
	fmt.Fprintln(out)
	for _, note := range t.notes {
		fmt.Fprintln(out, note)
	}
	if len(t.violations) > 0 {
		return errViolated
	}
	return nil
}

// logWatch reads what an instance writes.
type logWatch struct {
	tally *tally
	part  []byte // of a line that is not complete yet
	last  []byte // to be read when the instance has ended
}

// suspect is a panic; a token, code, cookie, state or verifier, each longer than any word of ours; or somebody's name,
// subject or e-mail address.
var suspect = regexp.MustCompile(`panic|fatal error|[A-Za-z0-9_-]{40,}|person-\d{5}`)

// Write implements io.Writer.
func (w *logWatch) Write(p []byte) (int, error) {
	w.part = append(w.part, p...)
	for {
		line, rest, complete := bytes.Cut(w.part, []byte("\n"))
		if !complete {
			return len(p), nil
		}
		w.tally.add("log lines read", 1)
		if suspect.Match(line) {
			w.tally.violate(cleanLogs, "%.300s", line)
		}
		w.last, w.part = line, rest
	}
}
