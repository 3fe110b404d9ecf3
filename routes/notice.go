package routes

import (
	"net/http"
	"slices"
	"time"

	"github.com/gin-gonic/gin"

	"example.com/logto-gin-starter/auth"
)

// A notice is what a person is told once: on the next page, whatever redirects there are before it. Until then it is the
// name of a message in a cookie, for who has signed out has no session.

const (
	noticeCookie = "notice"
	noticeLife   = 10 * time.Minute // to come back from Logto
	// passwordCookie is left where a sign-out did not reach Logto: the next sign-in of this browser asks for the password.
	passwordCookie = "ask-password"
	passwordLife   = 14 * 24 * time.Hour // as Logto's own session by default
)

// notices are all there are: nothing else that a cookie may say is shown.
var notices = []string{"signed_out", "ended_other", "ended_logout", "ended_account", "ended_grant"}

// notice returns what this page is to tell the person, who may be nobody; empty if nothing. It is told by this.
func (app App) notice(c *gin.Context, person *auth.Person) string {
	name, _ := c.Cookie(app.cookieName(noticeCookie))
	if name != "" {
		app.setCookie(c, noticeCookie, "", 0)
	}
	if ending := app.ending(c); ending != "" {
		name = ending
	}
	if slices.Contains(notices, name) {
		return app.text(c, "notice."+name)
	}
	if person == nil || person.Left == "" {
		return ""
	}
	left, err := app.session(c).LeftOrganization(c.Request.Context())
	if err != nil || left == "" { // it is not told, or another request has told it
		return ""
	}
	return app.text(c, "notice.left_organization", left)
}

// tellLater keeps what is to be told for the page after a sign-in.
func (app App) tellLater(c *gin.Context) {
	if ending := app.ending(c); ending != "" {
		app.setCookie(c, noticeCookie, ending, noticeLife)
	}
}

// ending names the notice of a session that has ended since the browser was here; empty if it was told already.
func (app App) ending(c *gin.Context) string {
	browser := app.browser(c)
	if browser == nil {
		return ""
	}
	if ending := browser.Ending(); ending != nil && browser.Tell(c.Request.Context()) {
		return "ended_" + string(ending.Why)
	}
	return ""
}

// asksForPassword reports whether the next sign-in must not be by the session that Logto still has.
func (app App) asksForPassword(c *gin.Context) bool {
	_, err := c.Cookie(app.cookieName(passwordCookie))
	return err == nil || app.browser(c).Ending() != nil
}

// setCookie sets a small cookie of the whole site; with no life it deletes the one that the browser has.
func (app App) setCookie(c *gin.Context, name, value string, life time.Duration) {
	name = app.cookieName(name)
	cookie := &http.Cookie{
		Name: name, Value: value, Path: "/", MaxAge: int(life.Seconds()),
		HttpOnly: true, Secure: app.secure(), SameSite: http.SameSiteLaxMode,
	}
	if life == 0 {
		if _, err := c.Cookie(name); err != nil {
			return
		}
		cookie.MaxAge = -1
	}
	http.SetCookie(c.Writer, cookie)
}

// cookieName has the prefix that keeps others from setting the cookie, where browsers know it.
func (app App) cookieName(name string) string {
	if app.secure() {
		return "__Host-" + name
	}
	return name
}
