package routes

import (
	"errors"
	"net/http"
	"net/url"
	"strings"

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
func (app App) signIn(c *gin.Context) error { return app.goToLogto(c, "") }

// signUp does the same, to the registration page first.
func (app App) signUp(c *gin.Context) error { return app.goToLogto(c, auth.FirstScreenRegister) }

func (app App) goToLogto(c *gin.Context, first auth.FirstScreen) error {
	address, err := app.session(c).SignIn(c.Request.Context(), auth.SignInOptions{
		RedirectURI: app.BaseURL + "/callback",
		ReturnTo:    localPath(c.Query("return_to")),
		FirstScreen: first,
		UILocales:   []string{c.GetString(languageKey)},
	})
	if err != nil {
		return err
	}
	c.Redirect(http.StatusSeeOther, address)
	return nil
}

// callback is where Logto sends the browser back to.
func (app App) callback(c *gin.Context) error {
	ctx, session := c.Request.Context(), app.session(c)
	result, err := session.HandleSignInCallback(ctx, c.Request.URL.Query())
	if errors.Is(err, auth.ErrUnknownSignIn) {
		// Back or reload, after it has succeeded.
		if signedIn, err := session.IsAuthenticated(ctx); err == nil && signedIn {
			c.Redirect(http.StatusSeeOther, "/")
			return nil
		}
	}
	if err != nil {
		c.Set(returnToKey, result.ReturnTo)
		return err
	}
	c.Redirect(http.StatusSeeOther, localPath(result.ReturnTo))
	return nil
}

// askSignOut changes nothing: a link, an image or a prefetch must not sign anybody out.
func (app App) askSignOut(c *gin.Context) error { return app.page(c, http.StatusOK, "signout", nil) }

// signOut ends the session here, and leads to Logto to end the one there.
func (app App) signOut(c *gin.Context) error {
	address, err := app.session(c).SignOut(c.Request.Context(), auth.SignOutOptions{
		PostLogoutRedirectURI: app.BaseURL + "/",
		UILocales:             []string{c.GetString(languageKey)},
	})
	if err != nil {
		return err
	}
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

// localPath returns path if it is one on this site, to which it makes sense to return; else "/". Browsers read "\" as
// "/" and drop control characters, so neither is let through.
func localPath(path string) string {
	u, err := url.Parse(path)
	if err != nil || u.IsAbs() || u.Host != "" || u.User != nil || len(path) > maxURI/4 ||
		!strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//") || strings.Contains(path, `\`) ||
		strings.ContainsFunc(path, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return "/"
	}
	switch u.Path {
	case "/sign-in", "/sign-up", "/sign-out", "/callback": // would lead round in a circle
		return "/"
	}
	return path
}
