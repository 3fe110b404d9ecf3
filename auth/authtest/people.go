package authtest

import (
	"crypto/rand"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
)

// What follows is what an administrator of Logto does. The changes act as they do there: back channels are called by
// EndSession alone, and webhooks are posted before a method returns. A person is named by username or by subject; naming
// somebody who does not exist is a mistake in the test, and panics.

// User returns the person with this username or subject, as the provider has them; the zero User if there is none.
func (s *Server) User(who string) User {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.user(who)
}

// SetUser adds a person, or replaces the one with this username: the next claims are the new ones. Logto has no webhook
// event for roles, so a change of them alone is posted nowhere.
func (s *Server) SetUser(user User) {
	s.administer(func() []event { return s.setUser(user) })
}

// SetRoles gives and takes roles. The claims have the new ones at once and an API's tokens lack the permissions of those
// taken, but permissions of those given come only with a new sign-in.
func (s *Server) SetRoles(who string, roles ...string) {
	s.change(who, func(user *User) { user.Roles = roles })
}

// Suspend ends a person's sessions, access tokens and refresh tokens, and refuses new sign-ins.
func (s *Server) Suspend(who string) { s.change(who, func(user *User) { user.Suspended = true }) }

// Unsuspend lets a person sign in again. What was ended stays ended.
func (s *Server) Unsuspend(who string) { s.change(who, func(user *User) { user.Suspended = false }) }

// Edit is a person's own change of their name, picture and so on, in Logto's Account Center. The webhook's body names them
// in data.id only: nothing came through the Management API.
func (s *Server) Edit(who string, edit func(*User)) {
	s.administer(func() []event {
		user := s.known(who)
		edit(&user)
		user.Updated = s.opts.Now()
		s.addUser(user)
		return []event{{dataUpdated, map[string]any{"data": hookUser(user), "ip": "127.0.0.1"}}}
	})
}

// ResetPassword sets a new password, as a person does who has forgotten theirs. Sessions and tokens live on.
func (s *Server) ResetPassword(who, password string) {
	s.administer(func() []event {
		user := s.known(who)
		user.Password, user.Updated = password, s.opts.Now()
		s.addUser(user)
		return []event{{"PostResetPassword", map[string]any{
			"interactionEvent": "ForgotPassword", "sessionId": randomID(21), "userId": user.Subject, "user": hookUser(user),
		}}}
	})
}

// DeleteUser deletes a person, with everything of theirs.
func (s *Server) DeleteUser(who string) {
	s.administer(func() []event {
		user := s.known(who)
		s.signOut(user.Subject)
		s.revokeGrants(user.Subject)
		s.users = slices.DeleteFunc(s.users, func(u User) bool { return u.Subject == user.Subject })
		for _, o := range s.opts.Organizations {
			delete(o.Members, user.key())
		}
		return []event{{"User.Deleted", byAPI("DELETE", "/users/:userId", http.StatusNoContent,
			map[string]string{"userId": user.Subject}, map[string]any{"data": hookUser(user)})}}
	})
}

// DeleteSessions deletes a person's sessions at the provider without a call to any back channel. What outlives a session,
// by offline_access, works on unless RevokeGrants ends it too.
func (s *Server) DeleteSessions(who string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deleteSessions(s.known(who).Subject)
}

// RevokeGrants ends all that was granted to any application for this person, as if withdrawn at Logto. In Logto 1.42
// browsers lose the sessions of these grants too.
func (s *Server) RevokeGrants(who string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.revokeGrants(s.known(who).Subject)
}

// Join makes a person a member of an organization, with these roles in it instead of those they had. Only a new membership
// is posted to webhooks.
func (s *Server) Join(who, organization string, roles ...string) {
	s.administer(func() []event {
		user, o := s.known(who), s.organization(organization)
		_, member := o.Members[user.key()]
		if o.Members == nil {
			o.Members = map[string][]string{}
		}
		o.Members[user.key()] = roles
		if member {
			return nil
		}
		return []event{{membershipUpdated, byAPI("POST", "/organizations/:id/users", http.StatusCreated,
			map[string]string{"id": organization},
			map[string]any{"organizationId": organization, "addedUserIds": []string{user.Subject}})}}
	})
}

// Leave ends a membership. Tokens for the organization that were issued before stay valid until they expire.
func (s *Server) Leave(who, organization string) {
	s.administer(func() []event {
		user, o := s.known(who), s.organization(organization)
		if _, member := o.Members[user.key()]; !member {
			return nil
		}
		delete(o.Members, user.key())
		return []event{{membershipUpdated, byAPI("DELETE", "/organizations/:id/users/:userId", http.StatusNoContent,
			map[string]string{"id": organization, "userId": user.Subject},
			map[string]any{"organizationId": organization, "removedUserIds": []string{user.Subject}})}}
	})
}

func (s *Server) change(who string, edit func(*User)) {
	s.administer(func() []event {
		user := s.known(who)
		edit(&user)
		return s.setUser(user)
	})
}

// administer makes a change under the lock, then announces what the change returns.
func (s *Server) administer(change func() []event) {
	s.announce(func() []event {
		s.mu.Lock()
		defer s.mu.Unlock()
		return change()
	}()...)
}

// user needs the lock, as all that follows.
func (s *Server) user(who string) User {
	i := slices.IndexFunc(s.users, func(u User) bool { return who != "" && (u.Username == who || u.Subject == who) })
	if i < 0 {
		return User{}
	}
	return s.users[i]
}

func (s *Server) known(who string) User {
	user := s.user(who)
	if user.Subject == "" {
		panic("authtest: nobody is called " + who)
	}
	return user
}

func (s *Server) organization(id string) *Organization {
	i := slices.IndexFunc(s.opts.Organizations, func(o Organization) bool { return o.ID == id })
	if i < 0 {
		panic("authtest: no organization is called " + id)
	}
	return &s.opts.Organizations[i]
}

// setUser adds or replaces a person, and returns what there is to announce.
func (s *Server) setUser(user User) []event {
	old := s.user(user.key())
	user = s.addUser(user)
	if old.Subject == "" {
		return []event{{"User.Created", byAPI("POST", "/users", http.StatusOK, nil, map[string]any{"data": hookUser(user)})}}
	}
	suspension := old.Suspended != user.Suspended
	if suspension && user.Suspended {
		s.signOut(user.Subject)
	}
	old.Roles, old.Suspended = user.Roles, user.Suspended
	data := !reflect.DeepEqual(old, user)
	if (data || suspension) && user.Updated.Equal(old.Updated) {
		user.Updated = s.opts.Now()
		s.addUser(user)
	}
	var events []event
	announce := func(name, route string) {
		events = append(events, event{name, byAPI("PATCH", route, http.StatusOK,
			map[string]string{"userId": user.Subject}, map[string]any{"data": hookUser(user)})})
	}
	if data {
		announce(dataUpdated, "/users/:userId")
	}
	if suspension {
		announce("User.SuspensionStatus.Updated", "/users/:userId/is-suspended")
	}
	return events
}

// addUser needs the lock, except before the server is shared.
func (s *Server) addUser(user User) User {
	old := slices.IndexFunc(s.users, func(u User) bool { return user.key() != "" && u.key() == user.key() })
	if user.Subject == "" && old >= 0 {
		user.Subject = s.users[old].Subject
	}
	if user.Subject == "" {
		user.Subject = strings.ToLower(rand.Text())[:12]
	}
	if user.Created.IsZero() {
		user.Created = s.opts.Now()
	}
	if user.Updated.IsZero() {
		user.Updated = user.Created
	}
	if old >= 0 {
		s.users[old] = user
	} else {
		s.users = append(s.users, user)
	}
	return user
}

// signOut ends a person's sessions and tokens. As in Logto 1.42 the grants stand, so a code that is on its way works.
func (s *Server) signOut(subject string) {
	s.deleteSessions(subject)
	for _, tickets := range []map[string]*ticket{s.refresh, s.access} {
		maps.DeleteFunc(tickets, func(_ string, t *ticket) bool { return t.grant.subject == subject })
	}
}

func (s *Server) deleteSessions(subject string) {
	for id, session := range s.sessions {
		if session.subject == subject {
			_ = s.end(session) // Logto calls no back channel here
			delete(s.sessions, id)
		}
	}
}

func (s *Server) revokeGrants(subject string) {
	for id, session := range s.sessions {
		for _, g := range session.grants {
			if g.subject == subject {
				g.revoked = true
				delete(s.sessions, id)
			}
		}
	}
	for _, tickets := range []map[string]*ticket{s.codes, s.refresh, s.access} {
		for _, t := range tickets {
			t.grant.revoked = t.grant.revoked || t.grant.subject == subject
		}
	}
}
