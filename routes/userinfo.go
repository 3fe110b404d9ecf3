package routes

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
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
	Origin      string // both, userinfo, id_token
}

// userInfo shows what Logto's userinfo endpoint answers, beside the claims of the ID token.
func (app App) userInfo(c *gin.Context) error {
	user := auth.UserFrom(c.Request.Context())
	if wantsJSON(c) {
		c.JSON(http.StatusOK, user.Info)
		return nil
	}
	info, err := json.Marshal(user.Info)
	if err != nil {
		return err
	}
	idToken, err := json.Marshal(user.Claims)
	if err != nil {
		return err
	}
	rows, err := claimRows(info, idToken)
	if err != nil {
		return err
	}
	return app.page(c, http.StatusOK, "userinfo", userInfoPage{Claims: rows, JSON: indent(info), IDTokenJSON: indent(idToken)})
}

// aboutToken are the claims of an ID token that are about itself and not about the person.
var aboutToken = []string{"iss", "aud", "exp", "iat", "nbf", "nonce", "at_hash", "c_hash", "azp", "sid", "jti", "auth_time", "acr", "amr"}

// claimRows puts both sets of claims side by side: sub first, then by name.
func claimRows(info, idToken []byte) ([]claimRow, error) {
	var fromInfo, fromToken map[string]json.RawMessage
	if err := json.Unmarshal(info, &fromInfo); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(idToken, &fromToken); err != nil {
		return nil, err
	}
	maps.DeleteFunc(fromToken, func(name string, _ json.RawMessage) bool { return slices.Contains(aboutToken, name) })
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
		_, inToken := fromToken[name]
		row := claimRow{Name: name, Origin: "both"}
		switch {
		case !inInfo:
			row.Origin, raw = "id_token", fromToken[name]
		case !inToken:
			row.Origin = "userinfo"
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

func indent(raw []byte) string {
	var buf bytes.Buffer
	if json.Indent(&buf, raw, "", "  ") != nil {
		return string(raw)
	}
	return buf.String()
}
