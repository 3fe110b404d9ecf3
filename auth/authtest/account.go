package authtest

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// accountPage is a page of Logto's Account Center, for the person of the browser's session. Who has none signs in first.
func (s *Server) accountPage(w http.ResponseWriter, r *http.Request) error {
	page := r.PathValue("page")
	if !slices.Contains([]string{"profile", "security"}, page) {
		return &oauthError{http.StatusNotFound, "invalid_request", "there is no such page", ""}
	}
	if !s.opts.AccountCenter {
		return s.page(w, r, http.StatusOK, "start", nil, pageData{Problem: "closed"})
	}
	request := authRequest{redirectURI: r.Form.Get("redirect"), locales: r.Form.Get("ui_locales"), account: r.URL.RequestURI()}
	if back, err := url.Parse(request.redirectURI); err != nil || back.Scheme != "http" && back.Scheme != "https" {
		request.redirectURI = ""
	}
	s.mu.Lock()
	i := s.begin(s.session(w, r), request)
	user := s.user(i.session.subject)
	s.mu.Unlock()
	if user.Subject == "" {
		http.Redirect(w, r, s.URL+"/sign-in?interaction="+i.id, http.StatusSeeOther)
		return nil
	}
	return s.page(w, r, http.StatusOK, "account", i, pageData{Account: page, Name: user.Name})
}

// changeAccount changes a name or a password, and leads back to where the person came from.
func (s *Server) changeAccount(w http.ResponseWriter, r *http.Request, i *interaction) error {
	s.mu.Lock()
	user := s.user(i.session.subject)
	s.mu.Unlock()
	problem, password := "", r.PostForm.Get("password")
	switch page := r.PathValue("page"); {
	case user.Subject == "" || i.request.account == "":
		return invalidRequest("interaction session not found")
	case page == "profile":
		s.Edit(user.Subject, func(u *User) { u.Name = strings.TrimSpace(r.PostForm.Get("name")) })
	case r.PostForm.Get("current") != user.Password:
		problem = "not_yours"
	case len(password) < passwordLength:
		problem = "short"
	default:
		s.Edit(user.Subject, func(u *User) { u.Password = password })
	}
	if problem != "" {
		return s.page(w, r, http.StatusUnprocessableEntity, "account", i, pageData{Account: "security", Problem: problem})
	}
	http.Redirect(w, r, cmp.Or(i.request.redirectURI, s.URL+i.request.account), http.StatusSeeOther)
	return nil
}
