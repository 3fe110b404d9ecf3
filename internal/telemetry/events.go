package telemetry

import (
	"context"
	"errors"
	"log/slog"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"example.com/logto-gin-starter/auth"
	"example.com/logto-gin-starter/internal/session"
	"example.com/logto-gin-starter/routes"
)

// events are the metrics of what happens here, by the name that its package gives it.
type events struct {
	counts map[string]metric.Int64Counter
	lock   metric.Float64Histogram
}

// newEvents makes them. An event of your own needs a line here, and a call where it happens.
func newEvents(meters metric.MeterProvider) (events, error) {
	meter := meters.Meter("example.com/logto-gin-starter")
	lock, err := meter.Float64Histogram("app.session.lock.wait_time", metric.WithUnit("s"),
		metric.WithDescription("How long a refresh waited for its session's lock."),
		metric.WithExplicitBucketBoundaries(0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30))
	e := events{map[string]metric.Int64Counter{}, lock}
	for event, about := range map[string]struct{ name, unit, description string }{
		routes.ObservedSignIn:     {"app.sign_ins", "{sign_in}", "Browsers that came back from Logto."},
		routes.ObservedLogout:     {"app.backchannel_logouts", "{logout}", "Back-channel logouts that Logto sent."},
		routes.ObservedWebhook:    {"app.webhooks", "{webhook}", "Webhooks that Logto sent."},
		routes.ObservedLimit:      {"app.limited_requests", "{request}", "Requests beyond RATE_LIMIT."},
		session.ObservedStart:     {"app.sessions.started", "{session}", "Sessions that began, by reason."},
		session.ObservedEnd:       {"app.sessions.ended", "{session}", "Sessions that were ended, by cause; not those that expired."},
		auth.ObservedRefresh:      {"app.refreshes", "{refresh}", "Refresh tokens sent to Logto."},
		auth.ObservedRevalidation: {"app.revalidations", "{revalidation}", "Times that Logto was asked who a person is now."},
	} {
		counter, countErr := meter.Int64Counter(about.name, metric.WithUnit(about.unit), metric.WithDescription(about.description))
		e.counts[event], err = counter, errors.Join(err, countErr)
	}
	return e, err
}

// Event implements [server.Observer].
func (e events) Event(ctx context.Context, event, outcome string, value float64) {
	if event == session.ObservedLock {
		e.lock.Record(ctx, value)
	} else if counter, ok := e.counts[event]; ok {
		var attributes []attribute.KeyValue
		if outcome != "" {
			attributes = append(attributes, attribute.String("outcome", outcome))
		}
		counter.Add(ctx, int64(value), metric.WithAttributes(attributes...))
	}
}

// Log implements [server.Observer]: a line says to which trace it belongs.
func (events) Log(next slog.Handler) slog.Handler { return traced{next} }

type traced struct{ slog.Handler }

// Handle implements slog.Handler.
func (t traced) Handle(ctx context.Context, record slog.Record) error {
	if span := trace.SpanContextFromContext(ctx); span.IsValid() {
		record.AddAttrs(slog.String("trace_id", span.TraceID().String()))
	}
	return t.Handler.Handle(ctx, record)
}

// WithAttrs implements slog.Handler.
func (t traced) WithAttrs(attrs []slog.Attr) slog.Handler { return traced{t.Handler.WithAttrs(attrs)} }

// WithGroup implements slog.Handler.
func (t traced) WithGroup(name string) slog.Handler { return traced{t.Handler.WithGroup(name)} }
