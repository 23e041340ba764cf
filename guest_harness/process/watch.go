package process

import (
	"bytes"
	"os"
	"strconv"
	"syscall"
	"time"
)

// remembered is of how many commands that have ended it is known how.
const remembered = 64

// Ending is how a command ended, or why it never began.
type Ending struct {
	Status  Status
	Failure *Failure // nil if it ran
}

// history holds how the last commands ended.
type history []past

type past struct {
	id     string
	ending Ending
}

func (h *history) add(id string, ending Ending) {
	if len(*h) == remembered {
		*h = append((*h)[:0], (*h)[1:]...)
	}
	*h = append(*h, past{id, ending})
}

// Over returns what is closed when a command has ended, nil when there is none of that name that runs.
func (t *Table) Over(id string) <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if running := t.byID[id]; running != nil {
		return running.over
	}
	return nil
}

// Ending returns how a command ended, nil when that is not known: it has not, or it is not of the last ones.
func (t *Table) Ending(id string) *Ending {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := len(t.history) - 1; i >= 0; i-- {
		if t.history[i].id == id {
			return &t.history[i].ending
		}
	}
	return nil
}

// Processes returns the ids of all processes of a command that runs, and whether they can be told from others.
func (t *Table) Processes(id string) ([]int, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	running := t.byID[id]
	if running == nil || running.group == nil {
		return nil, false
	}
	return running.group.processes(), true
}

// Count returns how many commands run.
func (t *Table) Count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.byPID)
}

const tick = time.Second / 100 // of /proc/stat, on every Linux

// Used returns the CPU time that all commands have used so far; where there are no cgroups, that of all processes.
func (t *Table) Used() time.Duration {
	var stat [512]byte
	if count, err := syscall.Pread(t.cgroups.usage, stat[:], 0); err == nil {
		line, _, _ := bytes.Cut(bytes.TrimPrefix(stat[:count], []byte("usage_usec ")), []byte("\n"))
		used, _ := strconv.ParseInt(string(line), 10, 64)
		return time.Duration(used) * time.Microsecond
	}
	text, _ := os.ReadFile("/proc/stat")
	line, _, _ := bytes.Cut(text, []byte("\n"))
	var used int64
	for i, field := range bytes.Fields(line) {
		if i >= 1 && i <= 3 { // user, nice and system
			ticks, _ := strconv.ParseInt(string(field), 10, 64)
			used += ticks
		}
	}
	return time.Duration(used) * tick
}
