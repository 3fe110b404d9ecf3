//go:build unix

package e2e

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/alicebob/miniredis/v2"

	"example.com/logto-gin-starter/auth/authtest"
	"example.com/logto-gin-starter/auth/authtest/people"
	"example.com/logto-gin-starter/internal/config"
	"example.com/logto-gin-starter/internal/server"
)

// site is the application and its provider, in this process. The provider has another host than the application, as in
// production, so that browsers tell the two sites apart.
type site struct {
	url      string
	provider string           // its URL
	logto    *authtest.Server // nil for a real one
	log      *logBuffer
}

// newSite starts one with the tests' people on an in-memory Redis.
func newSite(t *testing.T) *site {
	t.Helper()
	redis, err := miniredis.Run()
	must(t, err)
	t.Cleanup(redis.Close)
	return newSiteOn(t, "redis://"+redis.Addr())
}

// newSiteOn starts one with the tests' people on this Redis.
func newSiteOn(t *testing.T, redisURL string, change ...func(*authtest.Options)) *site {
	t.Helper()
	address := freeAddress(t)
	return newSiteBehind(t, "http://"+address, address, redisURL, change...)
}

// newSiteBehind starts one at an address that is not its public one.
func newSiteBehind(t *testing.T, public, address, redisURL string, change ...func(*authtest.Options)) *site {
	t.Helper()
	s := &site{url: public, log: &logBuffer{}}
	var options authtest.Options
	s.logto, options = newLogto(t, s.url, change...)
	s.provider = s.logto.URL
	s.serve(t, settings(s.url, address, redisURL, s.logto, options))
	return s
}

// serve starts the application with these settings.
func (s *site) serve(t *testing.T, environ []string) {
	t.Helper()
	cfg, err := config.Load(config.DefaultPath, environ)
	must(t, err)
	app, err := server.Listen(cfg, slog.New(slog.NewJSONHandler(s.log, nil)), nil)
	must(t, err)
	ctx, stop := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := app.Serve(ctx); err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	t.Cleanup(func() { stop(); serving.Wait() })
}

// newLogto starts a provider with the tests' people.
func newLogto(t *testing.T, appURL string, change ...func(*authtest.Options)) (*authtest.Server, authtest.Options) {
	t.Helper()
	address := freeAddress(t)
	_, port, _ := net.SplitHostPort(address)
	endpoint := "http://localhost:" + port
	options := people.Options(endpoint, appURL)
	for _, change := range change {
		change(&options)
	}
	logto, err := authtest.Start(address, endpoint, options)
	must(t, err)
	t.Cleanup(logto.Close)
	return logto, options
}

// settings are the application's, as environment variables: it asks for all that the provider has.
func settings(appURL, address, redisURL string, logto *authtest.Server, options authtest.Options) []string {
	scopes := []string{
		"email", "phone", "address", "custom_data", "identities", "roles",
		"urn:logto:scope:organizations", "urn:logto:scope:organization_roles",
	}
	var resources []string
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
		"BASE_URL=" + appURL,
		"LISTEN_ADDR=" + address,
		"RATE_LIMIT=off",
		"REDIS_URL=" + redisURL,
		"LOGTO_ENDPOINT=" + logto.URL,
		"LOGTO_APP_ID=" + options.Apps[0].ID,
		"LOGTO_APP_SECRET=" + options.Apps[0].Secret,
		"LOGTO_SCOPES=" + strings.Join(scopes, " "),
		"LOGTO_RESOURCES=" + strings.Join(resources, " "),
	}
}

// logBuffer keeps what the application logs.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

// String returns all of it.
func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
