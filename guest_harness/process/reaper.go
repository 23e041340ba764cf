package process

import (
	"os"
	"syscall"
	"time"
)

const sweepDelay = 50 * time.Millisecond

// Reap reaps every process that ends, orphans included, whenever *children* says that there may be some.
// Nothing else in the harness waits for a process.
func (t *Table) Reap(children <-chan os.Signal) {
	for range children {
		for t.reapOne() {
		}
	}
}

// reapOne tells whether there may be more.
func (t *Table) reapOne() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	var status syscall.WaitStatus
	pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
	if err == syscall.EINTR {
		return true
	}
	if err != nil || pid <= 0 {
		return false
	}
	if running := t.byPID[pid]; running != nil {
		t.bury(running, status)
	} else {
		t.sweepSoon()
	}
	return true
}

// bury needs the lock.
func (t *Table) bury(running *Running, status syscall.WaitStatus) {
	delete(t.byPID, running.PID)
	delete(t.byID, running.id)
	ended := Status{Code: status.ExitStatus()}
	if status.Signaled() {
		ended = Status{Code: 128 + int(status.Signal()), Signal: int(status.Signal())}
	}
	ended.Full = running.group != nil && running.group.refused()
	t.release(running)
	switch {
	case ended.Signal == int(syscall.SIGKILL):
		ended.OOM = t.oom.since(running.kills, running.PID)
	case ended.Code == 128+int(syscall.SIGKILL): // a shell whose command was killed says so by its own exit code
		ended.OOM = t.oom.since(running.kills, 0)
	}
	t.history.add(running.id, Ending{Status: ended})
	close(running.over)
	running.Ended <- ended
}

// release needs the lock. It takes back the command's cgroup, or keeps an eye on what still runs in it.
func (t *Table) release(running *Running) {
	switch {
	case running.group == nil:
	case running.group.empty() && t.cgroups.give(running.group):
		running.group = nil
	default:
		t.lingering = append(t.lingering, running)
	}
}

// sweepSoon needs the lock. It gathers the deaths of many orphans into one look at the groups that may be empty now.
func (t *Table) sweepSoon() {
	if t.sweeping || len(t.lingering) == 0 {
		return
	}
	t.sweeping = true
	time.AfterFunc(sweepDelay, t.sweep)
}

func (t *Table) sweep() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sweeping = false
	lingering := t.lingering
	t.lingering = nil
	for _, running := range lingering {
		t.release(running)
	}
}
