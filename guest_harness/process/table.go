package process

import (
	"errors"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"aegis/guest_harness/users"
)

// Table holds the commands that run. Its lock is held while a process is forked, signalled or reaped: between these,
// a pid of ours is never another process.
type Table struct {
	users    *users.Directory
	hostname string
	null     int
	devpts   int // the directory of the guest's terminals

	mu        sync.Mutex
	byID      map[string]*Running
	byPID     map[int]*Running
	lingering []*Running // they have ended and left something running in their cgroup
	history   history
	sweeping  bool
	stopping  bool
	cgroups   cgroups
	oom       oomLog
}

// Running is a command from its start until its main process has been reaped.
type Running struct {
	PID    int
	Stdin  Input // nil when the command has none
	Stdout Output
	Stderr Output      // nil when it has a terminal: all that it writes there is stdout
	Ended  chan Status // gets one status

	over     chan struct{} // closed when it has ended
	id       string
	group    *cgroup // nil when there are no cgroups, and when nothing runs in it any more
	table    *Table
	kills    int       // for lack of memory, before it started
	terminal *keyboard // nil when it has none
}

// Input is our end of what a command reads.
type Input interface {
	io.WriteCloser
	// End tells the command that nothing more comes.
	End()
}

// NewTable prepares to run commands in the current root directory. It makes the directory *cgroupRoot* for their cgroups,
// or does without. Together they may have *limit* processes, 0 for what the memory allows.
func NewTable(hostname, cgroupRoot string, limit int) (*Table, error) {
	null, err := syscall.Open("/dev/null", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	devpts, err := syscall.Open("/dev/pts", oPath|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("open /dev/pts", err)
	}
	return &Table{
		devpts:   devpts,
		users:    users.NewDirectory(users.Files{Passwd: "/etc/passwd", Group: "/etc/group"}),
		hostname: hostname,
		null:     null,
		byID:     map[string]*Running{},
		byPID:    map[int]*Running{},
		cgroups:  newCgroups(cgroupRoot, limit),
		oom:      newOOMLog(),
	}, nil
}

// Accounts are the users that commands can run as.
func (t *Table) Accounts() *users.Directory {
	return t.users
}

// Signal sends a signal to the process group of a command and tells whether there is such a command.
func (t *Table) Signal(id string, number syscall.Signal) (bool, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	running := t.byID[id]
	if running == nil {
		return false, nil
	}
	return true, syscall.Kill(-running.PID, number)
}

// Resize sets the size of a command's terminal and tells whether there is such a command.
func (t *Table) Resize(id string, size Size) (bool, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	running := t.byID[id]
	if running == nil {
		return false, nil
	}
	if running.terminal == nil {
		return true, errors.New("the command has no terminal")
	}
	return true, running.terminal.resize(size)
}

// End ends all processes of a command, with *grace* between SIGTERM and SIGKILL, and tells whether there is one.
func (t *Table) End(id string, grace time.Duration) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	running := t.byID[id]
	if running == nil {
		return false
	}
	running.terminate()
	time.AfterFunc(grace, running.kill)
	return true
}

// runs needs the lock. It tells whether the main process has not been reaped: its number is still its own.
func (r *Running) runs() bool {
	return r.table.byPID[r.PID] == r
}

// terminate needs the lock. It goes by the process group and by the cgroup, since a process can leave either, and sends
// nobody two signals. A stopped process has to go on in order to end.
func (r *Running) terminate() {
	var targets []int
	if r.runs() {
		targets = append(targets, -r.PID)
	}
	if r.group != nil {
		for _, pid := range r.group.processes() {
			if leader, err := syscall.Getpgid(pid); err == nil && (leader != r.PID || !r.runs()) {
				targets = append(targets, pid)
			}
		}
	}
	for _, pid := range targets {
		_ = syscall.Kill(pid, syscall.SIGTERM)
		if r.terminal != nil { // a shell that a person types at heeds nothing else
			_ = syscall.Kill(pid, syscall.SIGHUP)
		}
		_ = syscall.Kill(pid, syscall.SIGCONT)
	}
}

func (r *Running) kill() {
	r.table.mu.Lock()
	defer r.table.mu.Unlock()
	if r.group != nil {
		r.group.kill()
	}
	if r.runs() {
		_ = syscall.Kill(-r.PID, syscall.SIGKILL)
	}
}
