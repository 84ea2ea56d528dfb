package bed

import (
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

// reaperScript removes what this process made, once it is gone; it says what it needs.
//
//go:embed reaper.sh
var reaperScript string

// startReaper starts what cleans up where Stop cannot: after a panic, go test's -timeout, a SIGKILL, or a
// signal that comes while something is being made. It is in a session of its own, which no Ctrl-C
// reaches, and ends soon after this process.
func startReaper() error {
	// No other process gets the writing end, and nobody closes it but the end of this one.
	var pipe [2]int
	if err := syscall.Pipe2(pipe[:], syscall.O_CLOEXEC); err != nil {
		return fmt.Errorf("starting the reaper: %w", err)
	}
	end := os.NewFile(uintptr(pipe[0]), "the end of this process")
	defer end.Close()
	cmd := exec.Command("sh", "-c", reaperScript, "reaper", fmt.Sprint(os.Getpid()), os.TempDir())
	cmd.Stdin, cmd.SysProcAttr = end, &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting the reaper: %w", err)
	}
	return nil
}
