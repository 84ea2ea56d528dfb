package harness

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Process is a command that the harness starts, and the only kind of process that it kills. It is in its own process
// group, so that a Ctrl-C in the terminal reaches only the process that stops it in order. The kernel kills it if the
// process that started it dies.
type Process struct {
	// Name is for messages. Path, Args and Env are the command.
	Name string
	Path string
	Args []string
	Env  []string
	// Log is the file that gets both outputs; a restart appends to it.
	Log string

	mu  sync.Mutex
	run *run
}

// run is one life of a Process.
type run struct {
	process *os.Process
	exited  chan struct{} // closed once it is reaped
	err     error         // of Wait, valid after exited
	ended   atomic.Bool   // by the harness
}

// Start starts the command. It is an error if it already runs.
func (p *Process) Start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.run.alive() {
		return fmt.Errorf("starting %s: it already runs", p.Name)
	}
	if err := os.MkdirAll(filepath.Dir(p.Log), 0o755); err != nil {
		return err
	}
	log, err := os.OpenFile(p.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	cmd := exec.Command(p.Path, p.Args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = p.Env, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}

	started := make(chan error)
	r := &run{exited: make(chan struct{})}
	go func() {
		// Pdeathsig is sent if the thread that forked dies, so that thread is locked while the command runs
		// (golang.org/issue/27505).
		runtime.LockOSThread()
		defer log.Close()
		if err := cmd.Start(); err != nil {
			started <- err
			return
		}
		r.process = cmd.Process
		started <- nil
		r.err = cmd.Wait()
		close(r.exited)
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("starting %s: %w", p.Name, err)
	}
	p.run = r
	return nil
}

// Alive reports whether the command runs (or is paused).
func (p *Process) Alive() bool { return p.current().alive() }

// Pid is the process id of the last start, 0 before the first.
func (p *Process) Pid() int {
	if r := p.current(); r != nil {
		return r.process.Pid
	}
	return 0
}

// Exited is closed when the current life of the command ends. It is nil before the first start.
func (p *Process) Exited() <-chan struct{} {
	if r := p.current(); r != nil {
		return r.exited
	}
	return nil
}

// Pause stops the command (SIGSTOP). Its connections stay open, and it answers nothing.
func (p *Process) Pause() error { return p.signal(syscall.SIGSTOP) }

// Resume continues a paused command.
func (p *Process) Resume() error { return p.signal(syscall.SIGCONT) }

// Kill ends the command as a crash would, and waits until it has ended.
func (p *Process) Kill() {
	if r := p.current(); r.alive() {
		r.ended.Store(true)
		_ = r.process.Kill() // an error means that it has just ended
		<-r.exited
	}
}

// Terminate sends SIGTERM and does not wait.
func (p *Process) Terminate() error {
	r := p.current()
	if r.alive() {
		r.ended.Store(true)
	}
	return p.signal(syscall.SIGTERM)
}

// Stop sends SIGTERM, and kills the command after the grace period. It returns an error if the command had already
// ended, or did not end with success.
func (p *Process) Stop(grace time.Duration) error {
	r := p.current()
	if !r.alive() {
		return p.Crashed()
	}
	r.ended.Store(true)
	_ = r.process.Signal(syscall.SIGCONT)
	_ = r.process.Signal(syscall.SIGTERM)
	select {
	case <-r.exited:
	case <-time.After(grace):
		p.Kill()
		return fmt.Errorf("%s did not end within %s of SIGTERM and was killed", p.Name, grace)
	}
	var exit *exec.ExitError
	if errors.As(r.err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGTERM {
		return nil
	}
	if r.err != nil {
		return fmt.Errorf("%s ended after SIGTERM with: %w%s", p.Name, r.err, p.Tail())
	}
	return nil
}

// Crashed returns how the command ended if it ended by itself, and nil otherwise.
func (p *Process) Crashed() error {
	r := p.current()
	if r == nil || r.alive() || r.ended.Load() {
		return nil
	}
	return fmt.Errorf("%s ended by itself: %w%s", p.Name, cmp.Or(r.err, errors.New("without an error")), p.Tail())
}

// Tail returns the last lines of the log, formatted for the end of an error message.
func (p *Process) Tail() string {
	content, err := os.ReadFile(p.Log)
	if err != nil || len(content) == 0 {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(content)), "\n")
	lines = lines[max(0, len(lines)-15):]
	return fmt.Sprintf("\n  last lines of %s:\n    %s", p.Log, strings.Join(lines, "\n    "))
}

func (p *Process) signal(s os.Signal) error {
	r := p.current()
	if !r.alive() {
		return fmt.Errorf("sending %s to %s: it does not run", s, p.Name)
	}
	return r.process.Signal(s)
}

func (p *Process) current() *run {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.run
}

func (r *run) alive() bool {
	if r == nil {
		return false
	}
	select {
	case <-r.exited:
		return false
	default:
		return true
	}
}
