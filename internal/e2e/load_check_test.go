//go:build unix

package e2e

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
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
	redis     *redisServer // nil: it is never away
	transport *http.Transport
	pages     []string      // that people look at
	pause     time.Duration // that a browser makes at most between the provider and the callback
	tally     tally
	accounts  []*account
	users     []*user
	slow      atomic.Int64 // when Redis last took so long that the application gave up, in ns since 1970

	mu     sync.Mutex // guards what follows, and all grants
	logins []*login
	grants map[string]*grant // by code, and by refresh token
	killed map[string]time.Time
}

// newCrowd gives so many browsers to people that addPeople has added.
func newCrowd(app string, logto *authtest.Server, redis *redisServer, browsers int, seed uint64) *crowd {
	c := &crowd{
		url: app, pages: []string{"/", "/protected/sessions"}, logto: logto, redis: redis, transport: &http.Transport{MaxIdleConnsPerHost: 1024},
		grants: map[string]*grant{}, killed: map[string]time.Time{},
	}
	logto.On(authtest.Token, watchTokens(c.noteTokens))
	for i := range peopleOf(browsers) {
		c.accounts = append(c.accounts, &account{name: personName(i)})
	}
	for i := range browsers {
		c.users = append(c.users, c.newUser(c.accounts[i%len(c.accounts)], rand.New(rand.NewPCG(seed, uint64(i)))))
	}
	return c
}

// account is somebody, and what has ended their sessions.
type account struct {
	name string
	mu   sync.Mutex
	ends []*end
}

// login is one session, of which a browser has or had the cookie.
type login struct {
	account      *account
	cookie       *http.Cookie
	grant        *grant
	began, begun time.Time   // before and after the sign-in's first request
	added        time.Time   // after its last
	unsure       atomic.Bool // its own browser did something that may have ended it
	over         atomic.Bool // that was acknowledged
}

// end is what ends all of an account's sessions but one, or those of some of the provider's sessions.
type end struct {
	sent    time.Time
	settled time.Time // when it can have no further effect; zero as long as it can
	except  *login
	all     bool     // acknowledged for all
	sids    []string // or for these
}

// status is what is known of a session.
type status int

const (
	lives        status = iota
	mayHaveEnded        // something was begun that may end it
	overtaken           // an end was acknowledged that was sent after the sign-in had begun
	hasEnded            // an end was acknowledged
)

func (l *login) status() status {
	const clock = 2 * time.Millisecond // the application's has no finer times
	l.account.mu.Lock()
	defer l.account.mu.Unlock()
	s := lives
	if l.unsure.Load() {
		s = mayHaveEnded
	}
	for _, e := range l.account.ends {
		switch {
		case l == e.except:
		case l.begun.Add(clock).Before(e.sent) && (e.all || slices.Contains(e.sids, l.grant.sid)):
			if s = max(s, overtaken); l.added.Before(e.sent) {
				s = hasEnded
			}
		case e.settled.IsZero() || e.settled.After(l.began):
			s = max(s, mayHaveEnded)
		}
	}
	if l.over.Load() {
		s = hasEnded
	}
	return s
}

// ending says that something is about to end the account's sessions, all except one.
func (a *account) ending(except *login) *end {
	a.mu.Lock()
	defer a.mu.Unlock()
	e := &end{sent: time.Now(), except: except}
	a.ends = append(a.ends, e)
	return e
}

// settle says what of an end was acknowledged: it must hold from now on. What was not may still be under way.
func (a *account) settle(e *end, all bool, sids []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	e.settled, e.all, e.sids = time.Now().Add(2*time.Second), all, sids
	if all {
		e.settled = time.Now()
	}
}

// anyEnded returns one of the sessions that were ended; nil if it meets none.
func (c *crowd) anyEnded(random *rand.Rand) *login {
	c.mu.Lock()
	defer c.mu.Unlock()
	for range min(20, len(c.logins)) {
		if l := c.logins[random.IntN(len(c.logins))]; l.status() >= overtaken {
			return l
		}
	}
	return nil
}

func (c *crowd) anyPage(random *rand.Rand) string { return c.pages[random.IntN(len(c.pages))] }

// works says that a session that has ended does something.
func (c *crowd) works(l *login, s status, what string) {
	i := endedStaysEnded
	if s == overtaken {
		i = overtakenStaysOut
	}
	c.tally.violate(i, "a session of %s that has ended can %s", l.account.name, what)
}

// send sends a request, and checks what must hold of every answer. The status of one that was cut off is 0.
func (c *crowd) send(ctx context.Context, web *person, method, address string, form url.Values) answer {
	carried := slices.ContainsFunc(web.client.Jar.Cookies(c.home()), func(cookie *http.Cookie) bool { return cookie.Name == "sid" })
	path, _, _ := strings.Cut(strings.TrimPrefix(address, c.url), "?")
	began := time.Now()
	a, err := web.do(ctx, method, address, "text/html", form)
	now := time.Now()
	if err != nil {
		c.tally.add("answers cut off", 1)
		return answer{}
	}
	away, _ := c.redis.away(began, now, 0)
	_, nearby := c.redis.away(began, now, 2*time.Second)
	what := fmt.Sprintf("%s %s: %d after %v", method, path, a.status, now.Sub(began).Round(time.Millisecond))
	cause := ""
	switch {
	case a.status == http.StatusBadGateway && strings.HasPrefix(a.body, "load balancer:"):
		c.tally.add("502 of the load balancer: the instance died", 1)
	case a.status == http.StatusServiceUnavailable && nearby:
		c.tally.add("503 while Redis was away", 1)
	case a.status == http.StatusServiceUnavailable:
		cause = "503 although Redis was there"
		if now.Sub(began) > time.Second {
			c.slow.Store(now.UnixNano())
		}
	case a.status == http.StatusBadGateway, a.status == http.StatusGatewayTimeout:
		cause = "502 and 504: the provider's fault"
	case a.status >= http.StatusInternalServerError:
		cause = "500"
	case away && carried:
		c.tally.violate(outageIsOutage, "%s, while Redis was away", what)
	}
	if cause != "" {
		c.tally.add(cause, 1)
		c.tally.note("%s", what)
	}
	if a.status == http.StatusServiceUnavailable && (a.header.Get("Retry-After") == "" || a.session() != nil) {
		c.tally.violate(outageIsOutage, "%s, without Retry-After or with a session's cookie", what)
	}
	return a
}

func (c *crowd) home() *url.URL {
	u, _ := url.Parse(c.url) // it is a server's
	return u
}

// outcome is what an answer to somebody who is signed in means.
type outcome int

const (
	failed outcome = iota
	shown          // the page
	asked          // to sign in
)

// judge compares an answer with what was known before the request.
func (c *crowd) judge(l *login, before status, request string, a answer) outcome {
	found := names.FindAllString(a.body, -1)
	if i := slices.IndexFunc(found, func(name string) bool { return name != l.account.name }); i >= 0 {
		c.tally.violate(rightPerson, "%s shows %s to %s", request, found[i], l.account.name)
	}
	switch {
	case a.status == http.StatusOK && len(found) > 0:
		c.tally.add("pages shown to people who are signed in", 1)
		if before >= overtaken {
			c.works(l, before, request)
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
	if l.status() != lives {
		return
	}
	const grace = 3 * time.Second // in which the provider takes the token from before the refresh
	refreshed, killed := c.lost(l.grant)
	_, away := c.redis.away(refreshed, refreshed.Add(grace), 500*time.Millisecond)
	switch {
	case killed.IsZero():
		c.tally.violate(noSignOut, "%s is signed out", l.account.name)
	case away, c.slow.Load() > refreshed.UnixNano(): // nobody could have saved the token
		c.tally.add("  signed out by that while Redis was away or hung too", 1)
	default:
		c.tally.violate(noSignOutByKill, "%s is signed out, %v after the refresh and %v after the kill; later ones: %v",
			l.account.name, time.Since(refreshed), time.Since(killed), c.killedAfter(killed))
	}
}

// tryEnded asks for a page with the cookie of a session that was ended.
func (c *crowd) tryEnded(ctx context.Context, l *login, path string) {
	before := l.status()
	if before < overtaken {
		return
	}
	thief := &person{app: c.url, client: newClient(c.transport)}
	thief.client.Jar.SetCookies(c.home(), []*http.Cookie{l.cookie})
	a := c.send(ctx, thief, http.MethodGet, path, nil)
	if a.status == 0 || a.status >= http.StatusInternalServerError {
		return
	}
	c.tally.add("  tries to use them again", 1)
	if names.MatchString(a.body) || a.status == http.StatusOK && path != "/" {
		c.works(l, before, "open "+path+" with its cookie")
	}
}

// grant is what began with one code: a chain of refresh tokens, of which only the newest is good.
type grant struct {
	sid string    // the provider's session
	by  string    // the instance that got the newest token, if that came by a refresh
	at  time.Time // when
}

// tokenDelay is how long an answer of the token endpoint is on its way, and tokenSave how long an instance may take to
// save it, even if Redis is away.
const (
	tokenDelay = 30 * time.Millisecond
	tokenSave  = 30 * time.Second
)

// noteTokens sees every answer of the token endpoint, before the instance does.
func (c *crowd) noteTokens(r *http.Request, tokens map[string]string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	used, issued := r.PostForm.Get("refresh_token"), tokens["refresh_token"]
	switch g := c.grants[used]; {
	case used != "" && issued == "":
		c.tally.add("  refused by the provider", 1)
	case g != nil:
		c.tally.add("refreshes", 1)
		g.by, g.at = r.Header.Get(instanceHeader), time.Now()
		c.grants[issued] = g
	case issued != "":
		g := &grant{sid: sidOf(tokens["id_token"])}
		c.grants[r.PostForm.Get("code")], c.grants[issued] = g, g
	}
}

// grantOf returns the grant that began with the code in a callback; an empty one if that was not exchanged.
func (c *crowd) grantOf(callback string) *grant {
	u, _ := url.Parse(callback) // a request was sent there
	c.mu.Lock()
	defer c.mu.Unlock()
	return cmp.Or(c.grants[u.Query().Get("code")], &grant{})
}

// sidOf reads the sid of a JWT.
func sidOf(token string) string {
	_, rest, _ := strings.Cut(token, ".")
	payload, _, _ := strings.Cut(rest, ".")
	data, _ := base64.RawURLEncoding.DecodeString(payload) // what can't be read has no sid
	var claims struct{ SID string }
	_ = json.Unmarshal(data, &claims)
	return claims.SID
}

// lost returns when the grant's newest token was issued, and when a kill may have lost it; zero if none did.
func (c *crowd) lost(g *grant) (refreshed, killed time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if killed = c.killed[g.by]; killed.Sub(g.at) > tokenSave {
		killed = time.Time{} // by then it was saved, or given up
	}
	return g.at, killed
}

// killedAfter returns how long after a kill there were others, which may have hit who had taken over.
func (c *crowd) killedAfter(killed time.Time) (later []time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, at := range c.killed {
		if at.After(killed) {
			later = append(later, at.Sub(killed))
		}
	}
	return later
}

// kill kills an instance, counts how many refreshes that may have broken off, and reads its log.
func (c *crowd) kill(i *instance) {
	broken := map[*grant]bool{}
	c.mu.Lock()
	c.killed[i.url] = time.Now()
	for _, g := range c.grants {
		if g.by == i.url && time.Since(g.at) < 2*tokenDelay {
			broken[g] = true
		}
	}
	c.mu.Unlock()
	i.kill()
	c.tally.add("instances killed", 1)
	c.tally.add("  of these in the middle of a refresh", min(len(broken), 1))
	c.tally.add("  refreshes that may have been broken off", len(broken))
	c.tally.readLog(&i.output)
}
