package process

import (
	"syscall"
	"time"
)

const glance = 10 * time.Millisecond

// Stop has all commands end, those too that were left running: SIGTERM, and up to *grace* for them to go. No more are
// started.
func (t *Table) Stop(grace time.Duration) {
	t.terminateAll()
	for deadline := time.Now().Add(grace); t.busy() && time.Now().Before(deadline); {
		time.Sleep(glance)
	}
}

func (t *Table) terminateAll() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stopping = true
	for _, running := range t.byPID {
		running.terminate()
	}
	for _, running := range t.lingering {
		running.terminate()
	}
}

// busy tells whether anything of a command still runs.
func (t *Table) busy() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, running := range t.lingering {
		if !running.group.empty() {
			return true
		}
	}
	return len(t.byPID) > 0
}

// refuse needs the lock. It is why no process may be started, nil when one may.
func (t *Table) refuse() error {
	if t.stopping {
		return syscall.ESHUTDOWN
	}
	return nil
}
