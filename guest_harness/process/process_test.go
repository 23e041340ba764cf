package process

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"aegis/guest_harness/users"
)

// inherited are the descriptors that the tests were started with, which their children get too.
var inherited = descriptors()

func descriptors() []string {
	var names []string
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

// TestMain makes the tests the parent of all orphans, as PID 1 is.
func TestMain(m *testing.M) {
	const setChildSubreaper = 36
	_, _, _ = syscall.RawSyscall(syscall.SYS_PRCTL, setChildSubreaper, 1, 0)
	os.Exit(m.Run())
}

// tables calls *test* with a table that has cgroups, where the system gives them, and with one that has none.
func tables(t *testing.T, test func(t *testing.T, table *Table)) {
	t.Helper()
	for name, root := range map[string]string{"cgroups": cgroupRoot(), "groups": ""} {
		t.Run(name, func(t *testing.T) {
			if name == "cgroups" && root == "" {
				t.Skip("no cgroup v2 that this user may change")
			}
			test(t, newTestTable(t, root))
		})
	}
}

func cgroupRoot() string {
	for _, parent := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		root := filepath.Join(parent, fmt.Sprintf("aegis-test-%d-%d", os.Getpid(), time.Now().UnixNano()))
		if os.Mkdir(root, 0o755) != nil {
			continue
		}
		_, err := os.Stat(root + "/cgroup.kill")
		_ = os.Remove(root)
		if err == nil {
			return root
		}
	}
	return ""
}

func newTestTable(t *testing.T, root string) *Table {
	t.Helper()
	table, err := NewTable("here", root, 0)
	if err != nil {
		t.Fatal(err)
	}
	children := make(chan os.Signal, 1)
	signal.Notify(children, syscall.SIGCHLD)
	reaped := make(chan struct{})
	go func() {
		table.Reap(children)
		close(reaped)
	}()
	t.Cleanup(func() {
		signal.Stop(children)
		close(children)
		<-reaped
		if root != "" {
			eventually(t, "the cgroups stay", func() bool {
				table.sweep()
				for _, group := range table.cgroups.spare {
					_ = syscall.Rmdir(group.path)
				}
				return os.Remove(root) == nil
			})
		}
	})
	return table
}

func start(t *testing.T, table *Table, argv ...string) *Running {
	t.Helper()
	running, failure := table.Start(Command{ID: t.Name(), Argv: argv})
	if failure != nil {
		t.Fatalf("%v: %+v", argv, failure)
	}
	return running
}

func sh(t *testing.T, table *Table, script string) *Running {
	t.Helper()
	return start(t, table, "/bin/sh", "-c", script)
}

func ended(t *testing.T, running *Running) Status {
	t.Helper()
	select {
	case status := <-running.Ended:
		return status
	case <-time.After(10 * time.Second):
		t.Fatal("the command does not end")
	}
	return Status{}
}

// line reads what a command writes up to the first newline.
func line(t *testing.T, running *Running) string {
	t.Helper()
	defer time.AfterFunc(10*time.Second, running.Stdout.Stop).Stop()
	var text []byte
	for !bytes.HasSuffix(text, []byte("\n")) {
		if _, err := running.Stdout.Wait(); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		var char [1]byte
		if _, err := running.Stdout.Read(char[:]); err != nil {
			t.Fatal(err)
		}
		text = append(text, char[0])
	}
	return strings.TrimSpace(string(text))
}

// alive tells whether a process runs, and is not only waiting to be reaped.
func alive(pid string) bool {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(what)
		}
	}
}

// Exit codes and killing signals are reported.
func TestStatus(t *testing.T) {
	tables(t, func(t *testing.T, table *Table) {
		for script, want := range map[string]Status{
			"exit 0": {}, "exit 3": {Code: 3}, "kill -15 $$": {Code: 143, Signal: 15}, "kill -9 $$": {Code: 137, Signal: 9},
		} {
			if got := ended(t, sh(t, table, script)); got != want {
				t.Errorf("%s: %+v", script, got)
			}
		}
	})
}

// A command has its own session, default signals and none of our descriptors.
func TestSurroundings(t *testing.T) {
	table := newTestTable(t, cgroupRoot())
	running := sh(t, table, `echo $(ls /proc/$$/fd); echo $(cut -d' ' -f5,6 /proc/$$/stat) $$ $(grep -E 'Sig(Blk|Ign)' /proc/$$/status | cut -f2)`)
	for _, fd := range strings.Fields(line(t, running)) {
		if !slices.Contains([]string{"0", "1", "2", "10"}, fd) && !slices.Contains(inherited, fd) { // 10 is the shell's own
			t.Error("descriptor ", fd)
		}
	}
	got := strings.Fields(line(t, running))
	ended(t, running)
	pid := fmt.Sprint(running.PID)
	want := []string{pid, pid, pid, "0000000000000000", "0000000000000000"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// What cannot be started says why, as a shell would.
func TestFailures(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	foreign := "\x7fELF\x02\x01\x01" + strings.Repeat("\x00", 9) + "\x02\x00\x16\x00" + strings.Repeat("\x00", 60)
	write("plain", "exit 42\n", 0o755)
	write("noexec", "", 0o644)
	write("script", "#! /no/such/python -u\n", 0o755)
	write("crlf", "#!/bin/sh\r\necho\r\n", 0o755)
	write("foreign", foreign, 0o755)
	write("garbage", "\x00\x01\x02\n", 0o755)
	table := newTestTable(t, "")
	cases := []struct {
		argv0, cwd, user string
		code             int
		message          string
	}{
		{"nosuch", "", "", 127, "nosuch: not found in PATH (" + dir + ":/nowhere)"},
		{"", "", "", 127, ": not found in PATH (" + dir + ":/nowhere)"},
		{"/no/such", "", "", 127, "/no/such: no such file"},
		{"./nosuch", dir, "", 127, dir + "/nosuch: no such file"},
		{"script", "", "", 127, dir + "/script: its interpreter /no/such/python is missing"},
		{"crlf", "", "", 127, dir + `/crlf: its interpreter "/bin/sh\r" is missing: its lines end with CR LF`},
		{"noexec", "", "", 126, dir + "/noexec: permission denied: the file is not executable"},
		{dir, "", "", 126, dir + ": is a directory"},
		{"foreign", "", "", 126, dir + "/foreign: exec format error: the program is for s390x, this guest is "},
		{"garbage", "", "", 126, dir + "/garbage: exec format error: neither a program nor a script"},
		{"plain", "/no/such", "", 125, "working directory /no/such: no such file or directory"},
		{"plain", dir + "/plain", "", 125, "working directory " + dir + "/plain: not a directory"},
		{"plain", "", "no-such-user", 125, "no user named no-such-user in /etc/passwd"},
	}
	for _, c := range cases {
		env := map[string]string{"PATH": dir + ":/nowhere"}
		_, failure := table.Start(Command{ID: "x", Argv: []string{c.argv0}, Cwd: c.cwd, User: c.user, Env: env})
		if failure == nil || failure.Code != c.code || !strings.HasPrefix(failure.Message, c.message) {
			t.Errorf("%s: %+v", c.argv0, failure)
		}
	}
	running, failure := table.Start(Command{ID: "x", Argv: []string{"./plain"}, Cwd: dir})
	if failure != nil || ended(t, running).Code != 42 {
		t.Errorf("a script without an interpreter: %+v", failure)
	}
}

// The environment is ours, with the caller's on top.
func TestEnvironment(t *testing.T) {
	ann := users.Account{Name: "ann", UID: 5, Home: "/home/ann"}
	got := environ(environment(Command{Env: map[string]string{"HOME": "/x", "A": "b=c"}}, ann, "here"))
	slices.Sort(got)
	want := []string{"A=b=c", "HOME=/x", "HOSTNAME=here", "LOGNAME=ann", "PATH=" + defaultPath, "USER=ann"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	for _, term := range []string{"", "vt100"} {
		at := Command{Terminal: &Size{}, Env: map[string]string{"TERM": term}}
		if got := environment(at, ann, "here")["TERM"]; got != term {
			t.Errorf("TERM is %q", got)
		}
	}
	if got := environment(Command{Terminal: &Size{}}, ann, "here")["TERM"]; got != "xterm-256color" {
		t.Errorf("TERM is %q", got)
	}
	if _, named := environment(Command{}, users.Account{UID: 5, Home: "/"}, "here")["USER"]; named {
		t.Error("a user without a name has USER")
	}
}

// A command runs as the user it was given.
func TestUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can be somebody else")
	}
	table := newTestTable(t, "")
	running, failure := table.Start(Command{ID: "x", Argv: []string{"/bin/sh", "-c", "id -u; id -g; id -G"}, User: "4242:77"})
	if failure != nil {
		t.Fatal(failure.Message)
	}
	for _, want := range []string{"4242", "77", "77"} {
		if got := line(t, running); got != want {
			t.Errorf("got %q", got)
		}
	}
	ended(t, running)
}

// A signal reaches the whole process group; an unknown command is not found.
// End ends a tree of processes that ignore SIGTERM, and kills it no sooner than asked.
// End also ends who left the group by setsid, when there are cgroups; their cgroup is not used again.
// A stopped command can be ended.
// Orphans are reaped, and what a command leaves running keeps its cgroup until it ends.
func TestOrphans(t *testing.T) {
	tables(t, func(t *testing.T, table *Table) {
		running := sh(t, table, "(sleep 0.2) & echo $!; exit 4")
		orphan := line(t, running)
		if got := ended(t, running); got.Code != 4 {
			t.Errorf("got %+v", got)
		}
		if !alive(orphan) {
			t.Error("the orphan was killed")
		}
		eventually(t, "the orphan was not reaped", func() bool {
			_, err := os.Stat("/proc/" + orphan)
			return errors.Is(err, os.ErrNotExist)
		})
		eventually(t, "the cgroup lingers", func() bool {
			table.mu.Lock()
			defer table.mu.Unlock()
			return len(table.lingering) == 0
		})
	})
}

// Many commands at once are all reaped, each with its own status.
func TestManyAtOnce(t *testing.T) {
	table := newTestTable(t, cgroupRoot())
	var all []*Running
	for i := range 100 {
		running, failure := table.Start(Command{ID: fmt.Sprint(i), Argv: []string{"/bin/sh", "-c", fmt.Sprint("exit ", i)}})
		if failure != nil {
			t.Fatal(failure.Message)
		}
		all = append(all, running)
	}
	for i, running := range all {
		if got := ended(t, running); got.Code != i {
			t.Errorf("%d: %+v", i, got)
		}
	}
}

// Wait sees the end of a pipe, and Stop ends a wait for one that stays open.
func TestOutputEnds(t *testing.T) {
	table := newTestTable(t, "")
	running := sh(t, table, "echo x; sleep 0.3 & exit 0")
	line(t, running)
	ended(t, running)
	running.Stdout.Stop()
	if _, err := running.Stdout.Wait(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("stopped: %v", err)
	}
	done := make(chan struct{})
	go func() {
		running.Stdout.Discard()
		close(done)
	}()
	if _, err := running.Stderr.Wait(); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
	<-done
}

// End also ends a command that left its cgroup.
// Nobody gets SIGTERM twice.
// Of two commands with one id, the second is refused; the id of one that failed is free again.
func TestSameID(t *testing.T) {
	table := newTestTable(t, "")
	running := start(t, table, "sleep", "100")
	if _, why := table.Start(Command{ID: t.Name(), Argv: []string{"true"}}); why == nil || !strings.Contains(why.Message, "in use") {
		t.Errorf("got %+v", why)
	}
	table.End(t.Name(), time.Second)
	ended(t, running)
	for range 2 {
		if _, why := table.Start(Command{ID: t.Name(), Argv: []string{"/no/such"}}); why == nil || why.Code != notFound {
			t.Errorf("got %+v", why)
		}
	}
}
