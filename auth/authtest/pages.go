package authtest

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"crypto/subtle"
	"embed"
	"fmt"
	"html/template"
	"io"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"strings"
)

//go:embed pages
var files embed.FS

// username is Logto's rule for one.
var username = regexp.MustCompile(`^[A-Za-z_]\w{0,127}$`)

// passwordLength is the least that sign-up takes.
const passwordLength = 8

// pageData is what the pages of pages/ show.
type pageData struct {
	Lang         string
	Text         map[string]string
	Interaction  string // its ID, for the forms
	Organization string // its name, if the application asks for its branding
	Accounts     []account
	Connectors   []Connector
	Connector    Connector // whose page it is
	Username     string    // to begin with
	Name, Email  string
	Account      string // the page of the Account Center
	Link         string // in an e-mail
	App          string // the application's address, to go back to
	Problem      string // a key of Text
}

type account struct{ Key, Name, About string }

func parsePages() map[string]*template.Template {
	pages := map[string]*template.Template{}
	for _, name := range []string{"sign_in", "register", "end_session", "start", "connector", "one_time_token", "step_up", "account"} {
		pages[name] = template.Must(
			template.New(name).Option("missingkey=error").ParseFS(files, "pages/layout.html", "pages/"+name+".html"))
	}
	return pages
}

// page renders a page whole, then sends it. Its forms lead to the provider and, through a redirect, to the application.
func (s *Server) page(w http.ResponseWriter, r *http.Request, status int, name string, i *interaction, data pageData) error {
	back := ""
	asked := r.Form.Get("ui_locales")
	if i != nil {
		data.Interaction, data.Organization, asked = i.id, i.request.organization, i.request.locales
		data.Connectors = s.socialConnectors()
		back = " " + s.application(i)
	}
	data.App = s.application(i)
	data.Lang = language(asked, r.Header.Get("Accept-Language"))
	data.Text = texts(data.Lang)
	var html bytes.Buffer
	if err := s.pages[name].ExecuteTemplate(&html, "layout", data); err != nil {
		return fmt.Errorf("render page %s: %w", name, err)
	}
	maps.Copy(w.Header(), http.Header{
		"Content-Type":  {"text/html; charset=utf-8"},
		"Cache-Control": {"no-store"},
		"Content-Security-Policy": {"default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; " +
			"frame-ancestors 'none'; form-action 'self'" + back},
		"X-Content-Type-Options": {"nosniff"},
		"Referrer-Policy":        {"no-referrer"},
	})
	w.WriteHeader(status)
	_, _ = w.Write(html.Bytes()) // a client that went away is no concern of ours
	return nil
}

// application is where one goes back to: to the application that led here, else to the first one; empty if it has no address.
func (s *Server) application(i *interaction) string {
	addresses := s.opts.Apps[0].RedirectURIs
	if i != nil && i.request.redirectURI != "" {
		addresses = []string{i.request.redirectURI}
	}
	if len(addresses) == 0 {
		return ""
	}
	u, err := url.Parse(addresses[0])
	if err != nil || u.Host == "" {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

// interaction returns the one named in the form, if this browser brought it: that also keeps other sites from posting.
func (s *Server) interaction(r *http.Request) (*interaction, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.interactions[r.Form.Get("interaction")]
	cookie, err := r.Cookie(sessionCookie)
	if i == nil || err != nil || s.sessions[cookie.Value] != i.session || s.opts.Now().After(i.expires) {
		return nil, invalidRequest("interaction session not found")
	}
	return i, nil
}

func (s *Server) startPage(w http.ResponseWriter, r *http.Request) error {
	return s.page(w, r, http.StatusOK, "start", nil, pageData{Email: s.correspondent()})
}

// asked gives a handler the interaction that the form names, or shows that there is none.
func (s *Server) asked(h func(http.ResponseWriter, *http.Request, *interaction) error) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		i, err := s.interaction(r)
		if err != nil {
			return s.page(w, r, http.StatusBadRequest, "start", nil, pageData{Problem: "expired"})
		}
		return h(w, r, i)
	}
}

func (s *Server) signInPage(w http.ResponseWriter, r *http.Request, i *interaction) error {
	return s.page(w, r, http.StatusOK, "sign_in", i, pageData{Accounts: s.accounts(), Username: i.request.loginHint})
}

func (s *Server) registerPage(w http.ResponseWriter, r *http.Request, i *interaction) error {
	return s.page(w, r, http.StatusOK, "register", i, pageData{Username: i.request.loginHint})
}

func (u User) account() account { return account{u.key(), cmp.Or(u.Name, u.Email, u.key()), u.Email} }

// accounts are those of the chooser: ready ones that still exist, not those signed up since.
func (s *Server) accounts() (list []account) {
	if !s.opts.Demo {
		return nil
	}
	for _, ready := range s.opts.Users {
		if user := s.User(ready.Username); user.Username != "" {
			list = append(list, user.account())
		}
	}
	return list
}

// signIn takes a username and its password, or a choice of a ready account.
func (s *Server) signIn(w http.ResponseWriter, r *http.Request, i *interaction) error {
	name, password := r.PostForm.Get("username"), r.PostForm.Get("password")
	if chosen := r.PostForm.Get("account"); chosen != "" && s.opts.Demo {
		for _, user := range s.opts.Users {
			if user.Username == chosen {
				name, password = user.Username, s.User(user.Username).Password
			}
		}
	}
	user := s.User(name)
	if user.Username == "" || subtle.ConstantTimeCompare([]byte(user.Password), []byte(password)) != 1 {
		return s.refuse(w, r, i, name, "wrong")
	}
	return s.signedIn(w, r, i, user, "pwd")
}

func (s *Server) refuse(w http.ResponseWriter, r *http.Request, i *interaction, name, problem string) error {
	return s.page(w, r, http.StatusUnprocessableEntity, "sign_in", i,
		pageData{Accounts: s.accounts(), Username: name, Problem: problem})
}

// register makes an account and signs it in.
func (s *Server) register(w http.ResponseWriter, r *http.Request, i *interaction) error {
	user := User{
		Username: r.PostForm.Get("username"), Password: r.PostForm.Get("password"),
		Name: strings.TrimSpace(r.PostForm.Get("name")), Email: strings.TrimSpace(r.PostForm.Get("email")),
	}
	user.Picture = s.URL + "/avatar/" + user.Username
	if problem := s.admit(user); problem != "" {
		return s.page(w, r, http.StatusUnprocessableEntity, "register", i,
			pageData{Username: user.Username, Name: user.Name, Email: user.Email, Problem: problem})
	}
	return s.signedIn(w, r, i, s.User(user.Username), "pwd")
}

// admit adds a new user, or says what speaks against it.
func (s *Server) admit(user User) (problem string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !username.MatchString(user.Username):
		return "bad_username"
	case s.user(user.Username).Username != "":
		return "taken"
	case len(user.Password) < passwordLength:
		return "short"
	}
	s.addUser(user)
	return ""
}

func (s *Server) style(w http.ResponseWriter, r *http.Request) error {
	http.ServeFileFS(w, r, files, "pages/style.css")
	return nil
}

// Avatar is the person's picture within a page, for one request less.
func (a account) Avatar() template.HTML { return template.HTML(picture(a.Key)) }

func (s *Server) avatar(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("Content-Type", "image/svg+xml")
	w.Header().Set("Content-Security-Policy", "default-src 'none'")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_, err := io.WriteString(w, picture(strings.TrimSuffix(r.PathValue("name"), ".svg")))
	return err
}

// picture draws one for a username: its first letter on colours of its own.
func picture(name string) string {
	hash := sha256.Sum256([]byte(name))
	hue := int(hash[0])<<8 | int(hash[1])
	letter := strings.ToUpper(string([]rune(name + "?")[:1]))
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 96 96" aria-hidden="true"><defs>`+
		`<linearGradient id="g%[1]d" x2="1" y2="1"><stop stop-color="hsl(%[1]d 70%% 45%%)"/>`+
		`<stop offset="1" stop-color="hsl(%[2]d 75%% 32%%)"/></linearGradient></defs><rect width="96" height="96" fill="url(#g%[1]d)"/>`+
		`<text x="48" y="50" fill="#fff" font-family="system-ui,sans-serif" font-size="44" font-weight="600" `+
		`text-anchor="middle" dominant-baseline="central">%[3]s</text></svg>`,
		hue%360, (hue+50)%360, template.HTMLEscapeString(letter))
}

// language chooses between English and Thai: what the application asked for, else what the browser prefers.
func language(locales, accepted string) string {
	wanted := strings.FieldsFunc(locales, func(r rune) bool { return r == ' ' })
	wanted = append(wanted, strings.Split(accepted, ",")...)
	for _, tag := range wanted {
		tag, _, _ = strings.Cut(strings.ToLower(strings.TrimSpace(tag)), ";")
		switch base, _, _ := strings.Cut(tag, "-"); base {
		case "en", "th":
			return base
		}
	}
	return "en"
}

func texts(lang string) map[string]string {
	if lang == "th" {
		return map[string]string{
			"badge":        "ผู้ให้บริการสาธิต",
			"demo":         "ทุกอย่างที่นี่อยู่ในหน่วยความจำและหายไปเมื่อโปรแกรมหยุด อย่าใช้รหัสผ่านจริง",
			"sign_in":      "ลงชื่อเข้าใช้",
			"sign_up":      "สร้างบัญชี",
			"choose":       "เลือกบัญชีสาธิต",
			"or":           "หรือใช้รหัสผ่าน",
			"username":     "ชื่อผู้ใช้",
			"password":     "รหัสผ่าน",
			"name":         "ชื่อที่แสดง",
			"email":        "อีเมล (ไม่บังคับ)",
			"rule":         "อย่างน้อย 8 ตัวอักษร",
			"no_account":   "ยังไม่มีบัญชีใช่ไหม",
			"have_account": "มีบัญชีอยู่แล้วใช่ไหม",
			"sign_out":     "ออกจากระบบ",
			"sure":         "ต้องการออกจากระบบของผู้ให้บริการหรือไม่",
			"start":        "เริ่มจากแอปพลิเคชัน",
			"start_why":    "หน้านี้ใช้แทน Logto เมื่อคุณลงชื่อเข้าใช้ แอปพลิเคชันจะพาคุณมาที่นี่",
			"to_app":       "กลับไปที่แอปพลิเคชัน",
			"wrong":        "ชื่อผู้ใช้หรือรหัสผ่านไม่ถูกต้อง",
			"suspended":    "บัญชีนี้ถูกระงับ",
			"expired_h":    "คำขอหมดอายุ",
			"closed_h":     "บัญชีของคุณ",
			"user_rule":    "ใช้ a-z ตัวเลข และ _ โดยไม่ขึ้นต้นด้วยตัวเลข",
			"expired":      "คำขอนี้หมดอายุแล้ว กลับไปที่แอปพลิเคชันแล้วลองอีกครั้ง",
			"bad_username": "ชื่อผู้ใช้ใช้ได้เฉพาะ a-z ตัวเลข และ _ และต้องไม่ขึ้นต้นด้วยตัวเลข",
			"taken":        "ชื่อผู้ใช้นี้มีคนใช้แล้ว",
			"short":        "รหัสผ่านต้องมีอย่างน้อย 8 ตัวอักษร",
			"continue":     "ดำเนินการต่อด้วย %s",
			"idp":          "%s สาธิต",
			"idp_about":    "หน้านี้แทนหน้าลงชื่อเข้าใช้ของ %s",
			"new_account":  "บัญชีใหม่",
			"cancel":       "ยกเลิก",
			"link":         "ลิงก์ลงชื่อเข้าใช้",
			"try_link":     "ลองลงชื่อเข้าใช้ด้วยลิงก์",
			"send_link":    "ส่งลิงก์ให้ %s",
			"mail":         "อีเมลถึง %s จะมีลิงก์นี้ ใช้ได้ครั้งเดียวภายใน 10 นาที:",
			"switch":       "ขณะนี้คุณลงชื่อเข้าใช้ในชื่อ %s ลิงก์นี้เป็นของอีกบัญชีหนึ่ง",
			"bad_link":     "ลิงก์นี้ใช้ไม่ได้สำหรับอีเมลนี้",
			"old_link":     "ลิงก์นี้หมดอายุแล้ว",
			"used_link":    "ลิงก์นี้ถูกใช้ไปแล้ว",
			"step_up":      "ยืนยันตัวตนอีกขั้น",
			"step_up_why":  "แอปพลิเคชันขอให้ยืนยันตัวตนขั้นที่สอง ปุ่มนี้แทนพาสคีย์ของคุณ",
			"approve":      "อนุมัติ",
			"account":      "บัญชีของคุณ",
			"current":      "รหัสผ่านปัจจุบัน",
			"new":          "รหัสผ่านใหม่",
			"save":         "บันทึก",
			"closed":       "ศูนย์จัดการบัญชีไม่ได้เปิดใช้งาน",
			"not_yours":    "รหัสผ่านปัจจุบันไม่ถูกต้อง",
		}
	}
	return map[string]string{
		"badge":        "Demo provider",
		"demo":         "Everything here is kept in memory and forgotten when the program stops. Don't use a real password.",
		"sign_in":      "Sign in",
		"sign_up":      "Create account",
		"choose":       "Pick a demo account",
		"or":           "or use a password",
		"username":     "Username",
		"password":     "Password",
		"name":         "Display name",
		"email":        "E-mail (optional)",
		"rule":         "At least 8 characters",
		"no_account":   "No account yet?",
		"have_account": "Already have an account?",
		"sign_out":     "Sign out",
		"sure":         "Do you want to sign out of the provider?",
		"start":        "Start from the application",
		"start_why":    "This page stands in for Logto. The application brings you here when you sign in.",
		"to_app":       "Go back to the application",
		"wrong":        "Wrong username or password.",
		"suspended":    "This account is suspended.",
		"expired_h":    "Request expired",
		"closed_h":     "Your account",
		"user_rule":    "Letters a to z, digits and _, not beginning with a digit",
		"expired":      "This request has expired. Go back to the application and try again.",
		"bad_username": "A username has letters a to z, digits and _, and does not begin with a digit.",
		"taken":        "This username is taken.",
		"short":        "The password needs at least 8 characters.",
		"continue":     "Continue with %s",
		"idp":          "Demo %s",
		"idp_about":    "This page stands for the sign-in page of %s.",
		"new_account":  "A new account",
		"cancel":       "Cancel",
		"link":         "Sign-in link",
		"try_link":     "Try a sign-in link",
		"send_link":    "Send a link to %s",
		"mail":         "An e-mail to %s would have this link. It works once, within 10 minutes:",
		"switch":       "You are signed in as %s. This link is for another account.",
		"bad_link":     "This link is not valid for this e-mail address.",
		"old_link":     "This link has expired.",
		"used_link":    "This link has been used.",
		"step_up":      "One more step",
		"step_up_why":  "The application asks for a second factor. This button stands for your passkey.",
		"approve":      "Approve",
		"account":      "Your account",
		"current":      "Current password",
		"new":          "New password",
		"save":         "Save",
		"closed":       "The Account Center is not enabled.",
		"not_yours":    "The current password is wrong.",
	}
}
