package session

import (
	"fmt"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"
)

// sessions returns the IDs of a person's sessions as a browser sees them.
func (j jar) sessions(t *testing.T, s *Store) []string {
	t.Helper()
	b, _ := j.load(t, s)
	all, err := b.Sessions(t.Context())
	must(t, err)
	ids := make([]string, len(all))
	for i, info := range all {
		ids[i] = info.ID
	}
	return ids
}

func TestSessions(t *testing.T) {
	inBubble(t, DefaultConfig(), func(t *testing.T, s *site) {
		began := time.Now()
		jars := make([]jar, 4)
		for i := range jars {
			jars[i] = jar{}
			jars[i].signIn(t, s.Store, "ada", "")
			time.Sleep(time.Hour)
		}
		bob := jar{}
		bob.signIn(t, s.Store, "bob", "")
		jars[0].who(t, s.Store)
		id := func(j jar) string { return find(j["sid"]).id }
		want := []string{id(jars[1]), id(jars[0]), id(jars[3]), id(jars[2])}
		b, _ := jars[1].load(t, s.Store)
		all, err := b.Sessions(t.Context())
		must(t, err)
		var got []string
		for _, info := range all {
			got = append(got, info.ID)
			if info.Browser != "Firefox" || info.System != "Linux" || info.Current != (info.ID == id(jars[1])) {
				t.Errorf("%+v", info)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%v, want this one, then by last seen: %v", got, want)
		}
		counted, err := s.CountedBrowser(httptest.NewRecorder(), jars[1].request(t.Context()))
		must(t, err)
		if n := counted.Places(); n != len(want) || b.Places() != 0 || counted.record.version != b.record.version {
			t.Errorf("counted %d places, and uncounted %d", n, b.Places())
		}
		if !all[1].Since.Equal(began) || !all[1].Seen.Equal(began.Add(4*time.Hour)) {
			t.Errorf("since %v, seen %v", all[1].Since, all[1].Seen)
		}

		ends(t, b, id(jars[3]))
		ends(t, b, id(bob)) // is not ada's
		if sent := s.sent.during(func() { ends(t, b, "}:*") }); sent != 0 {
			t.Errorf("what is no ID costs %d commands", sent)
		}
		if jars[3].who(t, s.Store) != "" || bob.who(t, s.Store) != "bob" {
			t.Error("EndOther ended the wrong session")
		}
		if n, err := b.EndOthers(t.Context()); n != 2 || err != nil {
			t.Errorf("EndOthers = %d, %v", n, err)
		}
		if jars[0].who(t, s.Store) != "" || jars[1].who(t, s.Store) != "ada" || bob.who(t, s.Store) != "bob" {
			t.Error("EndOthers ended the wrong sessions")
		}
		ends(t, b, id(jars[1]))
		if cookies := b.w.Header()["Set-Cookie"]; len(cookies) != 1 {
			t.Errorf("ending one's own: Set-Cookie %v", cookies)
		}
		if keys := s.living(); len(keys) != 2 {
			t.Errorf("left in Redis: %v, want bob's", keys)
		}
	})
}

func TestVisitorHasNoSessions(t *testing.T) {
	s, j := newSite(t, DefaultConfig(), Options{}), jar{}
	must(t, j.values(t, s.Store, set("k", "v")))
	b, _ := j.load(t, s.Store)
	sent := s.sent.during(func() {
		all, err := b.Sessions(t.Context())
		n, errOthers := b.EndOthers(t.Context())
		ends(t, b, randomID())
		if len(all) != 0 || n != 0 || err != nil || errOthers != nil {
			t.Errorf("%v, %v; %d, %v", all, err, n, errOthers)
		}
	})
	if sent != 0 {
		t.Errorf("%d commands", sent)
	}
}

func TestEndBy(t *testing.T) {
	for _, tt := range []struct {
		subject, sid string
		ended        []string
	}{
		{"ada", "", []string{"ada 1", "ada 1 again", "ada 2", "ada"}},
		{"ada", "1", []string{"ada 1", "ada 1 again"}},
		{"", "1", []string{"ada 1", "ada 1 again"}},
		{"", "3", []string{"bob 3"}},
		{"bob", "1", nil},
		{"", "4", nil},
		{"", "", nil},
		{"eve", "", nil},
	} {
		t.Run(fmt.Sprintf("%q %q", tt.subject, tt.sid), func(t *testing.T) {
			s := newSite(t, DefaultConfig(), Options{})
			jars := map[string]jar{"ada 1": {}, "ada 1 again": {}, "ada 2": {}, "ada": {}, "bob 3": {}}
			for name, j := range jars {
				sid := ""
				if len(name) > 3 {
					sid = name[4:5]
				}
				j.signIn(t, s.Store, name[:3], sid)
			}
			if n, err := s.EndBy(t.Context(), tt.subject, tt.sid); n != len(tt.ended) || err != nil {
				t.Errorf("EndBy = %d, %v; want %d", n, err, len(tt.ended))
			}
			for name, j := range jars {
				if signedIn := j.who(t, s.Store) != ""; signedIn == slices.Contains(tt.ended, name) {
					t.Errorf("%s: signed in is %v", name, signedIn)
				}
			}
		})
	}
}

func TestHasSession(t *testing.T) {
	inBubble(t, DefaultConfig(), func(t *testing.T, s *site) {
		one, two, none := jar{}, jar{}, jar{}
		one.signIn(t, s.Store, "ada", "sid-1")
		two.signIn(t, s.Store, "ada", "sid-2")
		none.signIn(t, s.Store, "bob", "")
		b, _ := two.load(t, s.Store)
		must(t, b.End(t.Context()))
		for _, tt := range []struct {
			subject, sid string
			want         bool
		}{
			{"ada", "sid-1", true},
			{"ada", "sid-2", false}, // has ended
			{"ada", "", false},
			{"bob", "sid-1", false},
			{"bob", "", true},
			{"nobody", "sid-1", false},
		} {
			if got, err := b.HasSession(t.Context(), tt.subject, tt.sid); err != nil || got != tt.want {
				t.Errorf("of %s by %q: %v, %v; want %v", tt.subject, tt.sid, got, err, tt.want)
			}
		}
	})
}

// Whatever starts and ends at once, the index has exactly the sessions that there are.
func TestIndexUnderConcurrency(t *testing.T) {
	s := newSite(t, DefaultConfig(), Options{})
	observer := jar{}
	var all sync.WaitGroup
	live := make([]jar, 8)
	for i := range live {
		live[i] = jar{}
		all.Go(func() {
			for n := range 30 {
				live[i].signIn(t, s.Store, "ada", fmt.Sprint("sid", i))
				switch n % 4 {
				case 1:
					b, w := live[i].load(t, s.Store)
					must(t, b.End(t.Context()))
					live[i].keep(w)
				case 2:
					_, err := s.EndBy(t.Context(), "", fmt.Sprint("sid", i))
					must(t, err)
				case 3:
					must(t, live[i].values(t, s.Store, set("n", n)))
				}
			}
		})
	}
	all.Wait()
	observer.signIn(t, s.Store, "ada", "")
	var want []string
	for _, j := range append(live, observer) {
		if j.who(t, s.Store) == "ada" {
			want = append(want, find(j["sid"]).id)
		}
	}
	got := observer.sessions(t, s.Store)
	members, err := s.redis.ZMembers(find(observer["sid"]).person())
	must(t, err)
	slices.Sort(want)
	slices.Sort(got)
	slices.Sort(members)
	if !slices.Equal(got, want) || !slices.Equal(members, want) {
		t.Errorf("listed: %v\nindexed: %v\nalive: %v", got, members, want)
	}
}

func TestWords(t *testing.T) {
	for agent, want := range map[string]string{
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36 Edg/140.0.0.0": "Edge\tWindows",
		"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Safari/605.1.15":         "Safari\tmacOS",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/140.0 Mobile Safari/604": "Chrome\tiOS",
		"Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Mobile Safari/537.36":         "Chrome\tAndroid",
		"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36 OPR/120.0":                   "Opera\tLinux",
		"Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36":                    "Chrome\tChromeOS",
		"curl/8.5.0":    "curl\t",
		"":              "\t",
		"<script>\nEdg": "Edge\t",
	} {
		if got := words(agent); got != want {
			t.Errorf("%s: %q, want %q", agent, got, want)
		}
	}
}

// A program that signs in again and again gets no longer list than a person needs.
func TestHundredSessions(t *testing.T) {
	inBubble(t, DefaultConfig(), func(t *testing.T, s *site) {
		var all []jar
		for range 103 {
			j := jar{}
			j.signIn(t, s.Store, "ada", "sid")
			all = append(all, j)
			time.Sleep(time.Second)
		}
		if got := len(all[102].sessions(t, s.Store)); got != 100 {
			t.Errorf("%d sessions", got)
		}
		for i, j := range all {
			if signedIn := j.who(t, s.Store) != ""; signedIn != (i >= 3) {
				t.Errorf("session %d: signed in %v", i, signedIn)
			}
			if b, _ := j.load(t, s.Store); (b.Ending() != nil) != (i < 3) {
				t.Errorf("session %d: Ending = %v", i, b.Ending())
			}
		}
	})
}
