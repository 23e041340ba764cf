package process

import (
	"strconv"
	"syscall"
	"testing"
	"time"
)

// Stop ends what runs, and what was left running where there are cgroups to know it by, waits no longer than it has to,
// and lets nothing start.
func TestStop(t *testing.T) {
	tables(t, func(t *testing.T, table *Table) {
		left := sh(t, table, "sleep 100 >/dev/null 2>&1 & echo $!")
		orphan := line(t, left)
		ended(t, left)
		running := start(t, table, "sleep", "100")
		began := time.Now()
		table.Stop(10 * time.Second)
		if time.Since(began) > 5*time.Second || table.busy() {
			t.Error("it takes ", time.Since(began))
		}
		if got := ended(t, running); got.Signal != 15 {
			t.Errorf("got %+v", got)
		}
		if left.group != nil && alive(orphan) {
			t.Error("what was left running runs on")
		}
		if _, failure := table.Start(Command{ID: "late", Argv: []string{"true"}}); failure == nil {
			t.Error("a command starts while the guest stops")
		}
		if pid, err := strconv.Atoi(orphan); err == nil && table.cgroups.root == "" {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
}

// Stop waits for who ignores SIGTERM until the grace is over, and no longer.
func TestStopIsBounded(t *testing.T) {
	table := newTestTable(t, "")
	running := sh(t, table, "trap '' TERM; echo up; while :; do sleep 0.1; done")
	line(t, running)
	began := time.Now()
	table.Stop(300 * time.Millisecond)
	if took := time.Since(began); took < 300*time.Millisecond || took > 3*time.Second {
		t.Error("it took ", took)
	}
	running.kill()
	ended(t, running)
}
