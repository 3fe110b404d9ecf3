package templates_test

import (
	"os"
	"testing"
	"time"
	"context"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/cdproto/emulation"
	"example.com/logto-gin-starter/templates"
)

func shotSamples(lang string, m interface{ Text(l, k string, v ...any) string }) map[string]sample {
	u := &templates.User{Name: "Ada Lovelace"}
	if lang == "th" { u = &templates.User{Name: "สมชาย ใจดี", Picture: "/static/favicon.1f1938bdd03b.svg"} }
	claims := []claim{
		{"sub", "u_7f3k2m9x0q1z", "text", "both"},
		{"name", u.Name, "text", "both"},
		{"picture", "https://images.example.com/avatars/ada-lovelace/2026/11/a-rather-long-path-0f3a9c1b.png", "image", "both"},
		{"email", "ada@example.com", "text", "both"},
		{"email_verified", "true", "bool", "both"},
		{"phone_number_verified", "false", "bool", "both"},
		{"username", "", "null", "both"},
		{"website", "https://ada.example.com/", "url", "both"},
		{"created_at", "2026-11-23T19:26:00Z", "time", "both"},
		{"custom_data", "{\n  \"plan\": \"pro\",\n  \"theme\": {\n    \"mode\": \"dark\"\n  }\n}", "json", "userinfo"},
		{"organization_data", "[\n  {\n    \"id\": \"org_9x2\",\n    \"name\": \"Analytical Engines\",\n    \"description\": \"We compute with steam, and we do it very well indeed\"\n  }\n]", "json", "userinfo"},
		{"aud", "3x8m2k0q", "text", "id_token"},
	}
	js := "{\n  \"sub\": \"u_7f3k2m9x0q1z\",\n  \"name\": \"Ada Lovelace\",\n  \"picture\": \"https://images.example.com/avatars/ada-lovelace/2026/11/a-rather-long-path-0f3a9c1b.png\",\n  \"email\": \"ada@example.com\",\n  \"email_verified\": true\n}"
	return map[string]sample{
		"home-out": {"home", nil, nil}, "home-in": {"home", u, nil}, "signout": {"signout", u, nil},
		"userinfo": {"userinfo", u, userinfo{claims, js, js}},
		"tokens": {"tokens", u, tokens{
			[]token{{Name: "https://shopping.your-app.com/api", Kind: "resource", Fetched: true, ExpiresIn: "59 minutes", Scopes: []string{"read:cart", "write:cart"}, Claims: js, API: "{\n  \"hello\": \"u_7f3k2m9x0q1z\"\n}"}, {Name: "https://store.your-app.com/api", Kind: "resource"}},
			[]token{{Name: "org_9x2k", Label: "Analytical Engines", Kind: "organization"}, {Name: "org_zz", Label: "Difference Ltd", Kind: "organization", Fetched: true, Error: &tokenError{"access_denied", m.Text(lang, "tokens.error.access_denied")}}}, true}},
		"tokens-empty": {"tokens", u, tokens{}},
		"sessions": {"sessions", u, sessions{[]session{
			{ID: "1", Browser: "Firefox", System: "Windows", Since: since, Seen: since, SinceText: "23 November 2026, 19:26 UTC", SeenText: "just now", Current: true},
			{ID: "2", Browser: "Safari", System: "iPhone", Since: since, Seen: since, SinceText: "20 November 2026, 08:02 UTC", SeenText: "3 hours ago"},
			{ID: "3", Since: since, Seen: since, SinceText: "2 November 2026, 11:45 UTC", SeenText: "12 days ago"}}, true}},
		"error": {"error", nil, failure{400, m.Text(lang, "error.unknown_sign_in.title"), m.Text(lang, "error.unknown_sign_in.text"), "/sign-in", m.Text(lang, "error.try_again")}},
	}
}

func TestShots(t *testing.T) {
	set, messages := parse(t)
	ctx := browser(t)
	ctx, c := context.WithTimeout(ctx, 5*time.Minute); defer c()
	os.MkdirAll("/tmp/shots", 0o755)
	for _, lang := range []string{"en", "th"} {
		all := shotSamples(lang, messages)
		site := serve(t, set, all)
		for name := range all {
			for _, v := range []struct{ n, scheme string; w int64 }{{"wide", "light", 1280}, {"wide-dark", "dark", 1280}, {"375", "light", 375}, {"375-dark", "dark", 375}, {"320", "light", 320}} {
				if lang == "th" && v.scheme == "dark" { continue }
				png := shoot(t, ctx, site+"/page/"+lang+"/"+name, v.w, v.scheme)
				os.WriteFile("/tmp/shots/"+name+"-"+lang+"-"+v.n+".png", png, 0o644)
			}
		}
	}
}

func shoot(t *testing.T, ctx context.Context, url string, w int64, scheme string) []byte {
	h := int64(800)
	if w < 500 { h = 700 }
	if err := chromedp.Do(ctx, chromedp.EmulateViewport(w, h)); err != nil { t.Fatal(err) }
	if _, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}}); err != nil { t.Fatal(err) }
	if err := chromedp.Do(ctx, chromedp.Navigate(url)); err != nil { t.Fatal(err) }
	png, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if err != nil { t.Fatal(err) }
	return png
}
