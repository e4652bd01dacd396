package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"sync"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// Tracing of its own: a dequeue span for every poll, each in a trace of its own; the job's span under the ids in the job.

func startTracing(s tracingSettings) (stop func(), err error) {
	if !s.Enabled || s.Endpoint == "" {
		return func() {}, nil
	}
	exporter, err := otlptracehttp.New(
		context.Background(), otlptracehttp.WithEndpoint(s.Endpoint), otlptracehttp.WithInsecure(),
	)
	if err != nil {
		return nil, err
	}
	provider := sdk.NewTracerProvider(
		sdk.WithBatcher(exporter),
		sdk.WithSampler(sdk.AlwaysSample()),
		sdk.WithResource(resource.NewSchemaless(attribute.String("service.name", "go-redis-work-queue"))),
	)
	otel.SetTracerProvider(provider)
	return func() { _ = provider.Shutdown(context.Background()) }, nil
}

func startEnqueue(ctx context.Context, queue string) (context.Context, trace.Span) {
	return start(ctx, "producer", "queue.enqueue", attribute.String("queue.name", queue))
}

func startDequeue(ctx context.Context, queue string) (context.Context, trace.Span) {
	return start(ctx, "worker", "queue.dequeue", attribute.String("queue.name", queue))
}

// startProcess makes the span whose ids the job carries the parent, and takes it for sampled.
func startProcess(ctx context.Context, taken job) (context.Context, trace.Span) {
	traceID, wrongTrace := trace.TraceIDFromHex(taken.TraceID)
	spanID, wrongSpan := trace.SpanIDFromHex(taken.SpanID)
	if wrongTrace == nil && wrongSpan == nil {
		ctx = trace.ContextWithRemoteSpanContext(ctx, trace.NewSpanContext(trace.SpanContextConfig{
			TraceID: traceID, SpanID: spanID, TraceFlags: trace.FlagsSampled, Remote: true,
		}))
	}
	return start(ctx, "worker", "job.process",
		attribute.String("job.id", taken.ID), attribute.Int("job.retries", taken.Retries))
}

func start(ctx context.Context, tracer, name string, about ...attribute.KeyValue) (context.Context, trace.Span) {
	return otel.Tracer(tracer).Start(ctx, name, trace.WithAttributes(about...))
}

func failed(span trace.Span) {
	span.RecordError(errors.New("processing_failed"))
	span.SetStatus(codes.Error, "processing_failed")
}

// recorded gives a span's ids, or nothing where it will not be exported.
func recorded(span trace.Span) (traceID, spanID string) {
	if !span.IsRecording() {
		return "", ""
	}
	return span.SpanContext().TraceID().String(), span.SpanContext().SpanID().String()
}

// Counters, as Prometheus reads them.

var counters = struct {
	sync.Mutex
	values map[string]int
}{values: map[string]int{
	"jobs_produced_total":    0,
	"jobs_consumed_total":    0,
	"jobs_completed_total":   0,
	"jobs_failed_total":      0,
	"jobs_retried_total":     0,
	"jobs_dead_letter_total": 0,
	"reaper_recovered_total": 0,
}}

func count(name string) {
	counters.Lock()
	defer counters.Unlock()
	counters.values[name]++
}

func serve(port int, client *redis.Client) {
	http.HandleFunc("/metrics", func(w http.ResponseWriter, _ *http.Request) {
		counters.Lock()
		defer counters.Unlock()
		for name, value := range counters.values {
			fmt.Fprintf(w, "%s %d\n", name, value)
		}
	})
	http.HandleFunc("/readyz", func(w http.ResponseWriter, r *http.Request) {
		if err := client.Ping(r.Context()).Err(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		}
	})
	listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		log.Fatal(err)
	}
	go func() { _ = http.Serve(listener, nil) }()
}

// sampleLengths asks for the length of every list now and then, as it does for its gauges.
func sampleLengths(ctx context.Context, client *redis.Client) {
	for ctx.Err() == nil {
		sleep(ctx, sampleInterval)
		for _, list := range []string{queues["high"], queues["low"], completedList, deadLetterList} {
			client.LLen(ctx, list)
		}
	}
}
