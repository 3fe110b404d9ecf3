package authtest

import (
	"net/http"
	"slices"
	"strings"
)

// Connector is another identity provider that people sign in with. A page of this provider stands for its pages.
type Connector struct {
	Method string // social or sso
	Target string // google, github …; the connector's ID for sso
	Name   string // for people
}

// connector is the zero Connector if there is none.
func (s *Server) connector(method, target string) Connector {
	i := slices.IndexFunc(s.opts.Connectors, func(c Connector) bool { return c.Method == method && c.Target == target })
	if i < 0 {
		return Connector{}
	}
	return s.opts.Connectors[i]
}

// socialConnectors are those that have a button.
func (s *Server) socialConnectors() []Connector {
	return slices.DeleteFunc(slices.Clone(s.opts.Connectors), func(c Connector) bool { return c.Method != "social" })
}

// has tells whether a person has an identity there. Which of the enterprise providers it is, an identity does not tell.
func (c Connector) has(user User) bool {
	if c.Method == "sso" {
		return len(user.SSOIdentities) > 0
	}
	return user.Identities[c.Target] != nil
}

func (s *Server) connectorPage(w http.ResponseWriter, r *http.Request, i *interaction) error {
	data := pageData{Connector: s.connector(r.PathValue("method"), r.PathValue("target"))}
	if data.Connector.Target == "" {
		http.Redirect(w, r, s.URL+"/sign-in?interaction="+i.id, http.StatusSeeOther)
		return nil
	}
	s.mu.Lock()
	for _, user := range s.users {
		if data.Connector.has(user) {
			data.Accounts = append(data.Accounts, user.account())
		}
	}
	s.mu.Unlock()
	return s.page(w, r, http.StatusOK, "connector", i, data)
}

// connected signs in the person who was chosen on the connector's page, or registers somebody new.
func (s *Server) connected(w http.ResponseWriter, r *http.Request, i *interaction) error {
	c := s.connector(r.PathValue("method"), r.PathValue("target"))
	user := s.User(r.PostForm.Get("account"))
	if r.PostForm.Has("new") && c.Target != "" {
		user = s.stranger(c)
	}
	if !c.has(user) {
		return s.refuse(w, r, i, "", "wrong")
	}
	return s.signedIn(w, r, i, user, "fed")
}

func (s *Server) stranger(c Connector) User {
	id := strings.ToLower(randomID(8))
	user := User{Name: "New at " + c.Name, Email: id + "@example.com"}
	if c.Method == "sso" {
		user.SSOIdentities = []any{map[string]any{"issuer": "https://" + c.Target + ".example.com", "identityId": id, "detail": map[string]any{}}}
	} else {
		user.Identities = map[string]any{c.Target: map[string]any{
			"userId": id, "details": map[string]any{"id": id, "name": user.Name, "email": user.Email},
		}}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.addUser(user)
}
