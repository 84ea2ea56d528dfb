package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"

	"istio.io/istio/pkg/config/analysis/analyzers"
	"istio.io/istio/pkg/config/analysis/diag"
	"istio.io/istio/pkg/config/analysis/local"
	"istio.io/istio/pkg/config/resource"
)

// analyze runs all of Istio's analyzers over the YAML documents of in, as `istioctl analyze
// --use-kube=false` does, and prints their messages, a JSON list.
func analyze(args []string, in io.Reader, out io.Writer) error {
	flags := flag.NewFlagSet("istio-analyze", flag.ContinueOnError)
	namespace := flags.String("namespace", "", "the only namespace to look at; empty: all")
	if err := flags.Parse(args); err != nil {
		return err
	}
	analyzer := local.NewIstiodAnalyzer(analyzers.AllCombined(), resource.Namespace(*namespace), "istio-system", nil)
	if err := analyzer.AddDefaultResources(); err != nil {
		return err
	}
	if err := analyzer.AddReaderKubeSource([]local.ReaderSource{{Name: "stdin", Reader: in}}); err != nil {
		return fmt.Errorf("reading the objects: %w", err)
	}
	result, err := analyzer.Analyze(make(chan struct{}))
	if err != nil {
		return err
	}
	messages := result.Messages
	if messages == nil {
		messages = diag.Messages{}
	}
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(messages)
}
