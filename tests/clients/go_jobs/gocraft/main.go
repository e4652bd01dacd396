// gocraft/work as anybody would use it.
package main

import (
	"github.com/gocraft/work"
	"github.com/gomodule/redigo/redis"

	"go-jobs/say"
)

const namespace = "shop"

// fails is how often a job of each kind may fail.
var fails = map[string]uint{"add": 1, "flaky": 3, "broken": 2, "later": 1, "nest": 1, "slow": 1}

func main() {
	role, address, options := say.Arguments()
	pool := &redis.Pool{MaxIdle: 5, Dial: func() (redis.Conn, error) { return redis.Dial("tcp", address) }}
	defer pool.Close()
	enqueuer := work.NewEnqueuer(namespace, pool)
	switch role {
	case "work":
		consume(pool, enqueuer, options)
	case "produce":
		produce(enqueuer, options)
	case "send":
		for _, one := range options.Jobs {
			said(enqueuer.Enqueue(one.Kind, args(one.Job)))
		}
	}
}

func args(job say.Job) work.Q {
	return work.Q{"n": job.N, "ms": job.Ms, "once": job.Once, "note": job.Note}
}

func said(job *work.Job, err error) {
	say.Must(err)
	say.Line(map[string]any{"id": job.ID})
}

func consume(pool *redis.Pool, enqueuer *work.Enqueuer, options say.Options) {
	runner := say.Runner{Second: options.Second, Nest: func(n int) error {
		_, err := enqueuer.Enqueue("add", args(say.Job{N: n}))
		return err
	}}
	workers := work.NewWorkerPool(struct{}{}, 1, namespace, pool)
	for kind, most := range fails {
		atOnce := func(*work.Job) int64 { return 0 }
		workers.JobWithOptions(kind, work.JobOptions{MaxFails: most, Backoff: atOnce}, func(job *work.Job) error {
			payload := say.Job{
				Kind: job.Name,
				N:    int(job.ArgInt64("n")),
				Ms:   int(job.ArgInt64("ms")),
				Once: job.ArgBool("once"),
			}
			return runner.Run(job.ID, "", payload)
		})
	}
	workers.Start()
	say.UntilTold()
	workers.Stop()
}

func produce(enqueuer *work.Enqueuer, options say.Options) {
	for n := range options.Rounds {
		said(enqueuer.Enqueue("add", args(say.Job{N: n, Note: "private"})))
		said(enqueuer.Enqueue("flaky", args(say.Job{N: n})))
		said(enqueuer.Enqueue("broken", args(say.Job{N: n})))
		said(enqueuer.Enqueue("nest", args(say.Job{N: n})))
		said(enqueuer.EnqueueUnique("add", args(say.Job{N: 100 + n})))
		later, err := enqueuer.EnqueueIn("later", 1, args(say.Job{N: n}))
		said(later.Job, err)
		later, err = enqueuer.EnqueueUniqueIn("later", 1, args(say.Job{N: 100 + n}))
		said(later.Job, err)
		again, err := enqueuer.EnqueueUniqueIn("later", 1, args(say.Job{N: 100 + n}))
		say.Must(err)
		say.Line(map[string]any{"conflict": again == nil})
	}
}
