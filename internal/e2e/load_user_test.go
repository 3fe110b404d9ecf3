//go:build unix

package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"example.com/logto-gin-starter/auth/authtest"
)

// user is a browser with somebody before it.
type user struct {
	crowd   *crowd
	web     *person
	random  *rand.Rand
	account *account
	login   *login // nil: not signed in
}

// names finds whom a page is about: each name, subject and e-mail address has one in it.
var names = regexp.MustCompile(`person-\d{5}`)

func personName(i int) string { return fmt.Sprintf("person-%05d", i) }

// peopleOf is how many people have so many browsers: most are signed in in several.
func peopleOf(browsers int) int { return max(3, browsers/2) }

// addPeople adds those of so many browsers. Access tokens live for seconds.
func addPeople(options *authtest.Options, browsers int) {
	options.AccessTokenLife = 5 * time.Second
	for i := range peopleOf(browsers) {
		who := personName(i)
		options.Users = append(options.Users, authtest.User{
			Subject: who, Username: who, Password: who, Name: "I am " + who, Email: who + "@example.com", Roles: []string{"merchant"},
		})
		if i%2 == 0 {
			options.Organizations[0].Members[who] = []string{"member"}
		}
	}
}

func (c *crowd) newUser(who *account, random *rand.Rand) *user {
	return &user{crowd: c, web: &person{c.url, newClient(c.transport), c.logto.Browser()}, random: random, account: who}
}

// live uses the application until ctx ends. What is begun then is finished.
func (u *user) live(ctx context.Context) {
	for sleep(ctx, time.Duration(u.random.Int64N(int64(2*time.Second)))) {
		u.act(context.WithoutCancel(ctx))
	}
}

func (u *user) act(ctx context.Context) {
	switch n := u.random.IntN(100); {
	case u.login == nil:
		u.signIn(ctx, 1+u.random.IntN(3)/2)
	case n < 6:
		u.signOut(ctx)
	case n < 8:
		u.endOthers(ctx)
	case n < 10:
		u.endAtProvider(ctx)
	case n < 14: // although it is signed in
		u.signIn(ctx, 2+u.random.IntN(2))
	case n < 24:
		if l := u.crowd.anyEnded(u.random); l != nil {
			u.crowd.tryEnded(ctx, l, u.crowd.anyPage(u.random))
		}
	default:
		u.look(ctx)
	}
}

// signIn begins a sign-in in each of so many tabs at once, and ends them one after the other, some of them later.
func (u *user) signIn(ctx context.Context, tabs int) {
	begun, logins := make([]answer, tabs), make([]*login, tabs)
	var all sync.WaitGroup
	for i := range begun {
		all.Go(func() {
			logins[i] = &login{account: u.account, began: time.Now()}
			begun[i] = u.get(ctx, "/sign-in?return_to=/protected/sessions")
			logins[i].begun = time.Now()
		})
	}
	all.Wait()
	for i, a := range begun {
		if a.status != http.StatusSeeOther {
			u.crowd.tally.add("  begun again", 1)
			continue
		}
		callback, err := u.web.browser.SignIn(ctx, a.location(), u.account.name)
		if err != nil {
			u.crowd.tally.note("sign in at the provider: %v", err)
			continue
		}
		if u.random.IntN(3) == 0 {
			sleep(ctx, time.Duration(u.random.Int64N(int64(u.crowd.pause))))
		}
		u.callback(ctx, callback, logins[i])
	}
}

func (u *user) callback(ctx context.Context, address string, l *login) {
	a := u.get(ctx, address)
	l.added, l.cookie, l.grant = time.Now(), a.session(), u.crowd.grantOf(address)
	switch {
	case a.status == http.StatusSeeOther && l.cookie != nil && l.cookie.Value != "":
		if u.login != nil { // whose session this one replaces
			u.login.over.Store(true)
		}
		u.login = l
		u.crowd.tally.add("sign-ins", 1)
		u.crowd.mu.Lock()
		defer u.crowd.mu.Unlock()
		u.crowd.logins = append(u.crowd.logins, l)
		return
	case a.status == http.StatusSeeOther && u.login != nil:
		return // the load balancer repeated it; the session there was goes on
	case a.status == http.StatusBadRequest && strings.Contains(a.body, "ended while you were signing in"):
		u.crowd.tally.add("  overtaken by an end", 1)
		if l.status() == lives {
			u.crowd.tally.violate(noSignOut, "a sign-in of %s was overtaken by nothing", l.account.name)
		}
	}
	u.crowd.tally.add("  begun again", 1)
	if u.login != nil {
		u.login.unsure.Store(true) // all may be done, and only the answer lost
	}
}

// look opens a page, or some at once in several tabs.
func (u *user) look(ctx context.Context) {
	l, before := u.login, u.login.status()
	var wasAsked atomic.Bool
	var all sync.WaitGroup
	for range 1 + 2*(u.random.IntN(4)/3) {
		path := u.crowd.anyPage(u.random)
		renew := path == ownToken && u.random.IntN(4) == 0
		all.Go(func() {
			result := failed
			if renew {
				result = u.crowd.judge(l, before, "POST "+path, u.post(ctx, path, nil))
			}
			if result == failed { // whose instance died over a form loads the page anew
				result = u.crowd.judge(l, before, "GET "+path, u.get(ctx, path))
			}
			if result == asked {
				wasAsked.Store(true)
			}
		})
	}
	all.Wait()
	if wasAsked.Load() {
		u.crowd.signedOut(l)
		u.login = nil
	}
}

// signOut goes on trying until it is acknowledged, then signs out at the provider. Afterwards somebody else may sit down.
func (u *user) signOut(ctx context.Context) {
	l := u.login
	l.unsure.Store(true)
	a := u.post(ctx, "/sign-out", nil)
	for try := 0; a.status != http.StatusSeeOther; try++ {
		if try == 60 || !sleep(ctx, 250*time.Millisecond) {
			return
		}
		a = u.post(ctx, "/sign-out", nil)
	}
	u.crowd.tally.add("sign-outs", 1)
	l.over.Store(true)
	if home := u.get(ctx, "/"); names.MatchString(home.body) {
		u.crowd.tally.violate(endedStaysEnded, "after the sign-out of %s home shows %s", u.account.name, names.FindString(home.body))
	}
	u.login = nil
	if _, err := u.web.browser.SignOut(ctx, a.location()); err == nil {
		u.account = u.crowd.accounts[u.random.IntN(len(u.crowd.accounts))]
	}
}

// endOthers signs the person out in all other browsers.
func (u *user) endOthers(ctx context.Context) {
	l, before := u.login, u.login.status()
	e := u.account.ending(l)
	a := u.post(ctx, "/protected/sessions", url.Values{"end": {"others"}})
	done := a.status == http.StatusSeeOther && a.location() == "/protected/sessions"
	u.account.settle(e, done, nil)
	switch {
	case done && before >= overtaken:
		u.crowd.works(l, before, "end others")
	case done:
		u.crowd.tally.add("sign-outs of all other browsers", 1)
	case u.crowd.judge(l, before, "POST /protected/sessions", a) == asked:
		u.crowd.signedOut(l)
		u.login = nil
	}
}

// endAtProvider ends the person's sessions at the provider, which tells the application.
func (u *user) endAtProvider(ctx context.Context) {
	var done []string
	e := u.account.ending(nil)
	for _, d := range u.crowd.logto.EndSession(ctx, u.account.name) {
		u.crowd.tally.add("back-channel logouts", 1)
		if d.Status == http.StatusOK {
			done = append(done, sidOf(d.Token))
			continue
		}
		u.crowd.tally.add("  not acknowledged", 1)
		if d.Status != 0 && d.Status < http.StatusInternalServerError {
			u.crowd.tally.note("back-channel logout: %d %s", d.Status, d.Body)
		}
	}
	u.account.settle(e, false, done)
}

// leave signs everybody out everywhere, and then tries once more what was ended.
func (c *crowd) leave(ctx context.Context) {
	c.pause = time.Millisecond
	parallel(16, len(c.users), func(i int) {
		if c.users[i].login != nil {
			c.users[i].signOut(ctx)
		}
	})
	parallel(16, len(c.accounts), func(i int) { // a session whose cookie was lost with its instance is known to its person only
		u := c.newUser(c.accounts[i], rand.New(rand.NewPCG(0, 0)))
		if u.signIn(ctx, 1); u.login != nil {
			u.endOthers(ctx)
		}
		if u.login != nil {
			u.signOut(ctx)
		}
	})
	parallel(16, len(c.logins), func(i int) {
		if c.logins[i].status() >= overtaken {
			c.tally.add("sessions ended by these", 1)
		}
		c.tryEnded(ctx, c.logins[i], "/protected/sessions")
	})
}

// get and post are for the application's addresses, and check what comes back.
func (u *user) get(ctx context.Context, address string) answer {
	return u.crowd.send(ctx, u.web, http.MethodGet, address, nil)
}

func (u *user) post(ctx context.Context, path string, form url.Values) answer {
	return u.crowd.send(ctx, u.web, http.MethodPost, path, form)
}

// sleep reports whether it slept to the end.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
