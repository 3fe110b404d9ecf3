package telemetry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"go.opentelemetry.io/otel/trace"
	collectortrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"example.com/logto-gin-starter/auth"
	"example.com/logto-gin-starter/auth/authtest"
	"example.com/logto-gin-starter/auth/authtest/people"
	"example.com/logto-gin-starter/internal/config"
	"example.com/logto-gin-starter/internal/server"
	"example.com/logto-gin-starter/internal/session"
	"example.com/logto-gin-starter/internal/telemetry"
)

// collector keeps all that it gets.
type collector struct {
	*httptest.Server
	mu    sync.Mutex
	raw   bytes.Buffer
	spans []*tracev1.Span
}

func newCollector(t testing.TB) *collector {
	t.Helper()
	c := &collector{}
	c.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.raw.Write(body)
		var request collectortrace.ExportTraceServiceRequest
		if r.URL.Path != "/v1/traces" {
			return
		}
		if err := proto.Unmarshal(body, &request); err != nil {
			t.Error(err)
		}
		for _, resource := range request.GetResourceSpans() {
			for _, scope := range resource.GetScopeSpans() {
				c.spans = append(c.spans, scope.GetSpans()...)
			}
		}
	}))
	t.Cleanup(c.Close)
	return c
}

// site is the application with telemetry as the environment asks for, and one person's browser.
type site struct {
	url     string
	logto   *authtest.Server
	redis   *miniredis.Miniredis
	cookies map[string]string
	log     *lockedBuffer
	secrets map[string]string // what must stay here, by what it is
	event   func(ctx context.Context, event, outcome string, value float64)
	stop    func()
}

type lockedBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.String()
}

func newSite(t testing.TB, proxies string) *site {
	t.Helper()
	const base = "http://localhost:3000"
	options := people.Options("http://localhost:3001", base)
	options.Apps[0].BackchannelLogoutURI = ""
	s := &site{logto: authtest.New(options), redis: miniredis.NewMiniRedis(), cookies: map[string]string{}, log: &lockedBuffer{}, secrets: map[string]string{}}
	t.Cleanup(s.logto.Close)
	if err := s.redis.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.redis.Close)
	s.logto.On(authtest.Token, s.keepTokens)
	cfg := config.Defaults()
	cfg.Server.ListenAddr, cfg.Server.BaseURL, cfg.Server.RateLimit = "127.0.0.1:0", base, "off"
	if cfg.Server.TrustedProxies = strings.Fields(proxies); proxies != "" {
		cfg.Server.RateLimit = "10/m" // the address is known
	}
	cfg.Redis.URL = session.Secret("redis://" + s.redis.Addr())
	cfg.Logto = auth.Config{
		Endpoint: s.logto.URL, AppID: options.Apps[0].ID, AppSecret: auth.Secret(options.Apps[0].Secret),
		Scopes:    []string{"email", "phone", "read:products", auth.ScopeOrganizations, "read:members"},
		Resources: []string{options.Resources[0].Indicator},
	}
	log := slog.New(slog.NewJSONHandler(s.log, nil))
	ctx, cancel := context.WithCancel(context.Background())
	observer, flush, err := telemetry.Start(ctx, log)
	if err != nil {
		t.Fatal(err)
	}
	app, err := server.Listen(cfg, log, observer)
	if err != nil {
		t.Fatal(err)
	}
	if observer != nil {
		s.event = observer.Event
	}
	s.url = "http://" + app.Addr().String()
	done := make(chan error, 1)
	go func() { done <- app.Serve(ctx) }()
	s.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		flush()
	})
	t.Cleanup(s.stop)
	return s
}

// keepTokens notes each token that Logto gives out.
func (s *site) keepTokens(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := httptest.NewRecorder()
		next.ServeHTTP(answer, r)
		var fields map[string]any
		if json.Unmarshal(answer.Body.Bytes(), &fields) == nil {
			for _, name := range []string{"access_token", "refresh_token", "id_token"} {
				if token, _ := fields[name].(string); token != "" {
					s.secrets[name+fmt.Sprint(len(s.secrets))] = token
				}
			}
		}
		for name := range answer.Header() {
			w.Header().Set(name, answer.Header().Get(name))
		}
		w.WriteHeader(answer.Code)
		_, _ = w.Write(answer.Body.Bytes())
	})
}

// visit is a request of the person's browser.
func (s *site) visit(t testing.TB, method, path string, headers ...string) (status int, location, body string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, s.url+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Accept", "text/html")
	request.Header.Set("User-Agent", "Agent-Of-Ada/1.0")
	request.Header.Set("X-Forwarded-For", "203.0.113.77")
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	request.Host = request.Header.Get("Host") // where there is one
	for name, value := range s.cookies {
		request.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, cookie := range response.Cookies() {
		s.cookies[cookie.Name] = cookie.Value
		if len(cookie.Value) > 8 {
			s.secrets["cookie "+cookie.Name] = cookie.Value
		}
	}
	return response.StatusCode, response.Header.Get("Location"), string(text)
}

func (s *site) signIn(t testing.TB) {
	t.Helper()
	_, logto, _ := s.visit(t, "GET", "/sign-in?return_to=/protected/sessions")
	s.keepQuery(logto)
	back, err := s.logto.SignIn(t.Context(), logto, "ada")
	if err != nil {
		t.Fatal(err)
	}
	s.keepQuery(back)
	_, query, _ := strings.Cut(back, "?")
	if status, location, _ := s.visit(t, "GET", "/callback?"+query); status != http.StatusSeeOther || location != "/protected/sessions" {
		t.Fatalf("signed in with %d, to %q", status, location)
	}
}

func (s *site) keepQuery(address string) {
	u, _ := url.Parse(address)
	for _, name := range []string{"state", "nonce", "code", "code_challenge"} {
		if value := u.Query().Get(name); value != "" {
			s.secrets[name] = value
		}
	}
}

// tour is what a person does who signs in, and some that strangers do.
func (s *site) tour(t testing.TB) {
	t.Helper()
	s.signIn(t)
	s.redis.SetError("ERR 4dal0velace0's session") // Redis' errors may quote what they are about
	if status, _, _ := s.visit(t, "GET", "/"); status != http.StatusServiceUnavailable {
		t.Errorf("with a Redis in trouble: %d", status)
	}
	s.redis.SetError("")
	for _, want := range []struct {
		method, path string
		status       int
	}{
		{"GET", "/", 200},
		{"GET", "/protected/sessions", 200},
		{"GET", "/api/me", 200},
		{"GET", "/account/done", 303}, // so that the next page asks Logto
		{"GET", "/", 200},
		{"GET", "/people/4dal0velace0?email=ada@example.com", 404},
		{"4dal0velace0", "/", 405},
		{"POST", "/sign-out", 303},
		{"GET", "/callback?state=x&error=access_denied&error_description=ada@example.com", 400},
	} {
		if status, _, _ := s.visit(t, want.method, want.path); status != want.status {
			t.Errorf("%s %s: %d, want %d", want.method, want.path, status, want.status)
		}
	}
	s.visit(t, "GET", "/sign-up", "Host", "ada.example")
	s.event(t.Context(), session.ObservedLock, "", 0.001) // a page that uses an access token would tell of it; a fork may have none
}

// metrics is what Prometheus is given.
func (s *site) metrics(t testing.TB) string {
	t.Helper()
	address := regexp.MustCompile(`"prometheus":"([^"]+)"`).FindStringSubmatch(s.log.String())
	if address == nil {
		t.Fatalf("the log does not say where the metrics are:\n%s", s.log)
	}
	response, err := http.Get(address[1])
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestSignIn: a sign-in can be followed through a trace, the metrics and the log; and nothing of the person leaves.
func TestSignIn(t *testing.T) {
	c := newCollector(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", c.URL)
	t.Setenv("OTEL_METRICS_EXPORTER", "otlp, prometheus")
	t.Setenv("OTEL_EXPORTER_PROMETHEUS_HOST", "127.0.0.1")
	t.Setenv("OTEL_EXPORTER_PROMETHEUS_PORT", "0")
	t.Setenv("OTEL_SERVICE_NAME", "shop")
	s := newSite(t, "")
	s.tour(t)
	metrics := s.metrics(t)
	s.stop()

	for _, want := range []string{
		`http_server_request_duration_seconds_count{http_request_method="GET",http_response_status_code="303",http_route="/callback",network_protocol_version="1.1",url_scheme="http"} 1`,
		`http_server_request_duration_seconds_count{http_request_method="GET",http_response_status_code="404",network_protocol_version="1.1",url_scheme="http"} 1`,
		`http_server_request_duration_seconds_count{http_request_method="_OTHER",http_response_status_code="405",network_protocol_version="1.1",url_scheme="http"} 1`,
		`url_template="/oidc/token"`,
		`app_sign_ins_total{outcome="completed"} 1`,
		`app_sign_ins_total{outcome="unknown_sign_in"} 1`,
		`app_sessions_started_total{outcome="sign_in"} 1`,
		`app_sessions_ended_total{outcome="person"} 1`,
		`app_refreshes_total{outcome="completed"} `,
		"app_session_lock_wait_time_seconds_count ",
		`service_name="shop"`,
		"db_client_connections_usage{", "db_client_connections_use_time_milliseconds_bucket{", "go_goroutine_count ",
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("no %s in the metrics", want)
		}
	}
	t.Logf("metrics, without buckets:\n%s", regexp.MustCompile(`(?m)^\w+_bucket.*\n`).ReplaceAllString(metrics, ""))

	names := c.tree(t, "GET /callback")
	for _, want := range []string{`GET /callback http.route="/callback"`, "POST /oidc/token", "GET /oidc/jwks", "evalsha"} {
		if !slices.Contains(names, want) {
			t.Errorf("no %q in the trace of the callback: %q", want, names)
		}
	}

	callback := c.find("GET /callback")
	if !regexp.MustCompile(`"route":"/callback","status":303,.*"trace_id":"` + fmt.Sprintf("%x", callback.GetTraceId()) + `"`).MatchString(s.log.String()) {
		t.Errorf("no line of the log has the callback's trace:\n%s", s.log)
	}

	user := s.logto.User("ada")
	for what, value := range map[string]string{
		"sub": user.Subject, "e-mail": user.Email, "name": "Lovelace", "phone": user.Phone, "organization": "acme00corp01",
		"agent": "Agent-Of-Ada", "address": "203.0.113.77", "path": "/people/", "host": "ada.example", "Redis key": "session:", "script": "redis.call",
	} {
		s.secrets[what] = value
	}
	if len(s.secrets) < 20 {
		t.Errorf("only %d secrets are known", len(s.secrets))
	}
	for what, value := range s.secrets {
		if bytes.Contains(c.raw.Bytes(), []byte(value)) {
			t.Errorf("%s went to the collector: %s", what, value)
		}
		if strings.Contains(metrics, value) {
			t.Errorf("%s is in the metrics: %s", what, value)
		}
	}
}

func (c *collector) find(name string) *tracev1.Span {
	for _, span := range c.spans {
		if span.GetName() == name {
			return span
		}
	}
	return nil
}

// tree returns the names of the spans below the first one of a name, and logs them.
func (c *collector) tree(t *testing.T, name string) (names []string) {
	root := c.find(name)
	if root == nil {
		t.Fatalf("no span %q came", name)
	}
	var walk func(span *tracev1.Span, indent string)
	walk = func(span *tracev1.Span, indent string) {
		var attributes []string
		for _, kv := range span.GetAttributes() {
			attributes = append(attributes, kv.GetKey()+"="+strings.NewReplacer("string_value:", "", "int_value:", "").Replace(kv.GetValue().String()))
		}
		slices.Sort(attributes)
		t.Logf("%s%s %v {%s}", indent, span.GetName(), time.Duration(span.GetEndTimeUnixNano()-span.GetStartTimeUnixNano()), strings.Join(attributes, ", "))
		names = append(names, span.GetName())
		for _, kv := range attributes {
			if strings.HasPrefix(kv, "http.route=") {
				names = append(names, span.GetName()+" "+kv)
			}
		}
		for _, below := range c.spans {
			if bytes.Equal(below.GetParentSpanId(), span.GetSpanId()) {
				walk(below, indent+"  ")
			}
		}
	}
	walk(root, "")
	return names
}

// TestOutcomes: what goes wrong is counted by who caused it.
func TestOutcomes(t *testing.T) {
	t.Setenv("OTEL_METRICS_EXPORTER", "prometheus")
	t.Setenv("OTEL_EXPORTER_PROMETHEUS_PORT", "0")
	for _, tt := range []struct {
		name    string
		answer  authtest.Behaviour
		metrics []string
	}{
		{"another secret", authtest.OAuthError(401, "invalid_client", ""), []string{`app_refreshes_total{outcome="refused"} `}},
		{"Logto in trouble", authtest.Status(503), []string{`app_refreshes_total{outcome="unavailable"} `}},
		{"no answer", authtest.Reset, []string{`http_client_request_duration_seconds_count{error_type="`}},
		{"the grant is dead", authtest.OAuthError(400, "invalid_grant", ""), []string{`app_refreshes_total{outcome="ended"} `, `app_sessions_ended_total{outcome="grant"} 1`}},
	} {
		s := newSite(t, "")
		s.signIn(t)
		s.logto.On(authtest.Token, tt.answer)
		s.visit(t, "GET", "/account/done") // so that the next page asks Logto
		s.visit(t, "GET", "/")
		for _, want := range tt.metrics {
			if metrics := s.metrics(t); !strings.Contains(metrics, want) {
				t.Errorf("%s: no %s in\n%s", tt.name, want, metrics)
			}
		}
	}
}

// TestCalls: what Logto calls, who it is asked about again, and what is too much.
func TestCalls(t *testing.T) {
	t.Setenv("OTEL_METRICS_EXPORTER", "prometheus")
	t.Setenv("OTEL_EXPORTER_PROMETHEUS_PORT", "0")
	s := newSite(t, "127.0.0.1")
	s.signIn(t)
	s.visit(t, "GET", "/account/done")
	s.visit(t, "GET", "/")
	s.visit(t, "POST", "/backchannel-logout")
	s.visit(t, "POST", "/webhooks/logto")
	for range 10 {
		s.visit(t, "GET", "/sign-in")
	}
	metrics := s.metrics(t)
	for _, want := range []string{
		`app_revalidations_total{outcome="completed"} 1`, `app_backchannel_logouts_total{outcome="refused"} 1`,
		`app_webhooks_total{outcome="refused"} 1`, "app_limited_requests_total ",
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("no %s in\n%s", want, metrics)
		}
	}
}

// TestOff: without a variable that asks for it, nothing is started.
func TestOff(t *testing.T) {
	for name, env := range map[string]map[string]string{
		"nothing":  {},
		"none":     {"OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"},
		"disabled": {"OTEL_SDK_DISABLED": "true", "OTEL_METRICS_EXPORTER": "prometheus"},
		"a name":   {"OTEL_SERVICE_NAME": "shop"},
	} {
		t.Run(name, func(t *testing.T) {
			for key, value := range env {
				t.Setenv(key, value)
			}
			observer, stop, err := telemetry.Start(t.Context(), slog.New(slog.DiscardHandler))
			if observer != nil || err != nil {
				t.Errorf("%v, %v", observer, err)
			}
			stop()
		})
	}
}

// TestFaults: what can't be done is said at start, with the variable.
func TestFaults(t *testing.T) {
	for name, tt := range map[string]struct {
		env  map[string]string
		want string
	}{
		"traces":   {map[string]string{"OTEL_TRACES_EXPORTER": "zipkin"}, `OTEL_TRACES_EXPORTER must be otlp or none, not "zipkin"`},
		"metrics":  {map[string]string{"OTEL_METRICS_EXPORTER": "statsd"}, `OTEL_METRICS_EXPORTER must be otlp, prometheus or none, not "statsd"`},
		"protocol": {map[string]string{"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, `OTEL_EXPORTER_OTLP_PROTOCOL must be http/protobuf, not "grpc"`},
		"resource": {map[string]string{"OTEL_TRACES_EXPORTER": "otlp", "OTEL_RESOURCE_ATTRIBUTES": "a"}, "OTEL_RESOURCE_ATTRIBUTES"},
		"port":     {map[string]string{"OTEL_METRICS_EXPORTER": "prometheus", "OTEL_EXPORTER_PROMETHEUS_HOST": "192.0.2.1"}, "OTEL_EXPORTER_PROMETHEUS_HOST and _PORT: "},
	} {
		t.Run(name, func(t *testing.T) {
			for key, value := range tt.env {
				t.Setenv(key, value)
			}
			if _, _, err := telemetry.Start(t.Context(), slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %s", err, tt.want)
			}
		})
	}
}

// TestTraceparent: a trace from outside is joined only if the request is trusted.
func TestTraceparent(t *testing.T) {
	c := newCollector(t)
	t.Setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", c.URL+"/v1/traces")
	observer, stop, err := telemetry.Start(t.Context(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	const theirs = "0af7651916cd43dd8448eb211c80319c"
	for _, trusted := range []bool{false, true} {
		var seen string
		handler := observer.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			seen = trace.SpanContextFromContext(r.Context()).TraceID().String()
		}), func(*http.Request) bool { return trusted })
		request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody)
		request.Header.Set("traceparent", "00-"+theirs+"-b7ad6b7169203331-01")
		handler.ServeHTTP(httptest.NewRecorder(), request)
		if seen == "" || (seen == theirs) != trusted {
			t.Errorf("trusted %t: trace %s", trusted, seen)
		}
	}
	stop()
	if len(c.spans) != 2 || len(c.spans[0].GetLinks()) > 0 {
		t.Errorf("spans: %v", c.spans)
	}
}

// TestTrustedProxies: the application trusts those that TRUSTED_PROXIES names.
func TestTrustedProxies(t *testing.T) {
	t.Setenv("OTEL_TRACES_EXPORTER", "otlp")
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", newCollector(t).URL)
	const theirs = "0af7651916cd43dd8448eb211c80319c"
	for proxies, trusted := range map[string]bool{"": false, "192.0.2.0/24": false, "127.0.0.0/8": true} {
		s := newSite(t, proxies)
		s.visit(t, "GET", "/", "traceparent", "00-"+theirs+"-b7ad6b7169203331-01")
		s.stop()
		if strings.Contains(s.log.String(), `"trace_id":"`+theirs) != trusted || !strings.Contains(s.log.String(), `"trace_id":"`) {
			t.Errorf("proxies %q: the log has\n%s", proxies, s.log)
		}
	}
}

// TestCollectorAway: people are served, and the log says what is wrong.
func TestCollectorAway(t *testing.T) {
	c := newCollector(t)
	c.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", c.URL+"/v1/traces")
	t.Setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "100")
	s := newSite(t, "")
	s.signIn(t)
	s.stop()
	if !strings.Contains(s.log.String(), `"level":"WARN","msg":"telemetry","error":"`) {
		t.Errorf("the log says nothing:\n%s", s.log)
	}
}

// TestDemoIsSmall: who clones and runs the demo compiles none of it.
func TestDemoIsSmall(t *testing.T) {
	list, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "../../demo").Output()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(list), "/internal/server\n") || strings.Contains(string(list), "opentelemetry") || strings.Contains(string(list), "/telemetry") {
		t.Errorf("the demo needs\n%s", list)
	}
}

// BenchmarkHome is the signed-in home page with telemetry off and on; package bench has it beside its limit.
func BenchmarkHome(b *testing.B) {
	c := newCollector(b)
	for _, bb := range []struct{ name, traces, metrics string }{
		{"off", "none", "none"}, {"metrics", "none", "prometheus"}, {"traces", "otlp", "none"}, {"both", "otlp", "prometheus"},
	} {
		b.Run(bb.name, func(b *testing.B) {
			b.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", c.URL)
			b.Setenv("OTEL_TRACES_EXPORTER", bb.traces)
			b.Setenv("OTEL_METRICS_EXPORTER", bb.metrics)
			b.Setenv("OTEL_EXPORTER_PROMETHEUS_PORT", "0")
			s := newSite(b, "")
			s.signIn(b)
			b.ReportAllocs()
			for b.Loop() {
				s.visit(b, "GET", "/")
			}
		})
	}
}
