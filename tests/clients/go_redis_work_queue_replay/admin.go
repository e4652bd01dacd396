package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/redis/go-redis/v9"
)

const benchPatience = time.Minute

// adminCommand prints one JSON document to standard output.
type adminCommand struct {
	name        string
	queue       string
	items       int64
	yes         bool
	count, rate int
	priority    string
	size        int
}

func (a adminCommand) run(ctx context.Context, s settings, client *redis.Client) (err error) {
	var shown any
	switch a.name {
	case "stats", "stats-keys":
		shown, err = a.stats(ctx, client)
	case "peek":
		var items []string
		items, err = client.LRange(ctx, key(a.queue), -a.items, -1).Result()
		shown = map[string]any{"queue": key(a.queue), "items": items}
	case "bench":
		shown, err = a.bench(ctx, client)
	case "purge-dlq", "purge-all":
		if !a.yes {
			return errors.New("not without -yes")
		}
		shown, err = a.purge(ctx, client)
	default:
		return fmt.Errorf("unknown command %q", a.name)
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(shown)
}

func key(alias string) string {
	switch alias {
	case "completed":
		return completedList
	case "dead_letter":
		return deadLetterList
	}
	return queues[alias]
}

func (a adminCommand) stats(ctx context.Context, client *redis.Client) (map[string]any, error) {
	lengths := map[string]int64{}
	for _, alias := range []string{"high", "low", "completed", "dead_letter"} {
		lengths[alias] = client.LLen(ctx, key(alias)).Val()
	}
	listsAtOnce, heartbeatsAtOnce := int64(200), int64(500)
	if a.name == "stats-keys" {
		listsAtOnce, heartbeatsAtOnce = 500, 1000
	}
	lists, err := scan(ctx, client, processingList("*"), listsAtOnce)
	if err != nil {
		return nil, err
	}
	held := int64(0)
	for _, list := range lists {
		held += client.LLen(ctx, list).Val()
	}
	heartbeats, err := scan(ctx, client, heartbeatKey("*"), heartbeatsAtOnce)
	if a.name == "stats-keys" {
		client.TTL(ctx, rateLimitKey)
	}
	return map[string]any{"queues": lengths, "processing_items": held, "heartbeats": len(heartbeats)}, err
}

// bench enqueues jobs whose ids are empty, and waits until as many are completed.
func (a adminCommand) bench(ctx context.Context, client *redis.Client) (map[string]any, error) {
	client.Del(ctx, completedList)
	ticker := time.NewTicker(time.Second / time.Duration(a.rate))
	defer ticker.Stop()
	for number := range a.count {
		<-ticker.C
		made := job{
			ID:           fmt.Sprintf("bench-%d", number),
			FilePath:     fmt.Sprintf("/bench/%d", number),
			FileSize:     int64(a.size),
			Priority:     a.priority,
			CreationTime: time.Now().UTC().Format(time.RFC3339Nano),
		}
		if err := client.LPush(ctx, key(a.priority), made.marshal()).Err(); err != nil {
			return nil, err
		}
	}
	for until := time.Now().Add(benchPatience); time.Now().Before(until); {
		if client.LLen(ctx, completedList).Val() >= int64(a.count) {
			break
		}
		sleep(ctx, 50*time.Millisecond)
	}
	client.LRange(ctx, completedList, 0, -1)
	return map[string]any{"count": a.count}, nil
}

func (a adminCommand) purge(ctx context.Context, client *redis.Client) (map[string]any, error) {
	if a.name == "purge-dlq" {
		return map[string]any{"purged": true}, client.Del(ctx, deadLetterList).Err()
	}
	keys := []string{queues["high"], queues["low"], completedList, deadLetterList, rateLimitKey}
	deleted, err := client.Del(ctx, keys...).Result()
	for _, pattern := range []string{processingList("*"), heartbeatKey("*")} {
		if err != nil {
			break
		}
		var found []string
		if found, err = scan(ctx, client, pattern, 500); err == nil && len(found) > 0 {
			deleted += client.Del(ctx, found...).Val()
		}
	}
	return map[string]any{"purged": deleted}, err
}
