package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
)

// preparer makes what is not there yet. Things are recognized by what is unique about them in Logto; it adds to what it
// finds, and changes nothing else, so it may stop anywhere and start again, and run after somebody changed things by hand.
type preparer struct {
	api *logto
	out io.Writer
}

// result is what came of it.
type result struct {
	appID, appSecret string
	webhookKey       string
	userIDs          []string // of the sample's people
	accountCenter    bool
}

// files are what the application reads, by the settings NAME_FILE.
func (r result) files(s sample) map[string]string {
	return map[string]string{
		"app_id": r.appID, "app_secret": r.appSecret,
		"resources": s.indicators(), "scopes": strings.Join(s.scopes(), " "),
		"webhook_key": r.webhookKey, "account_center": strconv.FormatBool(r.accountCenter),
	}
}

// prepare makes the sample. appID is the application's from an earlier run, if there was one: it may have another name now.
func (p *preparer) prepare(ctx context.Context, s sample, appID string) (result, error) {
	var r result
	if err := p.signInExperience(ctx, s.app); err != nil {
		return r, err
	}
	grants, err := p.resources(ctx, s.resources)
	if err != nil {
		return r, err
	}
	ids, err := p.make(ctx, s, grants)
	if err != nil {
		return r, err
	}
	for _, person := range s.people {
		id, err := p.person(ctx, person)
		if err != nil {
			return r, err
		}
		if err := p.permit(ctx, person, id, ids); err != nil {
			return r, err
		}
		r.userIDs = append(r.userIDs, id)
	}
	if r.accountCenter, err = p.accountCenter(ctx); err != nil {
		return r, err
	}
	if r.appID, err = p.app(ctx, s.app, appID); err != nil {
		return r, err
	}
	if r.appSecret, err = p.appSecret(ctx, r.appID); err != nil {
		return r, err
	}
	r.webhookKey, err = p.webhook(ctx, s.webhook)
	return r, err
}

func (p *preparer) made(format string, args ...any) {
	fmt.Fprintf(p.out, "made  "+format+"\n", args...)
}

// ensure returns the ID of the object at path that is the wanted one, by the first description that fits any, and makes it
// of body if there is none.
func (p *preparer) ensure(ctx context.Context, path, what string, body any, wanted ...func(object) bool) (string, error) {
	all, err := p.api.list(ctx, path)
	if err != nil {
		return "", err
	}
	for _, fits := range wanted {
		if i := slices.IndexFunc(all, fits); i >= 0 {
			return all[i].ID, nil
		}
	}
	var made object
	if err := p.api.post(ctx, path, body, &made); err != nil {
		return "", err
	}
	p.made("%s", what)
	return made.ID, nil
}

// relate adds those of the ids that the list at path lacks.
func (p *preparer) relate(ctx context.Context, path, field string, ids ...string) error {
	all, err := p.api.list(ctx, path)
	if err != nil {
		return err
	}
	missing := slices.DeleteFunc(slices.Clone(ids), func(id string) bool {
		return slices.ContainsFunc(all, func(o object) bool { return o.ID == id })
	})
	if len(missing) == 0 {
		return nil
	}
	return p.api.post(ctx, path, map[string]any{field: missing}, nil)
}

func named(name string) func(object) bool {
	return func(o object) bool { return o.Name == name }
}

// signInExperience lets people register with a username and a password, as a new Logto does, also without the internet:
// the default policy asks an outside service whether a password has leaked, and refuses everybody if it can't.
// A browser has one sign-in page at a time; one that it left behind leads to the application. A password policy, a way to
// sign in or an address that somebody chose stays.
func (p *preparer) signInExperience(ctx context.Context, app app) error {
	const path = "/api/sign-in-exp"
	var now struct {
		PasswordPolicy map[string]any
		SignIn         struct{ Methods []map[string]any }

		UnknownSessionRedirectURL json.RawMessage // an older Logto has no such field
	}
	if err := p.api.get(ctx, path, &now); err != nil {
		return err
	}
	change := map[string]any{}
	if len(now.PasswordPolicy) == 0 {
		change["passwordPolicy"] = map[string]any{"rejects": map[string]any{"pwned": false}}
	}
	byUsername := func(method map[string]any) bool { return method["identifier"] == "username" }
	if !slices.ContainsFunc(now.SignIn.Methods, byUsername) {
		change["signIn"] = map[string]any{"methods": append(now.SignIn.Methods, map[string]any{
			"identifier": "username", "password": true, "verificationCode": false, "isPasswordPrimary": true,
		})}
	}
	if string(now.UnknownSessionRedirectURL) == "null" || string(now.UnknownSessionRedirectURL) == `""` {
		change["unknownSessionRedirectUrl"] = app.signOutURI
	}
	if len(change) == 0 {
		return nil
	}
	if err := p.api.patch(ctx, path, change); err != nil {
		return err
	}
	p.made("sign-in by username and password")
	return nil
}

// grants are the IDs of permissions, by resource indicator and name.
type grants map[string]map[string]string

func (p *preparer) resources(ctx context.Context, wanted []resource) (grants, error) {
	all := grants{}
	for _, r := range wanted {
		body := map[string]string{"name": r.name, "indicator": r.indicator}
		id, err := p.ensure(ctx, "/api/resources", "API resource "+r.indicator, body, func(o object) bool { return o.Indicator == r.indicator })
		if err != nil {
			return nil, err
		}
		all[r.indicator], err = p.permissions(ctx, "/api/resources/"+id+"/scopes", r.name, r.permissions)
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// permissions makes scopes at path, of what owner says; it returns their IDs by name.
func (p *preparer) permissions(ctx context.Context, path, owner string, names []string) (map[string]string, error) {
	ids := map[string]string{}
	for _, name := range names {
		id, err := p.ensure(ctx, path, "permission "+name+" of "+owner, map[string]string{"name": name, "description": name}, named(name))
		if err != nil {
			return nil, err
		}
		ids[name] = id
	}
	return ids, nil
}

// granted looks up the IDs of what a role grants.
func (r role) granted(all grants) []string {
	var ids []string
	for _, indicator := range slices.Sorted(maps.Keys(r.grants)) {
		for _, name := range r.grants[indicator] {
			ids = append(ids, all[indicator][name])
		}
	}
	return ids
}

func (p *preparer) role(ctx context.Context, r role, all grants) (string, error) {
	body := map[string]string{"name": r.name, "description": r.description, "type": "User"}
	id, err := p.ensure(ctx, "/api/roles", "role "+r.name, body, func(o object) bool { return o.Name == r.name && o.Type == "User" })
	if err != nil {
		return "", err
	}
	return id, p.relate(ctx, "/api/roles/"+id+"/scopes", "scopeIds", r.granted(all)...)
}

// names are IDs by name.
type names struct{ roles, organizations, organizationRoles map[string]string }

// make makes what people may have.
func (p *preparer) make(ctx context.Context, s sample, all grants) (names, error) {
	ids := names{map[string]string{}, map[string]string{}, map[string]string{}}
	var err error
	for _, r := range s.roles {
		if ids.roles[r.name], err = p.role(ctx, r, all); err != nil {
			return ids, err
		}
	}
	permissions, err := p.permissions(ctx, "/api/organization-scopes", "organizations", s.organizationPermissions())
	if err != nil {
		return ids, err
	}
	for _, r := range s.organizationRoles {
		if ids.organizationRoles[r.name], err = p.organizationRole(ctx, r, permissions, all); err != nil {
			return ids, err
		}
	}
	for _, o := range s.organizations {
		body := map[string]string{"name": o.name, "description": o.description}
		if ids.organizations[o.name], err = p.ensure(ctx, "/api/organizations", "organization "+o.name, body, named(o.name)); err != nil {
			return ids, err
		}
	}
	return ids, nil
}

// organizationRole makes a role of the organization template: every organization has it.
func (p *preparer) organizationRole(ctx context.Context, r role, permissions map[string]string, all grants) (string, error) {
	const path = "/api/organization-roles"
	body := map[string]string{"name": r.name, "description": r.description, "type": "User"}
	id, err := p.ensure(ctx, path, "organization role "+r.name, body, named(r.name))
	if err != nil {
		return "", err
	}
	var own []string
	for _, name := range r.permissions {
		own = append(own, permissions[name])
	}
	if err := p.relate(ctx, path+"/"+id+"/scopes", "organizationScopeIds", own...); err != nil {
		return "", err
	}
	return id, p.relate(ctx, path+"/"+id+"/resource-scopes", "scopeIds", r.granted(all)...)
}

// permit gives a person their roles and memberships.
func (p *preparer) permit(ctx context.Context, who person, userID string, ids names) error {
	var roles []string
	for _, name := range who.roles {
		roles = append(roles, ids.roles[name])
	}
	if err := p.relate(ctx, "/api/users/"+userID+"/roles", "roleIds", roles...); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(who.members)) {
		path := "/api/organizations/" + ids.organizations[name] + "/users"
		if err := p.relate(ctx, path, "userIds", userID); err != nil {
			return err
		}
		role := ids.organizationRoles[who.members[name]]
		if err := p.relate(ctx, path+"/"+userID+"/roles", "organizationRoleIds", role); err != nil {
			return err
		}
	}
	return nil
}

// accountCenter lets people change their own name, password and so on, unless somebody has chosen what they may change. It
// reports whether they can: an older Logto has no such pages.
func (p *preparer) accountCenter(ctx context.Context) (bool, error) {
	const path = "/api/account-center"
	var now struct {
		Enabled bool
		Fields  map[string]string
	}
	err := p.api.get(ctx, path, &now)
	if refused, ok := errors.AsType[*refusal](err); ok && refused.status == http.StatusNotFound {
		return false, nil
	}
	if err != nil || now.Enabled {
		return now.Enabled, err
	}
	change := map[string]any{"enabled": true}
	if len(now.Fields) == 0 {
		fields := map[string]string{}
		for _, name := range []string{"name", "avatar", "profile", "username", "email", "phone", "password", "social", "mfa"} {
			fields[name] = "Edit"
		}
		change["fields"] = fields
	}
	if err := p.api.patch(ctx, path, change); err != nil {
		return false, err
	}
	p.made("the Account Center")
	return true, nil
}

// person makes the person. The picture is one of the application's, so it moves with BASE_URL.
func (p *preparer) person(ctx context.Context, wanted person) (string, error) {
	id, err := p.ensure(ctx, "/api/users", "person "+wanted.Username, wanted, func(o object) bool { return o.Username == wanted.Username })
	if err != nil {
		return "", err
	}
	var now struct{ Avatar string }
	if err := p.api.get(ctx, "/api/users/"+id, &now); err != nil {
		return "", err
	}
	if now.Avatar == wanted.Avatar || path.Base(now.Avatar) != path.Base(wanted.Avatar) {
		return id, nil
	}
	return id, p.api.patch(ctx, "/api/users/"+id, map[string]string{"avatar": wanted.Avatar})
}

// app makes the application, or adds the addresses that it lacks: BASE_URL may have changed since.
func (p *preparer) app(ctx context.Context, wanted app, knownID string) (string, error) {
	const path = "/api/applications"
	body := map[string]any{
		"name": wanted.name, "type": "Traditional",
		"oidcClientMetadata": map[string]any{
			"redirectUris": []string{wanted.redirectURI}, "postLogoutRedirectUris": []string{wanted.signOutURI},
			"backchannelLogoutUri": wanted.backchannelURI, "backchannelLogoutSessionRequired": true,
		},
		// Logto issues refresh tokens only after a consent page otherwise, which an application of one's own does not have.
		"customClientMetadata": map[string]any{"alwaysIssueRefreshToken": true},
	}
	id, err := p.ensure(ctx, path, "application "+wanted.name, body,
		func(o object) bool { return o.ID == knownID },
		func(o object) bool { return o.Name == wanted.name && o.Type == "Traditional" })
	if err != nil {
		return "", err
	}
	var now struct {
		Metadata map[string]any `json:"oidcClientMetadata"`
	}
	if err := p.api.get(ctx, path+"/"+id, &now); err != nil {
		return "", err
	}
	added := addURI(now.Metadata, "redirectUris", wanted.redirectURI)
	added = addURI(now.Metadata, "postLogoutRedirectUris", wanted.signOutURI) || added
	if uri, _ := now.Metadata["backchannelLogoutUri"].(string); uri == "" {
		now.Metadata["backchannelLogoutUri"], now.Metadata["backchannelLogoutSessionRequired"] = wanted.backchannelURI, true
		added = true
	}
	if !added {
		return id, nil
	}
	p.made("addresses of the application")
	return id, p.api.patch(ctx, path+"/"+id, map[string]any{"oidcClientMetadata": now.Metadata})
}

// addURI reports whether the list called name had to be extended.
func addURI(metadata map[string]any, name, uri string) bool {
	uris, _ := metadata[name].([]any)
	if slices.Contains(uris, any(uri)) {
		return false
	}
	metadata[name] = append(uris, uri)
	return true
}

// appSecret returns a secret that does not expire, and makes one if they were all deleted.
func (p *preparer) appSecret(ctx context.Context, appID string) (string, error) {
	type secret struct {
		Value     string
		ExpiresAt *int64
	}
	path := "/api/applications/" + appID + "/secrets"
	var all []secret
	if err := p.api.get(ctx, path, &all); err != nil {
		return "", err
	}
	if i := slices.IndexFunc(all, func(s secret) bool { return s.ExpiresAt == nil }); i >= 0 {
		return all[i].Value, nil
	}
	var made secret
	if err := p.api.post(ctx, path, map[string]any{"name": "Made by setup", "expiresAt": nil}, &made); err != nil {
		return "", err
	}
	p.made("application secret")
	return made.Value, nil
}

// webhook makes the webhook, or adds the events that it lacks. It returns the key that its requests are signed with.
func (p *preparer) webhook(ctx context.Context, wanted webhook) (string, error) {
	const path = "/api/hooks"
	body := map[string]any{"name": wanted.name, "events": wanted.events, "config": map[string]string{"url": wanted.uri}}
	id, err := p.ensure(ctx, path, "webhook "+wanted.name, body,
		func(o object) bool { return o.Config.URL == wanted.uri },
		named(wanted.name))
	if err != nil {
		return "", err
	}
	var now struct {
		Events     []string
		SigningKey string
	}
	if err := p.api.get(ctx, path+"/"+id, &now); err != nil {
		return "", err
	}
	missing := slices.DeleteFunc(slices.Clone(wanted.events), func(event string) bool { return slices.Contains(now.Events, event) })
	if len(missing) == 0 {
		return now.SigningKey, nil
	}
	p.made("events of the webhook")
	return now.SigningKey, p.api.patch(ctx, path+"/"+id, map[string]any{"events": append(now.Events, missing...)})
}
