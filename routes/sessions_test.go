package routes

import (
	"net/url"
	"strings"
	"testing"
)

const (
	firefox = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"
	safari  = "Mozilla/5.0 (iPhone; CPU iPhone OS 19_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/19.1 Mobile/15E148 Safari/604.1"
)

type sessionsJSON struct{ Sessions []sessionRow }

// signedInWith signs somebody in with a browser of this kind.
func (s *site) signedInWith(t *testing.T, who, agent string) *browser {
	t.Helper()
	b := s.browser(t)
	callback := b.begin("/sign-in", who)
	b.want(b.get(callback, "User-Agent", agent), 303, "/")
	return b
}

func TestSessions(t *testing.T) {
	s := newSite(t)
	desk, phone, library := s.signedInWith(t, "ada", firefox), s.signedInWith(t, "ada", safari), s.signedInWith(t, "ada", "odd")
	stranger := s.signedInWith(t, "grace", firefox)

	list := decode[sessionsJSON](t, desk.getJSON("/protected/sessions")).Sessions
	if len(list) != 3 || !list[0].Current || list[0].Browser != "Firefox" || list[0].System != "Linux" {
		t.Fatalf("%+v", list)
	}
	if home := desk.get("/").body; !strings.Contains(home, `<a href="/protected/sessions">3 browsers</a>`) {
		t.Errorf("home does not say that there are three: %s", home)
	}
	var ofPhone string
	for _, row := range list[1:] {
		if row.Current || row.Since.IsZero() || row.Seen.Before(row.Since) {
			t.Errorf("%+v", row)
		}
		if row.Browser == "Safari" && row.System == "iOS" {
			ofPhone = row.ID
		}
	}
	html := desk.get("/protected/sessions").body
	for _, text := range []string{"Firefox on Linux", "Safari on iOS", "Unknown browser", "This browser", "just now", `name="end" value="others"`, `name="end" value="` + ofPhone} {
		if !strings.Contains(html, text) {
			t.Errorf("the page lacks %q", text)
		}
	}
	if strings.Contains(html, list[0].ID) {
		t.Error("this browser has a button, too")
	}

	end := func(b *browser, id string) {
		t.Helper()
		b.want(b.post("/protected/sessions", url.Values{"end": {id}}), 303, "/protected/sessions")
	}
	signedIn := func(b *browser, want bool) {
		t.Helper()
		if b.isSignedIn() != want {
			t.Errorf("signed in: %v", !want)
		}
	}
	// Another person's ID has no effect, nor has nonsense.
	ofStranger := decode[sessionsJSON](t, stranger.getJSON("/protected/sessions")).Sessions
	if len(ofStranger) != 1 {
		t.Fatalf("a stranger sees %+v", ofStranger)
	}
	end(stranger, ofPhone)
	end(desk, ofStranger[0].ID)
	end(desk, "nonsense")
	end(desk, "}:*")
	for _, b := range []*browser{desk, phone, library, stranger} {
		signedIn(b, true)
	}

	end(desk, ofPhone)
	signedIn(phone, false)
	signedIn(library, true)
	end(desk, "others")
	signedIn(library, false)
	signedIn(desk, true)
	signedIn(stranger, true)
	if html := desk.get("/protected/sessions").body; !strings.Contains(html, s.app.Messages.Text("en", "sessions.only")) || strings.Contains(html, "value=\"others\"") {
		t.Errorf("alone: %s", html)
	}
	if home := desk.get("/").body; !strings.Contains(home, `<a href="/protected/sessions">1 browser</a>`) {
		t.Errorf("home does not say that there is one: %s", home)
	}
	desk.want(desk.post("/protected/sessions", nil), 400, "")
	end(desk, list[0].ID) // its own
	signedIn(desk, false)
	// Who comes back after their session was ended elsewhere finds the page that they wanted.
	phone.want(phone.get("/own/token"), 303, "/sign-in?return_to=%2Fown%2Ftoken")
}

func TestSessionsDuringOutage(t *testing.T) {
	s := newSite(t)
	b, other := s.signedIn(t, "ada"), s.signedIn(t, "ada")
	s.redis.down("EVALSHA", "EVAL")
	b.want(b.get("/protected/sessions"), 503, "")
	b.want(b.post("/protected/sessions", url.Values{"end": {"others"}}), 503, "")
	s.redis.up()
	if !b.isSignedIn() || !other.isSignedIn() {
		t.Error("signed out")
	}
}
