package routes

import (
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/gin-gonic/gin"

	"example.com/logto-gin-starter/auth"
)

// navigated refuses what a browser loads for a page, such as <img src="/sign-in">: no person asked for it. A browser that does
// not say what for it loads something passes (Fetch Metadata Request Headers §2.1).
func navigated(c *gin.Context) error {
	if destination := c.GetHeader("Sec-Fetch-Dest"); destination != "" && destination != "document" {
		return &statusError{http.StatusForbidden, "forbidden"}
	}
	return nil
}

// signIn sends the browser to Logto.
func (app App) signIn(c *gin.Context) error {
	address, err := app.session(c).SignIn(c.Request.Context(), app.signInOptions(c))
	if err != nil {
		return err
	}
	if ending := app.ending(c); ending != "" { // to be told after the sign-in
		app.tell(c, ending)
	}
	c.Redirect(http.StatusSeeOther, address)
	return nil
}

// signInOptions is how a sign-in goes, by what the address asks for. What is not valid there is ignored: an old link still leads to
// a sign-in.
func (app App) signInOptions(c *gin.Context) auth.SignInOptions {
	query := c.Request.URL.Query()
	options := auth.SignInOptions{
		RedirectURI:    app.BaseURL + "/callback",
		ReturnTo:       localPath(query.Get("return_to")),
		OrganizationID: matching(isID(), query.Get("organization_id")),
		LoginHint:      hint(query.Get("login_hint")),
		UILocales:      []string{c.GetString(languageKey)},
	}
	if c.FullPath() == "/sign-up" {
		options.FirstScreen = auth.FirstScreenRegister
	}
	if direct := query.Get("direct"); slices.Contains(app.Auth.DirectSignIns(), direct) {
		options.DirectSignIn = direct
	}
	login := query.Get("prompt") == "login" || app.asksForPassword(c)
	if seconds, err := strconv.ParseUint(query.Get("max_age"), 10, 31); err == nil {
		options.MaxAge = time.Duration(seconds) * time.Second
		login = login || seconds == 0 // which is the same (OpenID Connect Core §3.1.2.1)
	}
	if query.Get("acr_values") == auth.ACRMFA {
		options.ACRValues = []string{auth.ACRMFA}
	}
	token, email := matching(isID(), query.Get("one_time_token")), hint(query.Get("email"))
	if token != "" && strings.Contains(email, "@") {
		options.OneTimeToken, options.LoginHint, login = token, email, true
		c.Header("Referrer-Policy", "no-referrer")
	}
	if login {
		options.Prompt = []auth.Prompt{auth.PromptLogin, auth.PromptConsent}
	}
	return options
}

// isID is the form of an organization's ID and of a one-time token.
var isID = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[\w-]{1,128}$`) }) // compiling it takes 0.2 ms

// matching returns the text if it is of that form, else nothing.
func matching(form *regexp.Regexp, text string) string {
	if !form.MatchString(text) {
		return ""
	}
	return text
}

// hint returns a text if it may be what a person is called at Logto: an e-mail address, a telephone number, a username.
func hint(text string) string {
	if len(text) > 255 || strings.TrimSpace(text) != text || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return ""
	}
	return text
}

// callback is where Logto sends the browser back to.
func (app App) callback(c *gin.Context) error {
	ctx, session := c.Request.Context(), app.session(c)
	var options []auth.CallbackOption
	if app.asksForPassword(c) {
		options = append(options, auth.OnlyAfterLogin) // also if it began before that was so
	}
	before, _ := app.browser(c).Label()
	result, err := session.HandleSignInCallback(ctx, c.Request.URL.Query(), options...)
	if errors.Is(err, auth.ErrUnknownSignIn) {
		// Back or reload, after it has succeeded.
		if signedIn, err := session.IsAuthenticated(ctx); err == nil && signedIn {
			c.Redirect(http.StatusSeeOther, localPath(result.ReturnTo))
			return nil
		}
	}
	app.observeSignIn(ctx, err)
	if err != nil {
		c.Set(returnToKey, result.ReturnTo)
		return err
	}
	app.setCookie(c, passwordCookie, "", 0)
	if person, _ := app.browser(c).Label(); person == before {
		app.tell(c, "signed_in_again")
	}
	c.Redirect(http.StatusSeeOther, localPath(result.ReturnTo))
	return nil
}

// askSignOut changes nothing: a link, an image or a prefetch must not sign anybody out.
func (app App) askSignOut(c *gin.Context) error { return app.page(c, http.StatusOK, "signout", nil) }

// signOut ends the session here, and leads to Logto to end the one there. If Logto can't be reached, a page says so: the
// browser would only show an error of its own.
func (app App) signOut(c *gin.Context) error {
	address, err := app.session(c).SignOut(c.Request.Context(), auth.SignOutOptions{
		PostLogoutRedirectURI: app.BaseURL + "/",
		UILocales:             []string{c.GetString(languageKey)},
	})
	if errors.Is(err, auth.ErrProvider) {
		c.Set(failureKey, err)
		app.setCookie(c, passwordCookie, "1", passwordLife) // the session at Logto may live on
		if wantsJSON(c) {
			c.JSON(http.StatusOK, gin.H{"signed_out": true, "signed_out_at_logto": false})
			return nil
		}
		return app.page(c, http.StatusOK, "signedout", nil)
	}
	if err != nil {
		return err
	}
	app.tell(c, "signed_out")
	c.Redirect(http.StatusSeeOther, address)
	return nil
}

// signInPath is where to sign in for a page of this site.
func signInPath(returnTo string) string {
	if returnTo = localPath(returnTo); returnTo == "/" {
		return "/sign-in"
	}
	return "/sign-in?" + url.Values{"return_to": {returnTo}}.Encode()
}

// maxReturnTo is the length in bytes of an address to return to.
const maxReturnTo = 1 << 10

// isLocal reports whether path is one on this site. Browsers read "\" as "/" and drop control characters, so neither is let
// through.
func isLocal(path string) bool {
	u, err := url.Parse(path)
	return err == nil && !u.IsAbs() && u.Host == "" && u.User == nil && len(path) <= maxReturnTo && utf8.ValidString(path) &&
		strings.HasPrefix(path, "/") && !strings.HasPrefix(path, "//") && !strings.Contains(path, `\`) &&
		!strings.ContainsFunc(path, func(r rune) bool { return r <= ' ' || r == 0x7f })
}

// localPath returns path if it is one on this site, to which it makes sense to return after a sign-in; else "/".
func localPath(path string) string {
	if !isLocal(path) {
		return "/"
	}
	u, _ := url.Parse(path)                        // which isLocal did
	if u.Path == "/sign-out" || isSignIn(u.Path) { // would lead round in a circle
		return "/"
	}
	return path
}

// isSignIn reports whether a path is one on the way to sign in: no page is there, unless something went wrong.
func isSignIn(path string) bool {
	return path == "/sign-in" || path == "/sign-up" || path == "/callback"
}
