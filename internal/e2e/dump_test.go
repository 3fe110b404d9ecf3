//go:build unix

package e2e

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/redis/go-redis/v9"

	"example.com/logto-gin-starter/auth/authtest"
)

// Whoever has a copy of Redis, of all that was ever written to it, or of the log, has no token and no cookie, learns
// nobody's name, and gets in nowhere.
func TestCopyOfRedis(t *testing.T) {
	heavy(t)
	t.Parallel()
	server := newRedis(t)
	s := newSiteOn(t, server.url())
	secrets := newSecrets(s)
	b := newBrowser(t, startChromium(t), s, desktop)
	var copies []string
	b.tour(func(page string) {
		copies = append(copies, contents(t, server.client)...)
		secrets.addCookies(t, b)
		if page == "sign-out" { // the last page that a person sees who is signed in
			tryCookies(t, s, b, contents(t, server.client))
		}
	})
	secrets.addPerson(s.logto.User("ada"))
	secrets.addRequests(s.logto.Requests())

	for _, name := range server.files() {
		data, err := os.ReadFile(name)
		must(t, err)
		copies = append(copies, string(data))
	}
	if all := strings.Join(copies, "\n"); !strings.Contains(all, "Chrome\tLinux") {
		t.Error("the copy does not even hold what is there for everybody to read")
	}
	secrets.wantNoneIn(t, "Redis", strings.Join(copies, "\n"))
	secrets.wantNoneIn(t, "the log", s.log.String())
}

// contents returns everything that a Redis holds: the names of keys and fields, and the values.
func contents(t *testing.T, client *redis.Client) []string {
	t.Helper()
	keys, err := client.Keys(t.Context(), "*").Result()
	must(t, err)
	all := slices.Clone(keys)
	for _, key := range keys {
		switch kind := client.Type(t.Context(), key).Val(); kind {
		case "string":
			all = append(all, client.Get(t.Context(), key).Val())
		case "zset":
			all = append(all, client.ZRange(t.Context(), key, 0, -1).Val()...)
		case "none": // it has just expired
		default:
			t.Fatalf("%s is a %s, which this test can't read", key, kind)
		}
	}
	return all
}

// secrets are texts that nobody may find, and what each of them is.
type secrets struct {
	mu    sync.Mutex
	known map[string]string
}

// newSecrets begins with the tokens that the provider gives from now on.
func newSecrets(s *site) *secrets {
	known := &secrets{known: map[string]string{}}
	s.logto.On(authtest.Token, watchTokens(known.record))
	return known
}

func (s *secrets) add(kind string, values ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, value := range values {
		if len(value) >= 6 { // shorter ones turn up by chance
			s.known[value] = kind
		}
	}
}

// record notes the tokens that the provider gives.
func (s *secrets) record(_ *http.Request, tokens map[string]string) {
	for _, name := range []string{"access_token", "refresh_token", "id_token"} {
		token := tokens[name]
		s.add(name, token)
		if parts := strings.Split(token, "."); len(parts) == 3 {
			s.add("part of the "+name, parts[1], parts[2])
		}
	}
}

// watchTokens is a behaviour of the token endpoint: as always, but note is told what it answers. An error holds no tokens.
func watchTokens(note func(r *http.Request, tokens map[string]string)) authtest.Behaviour {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			recorded := httptest.NewRecorder()
			next.ServeHTTP(recorded, r)
			var fields map[string]any
			_ = json.Unmarshal(recorded.Body.Bytes(), &fields) // what is no JSON holds no token
			tokens := map[string]string{}
			for name, value := range fields {
				tokens[name], _ = value.(string)
			}
			note(r, tokens)
			maps.Copy(w.Header(), recorded.Header())
			w.WriteHeader(recorded.Code)
			_, _ = w.Write(recorded.Body.Bytes()) // a client that went away is no concern of ours
		})
	}
}

// addRequests adds what the provider was sent.
func (s *secrets) addRequests(requests []authtest.Request) {
	for _, request := range requests {
		for _, name := range []string{"code", "code_verifier", "state", "nonce", "refresh_token", "id_token_hint", "token", "password"} {
			s.add(name, request.Form[name]...)
		}
		_, credentials, _ := strings.Cut(request.Header.Get("Authorization"), " ")
		s.add("credentials", credentials)
	}
}

func (s *secrets) addPerson(user authtest.User) {
	s.add("subject", user.Subject)
	s.add("name", user.Name, strings.Fields(user.Name)[1])
	s.add("e-mail", user.Email)
	s.add("phone", user.Phone)
	s.add("picture", user.Picture)
}

// addCookies adds those that the application has set in a browser, whole and in parts.
func (s *secrets) addCookies(t *testing.T, b *tab) {
	t.Helper()
	for _, cookie := range b.cookies() {
		if slices.Contains([]string{"lang", "notice", "ask-password"}, cookie.Name) { // no secrets
			continue
		}
		tag, secret, _ := strings.Cut(cookie.Value, ".")
		if secret == "" {
			tag, secret = "", tag
		}
		s.add("cookie "+cookie.Name, cookie.Value, secret)
		raw, err := base64.RawURLEncoding.DecodeString(secret)
		if err != nil || len(raw) != 32 {
			t.Fatalf("the cookie %s has the form %q.%q, which this test does not know", cookie.Name, tag, secret)
		}
		s.add("bytes of the cookie "+cookie.Name, string(raw))
	}
}

// cookies are those that the application has set.
func (b *tab) cookies() []*network.Cookie {
	b.t.Helper()
	return within(b, func(ctx context.Context, _ *chromedp.Target) ([]*network.Cookie, error) {
		result, err := chromedp.Call(ctx, network.GetCookies, network.GetCookiesParams{URLs: []string{b.site.url}})
		return result.Cookies, err
	})
}

// wantNoneIn looks for all of them, in each way in which a text is usually written.
func (s *secrets) wantNoneIn(t *testing.T, where, text string) {
	t.Helper()
	if len(s.known) < 10 {
		t.Errorf("only %d secrets are known", len(s.known))
	}
	lower := strings.ToLower(text)
	for secret, kind := range s.known {
		for _, form := range slices.Concat([]string{secret, url.QueryEscape(secret)}, inBase64(secret)) {
			if strings.Contains(text, form) {
				t.Errorf("%s holds the %s %q as %q", where, kind, secret, form)
			}
		}
		if strings.Contains(lower, hex.EncodeToString([]byte(secret))) {
			t.Errorf("%s holds the %s %q in hexadecimal", where, kind, secret)
		}
	}
}

// inBase64 returns what of a text can be seen in Base64, wherever in a longer text it stands.
func inBase64(text string) (forms []string) {
	for before := range 3 {
		for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			encoded := encoding.EncodeToString([]byte(strings.Repeat("x", before) + text))
			whole := (before + len(text)) / 3 * 4 // characters that do not depend on what comes after
			forms = append(forms, encoded[(before*8+5)/6:whole])
		}
	}
	return forms
}

// tryCookies tries each cookie that can be made from a copy of Redis.
func tryCookies(t *testing.T, s *site, b *tab, copied []string) {
	t.Helper()
	for _, cookie := range b.cookies() {
		if status := statusWith(t, s, cookie.Value); cookie.Name == "sid" && status != http.StatusOK {
			t.Fatalf("the real cookie: %d", status)
		}
	}
	var tags []string
	for _, text := range copied {
		for _, match := range regexp.MustCompile(`\{([\w-]{16})\}`).FindAllStringSubmatch(text, -1) {
			tags = append(tags, match[1])
		}
	}
	tags = slices.Compact(slices.Sorted(slices.Values(tags)))
	cookies := make(chan string)
	var workers sync.WaitGroup
	for range 4 {
		workers.Go(func() {
			for cookie := range cookies {
				if status := statusWith(t, s, cookie); status != http.StatusUnauthorized {
					t.Errorf("the cookie %q, made from what Redis holds: %d", cookie, status)
				}
			}
		})
	}
	tried := 0
	for _, tag := range tags {
		for secret := range secretsFrom(copied) {
			cookies <- tag + "." + secret
			tried++
		}
	}
	close(cookies)
	workers.Wait()
	if tried < 1000 {
		t.Errorf("only %d cookies were tried", tried)
	}
	t.Logf("%d cookies made from %d texts", tried, len(copied))
}

// secretsFrom returns each 32 bytes in a row, in the form that a cookie's secret has, and each text that has it already.
func secretsFrom(copied []string) map[string]bool {
	const size, length = 32, 43
	all := map[string]bool{}
	for _, text := range copied {
		padded := text + strings.Repeat("\x00", size)
		for i := range text {
			all[base64.RawURLEncoding.EncodeToString([]byte(padded[i:i+size]))] = true
			if i+length <= len(text) {
				if _, err := base64.RawURLEncoding.Strict().DecodeString(text[i : i+length]); err == nil {
					all[text[i:i+length]] = true
				}
			}
		}
	}
	return all
}

// statusWith is what a protected page answers to a program with this cookie.
func statusWith(t *testing.T, s *site, cookie string) int {
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/protected/sessions", nil)
	if err != nil {
		t.Error(err)
		return 0
	}
	request.Header.Set("Cookie", "sid="+cookie)
	request.Header.Set("Accept", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Error(err)
		return 0
	}
	_ = response.Body.Close()
	return response.StatusCode
}
