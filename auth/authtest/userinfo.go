package authtest

import (
	"net/http"
	"slices"
	"strings"
)

// userinfo accepts opaque access tokens only, in the header or the form.
func (s *Server) userinfo(w http.ResponseWriter, r *http.Request) error {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if r.Header.Get("Authorization") == "" {
		scheme, token = "Bearer", r.PostForm.Get("access_token")
	}
	if token == "" {
		return s.challenge(w, "no access token provided")
	}
	if !strings.EqualFold(scheme, "bearer") {
		return invalidRequest("authorization header scheme must be `Bearer`")
	}
	s.mu.Lock()
	t := s.access[token]
	fresh := t != nil && !t.grant.revoked && s.opts.Now().Before(t.expires)
	var claims map[string]any
	if fresh {
		claims = s.claims(s.user(t.grant.subject), t.scopes, true)
	}
	s.mu.Unlock()
	if !fresh {
		return s.challenge(w, "invalid token provided")
	}
	if !slices.Contains(t.scopes, "openid") {
		return &oauthError{http.StatusForbidden, "insufficient_scope", "access token missing openid scope", "openid"}
	}
	return writeJSON(w, http.StatusOK, claims)
}

func (s *Server) challenge(w http.ResponseWriter, description string) error {
	w.Header().Set("WWW-Authenticate",
		`Bearer realm="`+s.Issuer+`", error="invalid_token", error_description="`+description+`"`)
	return &oauthError{http.StatusUnauthorized, "invalid_token", description, ""}
}

// revoke ends the whole grant of an access or refresh token.
func (s *Server) revoke(w http.ResponseWriter, r *http.Request) error {
	app, err := s.authenticate(w, r)
	if err != nil {
		return err
	}
	if err := present(r.PostForm, "token"); err != nil {
		return err
	}
	token := r.PostForm.Get("token")
	if strings.Count(token, ".") == 2 {
		return &oauthError{http.StatusBadRequest, "unsupported_token_type",
			"Structured JWT Tokens cannot be revoked via the revocation_endpoint", ""}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, tickets := range []map[string]*ticket{s.refresh, s.access} {
		if t := tickets[token]; t != nil && t.grant.app == app.ID {
			t.grant.revoked = true
		}
	}
	w.WriteHeader(http.StatusOK)
	return nil
}
