package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/check"
	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/live"
)

// checker has what a round of checks needs.
type checker struct {
	flags   checkFlags
	args    []string
	client  *live.Client
	options check.Options
	// progress shows what is done now.
	progress func(text string)
}

// round reads the cluster and runs the checks once.
func (c *checker) round(ctx context.Context) (*check.Report, error) {
	c.progress("reading the cluster")
	facts, err := check.Read(ctx, c.options)
	if err != nil {
		return nil, err
	}
	var workloads []*check.Workload
	var notes []string
	if !c.flags.before {
		if workloads, notes, err = c.workloads(ctx, facts); err != nil {
			return nil, err
		}
	}
	report := check.Run(facts, workloads, c.flags.selection())
	report.Notes = notes
	return report, nil
}

// workloads reads the workloads of the arguments, or those of the namespaces that request TLS.
func (c *checker) workloads(ctx context.Context, facts *check.Facts) ([]*check.Workload, []string, error) {
	namespaces := []string{c.client.Namespace}
	options := live.Options{Namespaces: namespaces, InstallNamespace: facts.Release.Namespace()}
	if c.flags.all {
		options.Namespaces, namespaces = nil, nil
	}
	cluster, err := live.Read(ctx, c.client, options)
	if err != nil {
		return nil, nil, err
	}
	if c.flags.all {
		for i := range facts.Namespaces {
			cluster.Add(&facts.Namespaces[i])
			if !slices.Contains(cluster.Config.ExcludedNamespaces, facts.Namespaces[i].Name) {
				namespaces = append(namespaces, facts.Namespaces[i].Name)
			}
		}
	}
	found, err := c.find(ctx, cluster, namespaces)
	if err != nil {
		return nil, nil, err
	}
	workloads, err := c.reader(cluster).Read(ctx, found)
	if err != nil {
		return nil, nil, err
	}
	if len(c.args) == 0 {
		workloads = slices.DeleteFunc(workloads, func(w *check.Workload) bool { return !w.Requests() })
	}
	return workloads, c.notes(cluster, workloads), nil
}

// reader returns the reader of workloads.
func (c *checker) reader(cluster *live.Cluster) *check.WorkloadReader {
	reader := &check.WorkloadReader{
		Cluster:   cluster,
		Sidecars:  &check.Exec{Config: c.client.REST, Client: c.options.Client},
		Selection: c.flags.selection(),
		OnePod:    len(c.args) == 0,
		Progress:  func(done, of int) { c.progress(fmt.Sprintf("checked %d of %d workloads", done, of)) },
	}
	if c.flags.sidecars != "" {
		reader.Sidecars = check.Files{Dir: c.flags.sidecars}
	}
	return reader
}

// notes returns what users must know about the workloads that were checked.
func (c *checker) notes(cluster *live.Cluster, workloads []*check.Workload) (notes []string) {
	if assumed := cluster.Install.Assumed; assumed != "" {
		notes = append(notes, assumed)
	}
	switch namespace := c.client.Namespace; {
	case len(workloads) > 0:
	case c.flags.all:
		notes = append(notes, "no workload requests TLS")
	case len(cluster.NotFound) > 0:
		notes = append(notes, "namespace "+namespace+" does not exist, so no workload was checked")
	default:
		notes = append(notes, "no workload of namespace "+namespace+" requests TLS; name another with -n, or use -A")
	}
	return notes
}

func (c *checker) find(ctx context.Context, cluster *live.Cluster, namespaces []string) ([]*live.Workload, error) {
	if len(c.args) > 0 {
		return cluster.Find(ctx, c.client.Namespace, c.args...)
	}
	var all []*live.Workload
	for _, namespace := range namespaces {
		found, err := cluster.Workloads(ctx, namespace)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}
