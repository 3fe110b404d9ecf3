package routes

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/gin-contrib/sessions"
	"github.com/gin-gonic/gin"

	"example.com/logto-gin-starter/auth"
	"example.com/logto-gin-starter/auth/authtest"
	"example.com/logto-gin-starter/internal/session"
)

// prompt returns what a sign-in of this browser asks Logto for.
func (b *browser) prompt() string {
	b.t.Helper()
	a := b.get("/sign-in")
	b.want(a, http.StatusSeeOther, "")
	u, err := url.Parse(a.header.Get("Location"))
	if err != nil {
		b.t.Fatal(err)
	}
	return u.Query().Get("prompt")
}

const (
	usual     = "consent"
	withLogin = "login consent"
)

// wantTold wants a page to tell something, once.
func (b *browser) wantTold(page, what string) {
	b.t.Helper()
	told := `role="status">` + what
	if a := b.get(page); a.status != 200 || !strings.Contains(a.body, told) {
		b.t.Errorf("%s: %d, and it does not say %q: %s", page, a.status, what, a.body)
	}
	if a := b.get(page); strings.Contains(a.body, `role="status"`) {
		b.t.Errorf("%s says it twice", page)
	}
}

// TestEndedElsewhere: a session that was ended from outside stays so, its browser is told once, and the next sign-in asks for
// the password.
func TestEndedElsewhere(t *testing.T) {
	for name, tt := range map[string]struct {
		end  func(t *testing.T, s *site, other *browser)
		told string
	}{
		"by another browser": {func(t *testing.T, s *site, other *browser) {
			other.want(other.post("/protected/sessions", url.Values{"end": {"others"}}), 303, "/protected/sessions")
		}, "You were signed out from another browser."},
		"one of them by another browser": {func(t *testing.T, s *site, other *browser) {
			for _, row := range decode[sessionsPage](t, other.getJSON("/protected/sessions")).Sessions {
				if !row.Current {
					other.want(other.post("/protected/sessions", url.Values{"end": {row.ID}}), 303, "/protected/sessions")
				}
			}
		}, "You were signed out from another browser."},
		"by Logto": {func(t *testing.T, s *site, other *browser) {
			form := url.Values{"logout_token": {s.logto.LogoutToken("ada", authtest.NoClaim("sid"))}}
			other.want(other.post("/backchannel-logout", form), 200, "")
		}, "You were signed out because your session at Logto ended."},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			home, page, other := s.signedIn(t, "ada"), s.browser(t), s.signedIn(t, "ada")
			if got := home.prompt(); got != usual {
				t.Errorf("before it, a sign-in asks for %q", got)
			}
			tt.end(t, s, other)
			if name != "one of them by another browser" {
				page.signIn("ada", "/")
				tt.end(t, s, other.again())
				// Led from a page to sign in, they are told on the page that they come back to.
				page.want(page.get("/protected/sessions"), 303, "/sign-in?return_to=%2Fprotected%2Fsessions")
				page.signIn("ada", "/protected/sessions")
				page.wantTold("/protected/sessions", tt.told)
			}
			if home.isSignedIn() {
				t.Error("still signed in")
			}
			home.wantTold("/", tt.told)
			if got := home.prompt(); got != withLogin {
				t.Errorf("the next sign-in asks for %q", got)
			}
			home.signIn("ada", "/")
			if got := home.prompt(); got != usual || !home.isSignedIn() {
				t.Errorf("signed in again is %v, and then a sign-in asks for %q", home.isSignedIn(), got)
			}
		})
	}
}

// again signs in in this browser once more, if its session was ended too.
func (b *browser) again() *browser {
	b.t.Helper()
	if !b.isSignedIn() {
		b.signIn("ada", "/")
	}
	return b
}

// TestOvertaken: a sign-in that began before a logout starts no session after it, however late its callback comes.
func TestOvertaken(t *testing.T) {
	for name, change := range map[string]func(*authtest.JWT){
		"sub and sid": func(*authtest.JWT) {},
		"only sub":    authtest.NoClaim("sid"),
		"only sid":    authtest.NoClaim("sub"),
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			late := s.browser(t)
			callback := late.begin("/sign-in?return_to=/protected/sessions", "ada")
			form := url.Values{"logout_token": {s.logto.LogoutToken("ada", change)}}
			late.want(late.post("/backchannel-logout", form), 200, "")
			a := late.get(callback)
			late.want(a, 400, "")
			if late.isSignedIn() || len(s.redis.ended()) == 0 {
				t.Errorf("signed in is %v, marks %v", late.isSignedIn(), s.redis.ended())
			}
			if !strings.Contains(a.body, "You were signed out") || !strings.Contains(a.body, `href="/sign-in?return_to=%2Fprotected%2Fsessions"`) {
				t.Errorf("page: %s", a.body)
			}
			late.signIn("ada", "/protected/sessions")
			if !late.isSignedIn() {
				t.Error("who begins again can't sign in")
			}
		})
	}
}

// ended returns the marks of ends from outside.
func (r *redisServer) ended() []string {
	return slices.DeleteFunc(r.Keys(), func(key string) bool {
		if strings.HasPrefix(key, "sid:") {
			members, _ := r.ZMembers(key)
			return !slices.ContainsFunc(members, func(member string) bool { return strings.HasSuffix(member, "ended") })
		}
		return !strings.HasPrefix(key, "ended:")
	})
}

// TestSlowSave: a request from before the end, which saves a value after another tab has signed in, sets no cookie.
func TestSlowSave(t *testing.T) {
	s := newSite(t, func(set *setup) {
		set.pages = func(app App, engine *gin.Engine) {
			page(app, engine, "/slow", func(c *gin.Context) {
				values := sessions.Default(c)
				values.Set("k", "v")
				if err := values.Save(); err != nil {
					c.String(http.StatusConflict, "%v", err)
					return
				}
				c.String(http.StatusOK, "saved")
			})
		}
	})
	for name, end := range map[string]func(b *browser){
		"signed out":             func(b *browser) { b.post("/sign-out", nil) },
		"signed in anew":         func(b *browser) { b.signIn("ada", "/") },
		"ended by Logto":         func(b *browser) { s.logto.EndSession(t.Context(), "ada") },
		"ended by another one":   func(b *browser) { s.signedIn(t, "ada").post("/protected/sessions", url.Values{"end": {"others"}}) },
		"ended, and signed in":   func(b *browser) { s.logto.EndSession(t.Context(), "ada"); b.signIn("ada", "/") },
		"signed out and in anew": func(b *browser) { b.post("/sign-out", nil); b.signIn("ada", "/") },
	} {
		t.Run(name, func(t *testing.T) {
			b := s.signedIn(t, "ada")
			slow := s.browser(t)
			slow.setCookie("sid", b.cookies()["sid"])
			end(b)
			a := slow.get("/slow")
			if a.status != http.StatusConflict || len(a.header["Set-Cookie"]) > 0 {
				t.Errorf("%d, Set-Cookie %q", a.status, a.header["Set-Cookie"])
			}
		})
	}
}

// TestSignOutIsTold at home, once.
func TestSignOutIsTold(t *testing.T) {
	s := newSite(t)
	b := s.signedIn(t, "ada")
	b.want(b.post("/sign-out", nil), 303, "")
	b.wantTold("/", "You are signed out.")
	if got := b.prompt(); got != usual {
		t.Errorf("after a sign-out at Logto too, a sign-in asks for %q", got)
	}
	b.setCookie("notice", "error.internal.title")
	if a := b.get("/"); strings.Contains(a.body, `role="status"`) {
		t.Error("a cookie can name any message")
	}
}

// TestNothingLeftBySignIn: however many sign-ins are begun, and callbacks made up, Redis keeps nothing.
func TestNothingLeftBySignIn(t *testing.T) {
	s := newSite(t)
	b := s.browser(t)
	commands := s.redis.during(func() {
		for range 50 {
			s.browser(t).get("/sign-in?return_to=/" + strings.Repeat("x", 900))
			b.get("/sign-up")
			b.get("/callback?code=x&state=" + strings.Repeat("A", 200))
		}
	})
	if len(commands) > 0 || len(s.redis.Keys()) > 0 {
		t.Errorf("commands %v, keys %v", commands, s.redis.Keys())
	}
	// With 32 tossed cookies and a state of one's own, a callback costs two at most, and leaves a note for a minute.
	a := b.get("/sign-in")
	u, _ := url.Parse(a.header.Get("Location"))
	for i := range 32 {
		b.setCookie("signin-tossed0"[:14]+string(rune('A'+i)), strings.Repeat("A", 43))
	}
	commands = s.redis.during(func() {
		b.want(b.get("/callback?iss="+url.QueryEscape(s.logto.Issuer)+"&code=x&state="+u.Query().Get("state")), 400, "")
	})
	if slices.Contains(commands, "EVAL") { // the first time, Redis must be given the script
		commands = commands[1:]
	}
	if sent := slices.DeleteFunc(commands, func(c string) bool { return c != "EVALSHA" && c != "EVAL" }); len(sent) > 2 {
		t.Errorf("commands: %v", sent)
	}
	for _, key := range s.redis.Keys() {
		if ttl := s.redis.TTL(key); ttl <= 0 || ttl > auth.SignInLife {
			t.Errorf("%s stays for %v", key, ttl)
		}
	}
	if len(s.redis.Keys()) != 1 {
		t.Errorf("left: %v", s.redis.Keys())
	}
}

// TestSignInLives as long for auth as for the sessions' marks, or a sign-in could outlive the mark that stops it.
func TestSignInLives(t *testing.T) {
	if auth.SignInLife > session.SignInLife {
		t.Errorf("a sign-in lives %v, its marks %v", auth.SignInLife, session.SignInLife)
	}
}

// TestLogNamesNobody: sign-in, sign-out, logout and refusals name a short hash, by which they belong together, and no name.
func TestLogNamesNobody(t *testing.T) {
	s := newSite(t)
	b := s.signedIn(t, "ada")
	b.get("/protected/sessions")
	b.post("/sign-out", nil)
	s.browser(t).post("/backchannel-logout", url.Values{"logout_token": {s.logto.LogoutToken("ada")}})
	people, sessions := map[any]int{}, map[any]int{}
	for _, line := range s.log.lines(t, "request") {
		if line["person"] != nil {
			people[line["person"]]++
		}
		if line["session"] != nil {
			sessions[line["session"]]++
		}
	}
	if len(people) != 1 || len(sessions) != 1 {
		t.Fatalf("people %v, sessions %v", people, sessions)
	}
	for person, lines := range people {
		if lines != 4 || len(person.(string)) != 8 {
			t.Errorf("%d lines about %v, want callback, page, sign-out and logout", lines, person)
		}
	}
	if subject := s.logto.User("ada").Subject; strings.Contains(s.log.text(), subject) || strings.Contains(s.log.text(), "ada") {
		t.Error("the log names the person")
	}
}

// TestBegunBeforeTheEnd: a sign-in that began before its browser was signed out elsewhere does not get round the password.
func TestBegunBeforeTheEnd(t *testing.T) {
	for name, end := range map[string]func(s *site, b *browser){
		"one session, by another browser": func(s *site, b *browser) {
			other := s.signedIn(t, "ada")
			for _, row := range decode[sessionsPage](t, other.getJSON("/protected/sessions")).Sessions {
				if !row.Current {
					other.post("/protected/sessions", url.Values{"end": {row.ID}})
				}
			}
		},
		"dead grant": func(s *site, b *browser) {
			s.logto.On(authtest.Token, authtest.OAuthError(400, "invalid_grant", "grant request is invalid")).Times(1)
			b.want(b.post("/own/token", nil), 303, "")
		},
		"signed out while Logto was away": func(s *site, b *browser) {
			s.logto.On(authtest.Revocation, authtest.Reset).Times(1)
			b.want(b.post("/sign-out", nil), 200, "")
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			b := s.signedIn(t, "ada")
			callback := b.begin("/sign-in?return_to=/protected/sessions", "ada")
			end(s, b)
			b.want(b.get(callback), 400, "")
			if b.isSignedIn() {
				t.Error("signed in without the password")
			}
			if got := b.prompt(); got != withLogin {
				t.Errorf("the next sign-in asks for %q", got)
			}
			b.signIn("ada", "/")
		})
	}
}

// TestNoticeOutlivesAnOutage: what could not be told is told later.
func TestNoticeOutlivesAnOutage(t *testing.T) {
	s := newSite(t)
	b := s.signedIn(t, "ada")
	b.post("/organization", url.Values{"id": {acme}})
	s.redis.down()
	if a := b.get("/"); a.status != 503 || len(a.header["Set-Cookie"]) > 0 {
		t.Errorf("%d, Set-Cookie %q", a.status, a.header["Set-Cookie"])
	}
	s.redis.up()
	b.wantTold("/", "Active organization: Acme.")
}
