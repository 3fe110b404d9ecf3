package main

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"time"
)

// refreshes follows every refresh token at the provider: which instance got the newest, and whether that was killed with it.
type refreshes struct {
	tally *tally

	mu    sync.Mutex
	known map[string]*grant // by code, and by refresh token
	dead  map[string]bool   // instances
}

// grant is what began with one code: a chain of refresh tokens, of which only the newest is good.
type grant struct {
	sid    string // the provider's session
	newest string
	by     string    // the instance that got the newest, as long as it may not have saved it
	lost   time.Time // when that was killed
}

func newRefreshes(t *tally) *refreshes {
	return &refreshes{tally: t, known: map[string]*grant{}, dead: map[string]bool{}}
}

// tokenDelay is how long an answer of the token endpoint is on its way. A kill in that time loses a rotated token.
const tokenDelay = 30 * time.Millisecond

// watch is a Behaviour of the provider's token endpoint.
func (r *refreshes) watch(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		answer := httptest.NewRecorder()
		next.ServeHTTP(answer, request)
		r.note(request, answer)
		time.Sleep(tokenDelay)
		maps.Copy(w.Header(), answer.Header())
		w.WriteHeader(answer.Code)
		_, _ = w.Write(answer.Body.Bytes()) // the instance may be dead
	})
}

func (r *refreshes) note(request *http.Request, answer *httptest.ResponseRecorder) {
	var issued struct {
		ID      string `json:"id_token"`
		Refresh string `json:"refresh_token"`
	}
	_ = json.Unmarshal(answer.Body.Bytes(), &issued) // an error's has no tokens
	used, instance := request.PostForm.Get("refresh_token"), request.Header.Get(instanceHeader)
	r.mu.Lock()
	defer r.mu.Unlock()
	switch g := r.known[used]; {
	case used != "" && answer.Code != http.StatusOK:
		r.tally.add("  refused by the provider", 1)
	case g != nil:
		r.tally.add("refreshes", 1)
		if used == g.newest { // it was saved, for somebody has found it
			g.lost = time.Time{}
		}
		g.newest, g.by = issued.Refresh, instance
		if r.dead[instance] {
			g.lose()
		}
		r.known[issued.Refresh] = g
	case issued.Refresh != "":
		g := &grant{sid: sidOf(issued.ID), newest: issued.Refresh}
		r.known[request.PostForm.Get("code")], r.known[issued.Refresh] = g, g
	}
}

func (g *grant) lose() { g.by, g.lost = "", time.Now() }

// sidOf reads the sid of a JWT.
func sidOf(token string) string {
	_, rest, _ := strings.Cut(token, ".")
	payload, _, _ := strings.Cut(rest, ".")
	data, _ := base64.RawURLEncoding.DecodeString(payload) // what can't be read has no sid
	var claims struct{ SID string }
	_ = json.Unmarshal(data, &claims)
	return claims.SID
}

// byCode returns the grant that began with a code.
func (r *refreshes) byCode(code string) *grant {
	r.mu.Lock()
	defer r.mu.Unlock()
	if g := r.known[code]; g != nil {
		return g
	}
	return &grant{}
}

// saved says that all requests of a grant's browser are answered, which they are after the save.
func (r *refreshes) saved(g *grant) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if g.by != "" {
		g.by, g.lost = "", time.Time{}
	}
}

// killing says that an instance is about to be killed, and returns how many refreshes that may break off.
func (r *refreshes) killing(instance string) (broken int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dead[instance] = true
	for _, g := range r.known {
		if g.by == instance {
			g.lose()
			broken++
		}
	}
	return broken
}

// lost returns when a kill lost the grant's newest token; zero if none did.
func (r *refreshes) lost(g *grant) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return g.lost
}
