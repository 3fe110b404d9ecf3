package auth_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"

	"example.com/logto-gin-starter/auth"
	"example.com/logto-gin-starter/auth/authtest"
	"example.com/logto-gin-starter/auth/authtest/people"
)

// An application with net/http alone: a page for everybody, one for people who are signed in, and the ways in and out.
func Example() {
	idp := authtest.New(authtest.Options{}) // a Logto of this program's own, with a person called ada
	defer idp.Close()
	client, err := auth.New(auth.Config{Endpoint: idp.URL, AppID: "app", AppSecret: "secret"})
	if err != nil {
		log.Fatal(err)
	}

	const base = "http://localhost:3000"
	storage := &authtest.Memory{} // of one browser: yours keeps one Storage for each, by a cookie
	session := func(*http.Request) *auth.Session { return client.Session(storage) }
	fail := func(w http.ResponseWriter, err error) {
		log.Print(err) // what it is about; the person need not know
		http.Error(w, "That did not work.", http.StatusBadGateway)
	}

	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		signedIn, err := session(r).IsAuthenticated(r.Context())
		if err != nil {
			fail(w, err)
			return
		}
		fmt.Fprintf(w, "signed in: %t", signedIn)
	})
	mux.HandleFunc("GET /sign-in", func(w http.ResponseWriter, r *http.Request) {
		address, err := session(r).SignIn(r.Context(), auth.SignInOptions{RedirectURI: base + "/callback", ReturnTo: "/profile"})
		if err != nil {
			fail(w, err)
			return
		}
		http.Redirect(w, r, address, http.StatusSeeOther)
	})
	mux.HandleFunc("GET /callback", func(w http.ResponseWriter, r *http.Request) {
		result, err := session(r).HandleSignInCallback(r.Context(), r.URL.Query())
		if err != nil {
			fail(w, err)
			return
		}
		http.Redirect(w, r, result.ReturnTo, http.StatusSeeOther)
	})
	mux.HandleFunc("GET /profile", func(w http.ResponseWriter, r *http.Request) {
		claims, err := session(r).IDTokenClaims(r.Context())
		if errors.Is(err, auth.ErrNotAuthenticated) {
			http.Redirect(w, r, "/sign-in", http.StatusSeeOther)
			return
		}
		if err != nil {
			fail(w, err)
			return
		}
		fmt.Fprintf(w, "Hello, %s", claims.DisplayName())
	})
	mux.HandleFunc("POST /sign-out", func(w http.ResponseWriter, r *http.Request) {
		address, err := session(r).SignOut(r.Context(), auth.SignOutOptions{PostLogoutRedirectURI: base + "/"})
		if err != nil {
			fail(w, err)
			return
		}
		http.Redirect(w, r, address, http.StatusSeeOther)
	})
	app := http.NewCrossOriginProtection().Handler(mux) // no other site can sign anybody out

	// Instead of http.ListenAndServe, what a browser does:
	visit := func(method, address string) string {
		w := httptest.NewRecorder()
		app.ServeHTTP(w, httptest.NewRequest(method, address, nil))
		if location := w.Header().Get("Location"); location != "" {
			return location
		}
		fmt.Println(w.Body)
		return ""
	}
	browser := idp.Browser()
	fmt.Println(visit("GET", "/profile"))
	callback, err := browser.SignIn(context.Background(), visit("GET", "/sign-in"), "ada")
	if err != nil {
		log.Fatal(err)
	}
	visit("GET", visit("GET", callback))
	home, err := browser.SignOut(context.Background(), visit("POST", "/sign-out"))
	if err != nil {
		log.Fatal(err)
	}
	visit("GET", home)
	// Output:
	// /sign-in
	// Hello, Ada Lovelace
	// signed in: false
}

// demo is a Logto in this process, and a session in which its ada is signed in.
func demo() (*authtest.Server, *auth.Client, *auth.Session) {
	ctx := context.Background()
	idp := authtest.New(people.Options("", "http://localhost:3000"))
	client, err := auth.New(auth.Config{
		Endpoint: idp.URL, AppID: "demoapp0123456789abcd", AppSecret: "demo-secret-0123456789-only-for-this",
		Scopes:    []string{auth.ScopeEmail, auth.ScopeCustomData, auth.ScopeOrganizations, "read:products", "read:members"},
		Resources: []string{"https://shopping.your-app.com/api"},
	})
	if err != nil {
		log.Fatal(err)
	}
	session := client.Session(&authtest.Memory{})
	address, err := session.SignIn(ctx, auth.SignInOptions{RedirectURI: "http://localhost:3000/callback"})
	if err != nil {
		log.Fatal(err)
	}
	callback, err := idp.SignIn(ctx, address, "ada")
	if err != nil {
		log.Fatal(err)
	}
	back, err := url.Parse(callback)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := session.HandleSignInCallback(ctx, back.Query()); err != nil {
		log.Fatal(err)
	}
	return idp, client, session
}

func ExampleNew() {
	client, err := auth.New(auth.Config{
		Endpoint:  "https://tenant.logto.app",
		AppID:     "an-app-id",
		AppSecret: "an-app-secret", // from the environment, in earnest
		Scopes:    []string{auth.ScopeEmail, auth.ScopeOrganizations, "read:products"},
		Resources: []string{"https://shopping.your-app.com/api"},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(client.Issuer())
	// Output: https://tenant.logto.app/oidc
}

func ExampleConfig_Validate() {
	fmt.Println(auth.Config{Endpoint: "tenant.logto.app", AppID: "an-app-id"}.Validate())
	// Output:
	// Endpoint must be an http or https URL without user, query or fragment, with a port up to 65535 if it has one
	// AppSecret is required: an app secret of the same application
}

func ExampleSecret() {
	fmt.Printf("%+v\n", auth.Token{Value: "a-token-for-nobody-else", Scopes: []string{"read:products"}})
	fmt.Println(string(auth.Secret("a-token-for-the-request")))
	// Output:
	// {Value:[redacted] Scopes:[read:products] Expiry:0001-01-01 00:00:00 +0000 UTC}
	// a-token-for-the-request
}

// A registration page in Thai, even for a browser that is signed in at Logto.
func ExampleSession_SignIn() {
	idp, client, _ := demo()
	defer idp.Close()
	address, err := client.Session(&authtest.Memory{}).SignIn(context.Background(), auth.SignInOptions{
		RedirectURI: "http://localhost:3000/callback",
		FirstScreen: auth.FirstScreenRegister,
		Prompt:      []auth.Prompt{auth.PromptLogin, auth.PromptConsent},
		UILocales:   []string{"th"},
	})
	if err != nil {
		log.Fatal(err)
	}
	request, err := url.Parse(address)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(request.Query().Get("first_screen"), request.Query().Get("ui_locales"), request.Query().Get("code_challenge_method"))
	// Output: register th S256
}

// What a callback tells of: an address that somebody made up.
func ExampleSession_HandleSignInCallback() {
	idp, _, session := demo()
	defer idp.Close()
	_, err := session.HandleSignInCallback(context.Background(), url.Values{"state": {"made up"}, "code": {"stolen"}})
	refused, isRefused := errors.AsType[*auth.OAuthError](err)
	switch {
	case errors.Is(err, auth.ErrUnknownSignIn):
		fmt.Println("Please sign in again.")
	case isRefused && refused.Code == "access_denied":
		fmt.Println("You chose not to.")
	case auth.IsTimeout(err):
		fmt.Println("Logto is slow.")
	}
	// Output: Please sign in again.
}

func ExampleSession_IDTokenClaims() {
	idp, _, session := demo()
	defer idp.Close()
	claims, err := session.IDTokenClaims(context.Background()) // no request
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(claims.Subject, claims.Email.Value(), claims.CreatedAt.Value().Time().UTC().Format("2 January 2006"))
	// Output: 4dal0velace0 ada@example.com 5 January 2026
}

func ExampleSession_FetchUserInfo() {
	idp, _, session := demo()
	defer idp.Close()
	info, err := session.FetchUserInfo(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(info.CustomData.Value()["theme"])
	fmt.Println("phone was not asked for:", info.PhoneNumber.IsZero())
	// Output:
	// dark
	// phone was not asked for: true
}

// A claim is absent, null, or has a value, and its JSON says so.
func ExampleClaim() {
	var info auth.UserInfo
	if err := json.Unmarshal([]byte(`{"sub":"u1","name":null,"username":"ada","tier":"gold"}`), &info); err != nil {
		log.Fatal(err)
	}
	fmt.Println(info.Email.IsZero(), info.Name.IsNull(), info.Username.Value(), string(info.Extra["tier"]))
	text, err := json.Marshal(info)
	fmt.Println(string(text), err)
	// Output:
	// true true ada "gold"
	// {"name":null,"sub":"u1","tier":"gold","username":"ada"} <nil>
}

// Calling an API on behalf of the person.
func ExampleSession_AccessToken() {
	idp, client, session := demo()
	defer idp.Close()
	const resource = "https://shopping.your-app.com/api"
	api := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		claims, err := client.VerifyAccessToken(r.Context(), raw, resource)
		fmt.Fprint(w, claims.Scopes(), err)
	})

	token, err := session.AccessToken(context.Background(), resource)
	if err != nil {
		log.Fatal(err)
	}
	request := httptest.NewRequest(http.MethodGet, "/products", nil)
	request.Header.Set("Authorization", "Bearer "+string(token.Value))
	answer := httptest.NewRecorder()
	api.ServeHTTP(answer, request)
	body, err := io.ReadAll(answer.Body)
	fmt.Println(string(body), err)
	// Output: [read:products] <nil> <nil>
}

// A resource's token within an organization has the permissions that the person has there.
func ExampleWithOrganization() {
	idp, _, session := demo()
	defer idp.Close()
	claims, err := session.AccessTokenClaims(context.Background(), "https://shopping.your-app.com/api", auth.WithOrganization("acme00corp01"))
	fmt.Println(claims.Audience, claims.Organization(), err)
	// Output: [https://shopping.your-app.com/api] acme00corp01 <nil>
}

// The organization that the person works in, until they choose another or lose the membership.
func ExampleSession_SetOrganization() {
	idp, _, session := demo()
	defer idp.Close()
	ctx := context.Background()
	fmt.Println(session.SetOrganization(ctx, "acme00corp01"))
	person, err := session.Person(ctx)
	active, _ := person.ActiveOrganization()
	fmt.Println(active.Name, err)
	fmt.Println(errors.Is(session.SetOrganization(ctx, "gl0bexcorp02"), auth.ErrNotMember))
	// Output:
	// <nil>
	// Acme <nil>
	// true
}

func ExampleSession_OrganizationToken() {
	idp, _, session := demo()
	defer idp.Close()
	for _, id := range []string{"acme00corp01", "gl0bexcorp02"} {
		token, err := session.OrganizationToken(context.Background(), id)
		if refused, ok := errors.AsType[*auth.OAuthError](err); ok {
			fmt.Println(refused.Status, refused.Code)
			continue
		}
		fmt.Println(token.Scopes, err)
	}
	// Output:
	// [read:members] <nil>
	// 403 access_denied
}

func ExampleSession_SignOut() {
	idp, _, session := demo()
	defer idp.Close()
	address, err := session.SignOut(context.Background(), auth.SignOutOptions{PostLogoutRedirectURI: "http://localhost:3000/"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(address) > len(idp.Issuer) && address[:len(idp.Issuer)] == idp.Issuer) // where to redirect to
	fmt.Println(session.IsAuthenticated(context.Background()))
	// Output:
	// true
	// false <nil>
}

// What an API does with a token that it received.
func ExampleVerifier_VerifyAccessToken() {
	idp, client, _ := demo()
	defer idp.Close()
	const api = "https://shopping.your-app.com/api"
	claims, err := client.VerifyAccessToken(context.Background(), idp.AccessToken("ada", api), api)
	fmt.Println(err, claims.Subject, claims.HasScopes("read:products"), claims.HasScopes("read:secrets"))
	_, err = client.VerifyAccessToken(context.Background(), idp.AccessToken("ada", "https://other.example"), api)
	fmt.Println(errors.Is(err, auth.ErrInvalidToken))
	// Output:
	// <nil> 4dal0velace0 true false
	// true
}

// A program that only receives tokens: an API behind net/http, which asks for a permission.
func ExampleNewVerifier() {
	idp := authtest.New(authtest.Demo("", "http://localhost:3000"))
	defer idp.Close()
	const resource = "https://shopping.your-app.com/api"
	verifier, err := auth.NewVerifier(auth.Config{Endpoint: idp.URL}) // the address of your Logto
	if err != nil {
		log.Fatal(err)
	}
	guard := verifier.Require(auth.Permission{Resource: resource, Scopes: []string{"read:products"}})
	mux := http.NewServeMux()
	mux.Handle("GET /products", guard(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		caller, _ := auth.CallerFrom(r.Context())
		fmt.Fprint(w, "products for ", caller.Subject)
	})))

	// Instead of http.ListenAndServe, what a program with the right token gets, one with another API's, and one with none:
	for _, token := range []string{idp.AccessToken("ada", resource), idp.AccessToken("ada", "https://store.your-app.com/api"), ""} {
		request := httptest.NewRequest(http.MethodGet, "/products", nil)
		if token != "" {
			request.Header.Set("Authorization", "Bearer "+token)
		}
		answer := httptest.NewRecorder()
		mux.ServeHTTP(answer, request)
		fmt.Println(answer.Code, answer.Body)
	}
	// Output:
	// 200 products for 4dal0velace0
	// 401 {"error":"invalid_token"}
	// 401 {"error":"unauthorized"}
}

// An API whose organization is in the address.
func ExampleVerifier_Authorize() {
	idp := authtest.New(authtest.Demo("", "http://localhost:3000"))
	defer idp.Close()
	verifier, err := auth.NewVerifier(auth.Config{Endpoint: idp.URL})
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /organizations/{id}/members", func(w http.ResponseWriter, r *http.Request) {
		need := auth.Permission{Organization: r.PathValue("id"), Scopes: []string{"read:members"}}
		r, err := verifier.Authorize(r, need)
		if err != nil {
			auth.Refuse(w, need, err)
			return
		}
		caller, _ := auth.CallerFrom(r.Context())
		fmt.Fprint(w, "members of ", caller.Organization)
	})

	for _, id := range []string{"acme00corp01", "gl0bexcorp02"} {
		request := httptest.NewRequest(http.MethodGet, "/organizations/"+id+"/members", nil)
		request.Header.Set("Authorization", "Bearer "+idp.AccessToken("ada", auth.OrganizationAudience("acme00corp01")))
		answer := httptest.NewRecorder()
		mux.ServeHTTP(answer, request)
		fmt.Println(answer.Code, answer.Body)
	}
	// Output:
	// 200 members of acme00corp01
	// 401 {"error":"invalid_token"}
}

// What the address for Logto's back-channel logout does: between the two calls, end the sessions of that subject or that sid.
func ExampleClient_VerifyLogoutToken() {
	idp, client, _ := demo()
	defer idp.Close()
	token := idp.LogoutToken("ada") // the form field logout_token
	for range 2 {
		claims, err := client.VerifyLogoutToken(context.Background(), token)
		if errors.Is(err, auth.ErrInvalidToken) {
			fmt.Println("used before")
			return
		}
		fmt.Println(claims.Subject, client.LogoutDone(context.Background(), claims))
	}
	// Output:
	// 4dal0velace0 <nil>
	// used before
}

// A guard puts the person into the context; whatever it guards takes them out.
func ExampleUserFrom() {
	greet := func(ctx context.Context) string {
		if user := auth.UserFrom(ctx); user != nil {
			return "Hello, " + user.Subject
		}
		return "Who are you?"
	}
	fmt.Println(greet(context.Background()))
	fmt.Println(greet(auth.WithUser(context.Background(), &auth.User{Subject: "4dal0velace0"})))
	// Output:
	// Who are you?
	// Hello, 4dal0velace0
}
