package routes

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"example.com/logto-gin-starter/auth"
)

// A notice is what a person is told once: on the next page, whatever redirects there are before it. Until then it is the
// name of a message in a cookie, for who has signed out has no session; and the value that the message takes, if it takes one.

const (
	noticeCookie = "notice"
	noticeLife   = 10 * time.Minute // to come back from Logto
	// passwordCookie is left where a sign-out did not reach Logto: the next sign-in of this browser asks for the password.
	passwordCookie = "ask-password"
	passwordLife   = 14 * 24 * time.Hour // as Logto's own session by default
)

// notices are all there are without a value: nothing else that a cookie may say is shown.
var notices = []string{"signed_out", "signed_in_again", "ended_other", "ended_logout", "ended_account", "ended_grant"}

// tell keeps a notice for the next page. A value goes with the label of the session, which strangers don't know: nobody else
// can make our page say their text.
func (app App) tell(c *gin.Context, name string, value ...string) {
	if len(value) > 0 {
		_, session := app.browser(c).Label()
		name += "|" + session + "|" + value[0]
	}
	app.setCookie(c, noticeCookie, url.QueryEscape(name), noticeLife)
}

// told is what a notice says; empty for one that is not ours, or not true any more.
func (app App) told(c *gin.Context, notice string, person *auth.Person) string {
	name, rest, hasValue := strings.Cut(notice, "|")
	label, value, _ := strings.Cut(rest, "|")
	switch {
	case person == nil && hasValue, person != nil && name == "signed_out":
		return ""
	case hasValue:
		if _, session := app.browser(c).Label(); label != session {
			return ""
		}
	case !slices.Contains(notices, name):
		return ""
	}
	return app.text(c, "notice."+name, value)
}

// notice returns what this page is to tell the person, who may be nobody; empty if nothing. It is told by this.
func (app App) notice(c *gin.Context, person *auth.Person) string {
	notice, _ := c.Cookie(app.cookieName(noticeCookie))
	if notice != "" {
		app.setCookie(c, noticeCookie, "", 0)
	}
	if text := app.told(c, cmp.Or(app.ending(c), notice), person); text != "" {
		return text
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
