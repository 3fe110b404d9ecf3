package routes

import (
	"encoding/json"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"example.com/logto-gin-starter/auth"
)

// userInfoPage is what the page "userinfo" shows.
type userInfoPage struct {
	Claims            []claimRow
	JSON, IDTokenJSON string
}

// claimRow is one claim: from the ID token, from userinfo, or from both.
type claimRow struct {
	Name, Value string
	Kind        string // text, time, url, image, bool, json, null
	Origin      string // both, differs, userinfo, id_token
	Other       string // if it differs, what the ID token says
}

// userInfo shows what Logto's userinfo endpoint answers, beside the claims of the ID token.
func (app App) userInfo(c *gin.Context) error {
	user := auth.UserFrom(c.Request.Context())
	if wantsJSON(c) {
		c.Data(http.StatusOK, "application/json; charset=utf-8", user.Info.Raw)
		return nil
	}
	info, err := json.Marshal(user.Info)
	if err != nil {
		return err
	}
	idToken, err := json.Marshal(user.Claims())
	if err != nil {
		return err
	}
	rows, err := claimRows(info, idToken)
	if err != nil {
		return err
	}
	return app.page(c, http.StatusOK, "userinfo", userInfoPage{Claims: rows, JSON: indent(info), IDTokenJSON: indent(idToken)})
}

// claimRows puts both sets of claims side by side: sub first, then by name.
func claimRows(info, idToken []byte) ([]claimRow, error) {
	var fromInfo, fromToken map[string]json.RawMessage
	if err := json.Unmarshal(info, &fromInfo); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(idToken, &fromToken); err != nil {
		return nil, err
	}
	maps.DeleteFunc(fromToken, func(name string, _ json.RawMessage) bool { return slices.Contains(auth.AboutToken, name) })
	names := map[string]bool{}
	for name := range fromInfo {
		names[name] = true
	}
	for name := range fromToken {
		names[name] = true
	}
	var rows []claimRow
	for name := range names {
		raw, inInfo := fromInfo[name]
		older, inToken := fromToken[name]
		row := claimRow{Name: name, Origin: "both"}
		switch {
		case !inInfo:
			row.Origin, raw = "id_token", older
		case !inToken:
			row.Origin = "userinfo"
		case !sameJSON(raw, older):
			row.Origin = "differs"
			row.Other, _ = show(name, older)
		}
		row.Value, row.Kind = show(name, raw)
		rows = append(rows, row)
	}
	slices.SortFunc(rows, func(a, b claimRow) int {
		if a.Name == "sub" {
			return -1
		}
		if b.Name == "sub" {
			return 1
		}
		return strings.Compare(a.Name, b.Name)
	})
	return rows, nil
}

// sameJSON compares values, not spellings.
func sameJSON(a, b json.RawMessage) bool {
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}

// show says how a claim's value is best read.
func show(name string, raw json.RawMessage) (value, kind string) {
	var text string
	var number int64
	switch {
	case string(raw) == "null":
		return "null", "null"
	case string(raw) == "true", string(raw) == "false":
		return string(raw), "bool"
	case (name == "created_at" || name == "updated_at") && json.Unmarshal(raw, &number) == nil:
		return auth.Millis(number).Time().UTC().Format(time.RFC3339), "time"
	case json.Unmarshal(raw, &text) != nil:
		return indent(raw), "json"
	case name == "picture" && isWebURL(text):
		return text, "image"
	case isWebURL(text):
		return text, "url"
	}
	return text, "text"
}
