package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/redis/go-redis/v9"
)

// produce enqueues a job for each file in the scanned directory, in the order of their names, and ends.
func produce(ctx context.Context, s settings, client *redis.Client) error {
	root, err := filepath.Abs(s.Producer.ScanDir)
	if err != nil {
		return err
	}
	return filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		if err := throttle(ctx, s.Producer.RateLimitPerSec, client); err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		return enqueue(ctx, client, path, info.Size())
	})
}

func enqueue(ctx context.Context, client *redis.Client, path string, size int64) error {
	priority := "low"
	if filepath.Ext(path) == ".pdf" {
		priority = "high"
	}
	ctx, span := startEnqueue(ctx, queues[priority])
	defer span.End()
	traceID, spanID := recorded(span)
	if traceID == "" {
		// Without tracing of its own, ids are made up: nobody will ever export that span.
		traceID, spanID = randomHex(16), randomHex(8)
	}
	made := job{
		ID:           randomHex(16),
		FilePath:     path,
		FileSize:     size,
		Priority:     priority,
		CreationTime: time.Now().UTC().Format(time.RFC3339Nano),
		TraceID:      traceID,
		SpanID:       spanID,
	}
	if err := client.LPush(ctx, queues[priority], made.marshal()).Err(); err != nil {
		return err
	}
	count("jobs_produced_total")
	return nil
}

// throttle counts jobs in a window of one second; who comes too late waits for its end, and goes on without asking again.
func throttle(ctx context.Context, limit int64, client *redis.Client) error {
	if limit <= 0 {
		return nil
	}
	number, err := client.Incr(ctx, rateLimitKey).Result()
	if err != nil {
		return err
	}
	if number == 1 {
		client.Expire(ctx, rateLimitKey, time.Second)
	}
	if number <= limit {
		return nil
	}
	wait := 200 * time.Millisecond
	if left, err := client.TTL(ctx, rateLimitKey).Result(); err == nil && left > 0 {
		wait = left
	}
	sleep(ctx, wait)
	return nil
}

func sleep(ctx context.Context, wait time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(wait):
	}
}

func randomHex(size int) string {
	bytes := make([]byte, size)
	_, _ = rand.Read(bytes)
	return hex.EncodeToString(bytes)
}
