package routes

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"time"

	"github.com/gin-gonic/gin"

	"example.com/logto-gin-starter/auth"
)

// userInfoPage is what the page "userinfo" shows.
type userInfoPage struct {
	Info              auth.UserInfo
	Groups            []claimGroup
	JSON, IDTokenJSON string
	Curl              string // gets the JSON
}

type claimGroup struct {
	Title  string
	Claims []claimRow
}

// claimRow is one claim: from the ID token, from userinfo, or from both.
type claimRow struct {
	Name, Value string
	Kind        string // text, time, url, image, bool, list, json, none, null
	List        []string
	Origin      string // both, differs, userinfo, id_token
	Other       string // if it differs, what the ID token says
}

// claimGroups are the claims that belong together, in the order in which they are shown.
var claimGroups = []struct {
	name   string
	claims []string
}{
	{"profile", []string{
		"sub", "username", "name", "given_name", "middle_name", "family_name", "nickname", "preferred_username", "picture", "profile",
		"website", "gender", "birthdate", "zoneinfo", "locale", "created_at", "updated_at",
	}},
	{"contact", []string{"email", "email_verified", "phone_number", "phone_number_verified", "address"}},
	{"organizations", []string{"roles", "organizations", "organization_data", "organization_roles"}},
}

// userInfo shows what Logto's userinfo endpoint returns, next to the claims of the ID token.
func (app App) userInfo(c *gin.Context) error {
	user := auth.UserFrom(c.Request.Context())
	if wantsJSON(c) {
		c.Data(http.StatusOK, "application/json; charset=utf-8", user.Info.Raw)
		return nil
	}
	idToken, err := json.Marshal(user.Claims())
	if err != nil {
		return err
	}
	rows := claimRows(user.Info.Raw, idToken)
	page := userInfoPage{Info: *user.Info, JSON: indent(user.Info.Raw), IDTokenJSON: indent(idToken)}
	page.Curl = fmt.Sprintf("curl -H 'Accept: application/json' -b '%s=…' %s/protected/userinfo", app.cookieName("sid"), app.BaseURL)
	add := func(name string, claims []string) {
		group := claimGroup{Title: app.text(c, "userinfo.group."+name)}
		for _, claim := range claims {
			if row, is := rows[claim]; is {
				group.Claims = append(group.Claims, row)
				delete(rows, claim)
			}
		}
		if group.Claims != nil {
			page.Groups = append(page.Groups, group)
		}
	}
	for _, group := range claimGroups {
		add(group.name, group.claims)
	}
	add("other", slices.Sorted(maps.Keys(rows)))
	return app.page(c, http.StatusOK, "userinfo", page)
}

// claimRows puts both sets of claims side by side, by name.
func claimRows(info, idToken []byte) map[string]claimRow {
	var fromInfo, fromToken map[string]json.RawMessage
	_ = json.Unmarshal(info, &fromInfo) // package auth has read both before
	_ = json.Unmarshal(idToken, &fromToken)
	rows := map[string]claimRow{}
	for name, raw := range fromToken {
		if !slices.Contains(auth.AboutToken, name) {
			rows[name] = show(name, raw, "id_token")
		}
	}
	for name, raw := range fromInfo {
		row := show(name, raw, "userinfo")
		if older, inToken := fromToken[name]; inToken {
			row.Origin = "both"
			if !sameJSON(raw, older) {
				row.Origin, row.Other = "differs", show(name, older, "").Value
			}
		}
		rows[name] = row
	}
	return rows
}

// sameJSON compares values, not spellings.
func sameJSON(a, b json.RawMessage) bool {
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}

// show says how a claim is best read.
func show(name string, raw json.RawMessage, origin string) claimRow {
	row := claimRow{Name: name, Origin: origin, Value: string(raw)}
	var number int64
	switch text, list := "", []string(nil); {
	case row.Value == "null":
		row.Kind = "null"
	case row.Value == "[]", row.Value == "{}", row.Value == `""`:
		row.Kind = "none"
	case row.Value == "true", row.Value == "false":
		row.Kind = "bool"
	case (name == "created_at" || name == "updated_at") && json.Unmarshal(raw, &number) == nil:
		row.Value, row.Kind = auth.Millis(number).Time().UTC().Format(time.RFC3339), "time"
	case json.Unmarshal(raw, &list) == nil && len(list) <= 10:
		row.List, row.Kind = list, "list"
	case json.Unmarshal(raw, &text) != nil:
		row.Value, row.Kind = indent(raw), "json"
	case name == "picture" && isWebURL(text):
		row.Value, row.Kind = text, "image"
	case isWebURL(text):
		row.Value, row.Kind = text, "url"
	default:
		row.Value, row.Kind = text, "text"
	}
	return row
}
