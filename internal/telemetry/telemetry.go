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
	"slices"
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

// observer is what the server knows of this package.
type observer struct {
	tracers oteltrace.TracerProvider
	meters  *metric.MeterProvider
	events
}

// Start returns what to give to [server.Run]: nil, if no variable asks for telemetry. Call stop after that has ended: it
// sends what is left.
func Start(ctx context.Context, log *slog.Logger) (_ server.Observer, stop func(), err error) {
	traces, metrics := exporters("TRACES"), exporters("METRICS")
	if len(traces)+len(metrics) == 0 {
		return nil, func() {}, nil
	}
	build, ok := debug.ReadBuildInfo()
	if !ok { // it was not built by go build
		build = &debug.BuildInfo{}
	}
	about, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithAttributes(
		semconv.ServiceName("app"), semconv.ServiceVersion(build.Main.Version), semconv.ServiceInstanceID(rand.Text()),
	), resource.WithFromEnv())
	if err != nil {
		return nil, nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	to := targets{
		spans: []trace.TracerProviderOption{trace.WithResource(about)},
		// No exemplars: they hold the attributes that a view has left out.
		metrics: []metric.Option{metric.WithResource(about), metric.WithView(view), metric.WithExemplarFilter(exemplar.AlwaysOffFilter)},
	}
	if err := errors.Join(to.add(ctx, "TRACES", traces), to.add(ctx, "METRICS", metrics)); err != nil {
		return nil, nil, err
	}
	// A collector that is away is worth a line, and nothing more.
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("telemetry", "error", err) }))
	tracers, meters := trace.NewTracerProvider(to.spans...), metric.NewMeterProvider(to.metrics...)
	o := &observer{tracers: tracers, meters: meters}
	if len(traces) == 0 {
		o.tracers = noop.NewTracerProvider()
	}
	o.events, err = newEvents(meters)
	if err := errors.Join(err, runtime.Start(runtime.WithMeterProvider(meters))); err != nil {
		return nil, nil, err
	}
	log.Info("telemetry", "traces", strings.Join(traces, " "), "metrics", strings.Join(metrics, " "), "prometheus", to.endpoint)
	return o, func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if err := errors.Join(tracers.Shutdown(ctx), meters.Shutdown(ctx), to.prometheus.Close()); err != nil {
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
	names = strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' })
	return slices.DeleteFunc(names, func(name string) bool { return name == "none" })
}

// targets are where everything goes.
type targets struct {
	spans      []trace.TracerProviderOption
	metrics    []metric.Option
	prometheus http.Server // never the application's own, which strangers reach
	endpoint   string      // of prometheus
}

func (to *targets) add(ctx context.Context, signal string, names []string) (err error) {
	for _, name := range names {
		protocol := cmp.Or(os.Getenv("OTEL_EXPORTER_OTLP_"+signal+"_PROTOCOL"), os.Getenv("OTEL_EXPORTER_OTLP_PROTOCOL"), "http/protobuf")
		switch {
		case name == "otlp" && protocol != "http/protobuf":
			err = fmt.Errorf("OTEL_EXPORTER_OTLP_PROTOCOL must be http/protobuf, not %q", protocol)
		case name == "otlp" && signal == "TRACES":
			var exporter trace.SpanExporter
			exporter, err = otlptracehttp.New(ctx)
			to.spans = append(to.spans, trace.WithBatcher(listedExporter{exporter}))
		case name == "otlp":
			var exporter metric.Exporter
			exporter, err = otlpmetrichttp.New(ctx)
			to.metrics = append(to.metrics, metric.WithReader(metric.NewPeriodicReader(exporter)))
		case name == "prometheus" && signal == "METRICS":
			err = to.serve()
		case signal == "METRICS":
			err = fmt.Errorf("OTEL_METRICS_EXPORTER must be otlp, prometheus or none, not %q", name)
		default:
			err = fmt.Errorf("OTEL_TRACES_EXPORTER must be otlp or none, not %q", name)
		}
		if err != nil {
			return fmt.Errorf("export %s: %w", strings.ToLower(signal), err)
		}
	}
	return nil
}

// serve is where Prometheus asks.
func (to *targets) serve() error {
	registry := prometheus.NewRegistry()
	reader, err := prometheusexporter.New(prometheusexporter.WithRegisterer(registry), prometheusexporter.WithoutScopeInfo())
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(
		cmp.Or(os.Getenv("OTEL_EXPORTER_PROMETHEUS_HOST"), "localhost"), cmp.Or(os.Getenv("OTEL_EXPORTER_PROMETHEUS_PORT"), "9464")))
	if err != nil {
		return fmt.Errorf("OTEL_EXPORTER_PROMETHEUS_HOST and _PORT: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	to.metrics, to.endpoint = append(to.metrics, metric.WithReader(reader)), "http://"+listener.Addr().String()+"/metrics"
	to.prometheus = http.Server{Handler: mux, ReadTimeout: 5 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute}
	go func() { _ = to.prometheus.Serve(listener) }() // it fails when it is closed
	return nil
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
