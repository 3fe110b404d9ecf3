// Command demo runs the application with everything it needs in one process: a provider that speaks Logto's protocol and
// an in-memory Redis. Nothing outlives it. With -dev the application is a process of its own, which is built and started
// again when its code changes; see develop.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/alicebob/miniredis/v2"

	"example.com/logto-gin-starter/auth"
	"example.com/logto-gin-starter/auth/authtest"
	"example.com/logto-gin-starter/internal/config"
	"example.com/logto-gin-starter/internal/server"
)

func main() {
	var d demo
	flag.StringVar(&d.app, "app", "localhost:3000", "where the application listens; with -provider-only also its URL, such as https://localhost:8443")
	flag.StringVar(&d.provider, "provider", "localhost:3001", "where the provider listens")
	flag.BoolVar(&d.providerOnly, "provider-only", false, "run the provider alone, for an application that is started apart")
	flag.BoolVar(&d.dev, "dev", false, "show changes of templates, messages and static files at once, and restart the application when Go code changes")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := d.run(ctx, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		stop()
		os.Exit(1)
	}
}

// demo is what to run, and where.
type demo struct {
	app, provider     string
	providerOnly, dev bool
}

func (d demo) run(ctx context.Context, out io.Writer) error {
	app, provider := withHost(d.app), withHost(d.provider)
	appURL, endpoint := "http://"+app, "http://"+provider
	if d.providerOnly && strings.Contains(d.app, "://") { // behind a proxy, say
		appURL = d.app
	}
	options := authtest.Demo(endpoint, appURL)
	logto, err := authtest.Start(provider, endpoint, options)
	if err != nil {
		return err
	}
	defer logto.Close()
	if d.providerOnly {
		text := "# for an application at " + appURL + "\n"
		for _, variable := range client(endpoint, options) {
			text += "export " + strings.Replace(variable, "=", "='", 1) + "'\n"
		}
		fmt.Fprint(out, text)
		<-ctx.Done()
		return nil
	}
	redis, err := miniredis.Run()
	if err != nil {
		return err
	}
	defer redis.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go passTime(ctx, redis)

	environ := append(os.Environ(), client(endpoint, options)...) // the last one of a name counts
	environ = append(environ, "LISTEN_ADDR="+app, "BASE_URL="+appURL, "SHUTDOWN_DELAY=0s", "REDIS_URL=redis://"+redis.Addr())
	introduction := fmt.Sprintf(`
  Open        %s
  Sign in     with one click, or create an account, at the demo provider on %s
  ada         is an administrator, and may do everything; a member of Acme (admin) and Initech
  grace       has no role and no permission; a member of Acme
  Sessions    in memory, gone when you press Ctrl-C
  Your Logto  set LOGTO_ENDPOINT, LOGTO_APP_ID, LOGTO_APP_SECRET and REDIS_URL, then: go run .

`, appURL, endpoint)
	if d.dev {
		fmt.Fprint(out, introduction)
		return develop(ctx, environ)
	}
	cfg, err := config.Load(config.DefaultPath, environ)
	if err != nil {
		return err
	}
	s, err := server.Listen(cfg, slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})), nil)
	if err != nil {
		return err
	}
	s.Grace = 100 * time.Millisecond // nobody's work is lost
	fmt.Fprint(out, introduction)
	if err := s.Serve(ctx); !errors.Is(err, context.DeadlineExceeded) { // a browser's spare connection is no failure
		return err
	}
	return nil
}

// client are the settings of an application that asks for everything that the provider has, so that there is something to see.
func client(endpoint string, options authtest.Options) []string {
	scopes := []string{
		auth.ScopeEmail, auth.ScopePhone, auth.ScopeAddress, auth.ScopeCustomData, auth.ScopeIdentities,
		auth.ScopeRoles, auth.ScopeOrganizations, auth.ScopeOrganizationRoles,
	}
	var direct, resources []string
	for _, connector := range options.Connectors {
		direct = append(direct, connector.Method+":"+connector.Target)
	}
	for _, resource := range options.Resources {
		resources = append(resources, resource.Indicator)
		scopes = append(scopes, resource.Scopes...)
	}
	for _, organization := range options.Organizations {
		for _, role := range organization.Roles {
			scopes = append(scopes, role.Scopes...)
		}
	}
	return []string{
		"LOGTO_ENDPOINT=" + endpoint, "LOGTO_INTERNAL_ENDPOINT= ", // a space: none
		"LOGTO_APP_ID=" + options.Apps[0].ID, "LOGTO_APP_SECRET=" + options.Apps[0].Secret,
		"LOGTO_SCOPES=" + strings.Join(slices.Compact(slices.Sorted(slices.Values(scopes))), " "), "LOGTO_RESOURCES=" + strings.Join(resources, " ") + " ",
		"LOGTO_DIRECT_SIGN_IN=" + strings.Join(direct, " ") + " ", fmt.Sprint("LOGTO_ACCOUNT_CENTER=", options.AccountCenter),
	}
}

// withHost takes ":8080" for this machine, for the address is a part of URLs too.
func withHost(address string) string {
	if strings.HasPrefix(address, ":") {
		return "localhost" + address
	}
	return address
}

// passTime makes keys expire: miniredis' clock stands still otherwise.
func passTime(ctx context.Context, redis *miniredis.Miniredis) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Second):
			redis.FastForward(time.Second)
		}
	}
}
