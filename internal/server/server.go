// Package server runs the application: Run opens Redis, builds, listens, serves, and shuts down. What to set around it,
// and why, is in docs/operate.md.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/go-redis/redis_rate/v10"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"

	"example.com/logto-gin-starter/auth"
	"example.com/logto-gin-starter/internal/config"
	"example.com/logto-gin-starter/internal/i18n"
	"example.com/logto-gin-starter/internal/session"
	"example.com/logto-gin-starter/routes"
	"example.com/logto-gin-starter/static"
	"example.com/logto-gin-starter/templates"
)

// DefaultGrace is how long requests in flight may take to finish after the order to stop. A refresh of tokens, the
// longest of all, is bounded by 30 s.
const DefaultGrace = 35 * time.Second

// Observer watches the application, as package telemetry does. Run and Listen take nil for nobody.
type Observer interface {
	// Handler wraps all that is served. What a request says of its trace counts only if trusted says so.
	Handler(next http.Handler, trusted func(*http.Request) bool) http.Handler
	// Transport wraps what makes the connections to Logto.
	Transport(next http.RoundTripper) http.RoundTripper
	// Redis gets the client before its first command.
	Redis(rdb redis.UniversalClient) error
	// Log wraps what writes the lines of the log.
	Log(next slog.Handler) slog.Handler
	// Event is told what happens: auth.ObservedRefresh, session.ObservedStart, routes.ObservedSignIn and those beside them.
	Event(ctx context.Context, event, outcome string, value float64)
}

// settle is how long a request may be on its way when the port is closed.
const settle = 500 * time.Millisecond

// Server is the application, listening.
type Server struct {
	Grace time.Duration // DefaultGrace unless changed before Serve

	http     *http.Server
	listener net.Listener
	rdb      redis.UniversalClient
	auth     *auth.Client
	log      *slog.Logger
	delay    time.Duration
	stopping chan struct{} // closed by the order to stop
	observer Observer      // may be nil
}

// Run serves until ctx ends, and then until the requests in flight are done.
func Run(ctx context.Context, cfg config.Config, log *slog.Logger, observer Observer) error {
	s, err := Listen(cfg, log, observer)
	if err != nil {
		return err
	}
	log.Info("listening", "address", s.Addr().String(), "open", cfg.Server.BaseURL, "logto", cfg.Logto.Endpoint, "version", Version())
	return s.Serve(ctx)
}

// Listen builds the application and opens its port. Neither Redis nor Logto need be there yet.
func Listen(cfg config.Config, log *slog.Logger, observer Observer) (*Server, error) {
	logging.Disable() // go-redis would write a line of its own form for each failed dial; a request's own line says why it failed
	rdb, err := session.Open(cfg.Redis)
	if err != nil {
		return nil, fmt.Errorf("open redis: %w", err)
	}
	s := &Server{Grace: DefaultGrace, rdb: rdb, log: log, delay: cfg.Server.ShutdownDelay, stopping: make(chan struct{}), observer: observer}
	handler, err := s.build(cfg)
	if err != nil {
		return nil, errors.Join(err, rdb.Close())
	}
	s.listener, err = net.Listen("tcp", cfg.Server.ListenAddr)
	if errors.Is(err, syscall.EADDRINUSE) {
		err = fmt.Errorf("%s is in use by another program: stop that, or set LISTEN_ADDR and BASE_URL (demo: -app)", cfg.Server.ListenAddr)
	} else if err != nil {
		err = fmt.Errorf("LISTEN_ADDR (demo: -app): %w", err)
	}
	if err != nil {
		return nil, errors.Join(err, rdb.Close())
	}
	s.http = &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       15 * time.Second,
		WriteTimeout:      75 * time.Second, // longer than a request may wait, and a refresh that it began then
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	if len(cfg.Server.TrustedProxies) == 0 && strings.HasPrefix(cfg.Server.BaseURL, "https:") {
		log.Warn("TRUSTED_PROXIES is not set: no client's address is known, so RATE_LIMIT is not in force and the log keeps no X-Request-Id of a proxy's")
	}
	if cfg.Session.Key == "" && strings.HasPrefix(cfg.Server.BaseURL, "https:") {
		log.Warn("SESSION_KEY is not set: who can write to Redis can sign in as anybody; make one with -new-session-key")
	}
	return s, nil
}

// build wires the packages together.
func (s *Server) build(cfg config.Config) (handler http.Handler, err error) {
	var observe func(ctx context.Context, event, outcome string, value float64)
	if o := s.observer; o != nil {
		if err := o.Redis(s.rdb); err != nil {
			return nil, fmt.Errorf("observe redis: %w", err)
		}
		s.log, observe, cfg.Logto.WrapTransport = slog.New(o.Log(s.log.Handler())), o.Event, o.Transport
	}
	store := session.NewStore(s.rdb, cfg.Session, session.Options{
		Secure: strings.HasPrefix(cfg.Server.BaseURL, "https:"), Log: s.log, Observe: observe,
	})
	cfg.Logto.Replays, cfg.Logto.Log, cfg.Logto.Observe, cfg.Logto.Revalidate = store, s.log, observe, cfg.Session.Revalidate
	client, badLogto := auth.New(cfg.Logto)
	proxies, badProxies := cfg.Server.Proxies()
	limit, badLimit := cfg.Server.Limit()
	if err := errors.Join(badLogto, badProxies, badLimit); err != nil {
		return nil, err
	}
	s.auth = client
	app := routes.App{
		Auth:     client,
		Sessions: store,
		BaseURL:  cfg.Server.BaseURL,
		Log:      s.log,
		Proxies:  proxies,
		Limit:    limit,
		Limiter:  redis_rate.NewLimiter(s.rdb),
		Stopping: s.stopping,
		Observe:  observe,
		Dev:      cfg.Server.SourceDir != "",
	}
	if app.Dev {
		handler = fromSource(app, cfg.Server.SourceDir)
	} else if handler, err = site(app, i18n.Files(), static.Files(), templates.Files()); err != nil {
		return nil, err
	}
	if s.observer != nil {
		handler = s.observer.Handler(handler, app.Trusts)
	}
	return handler, nil
}

// warnOfEviction looks at what Redis does when its memory is full.
func (s *Server) warnOfEviction(ctx context.Context) {
	policy := s.rdb.InfoMap(ctx, "memory").Val()["Memory"]["maxmemory_policy"] // "" where that may not be asked
	if policy != "" && policy != "noeviction" {
		s.log.WarnContext(ctx, "Redis may evict sessions, which signs people out at random: set maxmemory-policy to noeviction", "maxmemory-policy", policy)
	}
}

// Addr is where the server listens.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Serve answers requests until ctx ends. Then /readyz says so, and after the delay of the settings it takes no new ones,
// and waits for those in flight, for Grace at most.
func (s *Server) Serve(ctx context.Context) error {
	defer s.rdb.Close()
	defer s.auth.Close()
	var looking sync.WaitGroup
	defer looking.Wait()
	look, stop := context.WithCancel(ctx)
	defer stop()
	looking.Go(func() { s.warnOfEviction(look) })
	failed := make(chan error, 1)
	go func() { failed <- s.http.Serve(s.listener) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	began := time.Now()
	s.log.Info("stopping", "delay", s.delay.String())
	close(s.stopping)
	select {
	case err := <-failed:
		return fmt.Errorf("serve: %w", err)
	case <-time.After(s.delay):
	}
	if s.delay > 0 {
		// Only the port at first: Shutdown drops a request that has come on a new connection and is not yet read.
		_ = s.listener.Close() // and Serve says so
		<-failed
		time.Sleep(min(s.delay, settle))
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.Grace)
	defer cancel()
	if err := s.http.Shutdown(ctx); err != nil {
		return errors.Join(fmt.Errorf("shut down: %w", err), s.http.Close())
	}
	s.log.Info("stopped", "duration_ms", time.Since(began).Milliseconds())
	return nil
}
