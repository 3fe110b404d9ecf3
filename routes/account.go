package routes

import (
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"example.com/logto-gin-starter/auth"
)

// accountDone is where Logto's Account Center leads back to: what the person changed there is asked for by their next page.
func (app App) accountDone(c *gin.Context) error {
	if _, err := app.Sessions.MarkDue(c.Request.Context(), auth.UserFrom(c.Request.Context()).Subject); err != nil {
		return err
	}
	c.Redirect(http.StatusSeeOther, "/")
	return nil
}

// me is whom a script on one of our own pages shows.
type me struct {
	Subject       string         `json:"sub"`
	Name          string         `json:"name"`
	Picture       *string        `json:"picture"`
	Roles         []string       `json:"roles"`
	Organizations []organization `json:"organizations"`
	Organization  *string        `json:"organization"` // the ID of the active one
	Session       span           `json:"session"`
}

type organization struct {
	ID    string   `json:"id"`
	Name  string   `json:"name"`
	Roles []string `json:"roles"`
}

// span is for how long the person is signed in here: Expires is when the session ends if nobody uses it.
type span struct {
	Since   time.Time `json:"since"`
	Expires time.Time `json:"expires"`
}

func (app App) me(c *gin.Context) error {
	ctx := c.Request.Context()
	person, err := app.session(c).Person(ctx)
	if err != nil {
		return err
	}
	claims := auth.UserFrom(ctx).Claims()
	answer := me{Subject: person.Subject, Name: person.DisplayName, Roles: claims.Roles.Value(), Organizations: []organization{}}
	if answer.Roles == nil {
		answer.Roles = []string{}
	}
	if person.Picture != "" {
		answer.Picture = &person.Picture
	}
	for _, o := range person.Organizations {
		answer.Organizations = append(answer.Organizations, organization{o.ID, o.Name, claims.RolesIn(o.ID)})
	}
	if active, ok := person.ActiveOrganization(); ok {
		answer.Organization = &active.ID
	}
	answer.Session.Since, answer.Session.Expires = app.browser(c).Span()
	c.JSON(http.StatusOK, answer)
	return nil
}
