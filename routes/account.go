package routes

import (
	"cmp"
	"net/http"

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

// setOrganization makes one of the person's organizations the active one, or none.
func (app App) setOrganization(c *gin.Context) error {
	form, err := readForm(c)
	if err != nil {
		return err
	}
	if err := app.session(c).SetOrganization(c.Request.Context(), form.Get("id")); err != nil {
		return err
	}
	person, err := app.session(c).Person(c.Request.Context())
	if err != nil {
		return err
	}
	active, _ := person.ActiveOrganization()
	app.tell(c, "organization", cmp.Or(active.Name, app.text(c, "organization.none")))
	c.Redirect(http.StatusSeeOther, localPath(form.Get("return_to")))
	return nil
}

// me says to a script on one of our own pages who is signed in. What the person lacks is null, and a list is never null.
func (app App) me(c *gin.Context) error {
	ctx := c.Request.Context()
	person, err := app.session(c).Person(ctx)
	if err != nil {
		return err
	}
	claims := auth.UserFrom(ctx).Claims()
	organizations := []gin.H{}
	for _, o := range person.Organizations {
		organizations = append(organizations, gin.H{"id": o.ID, "name": o.Name, "roles": claims.RolesIn(o.ID)})
	}
	since, expires := app.browser(c).Span()
	answer := gin.H{
		"sub": person.Subject, "name": person.DisplayName, "picture": nil, "roles": append([]string{}, claims.Roles.Value()...),
		"organizations": organizations, "organization": nil, // the ID of the active one
		"session": gin.H{"since": since, "expires": expires}, // the session ends then if nobody uses it
	}
	if person.Picture != "" {
		answer["picture"] = person.Picture
	}
	if active, ok := person.ActiveOrganization(); ok {
		answer["organization"] = active.ID
	}
	c.JSON(http.StatusOK, answer)
	return nil
}
