package routes

import (
	"net/http"
	"time"

	"github.com/gin-gonic/gin"
)

// homePage is what the page "home" shows.
type homePage struct {
	DirectSignIns    []string // to a visitor
	Since, SinceText string   // when they signed in here
	Places           int      // where they are signed in
}

// home is for everybody: what this is, or who you are.
func (app App) home(c *gin.Context) error {
	page := homePage{DirectSignIns: app.Auth.DirectSignIns()}
	page.Places = app.browser(c).Places()
	if since, _ := app.browser(c).Span(); !since.IsZero() {
		page.Since, page.SinceText = since.UTC().Format(time.RFC3339), app.Messages.Ago(c.GetString(languageKey), since, time.Now())
	}
	return app.page(c, http.StatusOK, "home", page)
}
