package routes

import (
	"cmp"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"

	"example.com/logto-gin-starter/internal/session"
)

// sessionsPage is what the page "sessions" shows: where the person is signed in.
type sessionsPage struct {
	Sessions []sessionRow
	Others   bool // there are others than this one
}

type sessionRow struct {
	session.Info
	Device, SinceText, SeenText string // in the person's words
}

func (app App) sessions(c *gin.Context) error {
	all, err := app.browser(c).Sessions(c.Request.Context())
	if err != nil {
		return err
	}
	lang, now := c.GetString(languageKey), time.Now()
	page, rows := sessionsPage{Others: len(all) > 1}, []gin.H{}
	for _, s := range all {
		row := sessionRow{s, app.device(c, s), app.Messages.Ago(lang, s.Since, now), app.Messages.Ago(lang, s.Seen, now)}
		page.Sessions = append(page.Sessions, row)
		rows = append(rows, gin.H{
			"id": s.ID, "browser": s.Browser, "system": s.System, "since": s.Since, "seen": s.Seen, "current": s.Current,
		})
	}
	if wantsJSON(c) {
		c.JSON(http.StatusOK, gin.H{"sessions": rows})
		return nil
	}
	return app.page(c, http.StatusOK, "sessions", page)
}

// endSessions ends one session of the person's, or all but this one. It reaches nobody else's.
func (app App) endSessions(c *gin.Context) error {
	form, err := readForm(c)
	if err != nil {
		return err
	}
	ctx, browser := c.Request.Context(), app.browser(c)
	switch end := form.Get("end"); end {
	case "":
		return &statusError{http.StatusBadRequest, "bad_request"}
	case "others":
		ended, err := browser.EndOthers(ctx)
		if err != nil {
			return err
		}
		if ended > 0 {
			app.tell(c, "ended_others", strconv.Itoa(ended))
		}
	default:
		all, err := browser.Sessions(ctx) // for what it is called, while it is there
		if err != nil {
			return err
		}
		i := slices.IndexFunc(all, func(s session.Info) bool { return s.ID == end })
		if was, err := browser.EndOther(ctx, end); err != nil {
			return err
		} else if was && i >= 0 {
			app.tell(c, "ended_one", app.device(c, all[i]))
		}
	}
	c.Redirect(http.StatusSeeOther, "/protected/sessions")
	return nil
}

// device is what the person calls the browser of a session.
func (app App) device(c *gin.Context, s session.Info) string {
	if s.Browser != "" && s.System != "" {
		return app.text(c, "sessions.on", s)
	}
	return cmp.Or(s.Browser, s.System, app.text(c, "sessions.unknown"))
}
