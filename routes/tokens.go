package routes

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"example.com/logto-gin-starter/auth"
)

// tokensRoutes are those of the page and of the sample API.
func (app App) tokensRoutes(r *gin.Engine, protected *gin.RouterGroup) {
	protected.Match(append(read, http.MethodPost), "/protected/tokens", app.handle(app.tokens))
	r.Match(read, "/api/resource", app.RequireCaller(app.resourcePermission), app.handle(app.sampleAPI))
	r.Match(read, "/api/organizations/:id", app.RequireCaller(organizationPermission), app.handle(app.sampleAPI))
}

// tokensPage is what the page "tokens" shows: a row for each configured resource and each organization of the person. Logto is asked
// for a row's token when the person asks for it; a program gets all of them. The tokens themselves never leave the server.
type tokensPage struct {
	Resources, Organizations []tokenRow
}

type tokenRow struct {
	ID      string // of the row in the page
	Name    string // resource indicator or organization ID
	Label   string // what people call the organization
	IsAsked bool   // what follows is what came of it

	Scopes    []string
	ExpiresIn string
	Claims    string // JSON
	Error     *tokenError
	API       string // the sample API's answer, if it was called

	apiPath string
}

type tokenError struct {
	Code    string `json:"code"`
	Message string `json:"message"` // for the person
}

// tokens shows the page. Its form asks for a new token for one row, or calls the sample API with the token there is.
func (app App) tokens(c *gin.Context) error {
	form, err := readForm(c)
	if err != nil {
		return err
	}
	session := app.session(c)
	person, err := session.Person(c.Request.Context())
	if err != nil {
		return err
	}
	var page tokensPage
	for i, resource := range app.Auth.Resources() {
		row := tokenRow{ID: fmt.Sprint("resource-", i+1), Name: resource, IsAsked: form.Get("resource") == resource}
		row.apiPath = "/api/resource?" + url.Values{"indicator": {resource}}.Encode()
		if err := app.fill(c, &row, form, session.AccessToken); err != nil {
			return err
		}
		page.Resources = append(page.Resources, row)
	}
	for _, organization := range person.Organizations {
		id := organization.ID
		row := tokenRow{ID: "organization-" + id, Name: id, Label: organization.Name, IsAsked: form.Get("organization") == id}
		row.apiPath = "/api/organizations/" + url.PathEscape(id)
		if err := app.fill(c, &row, form, session.OrganizationToken); err != nil {
			return err
		}
		page.Organizations = append(page.Organizations, row)
	}
	if wantsJSON(c) {
		c.JSON(http.StatusOK, gin.H{"resources": byName(page.Resources), "organizations": byName(page.Organizations)})
		return nil
	}
	return app.page(c, http.StatusOK, "tokens", page)
}

type getToken = func(ctx context.Context, name string, options ...auth.TokenOption) (auth.Token, error)

// fill gets a row's token, if somebody asks for it. A refusal is a part of the page; only what concerns the whole session is an error.
func (app App) fill(c *gin.Context, row *tokenRow, form url.Values, get getToken) error {
	if !row.IsAsked && !wantsJSON(c) {
		return nil
	}
	ctx := c.Request.Context()
	var options []auth.TokenOption
	if row.IsAsked && !form.Has("call") {
		options = append(options, auth.ForceRefresh())
	}
	token, err := get(ctx, row.Name, options...)
	var claims auth.AccessTokenClaims
	if err == nil {
		claims, err = token.Claims()
	}
	if err != nil {
		row.Error, err = app.explain(c, err)
		return err
	}
	data, err := json.Marshal(claims)
	if err != nil {
		return err
	}
	row.Claims = indent(data)
	row.Scopes = slices.Sorted(slices.Values(claims.Scopes()))
	row.ExpiresIn = app.Messages.Span(c.GetString(languageKey), time.Until(token.Expiry).Round(time.Minute))
	if row.IsAsked && form.Has("call") {
		row.API = app.callAPI(ctx, row.apiPath, token)
	}
	return nil
}

// explain says in the person's words why there is no token. What is not about this one token comes back as the error.
func (app App) explain(c *gin.Context, err error) (*tokenError, error) {
	code := "unknown"
	answer, isAnswer := errors.AsType[*auth.OAuthError](err)
	switch {
	case errors.Is(err, auth.ErrSignInRequired):
		return nil, err
	case isAnswer && slices.Contains([]string{"access_denied", "invalid_target", "insufficient_scope"}, answer.Code):
		code = answer.Code
	case errors.Is(err, auth.ErrOrganizationsScope):
		code = "no_organizations"
	case isAnswer, errors.Is(err, auth.ErrProvider), errors.Is(err, auth.ErrOpaqueToken), errors.Is(err, auth.ErrInvalidToken):
	case errors.Is(err, auth.ErrInvalidOption): // the organization's ID is not one that can be asked for
	default:
		return nil, err
	}
	c.Set(failureKey, err)
	return &tokenError{Code: code, Message: app.text(c, "tokens.error."+code)}, nil
}

// byName is the form that the JSON has.
func byName(rows []tokenRow) gin.H {
	all := gin.H{}
	for _, row := range rows {
		if row.Error != nil {
			all[row.Name] = gin.H{"error": row.Error}
		} else {
			all[row.Name] = gin.H{"claims": json.RawMessage(row.Claims)}
		}
	}
	return all
}

// callAPI calls the sample API as another service would: by a request with the token. This API is in the same process,
// so the request needs no network; it still passes every middleware.
func (app App) callAPI(ctx context.Context, path string, token auth.Token) string {
	request, _ := http.NewRequestWithContext(ctx, http.MethodGet, path, http.NoBody) // a valid path: its parts were escaped
	request.Header.Set("Authorization", "Bearer "+string(token.Value))
	answer := &answer{header: http.Header{}}
	app.engine.ServeHTTP(answer, request)
	return strings.TrimSpace(indent(answer.body.Bytes()))
}

// answer is a response that stays here.
type answer struct {
	header http.Header
	body   bytes.Buffer
}

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) Write(p []byte) (int, error) { return a.body.Write(p) }
func (a *answer) WriteHeader(int)             {}

// The sample API stands for those of a product, which would be programs of their own: one for each configured
// resource, and one for each organization.

func (app App) resourcePermission(c *gin.Context) (need auth.Permission) {
	if indicator := c.Query("indicator"); slices.Contains(app.Auth.Resources(), indicator) {
		need.Resource, need.Scopes = indicator, []string{"read:products"}
	}
	return need
}

func organizationPermission(c *gin.Context) auth.Permission {
	return auth.Permission{Organization: matching(isID(), c.Param("id"))}
}

// sampleAPI says what it learned from the token.
func (app App) sampleAPI(c *gin.Context) error {
	caller, _ := auth.CallerFrom(c.Request.Context())
	answer := gin.H{"subject": caller.Subject, "client": caller.ClientID, "scopes": caller.Scopes}
	if caller.Organization != "" {
		answer["organization"] = caller.Organization
	}
	c.JSON(http.StatusOK, answer)
	return nil
}
