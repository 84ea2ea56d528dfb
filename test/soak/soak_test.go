package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"testing"

	"github.com/go-logr/logr"
	"sigs.k8s.io/controller-runtime/pkg/log"
)

func TestMain(m *testing.M) {
	flag.Parse()
	log.SetLogger(logr.Discard())
	if testing.Short() {
		fmt.Println("skipped: the test here starts a control plane (-short)")
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// TestSoak is the short form of the soak. Only replicas that are killed, replaced and given new certificates under load
// prove that no pod is lost by it.
func TestSoak(t *testing.T) {
	log := io.Discard
	if path := os.Getenv("SOAK_LOG"); path != "" {
		file, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		log = file
	}
	tally, err := run(t.Context(), shortForm(), t.Logf, log)
	if err != nil {
		t.Fatal(err)
	}
	var table bytes.Buffer
	if err := tally.Print(&table); err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s", table.String())
	if err := tally.Err(); err != nil {
		t.Error(err)
	}
}
