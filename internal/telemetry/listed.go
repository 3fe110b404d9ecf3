package telemetry

import (
	"context"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/trace"
	oteltrace "go.opentelemetry.io/otel/trace"
)

// Attributes come from libraries, among them paths, queries, addresses of people and whatever a client writes into a
// header; and the next version of a library may add one. So only those leave the process that are listed here.

var listed = []attribute.Key{
	"http.request.method", "http.route", "http.response.status_code", "error.type", "url.scheme", "url.template",
	"network.protocol.version", "db.system", "pool.name", "state", "status", "type", "error_type", "go.memory.type", "outcome",
}

var (
	isListed = attribute.NewAllowKeysFilter(append(listed, "server.address", "server.port")...) // whom we call
	// isListedServer is for requests to us, where the server's address is what the client has written into its Host header.
	isListedServer = attribute.NewAllowKeysFilter(listed...)
)

// listedExporter lets out only what is listed.
type listedExporter struct{ trace.SpanExporter }

// ExportSpans implements trace.SpanExporter.
func (e listedExporter) ExportSpans(ctx context.Context, spans []trace.ReadOnlySpan) error {
	all := make([]trace.ReadOnlySpan, len(spans))
	for i, span := range spans {
		all[i] = listedSpan{span}
	}
	return e.SpanExporter.ExportSpans(ctx, all)
}

// listedSpan has no events and no description of its status, for they quote errors, and no links, for they are strangers'.
type listedSpan struct{ trace.ReadOnlySpan }

func (s listedSpan) Attributes() []attribute.KeyValue {
	filter := isListed
	if s.SpanKind() == oteltrace.SpanKindServer {
		filter = isListedServer
	}
	kept, _ := attribute.NewSetWithFiltered(s.ReadOnlySpan.Attributes(), filter)
	return kept.ToSlice()
}
func (listedSpan) Events() []trace.Event  { return nil }
func (listedSpan) Links() []trace.Link    { return nil }
func (s listedSpan) Status() trace.Status { return trace.Status{Code: s.ReadOnlySpan.Status().Code} }

// view does the same for metrics. Sizes of bodies are left out, and milliseconds get buckets that fit Redis.
func view(i metric.Instrument) (metric.Stream, bool) {
	s := metric.Stream{Name: i.Name, Description: i.Description, Unit: i.Unit, AttributeFilter: isListed}
	if strings.HasPrefix(i.Name, "http.server.") {
		s.AttributeFilter = isListedServer
	}
	switch {
	case strings.HasSuffix(i.Name, ".body.size"):
		s.Aggregation = metric.AggregationDrop{}
	case i.Unit == "ms":
		s.Aggregation = metric.AggregationExplicitBucketHistogram{Boundaries: []float64{0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500}}
	}
	return s, true
}
