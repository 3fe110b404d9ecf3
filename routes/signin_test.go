package routes

import (
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/logto-gin-starter/auth/authtest"
)

// TestWhatTheProviderSees follows one sign-in and one sign-up.
func TestWhatTheProviderSees(t *testing.T) {
	s := newSite(t)
	for path, screen := range map[string]string{"/sign-in": "", "/sign-up": "register"} {
		s.logto.Forget()
		b := s.browser(t)
		b.choose("th", "/")
		b.want(b.get(b.begin(path+"?first_screen=reset_password&state=chosen&redirect_uri=https://evil.example", "ada")), 303, "/")
		requests := s.logto.Requests(authtest.Authorization, authtest.Token)
		if len(requests) != 2 {
			t.Fatalf("%d requests", len(requests))
		}
		asked, exchange := requests[0].Form, requests[1]
		for name, want := range map[string]string{
			"client_id": "demoapp0123456789abcd", "response_type": "code", "redirect_uri": s.url + "/callback",
			"code_challenge_method": "S256", "prompt": "consent", "ui_locales": "th", "first_screen": screen,
		} {
			if got := asked[name]; want != "" && !slices.Equal(got, []string{want}) || want == "" && got != nil {
				t.Errorf("%s: %s %q, want %q", path, name, got, want)
			}
		}
		if scopes := strings.Fields(asked.Get("scope")); !slices.Equal(scopes[:3], []string{"openid", "profile", "offline_access"}) || len(scopes) != 15 {
			t.Errorf("scopes %q", scopes)
		}
		if got := asked["resource"]; !slices.Equal(got, []string{shopping, store, "urn:logto:resource:organizations"}) {
			t.Errorf("resources %q", got)
		}
		for _, name := range []string{"state", "nonce", "code_challenge"} {
			if len(asked.Get(name)) < 43 {
				t.Errorf("%s %q is short", name, asked[name])
			}
		}
		if len(exchange.Form.Get("code_verifier")) < 43 || exchange.Auth != "client_secret_basic" || exchange.Status != 200 {
			t.Errorf("exchange by %s with %v: %d", exchange.Auth, exchange.Form, exchange.Status)
		}
	}
}

// TestSignInIsForPeople: what a page makes a browser load begins no sign-in and leaves nothing behind.
func TestSignInIsForPeople(t *testing.T) {
	s := newSite(t)
	for _, path := range []string{"/sign-in", "/sign-up", "/sign-in?return_to=/own/token"} {
		for _, destination := range []string{"image", "iframe", "empty", "style", "script", "object", "x"} {
			b := s.browser(t)
			a := b.get(path, "Sec-Fetch-Dest", destination, "Sec-Fetch-Site", "cross-site")
			b.want(a, 403, "")
			if a.header.Get("Location") != "" || len(a.header["Set-Cookie"]) > 0 || a.header.Get("Cache-Control") != "no-store" ||
				a.header.Get("Vary") != "Accept, Accept-Language, Cookie" {
				t.Errorf("%s for %s: %v", path, destination, a.header)
			}
		}
	}
	if len(s.redis.Keys()) > 0 || len(s.logto.Requests()) > 0 {
		t.Errorf("left in Redis: %q; asked of Logto: %v", s.redis.Keys(), s.logto.Requests())
	}
	b := s.browser(t)
	b.want(b.get("/sign-in", "Sec-Fetch-Dest", "document"), 303, "")
	b.want(b.get("/sign-up", "Sec-Fetch-Dest", "document", "Sec-Fetch-Site", "cross-site"), 303, "") // a link of another site
	b.want(b.get("/sign-in"), 303, "")                                                               // an old browser
}

// TestSignUp makes a new account.
func TestSignUp(t *testing.T) {
	s := newSite(t)
	b := s.browser(t)
	callback, err := b.logto.SignUp(t.Context(), b.get("/sign-up?return_to=/own/userinfo").header.Get("Location"),
		authtest.User{Username: "linus", Password: "just-for-fun", Name: "Linus"})
	if err != nil {
		t.Fatal(err)
	}
	b.want(b.get(callback), 303, "/own/userinfo")
	if a := b.get("/"); !strings.Contains(a.body, "Hello, Linus") {
		t.Errorf("home: %s", a.body)
	}
}

// TestCallbackRefuses is every way in which a sign-in can fail: by its status one sees whose doing it was, and nobody is
// signed in.
func TestCallbackRefuses(t *testing.T) {
	idToken := func(change func(*authtest.JWT)) func(*authtest.Server) {
		return func(logto *authtest.Server) { logto.OnIDToken(change) }
	}
	answer := func(e authtest.Endpoint, b authtest.Behaviour) func(*authtest.Server) {
		return func(logto *authtest.Server) { logto.On(e, b) }
	}
	query := func(change func(url.Values)) func(*authtest.Server) {
		return func(logto *authtest.Server) { logto.OnCallback(change) }
	}
	for _, tt := range []struct {
		name   string
		wrong  func(*authtest.Server)
		status int
		page   string // the error's name
		spent  bool   // the code went to the token endpoint
	}{
		{"cancelled", query(authtest.Refused("access_denied", "<b>no</b>")), 400, "denied", false},
		{"no session at Logto", query(authtest.Refused("login_required", "")), 400, "denied", false},
		{"Logto in trouble", query(authtest.Refused("server_error", "")), 502, "logto_failed", false},
		{"unregistered resource", query(authtest.Refused("invalid_target", "")), 502, "logto_failed", false},
		{"no state", query(authtest.NoParam("state")), 400, "unknown_sign_in", false},
		{"unknown state", query(authtest.Param("state", strings.Repeat("A", 52))), 400, "unknown_sign_in", false},
		{"two states", query(func(q url.Values) { q.Add("state", "B") }), 400, "unknown_sign_in", false},
		{"no code", query(authtest.NoParam("code")), 400, "bad_request", false},
		{"two codes", query(func(q url.Values) { q.Add("code", "B") }), 400, "bad_request", false},
		{"unknown code", query(authtest.Param("code", "made-up")), 400, "unknown_sign_in", true},
		{"no iss", query(authtest.NoParam("iss")), 400, "bad_request", false},
		{"another iss", query(authtest.Param("iss", "https://evil.example/oidc")), 400, "bad_request", false},

		{"token: 500", answer(authtest.Token, authtest.Status(500)), 502, "logto_unavailable", true},
		{"token: wrong secret", answer(authtest.Token, authtest.OAuthError(401, "invalid_client", "")), 502, "logto_failed", true},
		{"token: web page", answer(authtest.Token, authtest.HTML(200)), 502, "logto_unavailable", true},
		{"token: gateway's web page", answer(authtest.Token, authtest.HTML(503)), 502, "logto_unavailable", true},
		{"token: garbage", answer(authtest.Token, authtest.Garbage), 502, "logto_unavailable", true},
		{"token: reset", answer(authtest.Token, authtest.Reset), 502, "logto_unavailable", true},
		{"token: cut off", answer(authtest.Token, authtest.CutOff), 502, "logto_unavailable", true},
		{"token: 2 MB", answer(authtest.Token, authtest.Huge(2<<20)), 502, "logto_unavailable", true},
		{"token: redirects", answer(authtest.Token, authtest.RedirectLoop), 502, "logto_failed", true},
		{"token: no access token", answer(authtest.Token, authtest.NoField("access_token")), 502, "logto_unavailable", true},
		{"token: no ID token", answer(authtest.Token, authtest.NoField("id_token")), 502, "logto_failed", true},
		{"token: slow", answer(authtest.Token, authtest.Hang), 504, "logto_timeout", true},
		{"keys: 500", answer(authtest.Keys, authtest.Status(500)), 502, "logto_unavailable", true},
		{"keys: none", answer(authtest.Keys, authtest.NoKeys), 502, "logto_unavailable", true},
		{"keys: slow", answer(authtest.Keys, authtest.Hang), 504, "logto_timeout", true},

		{"oidcc-client-test-invalid-iss", idToken(authtest.WrongIssuer), 502, "logto_failed", true},
		{"oidcc-client-test-missing-sub", idToken(authtest.NoClaim("sub")), 502, "logto_failed", true},
		{"oidcc-client-test-invalid-aud", idToken(authtest.WrongAudience), 502, "logto_failed", true},
		{"oidcc-client-test-missing-iat", idToken(authtest.NoClaim("iat")), 502, "logto_failed", true},
		{"oidcc-client-test-idtoken-sig-none", idToken(authtest.Unsigned), 502, "logto_failed", true},
		{"oidcc-client-test-invalid-sig", idToken(authtest.BrokenSignature), 502, "logto_failed", true},
		{"oidcc-client-test-nonce-invalid", idToken(authtest.WrongNonce), 502, "logto_failed", true},
		{"no nonce", idToken(authtest.NoClaim("nonce")), 502, "logto_failed", true},
		{"no exp", idToken(authtest.NoClaim("exp")), 502, "logto_failed", true},
		{"expired", idToken(authtest.Shifted(-24 * time.Hour)), 502, "logto_failed", true},
		{"from the future", idToken(authtest.Shifted(time.Hour)), 502, "logto_failed", true},
		{"another party", idToken(authtest.ForeignParty), 502, "logto_failed", true},
		{"forged", idToken(authtest.SignedWithForeignKey("ES384")), 502, "logto_failed", true},
		{"another algorithm", idToken(authtest.SignedWithForeignKey("RS256")), 502, "logto_failed", true},
		{"HS256 by public key", idToken(authtest.SignedWithPublicKey), 502, "logto_failed", true},
		{"HS256 by secret", idToken(authtest.SignedWithSecret), 502, "logto_failed", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, func(set *setup) {
				for ending, name := range map[string]string{"/token": "token: slow", "/jwks": "keys: slow"} {
					if name == tt.name {
						set.client.Transport = impatient{ending}
					}
				}
			})
			tt.wrong(s.logto)
			b := s.browser(t)
			callback := b.begin("/sign-in?return_to=/own/userinfo", "ada")
			a := b.get(callback)
			b.want(a, tt.status, "")
			again := `class="button primary" href="/sign-in?return_to=%2Fown%2Fuserinfo"`
			if strings.HasSuffix(tt.name, " state") || strings.HasSuffix(tt.name, " states") { // nobody knows of which sign-in
				again = `class="button primary" href="/sign-in"`
			}
			title := "<h1>" + s.app.Messages.Text("en", "error."+tt.page+".title") + "</h1>"
			if !strings.Contains(a.body, title) || !strings.Contains(a.body, again) || strings.Contains(a.body, "<b>no") {
				t.Errorf("want %q and a way to try again: %s", title, a.body)
			}
			if spent := s.logto.Count(authtest.Token) > 0; spent != tt.spent && tt.name != "token: slow" { // it may still be on its way
				t.Errorf("token endpoint called: %v", spent)
			}
			if s.logto.Count(authtest.UserInfo) > 0 {
				t.Error("userinfo was called")
			}
			if _, begun := b.cookies()["sid"]; begun || b.isSignedIn() {
				t.Error("a session has begun")
			}
			s.logto.Behave()
			if !strings.Contains(tt.name, "state") { // an unknown one leaves the sign-in that it isn't as it was
				b.want(b.get(callback), 400, "") // once is all
			}
			if !strings.HasSuffix(tt.name, "slow") {
				b.signIn("ada", "/own/userinfo")
			}
		})
	}
}

// TestSignInRefuses: without a provider that can be trusted there is not even an authorization request.
func TestSignInRefuses(t *testing.T) {
	for _, tt := range []struct {
		name   string
		wrong  authtest.Behaviour
		status int
	}{
		{"oidcc-client-test-discovery-issuer-mismatch", authtest.Field("issuer", "https://evil.example/oidc"), 502},
		{"500", authtest.Status(500), 502},
		{"web page", authtest.HTML(200), 502},
		{"reset", authtest.Reset, 502},
		{"no endpoint", authtest.NoField("token_endpoint"), 502},
		{"symmetric algorithms only", authtest.Field("id_token_signing_alg_values_supported", []string{"HS256", "none"}), 502},
		{"slow", authtest.Hang, 504},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, func(set *setup) {
				if tt.name == "slow" {
					set.client.Transport = impatient{"/openid-configuration"}
				}
			})
			s.logto.On(authtest.Discovery, tt.wrong)
			b := s.browser(t)
			a := b.get("/sign-in?return_to=/own/userinfo")
			b.want(a, tt.status, "")
			if len(b.cookies()) > 0 || !strings.Contains(a.body, `href="/sign-in?return_to=/own/userinfo"`) {
				t.Errorf("cookies %v, page %s", b.cookies(), a.body)
			}
			b.want(b.get("/"), 200, "")
			s.logto.Behave()
			if tt.name != "slow" {
				b.signIn("ada", "/") // it recovers by itself
			}
		})
	}
}

// TestOutageDuringSignIn: Redis is away before, in the middle of, and after the state was taken.
func TestOutageDuringSignIn(t *testing.T) {
	for _, tt := range []struct {
		name   string
		down   []string
		retry  int // of the same callback, later
		atOnce bool
	}{
		{"all the time", nil, 303, true},
		{"use of the state", []string{"SET"}, 303, true},
		{"start of the session", []string{"ZADD"}, 400, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t)
			b := s.browser(t)
			callback := b.begin("/sign-in?return_to=/protected/sessions", "ada")
			before := b.cookies()
			s.redis.down(tt.down...)
			a := b.get(callback)
			b.want(a, 503, "")
			if a.header.Get("Retry-After") == "" || a.header.Get("Set-Cookie") != "" || !maps.Equal(before, b.cookies()) {
				t.Errorf("Retry-After %q, Set-Cookie %q", a.header.Get("Retry-After"), a.header["Set-Cookie"])
			}
			if asked := s.logto.Count(authtest.Token) > 0; asked == tt.atOnce {
				t.Errorf("code spent: %v", asked)
			}
			s.redis.up()
			b.want(b.get(callback), tt.retry, "")
			if b.isSignedIn() != (tt.retry == 303) {
				t.Errorf("signed in: %v", b.isSignedIn())
			}
		})
	}
	t.Run("at the beginning", func(t *testing.T) {
		s := newSite(t)
		b := s.browser(t)
		s.redis.down()
		callback := b.begin("/sign-in", "ada") // asks Redis nothing
		s.redis.up()
		b.want(b.get(callback), 303, "/")
	})
}

// TestUsedState: a callback counts once; who is signed in by it gets to the page that was wanted by Back and reload too.
func TestUsedState(t *testing.T) {
	s := newSite(t)
	b := s.browser(t)
	callback := b.begin("/sign-in?return_to=/protected/sessions", "ada")
	b.want(b.get(callback), 303, "/protected/sessions")
	before, exchanges := b.cookies(), s.logto.Count(authtest.Token)
	for range 3 {
		b.want(b.get(callback), 303, "/protected/sessions")
	}
	if !maps.Equal(before, b.cookies()) || s.logto.Count(authtest.Token) != exchanges {
		t.Error("a reload is more than a reload")
	}
	b.post("/sign-out", nil)
	a := b.get(callback)
	b.want(a, 400, "")
	if !strings.Contains(a.body, `href="/sign-in?return_to=%2Fprotected%2Fsessions"`) {
		t.Errorf("trying again does not lead to the page that was wanted: %s", a.body)
	}
}

// TestLongReturn: what is odd in an address does not make the state longer than a callback takes.
func TestLongReturn(t *testing.T) {
	s := newSite(t)
	for _, odd := range []string{"&<>", "\u2028", "é", `"`, "%00"} {
		page := "/protected/sessions?q=" + strings.Repeat(odd, 980/len(odd))
		b := s.browser(t)
		a := b.get(b.begin(toSignIn(page), "ada"))
		if a.status != 303 || !strings.HasPrefix(a.header.Get("Location"), "/protected/sessions?q=") {
			t.Errorf("%q: %d to %s", odd, a.status, a.header.Get("Location"))
		}
	}
}

// TestAnotherBrowser: a callback is worth nothing where the sign-in was not begun, so that nobody is signed in as somebody
// else by a link; and the attempt takes nothing from whose sign-in it is.
func TestAnotherBrowser(t *testing.T) {
	s := newSite(t)
	mallory, victim := s.browser(t), s.browser(t)
	callback := mallory.begin("/sign-in", "grace")
	victim.want(victim.get(callback), 400, "")
	victim.begin("/sign-in", "ada")
	victim.want(victim.get(callback), 400, "")
	if victim.isSignedIn() {
		t.Error("the victim is signed in")
	}
	if s.logto.Count(authtest.Token) != 0 {
		t.Error("the code was spent")
	}
	mallory.want(mallory.get(callback), 303, "/")

	victim.signIn("ada", "/")
	callback = mallory.begin("/sign-in", "grace")
	victim.want(victim.get(callback), 303, "/")
	if a := victim.get("/"); !strings.Contains(a.body, "Ada Lovelace") {
		t.Error("the victim is somebody else now")
	}
}

// TestTwentyTabs begins twenty sign-ins at the same moment in a browser without any cookie, and ends them at the same
// moment: each leads to its own page.
func TestTwentyTabs(t *testing.T) {
	s := newSite(t)
	b := s.browser(t)
	jar := b.http.Jar
	b.http.Jar = nil // no request knows the cookies of another's answer
	const tabs = 20
	var begun, ended [tabs]reply
	var callbacks [tabs]string
	each := func(f func(i int)) {
		var all sync.WaitGroup
		for i := range tabs {
			all.Go(func() { f(i) })
		}
		all.Wait()
	}
	each(func(i int) { begun[i] = b.get(fmt.Sprintf("/sign-in?return_to=/tab/%d", i)) })
	b.http.Jar = jar
	for i, a := range begun {
		keepCookies(b, a)
		var err error
		if callbacks[i], err = b.logto.SignIn(t.Context(), a.header.Get("Location"), "ada"); err != nil {
			t.Fatal(err)
		}
	}
	fresh, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	address, _ := url.Parse(s.url)
	fresh.SetCookies(address, jar.Cookies(address))
	b.http.Jar = frozen{fresh} // again
	each(func(i int) { ended[i] = b.get(callbacks[i]) })
	b.http.Jar = fresh
	for i, a := range ended {
		b.want(a, 303, fmt.Sprintf("/tab/%d", i))
		keepCookies(b, a)
	}
	if !b.isSignedIn() {
		t.Error("signed out in the end")
	}
}

// frozen is a jar into which nothing goes.
type frozen struct{ http.CookieJar }

func (frozen) SetCookies(*url.URL, []*http.Cookie) {}

func keepCookies(b *browser, a reply) {
	address, _ := url.Parse(b.site.url)
	b.http.Jar.SetCookies(address, (&http.Response{Header: a.header}).Cookies())
}

// TestFixation: nobody can choose the session in which somebody else will sign in.
func TestFixation(t *testing.T) {
	s := newSite(t)
	mallory := s.signedIn(t, "grace")
	planted := mallory.cookies()["sid"]
	tag, _, _ := strings.Cut(planted, ".")
	for name, cookie := range map[string]string{
		"of nobody": tag + "." + base64.RawURLEncoding.EncodeToString(make([]byte, 32)),
		"her own":   planted,
		"garbage":   "sid",
	} {
		victim := s.browser(t)
		victim.setCookie("sid", cookie)
		victim.signIn("ada", "/")
		if got := victim.cookies()["sid"]; got == cookie || strings.HasPrefix(got, tag) {
			t.Errorf("a cookie %s: the session is %s", name, got)
		}
		mallory.setCookie("sid", cookie)
		if mallory.isSignedIn() {
			t.Errorf("a cookie %s still signs somebody in", name)
		}
	}
	// The sign-in under way is bound to a secret, too.
	victim := s.browser(t)
	callback := mallory.begin("/sign-in", "grace")
	victim.begin("/sign-in", "ada")
	for name := range mallory.cookies() {
		victim.setCookie(name, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
	}
	victim.want(victim.get(callback), 400, "")
}

// TestNewID: each sign-in has an ID of its own, and the old one is dead.
func TestNewID(t *testing.T) {
	s := newSite(t)
	b := s.browser(t)
	seen := map[string]bool{}
	for range 3 {
		old := b.cookies()["sid"]
		b.signIn("ada", "/")
		id := b.cookies()["sid"]
		if seen[id] {
			t.Errorf("%s again", id)
		}
		seen[id] = true
		if old != "" {
			thief := s.browser(t)
			thief.setCookie("sid", old)
			if thief.isSignedIn() {
				t.Error("the old ID still works")
			}
		}
	}
}

// TestReturnTo goes the whole way; FuzzReturnTo has more addresses.
func TestReturnTo(t *testing.T) {
	s := newSite(t)
	for _, tt := range []struct{ name, wanted, got string }{
		{"a page", "/own/token", "/own/token"},
		{"with query", "/a?b=c%20d&e=/f#g", "/a?b=c%20d&e=/f#g"},
		{"another language", "/สวัสดี", "/%e0%b8%aa%e0%b8%a7%e0%b8%b1%e0%b8%aa%e0%b8%94%e0%b8%b5"},
		{"none", "", "/"},
		{"relative", "protected", "/"},
		{"other site", "https://evil.example", "/"},
		{"other site, no scheme", "//evil.example", "/"},
		{"other site, three slashes", "///evil.example", "/"},
		{"other site, backslash", `/\evil.example`, "/"},
		{"other site, two backslashes", `\\evil.example`, "/"},
		{"other site, tab", "/\t/evil.example", "/"},
		{"other site, line break", "/\n/evil.example", "/"},
		{"other site, space", " //evil.example", "/"},
		{"this site by name", s.url + "/own/token", "/"},
		{"script", "javascript:alert(1)", "/"},
		{"header", "/a\r\nSet-Cookie: sid=x", "/"},
		{"header in the fragment", "/a#\r\nSet-Cookie: sid=x", "/"},
		{"round in a circle", "/sign-in?return_to=/x", "/"},
		{"out again", "/sign-out", "/"},
		{"callback", "/callback?code=x", "/"},
		{"long", "/" + strings.Repeat("x", 3000), "/"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := s.browser(t)
			b.signIn("grace", "/")
			b.want(b.get(b.begin(toSignIn(tt.wanted), "grace")), 303, tt.got)
		})
	}
}

// FuzzReturnTo: wherever one asks to return to, as a browser understands it, it is on this site.
func FuzzReturnTo(f *testing.F) {
	for _, seed := range []string{
		"/", "/a?b#c", "//evil.example", `/\evil.example`, "/%5cevil.example", "/%2fevil.example", "/x/..//evil.example", "/.//evil.example",
		"/;@evil.example", "http:/evil.example", "/\x00/evil.example", "/\u2028/evil.example", "/%zz", "?a", "#", "/a:b", "/[", "/\x7f",
	} {
		f.Add(seed)
	}
	base, _ := url.Parse("https://app.example")
	f.Fuzz(func(t *testing.T, wanted string) {
		path := localPath(wanted)
		recorder := httptest.NewRecorder()
		request, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://app.example/callback", http.NoBody)
		http.Redirect(recorder, request, path, http.StatusSeeOther)
		for _, text := range []string{path, recorder.Header().Get("Location")} {
			// What a browser does before it parses: WHATWG URL, "basic URL parser".
			text = strings.NewReplacer("\t", "", "\n", "", "\r", "", `\`, "/").Replace(strings.TrimFunc(text, func(r rune) bool { return r <= ' ' }))
			resolved, err := base.Parse(text)
			if err != nil || resolved.Scheme != "https" || resolved.Host != "app.example" || resolved.User != nil || strings.HasPrefix(text, "//") {
				t.Errorf("%q leads to %q, %v", wanted, resolved, err)
			}
		}
	})
}

// FuzzCallback: no query makes a fault of ours, or a session.
func FuzzCallback(f *testing.F) {
	s := newSite(f)
	begin := s.browser(f)
	callback, err := url.Parse(begin.begin("/sign-in", "ada"))
	if err != nil {
		f.Fatal(err)
	}
	state := callback.Query().Get("state")
	for _, seed := range []string{
		"", "code=x", "state=", "state=x&code=y", "state=" + state + "&code=x", "state=" + state + "&error=access_denied",
		"error=%3Cscript%3E&state=x", "state=%zz", "state=a&state=b", "state=%00", ";;&&==", "code=%F0%9F&iss=x&state=" + strings.Repeat("s", 5000),
		"state=" + state + "&error=%ff%fe&error_description=" + strings.Repeat("%0a", 100), "lang=th", "lang=<&return_to=//x",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, query string) {
		b := s.browser(t)
		for name, value := range begin.cookies() {
			b.setCookie(name, value)
		}
		if strings.ContainsFunc(query, func(r rune) bool { return r <= ' ' || r == '#' || r == 0x7f }) {
			return // no server gets such a query
		}
		a := b.get("/callback?" + query)
		if a.status >= 500 || a.status < 400 {
			t.Errorf("%q: %d", query, a.status)
		}
		for _, c := range a.header["Set-Cookie"] {
			if strings.HasPrefix(c, "sid=") {
				t.Errorf("%q: a session has begun", query)
			}
		}
	})
}

// FuzzCookie: no cookie makes a fault of ours, or signs anybody in.
func FuzzCookie(f *testing.F) {
	s := newSite(f)
	in := s.signedIn(f, "ada").cookies()["sid"]
	for _, seed := range []string{
		"sid=", "sid=x", "sid=.", "sid=" + in[:len(in)-1], "sid=" + strings.ToLower(in), "sid=\"" + in[1:] + "\"", "sid=a; sid=b", "lang=", "lang=th; sid",
		"lang=<script>", "signin-12345678=x", "signin-=", "signin-12345678=" + strings.Repeat("A", 43), strings.Repeat("signin-12345678="+strings.Repeat("A", 43)+";", 100),
		"\x00", ";;;", "=", "sid=" + strings.Repeat("A", 16) + "." + strings.Repeat("A", 43), "sid={x}:*." + strings.Repeat("A", 43),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, cookie string) {
		if strings.ContainsFunc(cookie, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) || strings.Contains(cookie, in) || len(cookie) > 16<<10 {
			return // no server gets such a header; or it is the right one
		}
		b := s.browser(t)
		for _, a := range []reply{
			b.get("/", "Cookie", cookie), b.get("/protected/sessions", "Cookie", cookie), b.get("/callback?state=x", "Cookie", cookie),
			b.get("/sign-in", "Cookie", cookie), b.get("/unknown", "Cookie", cookie), b.post("/sign-out", nil, "Cookie", cookie),
		} {
			if a.status >= 500 || strings.Contains(a.body, "Ada Lovelace") {
				t.Errorf("%q: %d %s", cookie, a.status, a.body)
			}
		}
	})
}

// A return_to whose bytes are not UTF-8, and which would become six times as long in a state, keeps nobody from signing in.
func TestReturnToNotUTF8(t *testing.T) {
	s := newSite(t)
	b := s.browser(t)
	a := b.get("/sign-in?return_to=/" + strings.Repeat("%FF", 600))
	b.want(a, http.StatusSeeOther, "")
	callback, err := b.logto.SignIn(t.Context(), a.header.Get("Location"), "ada")
	if err != nil {
		t.Fatal(err)
	}
	if a = b.get(callback); a.status != http.StatusSeeOther {
		t.Errorf("callback: %d", a.status)
	}
}
