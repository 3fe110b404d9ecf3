// Command logto-gin-starter is a web application that signs people in with Logto.
//
// Start reading at [run]; what a request meets is listed in routes/routes.go, and shown in docs/how-it-works.md.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"golang.org/x/term"

	"example.com/logto-gin-starter/internal/config"
	"example.com/logto-gin-starter/internal/doctor"
	"example.com/logto-gin-starter/internal/server"
	"example.com/logto-gin-starter/internal/session"
	"example.com/logto-gin-starter/internal/telemetry"
)

func main() {
	path := flag.String("config", config.DefaultPath, "settings file; the environment wins over it")
	health := flag.Bool("healthcheck", false, "ask the application on this machine whether it lives, and exit")
	check := flag.Bool("check", false, "check the settings against your Logto and Redis, say what to do, and exit")
	newKey := flag.Bool("new-session-key", false, "print a new SESSION_KEY, and exit")
	dev := flag.Bool("dev", false, "read templates, messages and static files from this folder, anew for each request")
	version := flag.Bool("version", false, "print what the build knows about itself, and exit")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "logto-gin-starter: unknown argument", flag.Arg(0))
		flag.Usage()
		os.Exit(2)
	}
	if *version {
		fmt.Println("logto-gin-starter", server.Version())
		return
	}
	if *newKey {
		fmt.Println(session.NewKey())
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends at once
	if err := run(ctx, *path, *health, *check, *dev); err != nil {
		for line := range strings.Lines(err.Error()) {
			fmt.Fprintln(os.Stderr, "logto-gin-starter:", strings.TrimSpace(line))
		}
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, path string, health, check, dev bool) error {
	cfg, err := config.Load(path, os.Environ())
	if err != nil {
		return fmt.Errorf("%w\nset these in the environment or in %s; to look around first, `go run ./demo` needs nothing", err, path)
	}
	if health {
		return healthcheck(cfg.Server.ListenAddr)
	}
	if check {
		return doctor.Check(ctx, cfg, os.Stdout)
	}
	if dev {
		cfg.Server.SourceDir = "."
	}
	log := logger(os.Stderr)
	observer, stop, err := telemetry.Start(ctx, log) // nil, unless OTEL_* variables ask for it
	if err != nil {
		return err
	}
	defer stop()
	return server.Run(ctx, cfg, log, observer)
}

// logger writes for people on a terminal, and JSON for machines elsewhere.
func logger(out *os.File) *slog.Logger {
	if term.IsTerminal(int(out.Fd())) {
		return slog.New(slog.NewTextHandler(out, nil))
	}
	return slog.New(slog.NewJSONHandler(out, nil))
}

// healthcheck is for a container whose image has neither a shell nor curl.
func healthcheck(listenAddr string) error {
	host, port, _ := net.SplitHostPort(listenAddr) // which was checked with the other settings
	client := http.Client{Timeout: 3 * time.Second}
	response, err := client.Get("http://" + net.JoinHostPort(cmp.Or(host, "127.0.0.1"), port) + "/healthz")
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return errors.New(response.Status)
	}
	return nil
}
