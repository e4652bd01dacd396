// asynq as anybody would use it, 0.26 and before.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/hibiken/asynq"

	"go-jobs/say"
)

const queue = "mails"

var kinds = []string{"add", "flaky", "broken", "later", "nest", "slow", "grouped"}

func main() {
	role, address, options := say.Arguments()
	redis := asynq.RedisClientOpt{Addr: address}
	client := asynq.NewClient(redis)
	defer client.Close()
	switch role {
	case "work":
		work(redis, client, options)
	case "produce":
		produce(client, asynq.NewInspector(redis), options)
	case "send":
		for _, one := range options.Jobs {
			say.Line(map[string]any{"id": enqueue(client, one.Job, asynq.MaxRetry(one.Retries)).ID})
		}
	case "group":
		for n := range options.Rounds {
			enqueue(client, say.Job{Kind: "add", N: n}, asynq.Group("letters"))
		}
	}
}

func task(job say.Job) *asynq.Task {
	payload, err := json.Marshal(job)
	say.Must(err)
	return asynq.NewTask(job.Kind, payload)
}

func enqueue(client *asynq.Client, job say.Job, more ...asynq.Option) *asynq.TaskInfo {
	info, err := client.Enqueue(task(job), append(more, asynq.Queue(queue))...)
	say.Must(err)
	return info
}

func work(redis asynq.RedisClientOpt, client *asynq.Client, options say.Options) {
	runner := say.Runner{Second: options.Second, Nest: func(n int) error {
		_, err := client.Enqueue(task(say.Job{Kind: "add", N: n}), asynq.Queue(queue))
		return err
	}}
	mux := asynq.NewServeMux()
	handle := func(ctx context.Context, task *asynq.Task) error {
		var job say.Job
		if err := json.Unmarshal(task.Payload(), &job); err != nil {
			return err
		}
		id, _ := asynq.GetTaskID(ctx)
		return runner.Run(id, carried(task), job)
	}
	for _, kind := range kinds {
		mux.HandleFunc(kind, handle)
	}
	server := asynq.NewServer(redis, asynq.Config{
		Concurrency:              1,
		Queues:                   map[string]int{queue: 1},
		TaskCheckInterval:        100 * time.Millisecond,
		DelayedTaskCheckInterval: 100 * time.Millisecond,
		RetryDelayFunc:           func(int, error, *asynq.Task) time.Duration { return 0 },
		GroupGracePeriod:         time.Second,
		GroupAggregator: asynq.GroupAggregatorFunc(func(group string, tasks []*asynq.Task) *asynq.Task {
			return task(say.Job{Kind: "add", N: len(tasks)})
		}),
		LogLevel: asynq.WarnLevel,
	})
	say.Must(server.Start(mux))
	say.UntilTold()
	server.Shutdown()
}

// carried is the context that came with a task: before 0.26, a task has no headers.
func carried(task *asynq.Task) string {
	if with, ok := any(task).(interface{ Headers() map[string]string }); ok {
		return with.Headers()["traceparent"]
	}
	return ""
}

func produce(client *asynq.Client, inspector *asynq.Inspector, options say.Options) {
	kept := asynq.Retention(time.Minute)
	var infos []*asynq.TaskInfo
	add := func(job say.Job, more ...asynq.Option) { infos = append(infos, enqueue(client, job, more...)) }
	for n := range options.Rounds {
		add(say.Job{Kind: "add", N: n, Note: "private"})
		add(say.Job{Kind: "add", N: n}, asynq.Unique(time.Minute), kept)
		add(say.Job{Kind: "flaky", N: n}, asynq.MaxRetry(2))
		add(say.Job{Kind: "broken", N: n}, asynq.MaxRetry(1))
		add(say.Job{Kind: "later", N: n}, asynq.ProcessIn(time.Second))
		add(say.Job{Kind: "later", N: n}, asynq.ProcessIn(time.Second), asynq.Unique(time.Minute+time.Duration(n)))
		add(say.Job{Kind: "nest", N: n})
		add(say.Job{Kind: "add", N: n}, asynq.TaskID(fmt.Sprintf("custom-%d", n)), kept)
	}
	_, err := client.Enqueue(task(say.Job{Kind: "add"}), asynq.TaskID("custom-0"), asynq.Queue(queue))
	became := []any{}
	for _, info := range infos {
		became = append(became, []string{info.Type, outcome(inspector, info.ID)})
	}
	say.Line(map[string]any{"became": became, "conflict": errors.Is(err, asynq.ErrTaskIDConflict)})
}

func outcome(inspector *asynq.Inspector, id string) string {
	for {
		info, err := inspector.GetTaskInfo(queue, id)
		if errors.Is(err, asynq.ErrTaskNotFound) {
			return "gone"
		}
		say.Must(err)
		if info.State == asynq.TaskStateCompleted || info.State == asynq.TaskStateArchived {
			return info.State.String()
		}
		time.Sleep(20 * time.Millisecond)
	}
}
