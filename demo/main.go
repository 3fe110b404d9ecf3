// Command demo runs the application with everything it needs in one process: a provider that speaks Logto's protocol and
// an in-memory Redis. Nothing outlives it.
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
	"strings"
	"syscall"
	"time"

	"github.com/alicebob/miniredis/v2"

	"example.com/logto-gin-starter/auth"
	"example.com/logto-gin-starter/auth/authtest"
	"example.com/logto-gin-starter/internal/config"
	"example.com/logto-gin-starter/internal/server"
	"example.com/logto-gin-starter/internal/session"
)

func main() {
	app := flag.String("app", "localhost:3000", "where the application listens")
	provider := flag.String("provider", "localhost:3001", "where the provider listens")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *app, *provider, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, app, provider string, out io.Writer) error {
	app, provider = withHost(app), withHost(provider)
	appURL, endpoint := "http://"+app, "http://"+provider
	options := authtest.Demo(endpoint, appURL)
	logto, err := authtest.Start(provider, endpoint, options)
	if err != nil {
		return err
	}
	defer logto.Close()
	redis, err := miniredis.Run()
	if err != nil {
		return err
	}
	defer redis.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go passTime(ctx, redis)

	cfg := config.Defaults()
	cfg.Server = config.Server{ListenAddr: app, BaseURL: appURL}
	cfg.Redis.URL = session.Secret("redis://" + redis.Addr())
	cfg.Logto = client(endpoint, options)
	s, err := server.Listen(cfg, slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})), nil)
	if err != nil {
		return err
	}
	s.Grace = 100 * time.Millisecond // nobody's work is lost
	fmt.Fprintf(out, `
  Open        %s
  Sign in     with one click, or create an account, at the demo provider on %s
  ada         is an administrator, and may do everything; a member of Acme (admin) and Initech
  grace       has no role and no permission; a member of Acme
  Sessions    in memory, gone when you press Ctrl-C
  Your Logto  set LOGTO_ENDPOINT, LOGTO_APP_ID, LOGTO_APP_SECRET and REDIS_URL, then: go run .

`, appURL, endpoint)
	if err := s.Serve(ctx); !errors.Is(err, context.DeadlineExceeded) { // a browser's spare connection is no failure
		return err
	}
	return nil
}

// client asks for everything that the provider has, so that there is something to see.
func client(endpoint string, options authtest.Options) auth.Config {
	cfg := auth.Config{
		Endpoint:  endpoint,
		AppID:     options.Apps[0].ID,
		AppSecret: auth.Secret(options.Apps[0].Secret),
		Scopes: []string{
			auth.ScopeEmail, auth.ScopePhone, auth.ScopeAddress, auth.ScopeCustomData, auth.ScopeIdentities,
			auth.ScopeRoles, auth.ScopeOrganizations, auth.ScopeOrganizationRoles,
		},
		AccountCenter: options.AccountCenter,
	}
	for _, connector := range options.Connectors {
		cfg.DirectSignIn = append(cfg.DirectSignIn, connector.Method+":"+connector.Target)
	}
	for _, resource := range options.Resources {
		cfg.Resources = append(cfg.Resources, resource.Indicator)
		cfg.Scopes = append(cfg.Scopes, resource.Scopes...)
	}
	for _, organization := range options.Organizations {
		for _, role := range organization.Roles {
			cfg.Scopes = append(cfg.Scopes, role.Scopes...)
		}
	}
	return cfg
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
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			redis.FastForward(time.Second)
		}
	}
}
