package routes

import (
	"cmp"
	"net/http"

	"github.com/gin-gonic/gin"
)

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
