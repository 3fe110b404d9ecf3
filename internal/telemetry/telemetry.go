// Package telemetry sends traces and metrics by OpenTelemetry, if its standard variables ask for that: OTEL_TRACES_EXPORTER
// (otlp), OTEL_METRICS_EXPORTER (otlp, prometheus), or OTEL_EXPORTER_OTLP_ENDPOINT, which means both by OTLP over HTTP.
// Otherwise nothing of it runs.
//
// Start reading at [Start]; listed.go says which attributes leave the process, events.go which metrics are our own.
package telemetry

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/redis/go-redis/extra/redisotel/v9"
	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/contrib/instrumentation/runtime"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	prometheusexporter "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/exemplar"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	oteltrace "go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"example.com/logto-gin-starter/internal/server"
)

// stopTimeout bounds how long the last traces and metrics may take to leave at the end.
const stopTimeout = 5 * time.Second

// observer is what the server knows of this package.
type observer struct {
	tracers oteltrace.TracerProvider
	meters  *metric.MeterProvider
	events  events
}

var _ server.Observer = (*observer)(nil)

// Start returns what to give to [server.Run]: nil, if no variable asks for telemetry. Call stop after that has ended: it
// sends what is left.
func Start(ctx context.Context, log *slog.Logger) (_ server.Observer, stop func(), err error) {
	traces, metrics := exporters("TRACES"), exporters("METRICS")
	if len(traces)+len(metrics) == 0 {
		return nil, func() {}, nil
	}
	about, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithAttributes(
		semconv.ServiceName("app"), semconv.ServiceVersion(version()), semconv.ServiceInstanceID(rand.Text()),
	), resource.WithFromEnv())
	if err != nil {
		return nil, nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	spans, err := spanOptions(ctx, traces)
	if err != nil {
		return nil, nil, err
	}
	readers, endpoint, err := readerOptions(ctx, metrics)
	if err != nil {
		return nil, nil, err
	}
	// A collector that is away is worth a line, and nothing more.
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("telemetry", "error", err) }))
	tracers := trace.NewTracerProvider(append(spans, trace.WithResource(about))...)
	o := &observer{
		tracers: tracers,
		// No exemplars: they hold the attributes that a view has left out.
		meters: metric.NewMeterProvider(append(readers, metric.WithResource(about), metric.WithView(view), metric.WithExemplarFilter(exemplar.AlwaysOffFilter))...),
	}
	if len(traces) == 0 {
		o.tracers = noop.NewTracerProvider()
	}
	if o.events, err = newEvents(o.meters); err == nil {
		err = runtime.Start(runtime.WithMeterProvider(o.meters))
	}
	if err != nil {
		return nil, nil, err
	}
	log.Info("telemetry", "traces", strings.Join(traces, " "), "metrics", strings.Join(metrics, " "), "prometheus", endpoint.address())
	return o, func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		if err := errors.Join(tracers.Shutdown(ctx), o.meters.Shutdown(ctx), endpoint.close()); err != nil {
			log.Warn("telemetry", "error", err)
		}
	}, nil
}

// exporters returns where a signal is to go: what OTEL_<signal>_EXPORTER names, or "otlp" where there is only an endpoint.
func exporters(signal string) (names []string) {
	if disabled, _ := strconv.ParseBool(os.Getenv("OTEL_SDK_DISABLED")); disabled {
		return nil
	}
	list := os.Getenv("OTEL_" + signal + "_EXPORTER")
	if list == "" && os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT")+os.Getenv("OTEL_EXPORTER_OTLP_"+signal+"_ENDPOINT") != "" {
		list = "otlp"
	}
	for name := range strings.SplitSeq(list, ",") {
		if name = strings.TrimSpace(name); name != "" && name != "none" {
			names = append(names, name)
		}
	}
	return names
}

// isHTTP reports an error if OTLP is asked for over something else than HTTP.
func isHTTP(signal string) error {
	protocol := cmp.Or(os.Getenv("OTEL_EXPORTER_OTLP_"+signal+"_PROTOCOL"), os.Getenv("OTEL_EXPORTER_OTLP_PROTOCOL"))
	if protocol != "" && protocol != "http/protobuf" {
		return fmt.Errorf("OTEL_EXPORTER_OTLP_PROTOCOL must be http/protobuf, not %q", protocol)
	}
	return nil
}

func spanOptions(ctx context.Context, names []string) (options []trace.TracerProviderOption, err error) {
	for _, name := range names {
		if name != "otlp" {
			return nil, fmt.Errorf("OTEL_TRACES_EXPORTER must be otlp or none, not %q", name)
		}
		exporter, err := otlptracehttp.New(ctx)
		if err := errors.Join(err, isHTTP("TRACES")); err != nil {
			return nil, fmt.Errorf("export traces: %w", err)
		}
		options = append(options, trace.WithBatcher(listedExporter{exporter}))
	}
	return options, nil
}

func readerOptions(ctx context.Context, names []string) (options []metric.Option, prom *endpoint, err error) {
	for _, name := range names {
		switch name {
		case "otlp":
			exporter, err := otlpmetrichttp.New(ctx)
			if err := errors.Join(err, isHTTP("METRICS")); err != nil {
				return nil, nil, fmt.Errorf("export metrics: %w", err)
			}
			options = append(options, metric.WithReader(metric.NewPeriodicReader(exporter)))
		case "prometheus":
			registry := prometheus.NewRegistry()
			exporter, err := prometheusexporter.New(prometheusexporter.WithRegisterer(registry), prometheusexporter.WithoutScopeInfo())
			if err == nil {
				prom, err = serve(registry)
			}
			if err != nil {
				return nil, nil, fmt.Errorf("export metrics: %w", err)
			}
			options = append(options, metric.WithReader(exporter))
		default:
			return nil, nil, fmt.Errorf("OTEL_METRICS_EXPORTER must be otlp, prometheus or none, not %q", name)
		}
	}
	return options, prom, nil
}

// endpoint is where Prometheus asks: never the application's own listener, which strangers reach. Nil is none.
type endpoint struct {
	listener net.Listener
	http     *http.Server
}

func serve(registry *prometheus.Registry) (*endpoint, error) {
	listener, err := net.Listen("tcp", net.JoinHostPort(
		cmp.Or(os.Getenv("OTEL_EXPORTER_PROMETHEUS_HOST"), "localhost"), cmp.Or(os.Getenv("OTEL_EXPORTER_PROMETHEUS_PORT"), "9464")))
	if err != nil {
		return nil, fmt.Errorf("OTEL_EXPORTER_PROMETHEUS_HOST and _PORT: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	e := &endpoint{listener, &http.Server{Handler: mux, ReadTimeout: 5 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute}}
	go func() { _ = e.http.Serve(listener) }() // it fails when it is closed
	return e, nil
}

func (e *endpoint) address() string {
	if e == nil {
		return ""
	}
	return "http://" + e.listener.Addr().String() + "/metrics"
}

func (e *endpoint) close() error {
	if e == nil {
		return nil
	}
	return e.http.Close()
}

func version() string {
	build, _ := debug.ReadBuildInfo()
	return build.Main.Version
}

// Handler implements [server.Observer]. A trace that a stranger's request claims to be a part of is not joined.
func (o *observer) Handler(next http.Handler, trusted func(*http.Request) bool) http.Handler {
	routed := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r)
		if r.Pattern != "" { // known only now, and otelhttp looks for the span's before
			oteltrace.SpanFromContext(r.Context()).SetAttributes(semconv.HTTPRoute(r.Pattern))
		}
	})
	return otelhttp.NewHandler(routed, "", otelhttp.WithTracerProvider(o.tracers), otelhttp.WithMeterProvider(o.meters),
		otelhttp.WithPropagators(propagation.TraceContext{}),
		otelhttp.WithPublicEndpointFn(func(r *http.Request) bool { return !trusted(r) }),
		otelhttp.WithFilter(func(r *http.Request) bool { return r.URL.Path != "/healthz" && r.URL.Path != "/readyz" })) // asked all the time
}

// Transport implements [server.Observer]. Logto's addresses are few, and their paths hold nothing of a person's. It takes no
// part in a trace, so it gets no header of one.
func (o *observer) Transport(next http.RoundTripper) http.RoundTripper {
	return otelhttp.NewTransport(addressed{next}, otelhttp.WithTracerProvider(o.tracers), otelhttp.WithMeterProvider(o.meters),
		otelhttp.WithPropagators(propagation.NewCompositeTextMapPropagator()),
		otelhttp.WithSpanNameFormatter(func(_ string, r *http.Request) string { return r.Method + " " + r.URL.Path }))
}

// addressed tells the metrics which of Logto's addresses was called.
type addressed struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (a addressed) RoundTrip(r *http.Request) (*http.Response, error) {
	labeler, _ := otelhttp.ClientLabelerFromContext(r.Context()) // otelhttp's own
	labeler.Add(semconv.URLTemplate(r.URL.Path))
	return a.next.RoundTrip(r)
}

// Redis implements [server.Observer].
func (o *observer) Redis(rdb redis.UniversalClient) error {
	return errors.Join(
		redisotel.InstrumentTracing(rdb, redisotel.WithTracerProvider(o.tracers), redisotel.WithDBStatement(false), redisotel.WithCallerEnabled(false)),
		redisotel.InstrumentMetrics(rdb, redisotel.WithMeterProvider(o.meters), redisotel.WithSemConvCompliantMetrics(true)),
	)
}
