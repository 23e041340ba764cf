package process

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

func TestSignal(t *testing.T) {
	tables(t, func(t *testing.T, table *Table) {
		running := sh(t, table, "trap 'exit 7' HUP; (trap 'echo child; exit' HUP; echo up; while :; do sleep 0.01; done) & while :; do sleep 0.01; done")
		line(t, running)
		if found, err := table.Signal(t.Name(), syscall.SIGHUP); !found || err != nil {
			t.Fatal(found, err)
		}
		if got := line(t, running); got != "child" {
			t.Errorf("got %q", got)
		}
		if got := ended(t, running); got.Code != 7 {
			t.Errorf("got %+v", got)
		}
		if found, _ := table.Signal(t.Name(), syscall.SIGHUP); found || table.End(t.Name(), 0) {
			t.Error("an ended command was found")
		}
	})
}

func TestEndKills(t *testing.T) {
	tables(t, func(t *testing.T, table *Table) {
		running := sh(t, table, "trap '' TERM; (while :; do sleep 0.05; done) & echo $!; while :; do sleep 0.05; done")
		child := line(t, running)
		began := time.Now()
		if !table.End(t.Name(), 200*time.Millisecond) {
			t.Fatal("not found")
		}
		if got := ended(t, running); got.Signal != 9 || time.Since(began) < 200*time.Millisecond {
			t.Errorf("%+v after %v", got, time.Since(began))
		}
		eventually(t, "the child lives", func() bool { return !alive(child) })
	})
}

func TestEndFindsEscaped(t *testing.T) {
	root := cgroupRoot()
	if root == "" {
		t.Skip("no cgroup v2 that this user may change")
	}
	table := newTestTable(t, root)
	running := sh(t, table, "setsid sh -c 'trap \"\" TERM; echo $$; while :; do sleep 0.05; done' & wait")
	escaped := line(t, running)
	table.End(t.Name(), 200*time.Millisecond)
	if got := ended(t, running); got.Signal != 15 {
		t.Errorf("got %+v", got)
	}
	eventually(t, "the escaped process lives", func() bool { return !alive(escaped) })
	for range 2 * spares {
		if got := ended(t, sh(t, table, "exit 5")); got.Code != 5 {
			t.Fatalf("a later command: %+v", got)
		}
	}
}

func TestEndStopped(t *testing.T) {
	tables(t, func(t *testing.T, table *Table) {
		running := sh(t, table, "echo up; kill -STOP $$; sleep 100")
		line(t, running)
		time.Sleep(20 * time.Millisecond)
		table.End(t.Name(), 5*time.Second)
		if got := ended(t, running); got.Signal != 15 {
			t.Errorf("got %+v", got)
		}
	})
}

func TestEndFindsWhoLeft(t *testing.T) {
	root := cgroupRoot()
	if root == "" || os.Geteuid() != 0 {
		t.Skip("no cgroup v2 that this user may change")
	}
	table := newTestTable(t, root)
	running := sh(t, table, "echo $$ >"+filepath.Dir(root)+"/cgroup.procs; trap '' TERM; echo up; while :; do sleep 0.05; done")
	line(t, running)
	table.End(t.Name(), 100*time.Millisecond)
	if got := ended(t, running); got.Signal != 9 {
		t.Errorf("got %+v", got)
	}
}

func TestEndOnce(t *testing.T) {
	tables(t, func(t *testing.T, table *Table) {
		running := sh(t, table, "n=0; trap 'n=$((n+1))' TERM; echo up; i=0; while [ $i -lt 30 ]; do sleep 0.01; i=$((i+1)); done; exit $n")
		line(t, running)
		table.End(t.Name(), 5*time.Second)
		if got := ended(t, running); got.Code != 1 {
			t.Errorf("got %+v", got)
		}
	})
}
