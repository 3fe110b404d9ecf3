package authtest

import (
	"cmp"
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// callTimeout bounds a call to an application's back channel.
const callTimeout = 5 * time.Second

// logoutCall is owed to an application's back channel.
type logoutCall struct {
	app          App
	subject, sid string
}

// Delivery is what an application answered to a back-channel logout call.
type Delivery struct {
	AppID  string
	Token  string
	Status int // 0: no answer
	Header http.Header
	Body   string
	Err    error
}

// endSession ends the browser's session at the provider and returns to the application. With an ID token of the person who
// is signed in it does so at once; otherwise it asks first.
func (s *Server) endSession(w http.ResponseWriter, r *http.Request) error {
	if err := single(r.Form); err != nil {
		return err
	}
	clientID, hinted := r.Form.Get("client_id"), ""
	if token := r.Form.Get("id_token_hint"); token != "" {
		claims, ok := s.hint(token)
		if !ok {
			return invalidRequest("could not validate id_token_hint")
		}
		if clientID != "" && clientID != claims.Audience[0] {
			return invalidRequest("client_id does not match the provided id_token_hint")
		}
		clientID, hinted = claims.Audience[0], claims.Subject
	}
	target := r.Form.Get("post_logout_redirect_uri")
	app, err := s.app(clientID)
	if clientID != "" && err != nil {
		return err
	}
	if clientID == "" {
		target = "" // Logto follows it for a known application only
	}
	s.mu.Lock()
	session := s.session(w, r)
	subject := session.subject
	s.mu.Unlock()
	if target != "" && !registered(app.PostLogoutRedirectURIs, target) {
		return invalidRequest("post_logout_redirect_uri not registered")
	}
	if state := r.Form.Get("state"); target != "" && state != "" {
		target += map[bool]string{false: "?", true: "&"}[strings.Contains(target, "?")] + url.Values{"state": {state}}.Encode()
	}
	if subject != "" && subject != hinted {
		request := authRequest{redirectURI: target, locales: r.Form.Get("ui_locales")}
		s.mu.Lock()
		i := s.begin(session, request)
		s.mu.Unlock()
		return s.page(w, r, http.StatusOK, "end_session", i, pageData{})
	}
	return s.ended(w, r, session, target)
}

func (s *Server) confirmEndSession(w http.ResponseWriter, r *http.Request, i *interaction) error {
	return s.ended(w, r, i.session, i.request.redirectURI)
}

func (s *Server) ended(w http.ResponseWriter, r *http.Request, session *session, target string) error {
	s.mu.Lock()
	calls := s.end(session)
	delete(s.sessions, session.id)
	s.mu.Unlock()
	s.deliver(r.Context(), calls)
	http.SetCookie(w, &http.Cookie{Name: sessionCookie, Path: "/", MaxAge: -1, HttpOnly: true, SameSite: http.SameSiteLaxMode})
	http.Redirect(w, r, cmp.Or(target, s.URL+"/"), http.StatusSeeOther)
	return nil
}

// end takes the person out of a session, and returns the calls that this asks for. It needs the lock.
func (s *Server) end(session *session) (calls []logoutCall) {
	for id, g := range session.grants {
		if app := s.apps[id]; app.BackchannelLogoutURI != "" {
			calls = append(calls, logoutCall{app, session.subject, session.sids[id]})
		}
		if !g.persists {
			g.revoked = true
		}
	}
	session.subject, session.grants, session.sids = "", nil, nil
	return calls
}

// EndSession ends all sessions of a person at the provider, and calls the back channels of their applications: it returns
// what these answered.
func (s *Server) EndSession(ctx context.Context, who string) []Delivery {
	s.mu.Lock()
	subject := s.user(who).Subject
	var calls []logoutCall
	for _, session := range s.sessions {
		if subject != "" && session.subject == subject {
			calls = append(calls, s.end(session)...)
		}
	}
	s.mu.Unlock()
	return s.deliver(ctx, calls)
}

// deliver posts logout tokens. As at Logto, one that is refused is logged and not tried again.
func (s *Server) deliver(ctx context.Context, calls []logoutCall) []Delivery {
	var deliveries []Delivery
	for _, call := range calls {
		d := Delivery{AppID: call.app.ID, Token: s.logoutToken(call.app, call.subject, call.sid)}
		s.post(ctx, call.app.BackchannelLogoutURI, &d)
		if d.Status != http.StatusOK && d.Status != http.StatusNoContent {
			s.opts.Log.Warn("back-channel logout", "app", call.app.ID, "status", d.Status, "error", d.Err)
		}
		deliveries = append(deliveries, d)
	}
	return deliveries
}

func (s *Server) post(ctx context.Context, uri string, d *Delivery) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	form := url.Values{"logout_token": {d.Token}}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, uri, strings.NewReader(form.Encode()))
	if err != nil {
		d.Err = err
		return
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	response, err := s.opts.Backchannel.Do(request)
	if err != nil {
		d.Err = err
		return
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, bodyLimit))
	d.Status, d.Header, d.Body, d.Err = response.StatusCode, response.Header, string(body), err
}
