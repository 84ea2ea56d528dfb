package bed

import (
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

// reaperScript removes the devices, namespaces and files of this process once the process ends.
//
//go:embed reaper.sh
var reaperScript string

// startReaper starts the process that cleans up if Stop cannot: after a panic, go test's -timeout, a SIGKILL, or a
// signal during the start. It has its own session, so Ctrl-C does not reach it. It ends soon after this process.
func startReaper() error {
	// Only this process has the write end, which closes when the process ends.
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
