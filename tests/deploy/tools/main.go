// Checks what no Python package has a schema for, by the code of those who read it: tools compose|podmonitor|restricted
// FILE.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"

	"github.com/compose-spec/compose-go/v2/cli"
	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	core "k8s.io/api/core/v1"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/yaml"
)

// compose reads the file as Docker Compose would, against its schema, and prints what comes of it.
func compose(file string) error {
	options, err := cli.NewProjectOptions([]string{file})
	if err != nil {
		return err
	}
	project, err := options.LoadProject(context.Background())
	if err != nil {
		return err
	}
	text, err := project.MarshalJSON()
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(text)
	return err
}

// podMonitor refuses what Prometheus Operator has no field for.
func podMonitor(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	return yaml.UnmarshalStrict(text, &monitoring.PodMonitor{})
}

// restricted judges a pod by the Pod Security Standard of that name.
func restricted(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var pod core.Pod
	if err := yaml.UnmarshalStrict(text, &pod); err != nil {
		return err
	}
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks())
	if err != nil {
		return err
	}
	level := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	verdict := policy.AggregateCheckResults(evaluator.EvaluatePod(level, &pod.ObjectMeta, &pod.Spec))
	if !verdict.Allowed {
		return errors.New(verdict.ForbiddenDetail())
	}
	return nil
}

func main() {
	checks := map[string]func(string) error{"compose": compose, "podmonitor": podMonitor, "restricted": restricted}
	if len(os.Args) != 3 || checks[os.Args[1]] == nil {
		log.Fatal("usage: tools compose|podmonitor|restricted FILE")
	}
	if err := checks[os.Args[1]](os.Args[2]); err != nil {
		log.Fatal(fmt.Errorf("%s: %w", os.Args[2], err))
	}
}
