package routes

import (
	"net/http"
	"time"

	"github.com/gin-gonic/gin"
)

// homePage is what the page "home" shows.
type homePage struct {
	DirectSignIns []string // to a visitor
	Since         time.Time
	SinceText     string
	Places        int // where they are signed in
}

// home is for everybody: what this is, or who you are.
func (app App) home(c *gin.Context) error {
	page := homePage{DirectSignIns: app.Auth.DirectSignIns()}
	page.Since, _ = app.browser(c).Span()
	page.Places = app.browser(c).Places()
	if !page.Since.IsZero() {
		page.SinceText = app.Messages.Ago(c.GetString(languageKey), page.Since, time.Now())
	}
	return app.page(c, http.StatusOK, "home", page)
}
