package routes

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/gin-gonic/gin"

	"example.com/logto-gin-starter/auth"
	"example.com/logto-gin-starter/internal/session"
)

// statusError is a request that is refused whatever it asks for.
type statusError struct {
	status int
	name   string // of the messages error.<name>.title and .text
}

func (e *statusError) Error() string { return e.name }

// forbiddenError is a person who is signed in, but may not do this.
type forbiddenError struct {
	name     string   // of the messages error.<name>.title and .text
	required gin.H    // what is missing, for programs
	missing  []string // and for the text
	scopes   []string // without which Logto tells nobody who has it
}

func (e *forbiddenError) Error() string { return e.name }
func (e *forbiddenError) Unwrap() error { return &statusError{http.StatusForbidden, e.name} }

// errSetting: a guard lets nobody pass, for Logto is not asked for what it looks at.
var errSetting = errors.New("a setting is missing")

// withSetting says in the log what the person can't mend.
func (app App) withSetting(err error) error {
	if errors.Is(err, auth.ErrUnknownResource) {
		return fmt.Errorf("%w: %w in LOGTO_RESOURCES", err, errSetting)
	}
	if forbidden, ok := errors.AsType[*forbiddenError](err); ok {
		for _, scope := range forbidden.scopes {
			if !slices.Contains(app.Auth.Scopes(), scope) {
				return fmt.Errorf("%w: %w: %s in LOGTO_SCOPES", err, errSetting, scope)
			}
		}
	}
	return err
}

// Requests that meet no handler.
func notFound(*gin.Context) error { return &statusError{http.StatusNotFound, "not_found"} }
func methodNotAllowed(*gin.Context) error {
	return &statusError{http.StatusMethodNotAllowed, "method_not_allowed"}
}

var errPanic = errors.New("panic")

// statusClientGone is nginx's for a request whose client did not wait; it is only seen in the log.
const statusClientGone = 499

// status says what a failure means in HTTP: whose fault it is, and what the person reads.
func status(err error) (code int, name string) {
	answer, isAnswer := errors.AsType[*auth.OAuthError](err)
	refused, isRefused := errors.AsType[*statusError](err)
	switch {
	case isRefused:
		return refused.status, refused.name

	// Redis' doing. The person is still signed in.
	case errors.Is(err, session.ErrUnavailable), errors.Is(err, session.ErrConflict), errors.Is(err, session.ErrLockLost):
		return http.StatusServiceUnavailable, "unavailable"

	// The person's doing, or an attacker's.
	case errors.Is(err, auth.ErrUnknownSignIn):
		return http.StatusBadRequest, "unknown_sign_in"
	case errors.Is(err, auth.ErrOvertaken):
		return http.StatusBadRequest, "overtaken"
	case errors.Is(err, auth.ErrInvalidCallback):
		return http.StatusBadRequest, "bad_request"
	case errors.Is(err, auth.ErrUnmetAuthentication), isAnswer && answer.Code == "unmet_authentication_requirements":
		return http.StatusForbidden, "unmet_authentication"
	case errors.Is(err, auth.ErrNotMember):
		return http.StatusForbidden, "not_member"
	case isAnswer && answer.Status == 0 && slices.Contains(refusals, answer.Code):
		return http.StatusBadRequest, "denied"
	case isAnswer && answer.Code == "invalid_grant": // the code was used, is too old, or is somebody else's
		return http.StatusBadRequest, "unknown_sign_in"

	// Logto's doing.
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, auth.ErrProvider) && auth.IsTimeout(err):
		return http.StatusGatewayTimeout, "logto_timeout"
	case errors.Is(err, auth.ErrProvider), isAnswer && answer.Status >= http.StatusInternalServerError:
		return http.StatusBadGateway, "logto_unavailable"
	case isAnswer, errors.Is(err, auth.ErrInvalidToken):
		return http.StatusBadGateway, "logto_failed"
	}
	return http.StatusInternalServerError, "internal"
}

// refusals are Logto's errors that mean that the person did not go through with it (RFC 6749 §4.1.2.1, OpenID Connect Core §3.1.2.6).
var refusals = []string{"access_denied", "login_required", "consent_required", "interaction_required", "account_selection_required"}

// stop answers a failure and ends the chain. Who is to sign in, or to do it again, is sent there.
func (app App) stop(c *gin.Context, err error) {
	c.Abort()
	isOut := errors.Is(err, auth.ErrNotAuthenticated) || errors.Is(err, auth.ErrSignInRequired) || errors.Is(err, session.ErrEnded)
	isAgain := errors.Is(err, errReauthentication)
	switch {
	case isOut && app.redirects(c):
		c.Redirect(http.StatusSeeOther, signInPath(app.backTo(c)))
	case isOut:
		c.JSON(http.StatusUnauthorized, gin.H{"error": "Not authenticated"})
	case isAgain && (!app.redirects(c) || wantsJSON(c) && !isRead(c.Request.Method)):
		c.JSON(http.StatusUnauthorized, gin.H{"error": "reauthentication_required", "sign_in": app.signInAgain(c)})
	case isAgain && isRead(c.Request.Method):
		c.Redirect(http.StatusSeeOther, app.signInAgain(c))
	default: // what a form sent would be lost on the way to sign in again, so its person is told first
		app.fail(c, err)
	}
}

// errorPage is what the page "error" shows.
type errorPage struct {
	Status              int
	Title, Message      string
	RetryURL, RetryText string
	ChooseOrganization  bool
}

// fail writes the error page, or its JSON. The error itself goes to the log.
func (app App) fail(c *gin.Context, err error) {
	c.Set(failureKey, app.withSetting(err))
	if errors.Is(c.Request.Context().Err(), context.Canceled) {
		c.Status(statusClientGone)
		return
	}
	code, name := status(err)
	if code == http.StatusServiceUnavailable {
		c.Header("Retry-After", "5")
		c.Writer.Header().Del("Set-Cookie") // an outage changes nothing in the browser
	}
	forbidden, isForbidden := errors.AsType[*forbiddenError](err)
	switch {
	case wantsJSON(c) && isForbidden:
		c.JSON(code, gin.H{"error": "forbidden", "required": forbidden.required})
		return
	case wantsJSON(c):
		c.JSON(code, gin.H{"error": name, "request_id": c.GetString(requestIDKey)})
		return
	case !isForbidden:
		forbidden = &forbiddenError{}
	}
	if person, err := app.person(c); err == nil && person != nil && strings.HasPrefix(name, "logto_") && !isSignIn(c.FullPath()) {
		name = "not_loaded"
	}
	page := errorPage{
		Status: code, Title: app.text(c, "error."+name+".title"),
		Message:            app.text(c, "error."+name+".text", strings.Join(forbidden.missing, ", ")),
		ChooseOrganization: strings.HasPrefix(name, "lacks_organization"),
	}
	page.RetryURL, page.RetryText = app.retry(c, code, name)
	if err := app.page(c, code, "error", page); err != nil {
		c.String(code, "%s", page.Title) // the page itself is broken, or the session behind its header
	}
}

// retry is what the person can do next.
func (app App) retry(c *gin.Context, code int, name string) (address, text string) {
	switch {
	case c.FullPath() == "/sign-in", c.FullPath() == "/sign-up": // with return_to, but without what is secret
		if c.Query("one_time_token") != "" {
			return signInPath(c.Query("return_to")), app.text(c, "error.try_again")
		}
		return c.Request.URL.RequestURI(), app.text(c, "error.try_again")
	case name == "reauthentication":
		return app.signInAgain(c), app.text(c, "error.reauthentication.action")
	case name == "lacks_permission":
		return signInPath(app.backTo(c)), app.text(c, "error.lacks_permission.action")
	case c.FullPath() == "/callback", name == "denied":
		return signInPath(c.GetString(returnToKey)), app.text(c, "error.try_again")
	case code >= http.StatusInternalServerError && c.Request.Method == http.MethodGet:
		return localPath(c.Request.URL.RequestURI()), app.text(c, "error.try_again")
	}
	return "", "" // the page leads home in any case
}
