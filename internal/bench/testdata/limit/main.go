// Command limit is the least that an application can do to sign people in with Logto and show them a page. Package bench
// measures the application beside it. It has no log, no time-outs, no headers and no page for an error, and it trusts
// whoever can write its cookies or its Redis: take nothing from it.
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"html/template"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/gin-gonic/gin"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"golang.org/x/oauth2"
)

// limit has what its handlers use.
type limit struct {
	welcome, home *template.Template // the files that the command line names
	rdb           *redis.Client
	logto         func() relyingParty // asks Logto at the first sign-in
}

// relyingParty is what x/oauth2 and go-oidc know of Logto.
type relyingParty struct {
	oauth    *oauth2.Config
	verifier *oidc.IDTokenVerifier
}

// sessionSize is what a session has in Redis, in bytes.
const sessionSize = 4 << 10

func main() {
	options, err := redis.ParseURL(os.Getenv("REDIS_URL"))
	if err != nil {
		log.Fatal(err)
	}
	// As the application sets them, for they take less time.
	options.Protocol, options.DisableIdentity = 2, true
	options.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	l := limit{
		welcome: template.Must(template.ParseFiles(os.Args[1])),
		home:    template.Must(template.ParseFiles(os.Args[2])),
		rdb:     redis.NewClient(options),
		logto:   sync.OnceValue(discover),
	}
	transport := http.DefaultTransport.(*http.Transport)
	transport.MaxIdleConnsPerHost = 100 // not two, which would open one for nearly each request when there are many at once
	transport.DisableCompression = true
	gin.SetMode(gin.ReleaseMode)
	r := gin.New()
	r.GET("/", l.page)
	r.GET("/welcome", l.page)
	r.GET("/sign-in", l.signIn)
	r.GET("/callback", l.callback)
	r.GET("/protected/userinfo", l.userInfo)
	log.Fatal(http.ListenAndServe(os.Getenv("LISTEN_ADDR"), r))
}

func discover() relyingParty {
	provider, err := oidc.NewProvider(context.Background(), os.Getenv("LOGTO_ENDPOINT")+"/oidc")
	if err != nil {
		log.Fatal(err)
	}
	endpoint, id := provider.Endpoint(), os.Getenv("LOGTO_APP_ID")
	endpoint.AuthStyle = oauth2.AuthStyleInHeader
	return relyingParty{
		oauth: &oauth2.Config{
			ClientID: id, ClientSecret: os.Getenv("LOGTO_APP_SECRET"), Endpoint: endpoint,
			RedirectURL: os.Getenv("BASE_URL") + "/callback",
			Scopes:      append([]string{"openid", "profile", "offline_access"}, strings.Fields(os.Getenv("LOGTO_SCOPES"))...),
		},
		verifier: provider.Verifier(&oidc.Config{ClientID: id}),
	}
}

// person is what the page shows of whoever is signed in.
type person struct{ Name, Picture, Email, Since, Ago, Initial, Places string }

// page is home: for nobody without Redis, for somebody with one command. /welcome reads the session, and shows the page for nobody.
func (l limit) page(c *gin.Context) {
	page, who := l.welcome, person{}
	if id, err := c.Cookie("sid"); err == nil {
		session, err := l.rdb.Get(c.Request.Context(), id).Result()
		if err != nil {
			c.AbortWithError(http.StatusServiceUnavailable, err)
			return
		}
		if c.FullPath() == "/" {
			f := strings.SplitN(session, "\n", 5)
			page, who = l.home, person{f[0], f[1], f[2], f[3], "just now", f[0][:1], "1 browser"}
		}
	}
	var html bytes.Buffer
	html.Grow(4 << 10)
	if err := page.Execute(&html, who); err != nil {
		c.AbortWithError(http.StatusInternalServerError, err)
		return
	}
	c.Header("Content-Length", strconv.Itoa(html.Len())) // else net/http sends it in chunks, which takes longer
	c.Data(http.StatusOK, "text/html; charset=utf-8", html.Bytes())
}

// userInfo passes on what Logto says.
func (l limit) userInfo(c *gin.Context) {
	id, _ := c.Cookie("sid") // without one Redis has no session either
	session, err := l.rdb.Get(c.Request.Context(), id).Result()
	if err != nil {
		c.AbortWithError(http.StatusUnauthorized, err)
		return
	}
	request, err := http.NewRequestWithContext(c.Request.Context(), http.MethodGet, os.Getenv("LOGTO_ENDPOINT")+"/oidc/me", nil)
	if err != nil {
		c.AbortWithError(http.StatusInternalServerError, err)
		return
	}
	request.Header.Set("Authorization", "Bearer "+strings.SplitN(session, "\n", 6)[4])
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		c.AbortWithError(http.StatusBadGateway, err)
		return
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		c.AbortWithError(http.StatusBadGateway, err)
		return
	}
	c.Data(response.StatusCode, "application/json", body)
}

// signIn sends the browser to Logto, and gives it what it must have to come back.
func (l limit) signIn(c *gin.Context) {
	state, nonce, verifier := rand.Text(), rand.Text(), oauth2.GenerateVerifier()
	setCookie(c, "signin", state+"."+nonce+"."+verifier)
	c.Redirect(http.StatusSeeOther, l.logto().oauth.AuthCodeURL(state, oidc.Nonce(nonce), oauth2.S256ChallengeOption(verifier)))
}

// callback makes a session from the code that the browser brings.
func (l limit) callback(c *gin.Context) {
	ctx, logto := c.Request.Context(), l.logto()
	cookie, _ := c.Cookie("signin")
	parts := strings.Split(cookie, ".")
	if len(parts) != 3 || c.Query("state") != parts[0] {
		c.AbortWithStatus(http.StatusBadRequest)
		return
	}
	token, err := logto.oauth.Exchange(ctx, c.Query("code"), oauth2.VerifierOption(parts[2]))
	if err != nil {
		c.AbortWithError(http.StatusBadGateway, err)
		return
	}
	raw, _ := token.Extra("id_token").(string) // none is not valid
	idToken, err := logto.verifier.Verify(ctx, raw)
	if err != nil || idToken.Nonce != parts[1] {
		c.AbortWithStatus(http.StatusBadGateway)
		return
	}
	var who person
	if err := idToken.Claims(&who); err != nil {
		c.AbortWithError(http.StatusBadGateway, err)
		return
	}
	session := strings.Join([]string{who.Name, who.Picture, who.Email, time.Now().UTC().Format(time.RFC3339), token.AccessToken, token.RefreshToken, raw}, "\n") + "\n"
	id := rand.Text()
	if err := l.rdb.Set(ctx, id, session+strings.Repeat("x", max(0, sessionSize-len(session))), 24*time.Hour).Err(); err != nil {
		c.AbortWithError(http.StatusServiceUnavailable, err)
		return
	}
	setCookie(c, "sid", id)
	c.Redirect(http.StatusSeeOther, "/")
}

func setCookie(c *gin.Context, name, value string) {
	http.SetCookie(c.Writer, &http.Cookie{Name: name, Value: value, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode})
}
