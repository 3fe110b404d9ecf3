package i18n

import (
	"strings"
	"time"
)

const day = 24 * time.Hour

// Ago says how long before now t was, such as "3 minutes ago"; after 30 days it says the date.
func (c *Catalog) Ago(lang string, t, now time.Time) string {
	switch d := now.Sub(t); {
	case d < time.Minute: // a clock that runs ahead is "just now" too
		return c.Text(lang, "time.just_now")
	case d < time.Hour:
		return c.Text(lang, "time.minutes_ago", int(d/time.Minute))
	case d < day:
		return c.Text(lang, "time.hours_ago", int(d/time.Hour))
	case d <= 30*day:
		return c.Text(lang, "time.days_ago", int(d/day))
	default:
		return c.Date(lang, t)
	}
}

// Span says how long d is, such as "59 minutes", in its largest unit.
func (c *Catalog) Span(lang string, d time.Duration) string {
	switch {
	case d < time.Minute:
		return c.Text(lang, "time.under_a_minute")
	case d < time.Hour:
		return c.Text(lang, "time.minutes", int(d/time.Minute))
	case d < day:
		return c.Text(lang, "time.hours", int(d/time.Hour))
	default:
		return c.Text(lang, "time.days", int(d/day))
	}
}

// Date says the day and the minute of t, in UTC because a server does not know where the person is.
func (c *Catalog) Date(lang string, t time.Time) string {
	t = t.UTC()
	months := strings.Fields(c.Text(lang, "time.months"))
	return c.Text(lang, "time.date", struct {
		Day, Year, BuddhistYear int
		Month, Clock            string
	}{t.Day(), t.Year(), t.Year() + 543, months[t.Month()-1], t.Format("15:04")})
}
