package main

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"example.com/logto-gin-starter/auth/authtest"
)

// crowd is all browsers and their people, and what the answers that they get are compared with.
type crowd struct {
	url       string // the application's
	logto     *authtest.Server
	tally     *tally
	refreshes *refreshes
	redis     *redisServer // nil: it is never away
	transport *http.Transport
	people    []*person
	browsers  []*browser
	slow      atomic.Int64 // when Redis last took so long that the application gave up, in ns since 1970

	mu    sync.Mutex
	ended []*login // some of those that must never work again
}

// names finds whom a page is about: each name, subject and e-mail address has one in it.
var names = regexp.MustCompile(`person-\d{5}`)

func personName(i int) string { return fmt.Sprintf("person-%05d", i) }

// person is somebody, and where they are signed in.
type person struct {
	name string

	mu     sync.Mutex
	logins []*login
	begun  int // ends of several sessions at once
	done   int // and those of them that are over
}

// login is one browser's session, as long as the browser has its cookie.
type login struct {
	who    string
	cookie *http.Cookie
	grant  *grant
	state  atomic.Int32
}

// What a browser knows of its session.
const (
	lives        int32 = iota
	mayHaveEnded       // something was begun that may end it
	hasEnded           // that was acknowledged
)

func (l *login) mayEnd() { l.state.CompareAndSwap(lives, mayHaveEnded) }

// moment is what add must be told of the time before the sign-in; negative while something is ending the person's sessions.
func (p *person) moment() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.begun > p.done {
		return -1
	}
	return p.begun
}

// add says that a sign-in succeeded. If something ended the person's sessions since then, it may have ended this one.
func (p *person) add(l *login, moment int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.begun != moment {
		l.mayEnd()
	}
	p.logins = append(p.logins, l)
}

func (p *person) remove(l *login) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.logins = slices.DeleteFunc(p.logins, func(other *login) bool { return other == l })
}

// ending says that something may end the person's sessions, all except one, until over is called. It returns those.
func (p *person) ending(except *login) (all []*login, over func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.begun++
	for _, l := range p.logins {
		if l != except {
			l.mayEnd()
			all = append(all, l)
		}
	}
	return all, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.done++
	}
}

// over says that a session's end was acknowledged.
func (c *crowd) over(l *login) {
	const most = 3000
	if l.state.Swap(hasEnded) == hasEnded {
		return
	}
	c.tally.add("sessions ended by these", 1)
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.ended) < most {
		c.ended = append(c.ended, l)
	} else {
		c.ended[rand.IntN(most)] = l
	}
}

// anyEnded returns one of the sessions that were ended; nil if there is none.
func (c *crowd) anyEnded(random *rand.Rand) *login {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.ended) == 0 {
		return nil
	}
	return c.ended[random.IntN(len(c.ended))]
}

// send sends a request, and checks what must hold of every answer. The status of one that was cut off is 0.
func (c *crowd) send(client *http.Client, request *http.Request) answer {
	began := time.Now()
	a, err := fetch(client, request)
	if err != nil {
		c.tally.add("answers cut off", 1)
		return answer{}
	}
	now := time.Now()
	away, _ := c.redis.away(began, now, 0)
	_, nearby := c.redis.away(began, now, 2*time.Second)
	_, noSession := request.Cookie("sid")
	what := fmt.Sprintf("%s %s: %d after %v", request.Method, request.URL.Path, a.status, now.Sub(began).Round(time.Millisecond))
	count := func(cause string) {
		c.tally.add(cause, 1)
		c.tally.note("%s", what)
	}
	switch {
	case a.header.Get(balancerHeader) != "":
		c.tally.add("502 of the load balancer: the instance died", 1)
	case a.status == http.StatusServiceUnavailable:
		if a.header.Get("Retry-After") == "" || a.session() != nil {
			c.tally.violate(outageIsOutage, "%s, without Retry-After or with a session's cookie", what)
		}
		if nearby {
			c.tally.add("503 while Redis was away", 1)
			break
		}
		count("503 although Redis was there")
		if now.Sub(began) > time.Second {
			c.slow.Store(now.UnixNano())
		}
	case a.status == http.StatusBadGateway, a.status == http.StatusGatewayTimeout:
		count("502 and 504: the provider's fault")
	case a.status >= http.StatusInternalServerError:
		count("500")
	case away && noSession == nil:
		c.tally.violate(outageIsOutage, "%s, while Redis was away", what)
	}
	return a
}

// outcome is what an answer to somebody who is signed in means.
type outcome int

const (
	failed outcome = iota
	shown          // the page
	asked          // to sign in
)

// judge compares an answer with what the browser knew before it asked.
func (c *crowd) judge(l *login, before int32, request string, a answer) outcome {
	found := names.FindAllString(a.body, -1)
	if i := slices.IndexFunc(found, func(name string) bool { return name != l.who }); i >= 0 {
		c.tally.violate(rightPerson, "%s shows %s to %s", request, found[i], l.who)
	}
	switch {
	case a.status == http.StatusOK && len(found) > 0:
		c.tally.add("pages shown to people who are signed in", 1)
		if before == hasEnded {
			c.tally.violate(endedStaysEnded, "%s shows %s, whose session was ended", request, l.who)
		}
		return shown
	case a.status == http.StatusOK && request == "GET /",
		a.status == http.StatusSeeOther && strings.HasPrefix(a.location(), "/sign-in"):
		return asked
	case a.status != 0 && a.status < http.StatusInternalServerError:
		c.tally.add("other unexpected answers", 1)
		c.tally.note("%s: %d to %q", request, a.status, a.location())
	}
	return failed
}

// signedOut says that a browser was asked to sign in. If nothing ended its session, that is somebody's fault.
func (c *crowd) signedOut(l *login) {
	if l.state.Load() != lives {
		return
	}
	const grace = 3 * time.Second // in which the provider takes the token from before the refresh
	lost := c.refreshes.lost(l.grant)
	_, away := c.redis.away(lost, lost.Add(grace), 500*time.Millisecond)
	slow := c.slow.Load() > lost.UnixNano()
	switch {
	case lost.IsZero():
		c.tally.violate(noSignOut, "%s is signed out", l.who)
	case away, slow: // nobody could have saved the token
		c.tally.add("  signed out by that while Redis was away or hung too", 1)
	default:
		c.tally.violate(noSignOutByKill, "%s is signed out, %v after the kill", l.who, time.Since(lost).Round(time.Millisecond))
	}
}

// tryEnded sends a request with the cookie of a session that was ended.
func (c *crowd) tryEnded(l *login, request *http.Request) {
	request.AddCookie(l.cookie)
	a := c.send(newClient(c.transport, nil), request)
	if a.status == 0 || a.status >= http.StatusInternalServerError {
		return
	}
	c.tally.add("  tries to use them again", 1)
	if names.MatchString(a.body) || a.status == http.StatusOK && strings.HasPrefix(request.URL.Path, "/protected/") {
		c.tally.violate(endedStaysEnded, "the cookie of a session of %s that was ended opens %s", l.who, request.URL.Path)
	}
}
