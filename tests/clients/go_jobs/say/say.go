// Package say is what the programs have in common: PROGRAM ROLE URL [OPTIONS as JSON], lines of JSON, and what jobs do.
package say

import (
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/url"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// Job is the payload of every job.
type Job struct {
	Kind string `json:"kind"`
	N    int    `json:"n"`
	Ms   int    `json:"ms,omitempty"`
	Once bool   `json:"once,omitempty"`
	Note string `json:"note,omitempty"`
}

// Options are those that any of the programs knows.
type Options struct {
	Rounds int
	Second bool
	Client string
	Jobs   []struct {
		Job
		Retries int
	}
}

// Line says one thing.
func Line(said map[string]any) {
	line, err := json.Marshal(said)
	Must(err)
	os.Stdout.Write(append(line, '\n'))
}

// Must ends the program if there is an error.
func Must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// Arguments answers the role, Redis' host and port, and the options.
func Arguments() (string, string, Options) {
	address, err := url.Parse(os.Args[2])
	Must(err)
	options := Options{Rounds: 2}
	if len(os.Args) > 3 {
		Must(json.Unmarshal([]byte(os.Args[3]), &options))
	}
	return os.Args[1], address.Host, options
}

// UntilTold waits for SIGTERM.
func UntilTold() {
	Line(map[string]any{"ready": true})
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGTERM)
	<-told
}

// Runner does what jobs say, and says how it went.
type Runner struct {
	Second bool
	Nest   func(n int) error

	lock   sync.Mutex
	failed map[string]int
}

// Run does one attempt of a job.
func (r *Runner) Run(id, carried string, job Job) error {
	said := map[string]any{"id": id, "name": job.Kind, "carried": carried, "begin": time.Now().UnixMicro()}
	if job.Kind == "slow" {
		Line(said)
	}
	value, err := r.do(id, job)
	said["end"] = time.Now().UnixMicro()
	if err != nil {
		said["error"] = err.Error()
	} else {
		said["value"] = value
	}
	Line(said)
	return err
}

func (r *Runner) do(id string, job Job) (any, error) {
	switch job.Kind {
	case "add", "later":
		return job.N + 1, nil
	case "slow":
		if !job.Once || !r.Second {
			time.Sleep(time.Duration(job.Ms) * time.Millisecond)
		}
		return "slept", nil
	case "flaky":
		if count := r.count(id); count <= 2 {
			return nil, fmt.Errorf("secret %d", count)
		}
		return "at last", nil
	case "broken":
		return nil, errors.New("secret")
	case "nest":
		return "nested", r.Nest(job.N * 10)
	}
	return nil, fmt.Errorf("what is %s?", job.Kind)
}

// count is how often a job has been tried in this process.
func (r *Runner) count(id string) int {
	r.lock.Lock()
	defer r.lock.Unlock()
	if r.failed == nil {
		r.failed = map[string]int{}
	}
	r.failed[id]++
	return r.failed[id]
}
