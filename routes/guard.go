package routes

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"

	"example.com/logto-gin-starter/auth"
)

// A GuardOption changes what Authenticated does.
type GuardOption func(*guard)

// guard is what the options make of Authenticated.
type guard struct {
	fetchUserInfo, alwaysRedirect, neverRedirect bool
	requirements                                 []func(*rights) error
}

// FetchUserInfo asks Logto who the person is now; without it, the ID token's claims must do.
func FetchUserInfo(g *guard) { g.fetchUserInfo = true }

// AlwaysRedirect sends everybody who is not signed in to sign in; without it and NeverRedirect, who accepts text/html.
func AlwaysRedirect(g *guard) { g.alwaysRedirect = true }

// NeverRedirect answers everybody who is not signed in with 401.
func NeverRedirect(g *guard) { g.neverRedirect = true }

// RequireRole lets only people pass who have one of the roles: the claim roles, of [auth.ScopeRoles].
func RequireRole(roles ...string) GuardOption {
	return require(func(r *rights) error {
		if r.HasRole(roles...) {
			return nil
		}
		return &forbiddenError{"lacks_role", gin.H{"roles": roles}, roles, []string{auth.ScopeRoles}}
	})
}

// RequireOrganization lets only people pass who have an active organization, which [auth.OrganizationFrom] then returns.
func RequireOrganization() GuardOption {
	return require(func(r *rights) error {
		if r.organization().ID != "" {
			return nil
		}
		return &forbiddenError{"lacks_organization", gin.H{"organization": true}, nil, []string{auth.ScopeOrganizations}}
	})
}

// RequireOrganizationRole lets only people pass who have one of the roles in the active organization: the claim
// organization_roles, of [auth.ScopeOrganizationRoles].
func RequireOrganizationRole(roles ...string) GuardOption {
	return require(func(r *rights) error {
		switch required := (gin.H{"organization_roles": roles}); {
		case r.HasOrganizationRole(roles...):
			return nil
		case r.organization().ID == "":
			return &forbiddenError{"lacks_organization", required, nil, []string{auth.ScopeOrganizations}}
		default:
			return &forbiddenError{"lacks_organization_role", required, roles, []string{auth.ScopeOrganizationRoles}}
		}
	})
}

// RequirePermission lets only people pass whose access token for the resource has all of the scopes: the token within the active
// organization, if there is one. It is fetched when it is needed, and kept. Logto counts a person's own roles in any organization, and
// where none is active also those of all their organizations: add RequireOrganization where that is too much.
func RequirePermission(resource string, scopes ...string) GuardOption {
	return require(func(r *rights) error {
		return lacking(auth.Permission{Resource: resource, Scopes: scopes}, r.permission(resource, scopes))
	})
}

// RequireRecentSignIn lets only people pass who have signed in at Logto at most so long ago, in whole seconds; others are asked to
// do it again.
func RequireRecentSignIn(age time.Duration) GuardOption {
	return require(func(r *rights) error {
		r.again.Set("max_age", strconv.Itoa(int(age/time.Second)))
		if user, err := r.user(); err != nil || r.app.Auth.SignedInWithin(age, user.Claims()) {
			return err
		}
		return errReauthentication
	})
}

// RequireMFA lets only people pass who have signed in with a second factor; others are asked for it. It needs Logto 1.46.
func RequireMFA() GuardOption {
	return require(func(r *rights) error {
		r.again.Set("acr_values", auth.ACRMFA)
		if user, err := r.user(); err != nil || user.Claims().ACR.Value() == auth.ACRMFA {
			return err
		}
		return errReauthentication
	})
}

func require(requirement func(*rights) error) GuardOption {
	return func(g *guard) { g.requirements = append(g.requirements, requirement) }
}

// Authenticated lets only signed-in people pass who meet the requirements, and puts the person into the request's context:
//
//	site.GET("/protected/mine", app.Authenticated(RequireRole("admin")), func(c *gin.Context) {
//		user := auth.UserFrom(c.Request.Context())
//		…
//	})
//
// Anybody else is answered here: with a redirect to sign in and back, or with 401 and {"error":"Not authenticated"}; and who does
// not meet a requirement with 403.
func (app App) Authenticated(options ...GuardOption) gin.HandlerFunc {
	var g guard
	for _, option := range options {
		option(&g)
	}
	return app.handle(func(c *gin.Context) error {
		ctx, rights := c.Request.Context(), app.rights(c)
		rights.guard = g
		user, err := rights.user()
		if err != nil {
			return err
		}
		for _, requirement := range g.requirements {
			if err := requirement(rights); err != nil {
				return err
			}
		}
		if g.fetchUserInfo {
			info, err := app.session(c).FetchUserInfo(ctx)
			if err != nil {
				return err
			}
			user.Info = &info
		}
		c.Request = c.Request.WithContext(auth.WithUser(ctx, user))
		return nil
	})
}

// redirects reports whether who can't pass is sent to sign in, and not answered with 401.
func (app App) redirects(c *gin.Context) bool {
	g := app.rights(c).guard
	return g.alwaysRedirect || wantsHTML(c) && !g.neverRedirect
}

// errReauthentication: the person is signed in, but not recently or well enough.
var errReauthentication = &statusError{http.StatusForbidden, "reauthentication"}

// signInAgain is where to sign in as rights.again says.
func (app App) signInAgain(c *gin.Context) string {
	query := app.rights(c).again
	query.Set("return_to", localPath(app.backTo(c)))
	return "/sign-in?" + query.Encode()
}

// backTo is where a person comes back to from a sign-in: to this page, or to the page whose form or script sent the request.
func (app App) backTo(c *gin.Context) string {
	if isRead(c.Request.Method) && !isAPI(c) {
		return c.Request.URL.RequestURI()
	}
	if referer, err := url.Parse(c.GetHeader("Referer")); err == nil && app.isOurs(referer, c.Request) {
		return referer.RequestURI()
	}
	isPage := func(route gin.RouteInfo) bool { return route.Method == http.MethodGet && route.Path == c.FullPath() }
	if slices.ContainsFunc(app.engine.Routes(), isPage) && !isAPI(c) {
		return c.Request.URL.Path
	}
	return "/"
}

func isRead(method string) bool { return method == http.MethodGet || method == http.MethodHead }

// lacking adds to an error what is needed, if it says that the person has no such permission. Nobody has one of what is not configured.
func lacking(need auth.Permission, err error) error {
	if !errors.Is(err, auth.ErrInsufficientScope) && !errors.Is(err, auth.ErrUnknownResource) && !errors.Is(err, auth.ErrOrganizationsScope) {
		return err
	}
	required := gin.H{"scopes": append([]string{}, need.Scopes...)}
	if need.Resource != "" {
		required["resource"] = need.Resource
	}
	if need.Organization != "" {
		required["organization"] = need.Organization
	}
	return fmt.Errorf("%w: %w", &forbiddenError{"lacks_permission", gin.H{"permission": required}, need.Scopes, need.Scopes}, err)
}

// rights answers what a person may do: for guards, and for templates, so that both have the same answer. What can't be known is
// a no.
type rights struct {
	app   App
	c     *gin.Context
	guard guard // that the request came to last
	known *auth.User
	again url.Values // the parameters of a sign-in that meets all guards so far: the next ID token need not say what this one does
}

const rightsKey = "rights"

// rights are those of the request's person, the same for the whole request.
func (app App) rights(c *gin.Context) *rights {
	r, ok := c.Value(rightsKey).(*rights)
	if !ok {
		r = &rights{app: app, c: c, again: url.Values{}}
		c.Set(rightsKey, r)
	}
	return r
}

// user is read once, and the active organization with it: what another tab changes while a guard waits for Logto is for the
// next request. It is never nil: without a user, one who may do nothing comes with the error.
func (r *rights) user() (*auth.User, error) {
	if r.known != nil {
		return r.known, nil
	}
	if r.app.browser(r.c) == nil { // such as the page of an outage
		return &auth.User{}, auth.ErrNotAuthenticated
	}
	user, err := r.app.session(r.c).User(r.c.Request.Context())
	if err != nil {
		return &auth.User{}, err
	}
	r.known = user
	return user, nil
}

// organization is the active one; zero if none is.
func (r *rights) organization() auth.Organization {
	user, _ := r.user()
	return user.Organization
}

// permission returns why the person has not all of the scopes.
func (r *rights) permission(resource string, scopes []string) error {
	user, err := r.user()
	if err == nil {
		need := auth.Permission{Resource: resource, Organization: user.Organization.ID, Scopes: scopes}
		_, err = r.app.session(r.c).Authorize(r.c.Request.Context(), need)
	}
	return err
}

// HasRole is RequireRole's question.
func (r *rights) HasRole(roles ...string) bool {
	user, _ := r.user()
	return user.Claims().HasRole(roles...)
}

// HasOrganizationRole is RequireOrganizationRole's question.
func (r *rights) HasOrganizationRole(roles ...string) bool {
	user, _ := r.user()
	return user.Claims().HasOrganizationRole(user.Organization.ID, roles...)
}

// HasPermission is RequirePermission's question.
func (r *rights) HasPermission(resource string, scopes ...string) bool {
	return r.permission(resource, scopes) == nil
}
