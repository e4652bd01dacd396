package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// work runs the goroutines that work on jobs, until the context ends.
func work(ctx context.Context, s settings, client *redis.Client) {
	host, _ := os.Hostname()
	now := time.Now().UnixNano()
	var running sync.WaitGroup
	for number := range s.Worker.Count {
		w := worker{settings: s, client: client}
		w.name = fmt.Sprintf("%s-%d-%d-%04x-%d", host, os.Getpid(), now, now&0xffff, number)
		running.Add(1)
		go func() {
			defer running.Done()
			for ctx.Err() == nil {
				w.poll(ctx)
			}
		}()
	}
	running.Wait()
}

type worker struct {
	settings settings
	client   *redis.Client
	name     string
}

// poll blocks for a second on each queue in turn, the idle ones before it too: that is how low priority waits.
func (w worker) poll(ctx context.Context) {
	for _, priority := range priorities {
		popping, span := startDequeue(ctx, queues[priority])
		payload, err := w.client.BRPopLPush(popping, queues[priority], processingList(w.name), popTimeout).Result()
		span.End()
		if err == nil {
			count("jobs_consumed_total")
			w.client.Set(ctx, heartbeatKey(w.name), payload, w.settings.Worker.HeartbeatTTL.Duration)
			w.process(ctx, queues[priority], payload)
			return
		}
		if !errors.Is(err, redis.Nil) {
			if ctx.Err() == nil {
				log.Print("BRPOPLPUSH: ", err)
				sleep(ctx, 50*time.Millisecond)
			}
			return
		}
	}
}

func (w worker) process(ctx context.Context, source, payload string) {
	var taken job
	if json.Unmarshal([]byte(payload), &taken) != nil {
		w.release(ctx, payload)
		return
	}
	ctx, span := startProcess(ctx, taken)
	defer span.End()
	if !strings.Contains(strings.ToLower(taken.FilePath), "fail") {
		w.give(ctx, completedList, payload)
		w.release(ctx, payload)
		count("jobs_completed_total")
		return
	}

	count("jobs_failed_total")
	failed(span)
	taken.Retries++
	backoff := w.settings.Worker.Backoff
	// The job is still held meanwhile; its heartbeat is not renewed.
	sleep(ctx, min(backoff.Base.Duration<<(taken.Retries-1), backoff.Max.Duration))
	if taken.Retries <= w.settings.Worker.MaxRetries {
		count("jobs_retried_total")
		w.give(ctx, source, taken.marshal())
		w.release(ctx, payload)
		return
	}
	w.give(ctx, deadLetterList, payload)
	w.release(ctx, payload)
	count("jobs_dead_letter_total")
}

func (w worker) give(ctx context.Context, key, payload string) {
	if err := w.client.LPush(ctx, key, payload).Err(); err != nil {
		log.Print("LPUSH ", key, ": ", err)
	}
}

// release acknowledges by value: what LREM names must be what was delivered, to the byte.
func (w worker) release(ctx context.Context, payload string) {
	removed, err := w.client.LRem(ctx, processingList(w.name), 1, payload).Result()
	if err != nil || removed != 1 {
		log.Print("LREM: ", removed, " ", err)
	}
	if err := w.client.Del(ctx, heartbeatKey(w.name)).Err(); err != nil {
		log.Print("DEL: ", err)
	}
}

// reap gives back what workers hold who have no heartbeat. Every worker process does it.
func reap(ctx context.Context, s settings, client *redis.Client) {
	ticker := time.NewTicker(reapInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			lists, err := scan(ctx, client, processingList("*"), 100)
			if err != nil {
				log.Print("SCAN: ", err)
			}
			for _, list := range lists {
				name := strings.Split(list, ":")[2]
				if client.Exists(ctx, heartbeatKey(name)).Val() == 0 {
					recoverFrom(ctx, client, list)
				}
			}
		}
	}
}

func recoverFrom(ctx context.Context, client *redis.Client, list string) {
	for {
		payload, err := client.RPop(ctx, list).Result()
		if err != nil {
			return
		}
		var held job
		if json.Unmarshal([]byte(payload), &held) != nil {
			continue
		}
		queue, known := queues[held.Priority]
		if !known {
			queue = queues["low"]
		}
		if err := client.LPush(ctx, queue, payload).Err(); err != nil {
			log.Print("LPUSH ", queue, ": ", err)
			continue
		}
		count("reaper_recovered_total")
	}
}

func scan(ctx context.Context, client *redis.Client, pattern string, hint int64) (found []string, err error) {
	for cursor := uint64(0); ; {
		var keys []string
		keys, cursor, err = client.Scan(ctx, cursor, pattern, hint).Result()
		if found = append(found, keys...); err != nil || cursor == 0 {
			return found, err
		}
	}
}
