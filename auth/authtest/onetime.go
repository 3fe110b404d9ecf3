package authtest

import (
	"net/http"
	"net/url"
	"slices"
	"time"
)

const (
	oneTimeTokenLife   = 10 * time.Minute
	oneTimeTokenScreen = "/one-time-token"
)

type oneTimeToken struct {
	email   string
	expires time.Time
	used    bool
}

// OneTimeToken makes a token for a magic link or an invitation, as Logto's POST /api/one-time-tokens does: it signs in who
// has this e-mail address, or registers them. It works once, within ten minutes.
func (s *Server) OneTimeToken(email string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	token := randomID(32)
	s.magic[token] = &oneTimeToken{email: email, expires: s.opts.Now().Add(oneTimeTokenLife)}
	return token
}

// oneTimeTokenPage asks before it signs somebody else out, as Logto does unless the application sent prompt=login.
func (s *Server) oneTimeTokenPage(w http.ResponseWriter, r *http.Request, i *interaction) error {
	if user, ok := s.signedInAlready(i); ok && user.Email != i.request.loginHint {
		return s.page(w, r, http.StatusOK, "one_time_token", i, pageData{Name: user.account().Name, Email: i.request.loginHint})
	}
	return s.redeem(w, r, i)
}

// signedInAlready returns who need not prove who they are.
func (s *Server) signedInAlready(i *interaction) (User, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	user := s.user(i.session.subject)
	return user, user.Subject != "" && !slices.Contains(i.request.prompts, "login")
}

// redeem signs in who the token is for. A link that is opened again does no harm to who came in by it.
func (s *Server) redeem(w http.ResponseWriter, r *http.Request, i *interaction) error {
	user, problem := s.spend(i.request.oneTimeToken, i.request.loginHint)
	if current, ok := s.signedInAlready(i); ok && problem == "used_link" && current.Email == i.request.loginHint {
		s.finish(w, r, i)
		return nil
	}
	if problem != "" {
		return s.page(w, r, http.StatusUnprocessableEntity, "one_time_token", i, pageData{Problem: problem})
	}
	return s.signedIn(w, r, i, user, "otp")
}

// spend uses a token up. It returns whose it is, or what speaks against it.
func (s *Server) spend(token, email string) (user User, problem string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.magic[token]
	switch {
	case t == nil || t.email != email:
		return User{}, "bad_link"
	case !s.opts.Now().Before(t.expires):
		return User{}, "old_link"
	case t.used:
		return User{}, "used_link"
	}
	t.used = true
	if i := slices.IndexFunc(s.users, func(u User) bool { return u.Email == email }); i >= 0 {
		return s.users[i], ""
	}
	return s.addUser(User{Email: email}), ""
}

// correspondent is who the demo sends a magic link to: the first ready account with an e-mail address.
func (s *Server) correspondent() string {
	for _, user := range s.opts.Users {
		if s.opts.Demo && user.Email != "" {
			return user.Email
		}
	}
	return ""
}

// magicLink shows what would be in an e-mail.
func (s *Server) magicLink(w http.ResponseWriter, r *http.Request) error {
	email := s.correspondent()
	app := s.application(nil)
	if app == "" || email == "" {
		return &oauthError{http.StatusNotFound, "invalid_request", "there is nobody to send a link to", ""}
	}
	query := url.Values{"one_time_token": {s.OneTimeToken(email)}, "email": {email}}
	return s.page(w, r, http.StatusOK, "start", nil, pageData{Email: email, Link: app + "/sign-in?" + query.Encode()})
}
