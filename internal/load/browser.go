package main

import (
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"example.com/logto-gin-starter/auth/authtest"
)

// browser is one with a person before it.
type browser struct {
	crowd    *crowd
	client   *http.Client
	provider *authtest.Browser // the same browser, as far as the provider sees it
	random   *rand.Rand
	person   *person
	login    *login // nil: not signed in
}

func newCrowd(appURL string, logto *authtest.Server, t *tally, r *refreshes, redis *redisServer) *crowd {
	return &crowd{
		url: appURL, logto: logto, tally: t, refreshes: r, redis: redis, transport: &http.Transport{MaxIdleConnsPerHost: 1024},
	}
}

// peopleOf is how many people have so many browsers: most are signed in in several.
func peopleOf(browsers int) int { return max(3, browsers/2) }

func (c *crowd) addBrowsers(count int, seed uint64) {
	for i := range peopleOf(count) {
		c.people = append(c.people, &person{name: personName(i)})
	}
	for i := range count {
		c.browsers = append(c.browsers, c.newBrowser(c.people[i%len(c.people)], rand.New(rand.NewPCG(seed, uint64(i)))))
	}
}

func (c *crowd) newBrowser(p *person, random *rand.Rand) *browser {
	jar, _ := cookiejar.New(nil) // without options nothing can be wrong
	return &browser{crowd: c, client: newClient(c.transport, jar), provider: c.logto.Browser(), random: random, person: p}
}

// live uses the application until ctx ends. What is begun then is finished.
func (b *browser) live(ctx context.Context) {
	work := context.WithoutCancel(ctx)
	for sleep(ctx, time.Duration(b.random.Int64N(int64(2*time.Second)))) {
		b.act(work)
	}
}

func (b *browser) act(ctx context.Context) {
	switch n := b.random.IntN(100); {
	case b.login == nil:
		b.signIn(ctx, 1+b.random.IntN(3)/2)
	case n < 6:
		b.signOut(ctx)
	case n < 8:
		b.endOthers(ctx)
	case n < 10:
		b.endAtProvider(ctx)
	case n < 14: // although it is signed in
		b.signIn(ctx, 2+b.random.IntN(2))
	case n < 24:
		if l := b.crowd.anyEnded(b.random); l != nil {
			path := []string{"/", "/protected/sessions", "/protected/userinfo"}[b.random.IntN(3)]
			b.crowd.tryEnded(l, newRequest(ctx, http.MethodGet, b.crowd.url+path, nil))
		}
	default:
		b.look(ctx)
	}
}

// signIn begins a sign-in in each of so many tabs at once, and ends them one after the other.
func (b *browser) signIn(ctx context.Context, tabs int) {
	moment := b.person.moment()
	begun := make([]answer, tabs)
	var all sync.WaitGroup
	for i := range begun {
		all.Go(func() { begun[i] = b.get(ctx, "/sign-in?return_to=/protected/userinfo") })
	}
	all.Wait()
	for _, a := range begun {
		if a.status != http.StatusSeeOther {
			b.crowd.tally.add("  begun again", 1)
			continue
		}
		callback, err := b.provider.SignIn(ctx, a.location(), b.person.name)
		if err != nil {
			b.crowd.tally.note("sign in at the provider: %v", err)
			continue
		}
		b.callback(ctx, strings.TrimPrefix(callback, b.crowd.url), moment)
	}
}

func (b *browser) callback(ctx context.Context, address string, moment int) {
	a := b.get(ctx, address)
	switch cookie := a.session(); {
	case a.status == http.StatusSeeOther && cookie != nil && cookie.Value != "":
		u, _ := url.Parse(address) // a request was sent there
		l := &login{who: b.person.name, cookie: cookie, grant: b.crowd.refreshes.byCode(u.Query().Get("code"))}
		if b.login != nil { // whose session this one replaces
			b.crowd.over(b.login)
			b.forget()
		}
		b.login = l
		b.person.add(l, moment)
		b.crowd.tally.add("sign-ins", 1)
	case a.status == http.StatusSeeOther && b.login != nil: // the load balancer repeated it; the session there was goes on
	default:
		b.crowd.tally.add("  begun again", 1)
		if b.login != nil {
			b.login.mayEnd() // all may be done, and only the answer lost
		}
	}
}

func (b *browser) forget() {
	b.person.remove(b.login)
	b.login = nil
}

// look opens a page, or some at once in several tabs.
func (b *browser) look(ctx context.Context) {
	l, before := b.login, b.login.state.Load()
	var wasAsked atomic.Bool
	var all sync.WaitGroup
	for range 1 + 2*(b.random.IntN(4)/3) {
		path := []string{"/", "/protected/userinfo", "/protected/tokens", "/protected/sessions"}[b.random.IntN(4)]
		renew := path == "/protected/tokens" && b.random.IntN(4) == 0
		all.Go(func() {
			result := failed
			if renew {
				form := url.Values{"resource": {"https://shopping.your-app.com/api"}}
				result = b.crowd.judge(l, before, "POST "+path, b.post(ctx, path, form))
			}
			if result == failed { // whose instance died over a form loads the page anew
				result = b.crowd.judge(l, before, "GET "+path, b.get(ctx, path))
			}
			if result == asked {
				wasAsked.Store(true)
			}
		})
	}
	all.Wait()
	if wasAsked.Load() {
		b.crowd.signedOut(l)
		b.forget()
	}
	b.crowd.refreshes.saved(l.grant)
}

// signOut goes on trying until it is acknowledged, then signs out at the provider. Afterwards somebody else may sit down.
func (b *browser) signOut(ctx context.Context) {
	l := b.login
	l.mayEnd()
	a := b.post(ctx, "/sign-out", nil)
	for try := 0; a.status != http.StatusSeeOther; try++ {
		if try == 60 || !sleep(ctx, 250*time.Millisecond) {
			return
		}
		a = b.post(ctx, "/sign-out", nil)
	}
	b.crowd.tally.add("sign-outs", 1)
	b.crowd.over(l)
	if home := b.get(ctx, "/"); names.MatchString(home.body) {
		b.crowd.tally.violate(endedStaysEnded, "after the sign-out of %s home shows %s", l.who, names.FindString(home.body))
	}
	b.forget()
	if _, err := b.provider.SignOut(ctx, a.location()); err == nil {
		b.person = b.crowd.people[b.random.IntN(len(b.crowd.people))]
	}
}

// endOthers signs the person out in all other browsers.
func (b *browser) endOthers(ctx context.Context) {
	l, before := b.login, b.login.state.Load()
	others, over := b.person.ending(l)
	defer over()
	a := b.post(ctx, "/protected/sessions", url.Values{"end": {"others"}})
	if a.status != http.StatusSeeOther || a.location() != "/protected/sessions" {
		if b.crowd.judge(l, before, "POST /protected/sessions", a) == asked {
			b.crowd.signedOut(l)
			b.forget()
		}
		return
	}
	b.crowd.tally.add("sign-outs of all other browsers", 1)
	if before == hasEnded {
		b.crowd.tally.violate(endedStaysEnded, "a session of %s that was ended can end others", l.who)
	}
	for _, other := range others {
		b.crowd.over(other)
	}
}

// endAtProvider ends the person's sessions at the provider, which tells the application.
func (b *browser) endAtProvider(ctx context.Context) {
	all, over := b.person.ending(nil)
	defer over()
	for _, d := range b.crowd.logto.EndSession(ctx, b.person.name) {
		b.crowd.tally.add("back-channel logouts", 1)
		if d.Status != http.StatusOK {
			b.crowd.tally.add("  not acknowledged", 1)
			if d.Status != 0 && d.Status < http.StatusInternalServerError {
				b.crowd.tally.note("back-channel logout: %d %s", d.Status, d.Body)
			}
			continue
		}
		for _, l := range all {
			if l.grant.sid == sidOf(d.Token) {
				b.crowd.over(l)
			}
		}
	}
}

// leave signs everybody out everywhere, and then tries once more what was ended.
func (c *crowd) leave(ctx context.Context) {
	var all sync.WaitGroup
	for _, b := range c.browsers {
		all.Go(func() {
			if b.login != nil {
				b.signOut(ctx)
			}
		})
	}
	all.Wait()
	for _, p := range c.people { // a session whose cookie was lost with its instance is known to its person only
		all.Go(func() {
			b := c.newBrowser(p, rand.New(rand.NewPCG(0, 0)))
			if b.signIn(ctx, 1); b.login != nil {
				b.endOthers(ctx)
			}
			if b.login != nil {
				b.signOut(ctx)
			}
		})
	}
	all.Wait()
	for worker := range 16 {
		all.Go(func() {
			for i := worker; i < len(c.ended) && ctx.Err() == nil; i += 16 {
				c.tryEnded(c.ended[i], newRequest(ctx, http.MethodGet, c.url+"/protected/userinfo", nil))
			}
		})
	}
	all.Wait()
}

// get and post are for paths of the application's, and check what comes back.
func (b *browser) get(ctx context.Context, path string) answer {
	return b.crowd.send(b.client, newRequest(ctx, http.MethodGet, b.crowd.url+path, nil))
}

func (b *browser) post(ctx context.Context, path string, form url.Values) answer {
	request := newRequest(ctx, http.MethodPost, b.crowd.url+path, form)
	request.Header.Set("Origin", b.crowd.url)
	return b.crowd.send(b.client, request)
}

// newRequest is one of a browser that a person led there.
func newRequest(ctx context.Context, method, address string, form url.Values) *http.Request {
	request, err := http.NewRequestWithContext(ctx, method, address, strings.NewReader(form.Encode()))
	if err != nil {
		panic(err) // the provider redirected to something that is no address
	}
	request.Header.Set("Accept", "text/html")
	request.Header.Set("Sec-Fetch-Dest", "document")
	if method == http.MethodPost {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	return request
}

// newClient returns one that follows no redirects, for each of them is looked at.
func newClient(transport http.RoundTripper, jar http.CookieJar) *http.Client {
	return &http.Client{
		Transport: transport, Jar: jar, Timeout: 45 * time.Second, // longer than the application gives itself
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// answer is a response, read.
type answer struct {
	status int
	header http.Header
	body   string
}

func fetch(client *http.Client, request *http.Request) (answer, error) {
	response, err := client.Do(request)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return answer{response.StatusCode, response.Header, string(body)}, err
}

func (a answer) location() string { return a.header.Get("Location") }

// session returns the session's cookie that the answer sets; nil if it sets none.
func (a answer) session() *http.Cookie {
	for _, c := range (&http.Response{Header: a.header}).Cookies() {
		if c.Name == "sid" {
			return c
		}
	}
	return nil
}
