package authtest

import "net/http"

// How well somebody proved who they are, in Logto's words.
const (
	acrFirstFactor = "urn:logto:acr:1fa"
	acrMFA         = "urn:logto:acr:mfa"
)

const stepUpScreen = "/step-up"

func unmet() *oauthError {
	return &oauthError{http.StatusBadRequest, "unmet_authentication_requirements",
		"the user has no method that can reach the requested authentication context", ""}
}

// addContext says when, how and how well the person proved who they are. A refresh makes none of it newer.
func (t *ticket) addContext(claims map[string]any) {
	if t.authTime != 0 {
		claims["auth_time"] = t.authTime
	}
	if t.acr != "" {
		claims["acr"] = t.acr
	}
	if len(t.amr) > 0 {
		claims["amr"] = t.amr
	}
}

func (s *Server) stepUpPage(w http.ResponseWriter, r *http.Request, i *interaction) error {
	return s.page(w, r, http.StatusOK, "step_up", i, pageData{})
}

// stepUp is the second factor, a passkey: to Logto it makes for mfa also by itself.
func (s *Server) stepUp(w http.ResponseWriter, r *http.Request, i *interaction) error {
	s.mu.Lock()
	missing := i.stepUp && s.user(i.session.subject).MFA
	if missing {
		i.session.acr, i.session.amr = acrMFA, append(i.amr[:len(i.amr):len(i.amr)], "pop", "user", "mfa")
		i.session.authTime = s.opts.Now()
	}
	s.mu.Unlock()
	if !missing {
		return invalidRequest("no second factor is asked for")
	}
	s.finish(w, r, i)
	return nil
}
