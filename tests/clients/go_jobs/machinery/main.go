// machinery as anybody would use it.
package main

import (
	"context"
	"log"
	"os"
	"time"

	"github.com/RichardKnop/machinery/v2"
	backend "github.com/RichardKnop/machinery/v2/backends/redis"
	broker "github.com/RichardKnop/machinery/v2/brokers/redis"
	"github.com/RichardKnop/machinery/v2/config"
	lock "github.com/RichardKnop/machinery/v2/locks/eager"
	logging "github.com/RichardKnop/machinery/v2/log"
	"github.com/RichardKnop/machinery/v2/tasks"

	"go-jobs/say"
)

func main() {
	role, address, options := say.Arguments()
	logging.Set(log.New(os.Stderr, "", 0))
	server := connect(address, options.Client)
	switch role {
	case "work":
		work(server, options)
	case "produce":
		produce(server, options)
	case "send":
		for _, one := range options.Jobs {
			signature := sign(one.Job)
			signature.RetryCount = one.Retries
			say.Line(map[string]any{"id": send(server, signature)})
		}
	}
}

func connect(address, client string) *machinery.Server {
	settings := &config.Config{
		DefaultQueue:    "mails",
		ResultsExpireIn: 3600,
		NoUnixSignals:   true,
		Redis:           &config.RedisConfig{MaxIdle: 5, DelayedTasksPollPeriod: 50, NormalTasksPollPeriod: 1000},
	}
	if client == "go-redis" {
		addresses := []string{address}
		return machinery.NewServer(
			settings, broker.NewGR(settings, addresses, 0), backend.NewGR(settings, addresses, 0), lock.New())
	}
	return machinery.NewServer(
		settings, broker.New(settings, address, "", "", 0), backend.New(settings, address, "", "", 0), lock.New())
}

func sign(job say.Job) *tasks.Signature {
	return &tasks.Signature{Name: job.Kind, Args: []tasks.Arg{
		{Type: "int", Value: job.N}, {Type: "int", Value: job.Ms}, {Type: "string", Value: job.Note},
	}}
}

func send(server *machinery.Server, signature *tasks.Signature) string {
	_, err := server.SendTask(signature)
	say.Must(err)
	return signature.UUID
}

func work(server *machinery.Server, options say.Options) {
	runner := say.Runner{Second: options.Second, Nest: func(n int) error {
		_, err := server.SendTask(sign(say.Job{Kind: "add", N: n}))
		return err
	}}
	for _, kind := range []string{"add", "flaky", "broken", "later", "nest", "slow"} {
		say.Must(server.RegisterTask(kind, func(ctx context.Context, n, ms int, note string) error {
			signature := tasks.SignatureFromContext(ctx)
			carried, _ := signature.Headers["traceparent"].(string)
			return runner.Run(signature.UUID, carried, say.Job{Kind: kind, N: n, Ms: ms})
		}))
	}
	worker := server.NewWorker("worker", 1)
	failed := make(chan error, 1)
	worker.LaunchAsync(failed)
	say.UntilTold()
	worker.Quit()
}

func produce(server *machinery.Server, options say.Options) {
	retried := func(kind string, n, count int) {
		signature := sign(say.Job{Kind: kind, N: n})
		signature.RetryCount = count
		send(server, signature)
	}
	for n := range options.Rounds {
		send(server, sign(say.Job{Kind: "add", N: n, Note: "private"}))
		retried("flaky", n, 2)
		retried("broken", n, 1)
		send(server, sign(say.Job{Kind: "nest", N: n}))
		for two := range 2 {
			later := sign(say.Job{Kind: "later", N: n + two})
			due := time.Now().UTC().Add(300 * time.Millisecond)
			later.ETA = &due
			send(server, later)
		}
		group, err := tasks.NewGroup(sign(say.Job{Kind: "add", N: 10 + n}), sign(say.Job{Kind: "add", N: 20 + n}))
		say.Must(err)
		_, err = server.SendGroup(group, 0)
		say.Must(err)
		first, second := sign(say.Job{Kind: "add", N: 30 + n}), sign(say.Job{Kind: "add", N: 40 + n})
		second.Immutable = true
		first.Immutable = true
		chain, err := tasks.NewChain(first, second)
		say.Must(err)
		_, err = server.SendChain(chain)
		say.Must(err)
		say.Line(map[string]any{"chain": []string{first.UUID, second.UUID}})
	}
}
