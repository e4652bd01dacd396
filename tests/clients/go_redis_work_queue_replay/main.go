// A replay of go-redis-work-queue (read at commit a38bd19), for redspan's tests: not that system, and none of its code.
//
// It sends the commands which that system's producer, worker, reaper and admin command line send, in their order, with
// the client (go-redis v9.14.0) and the tracing (OpenTelemetry v1.38.0) that it requires.  Flags, settings, keys,
// metrics and the job's members have its names.  The module itself could not be had from the Go module proxy.  What the
// tests make this program send was compared, with MONITOR, with what that system's own binary sends in its place: the
// same commands, and equally often but for polls.
//
// Left out, since no test gets there: the circuit breaker, and the time that it pretends to work on files of 1 KiB or
// more.  What it calls work always ends at once here: failed where the file's path contains "fail".
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

func main() {
	role := flag.String("role", "", "producer, worker or admin")
	path := flag.String("config", "", "settings")
	var admin adminCommand
	flag.StringVar(&admin.name, "admin-cmd", "", "stats, stats-keys, peek, bench, purge-dlq or purge-all")
	flag.StringVar(&admin.queue, "queue", "", "peek: a priority, completed or dead_letter")
	flag.Int64Var(&admin.items, "n", 10, "peek: how many")
	flag.BoolVar(&admin.yes, "yes", false, "purge: really")
	flag.IntVar(&admin.count, "bench-count", 1000, "bench: how many jobs")
	flag.IntVar(&admin.rate, "bench-rate", 500, "bench: jobs a second")
	flag.StringVar(&admin.priority, "bench-priority", "low", "bench: their priority")
	flag.IntVar(&admin.size, "bench-payload-size", 1024, "bench: the file size that they claim")
	flag.Parse()

	settings, err := read(*path)
	if err != nil {
		log.Fatal(err)
	}
	stopTracing, err := startTracing(settings.Observability.Tracing)
	if err != nil {
		log.Fatal(err)
	}
	defer stopTracing()
	client := redis.NewClient(&redis.Options{
		Addr:            settings.Redis.Addr,
		PoolSize:        10 * runtime.NumCPU(),
		MinIdleConns:    5,
		DialTimeout:     5 * time.Second,
		ReadTimeout:     3 * time.Second,
		WriteTimeout:    3 * time.Second,
		MaxRetries:      3,
		ConnMaxIdleTime: 5 * time.Minute,
	})
	defer client.Close()

	// After SIGTERM a worker's commands fail unsent: a job that it holds stays in its processing list.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if *role != "admin" {
		serve(settings.Observability.MetricsPort, client)
		go sampleLengths(ctx, client)
	}
	switch *role {
	case "producer":
		err = produce(ctx, settings, client)
	case "worker":
		go reap(ctx, settings, client)
		work(ctx, settings, client)
	case "admin":
		err = admin.run(ctx, settings, client)
	default:
		err = fmt.Errorf("unknown role %q", *role)
	}
	if err != nil {
		log.Fatal(err)
	}
}

// settings are those of its settings that the tests change; the others stand here as it ships them.
type settings struct {
	Redis struct {
		Addr string `json:"addr"`
	} `json:"redis"`
	Worker struct {
		Count        int      `json:"count"`
		HeartbeatTTL duration `json:"heartbeat_ttl"`
		MaxRetries   int      `json:"max_retries"`
		Backoff      struct {
			Base duration `json:"base"`
			Max  duration `json:"max"`
		} `json:"backoff"`
	} `json:"worker"`
	Producer struct {
		ScanDir         string `json:"scan_dir"`
		RateLimitPerSec int64  `json:"rate_limit_per_sec"`
	} `json:"producer"`
	Observability struct {
		MetricsPort int             `json:"metrics_port"`
		Tracing     tracingSettings `json:"tracing"`
	} `json:"observability"`
}

type tracingSettings struct {
	Enabled  bool   `json:"enabled"`
	Endpoint string `json:"endpoint"`
}

const (
	completedList  = "jobqueue:completed"
	deadLetterList = "jobqueue:dead_letter"
	rateLimitKey   = "jobqueue:rate_limit:producer"
	popTimeout     = time.Second
	reapInterval   = 5 * time.Second
	sampleInterval = 2 * time.Second
)

var (
	priorities = []string{"high", "low"}
	queues     = map[string]string{"high": "jobqueue:high_priority", "low": "jobqueue:low_priority"}
)

func processingList(worker string) string { return "jobqueue:worker:" + worker + ":processing" }

func heartbeatKey(worker string) string { return "jobqueue:processing:worker:" + worker }

// job has its eight members, in its order. A member of any other name is lost when a job is marshalled again.
type job struct {
	ID           string `json:"id"`
	FilePath     string `json:"filepath"`
	FileSize     int64  `json:"filesize"`
	Priority     string `json:"priority"`
	Retries      int    `json:"retries"`
	CreationTime string `json:"creation_time"`
	TraceID      string `json:"trace_id"`
	SpanID       string `json:"span_id"`
}

func (j job) marshal() string {
	text, err := json.Marshal(j)
	if err != nil {
		log.Fatal(err)
	}
	return string(text)
}

// duration reads "1m30s".
type duration struct{ time.Duration }

func (d *duration) UnmarshalText(text []byte) (err error) {
	d.Duration, err = time.ParseDuration(string(text))
	return err
}

func read(path string) (s settings, err error) {
	text, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	return s, err
}
