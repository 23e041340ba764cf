package process

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"
)

// at starts a script at a terminal of its own.
func at(t *testing.T, table *Table, script string) *Running {
	t.Helper()
	running, failure := table.Start(Command{
		ID: t.Name(), Argv: []string{"/bin/sh", "-c", script}, Terminal: &Size{Rows: 30, Cols: 100},
	})
	if failure != nil {
		t.Fatalf("%+v", failure)
	}
	return running
}

// shown is all that comes until nobody has the terminal open.
func shown(t *testing.T, running *Running) string {
	t.Helper()
	defer time.AfterFunc(10*time.Second, running.Stdout.Stop).Stop()
	var text []byte
	for {
		if _, err := running.Stdout.Wait(); err == io.EOF {
			return string(text)
		} else if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		var piece [100]byte
		count, err := running.Stdout.Read(piece[:])
		if err != nil {
			t.Fatal(err)
		}
		text = append(text, piece[:count]...)
	}
}

// A terminal is its command's: controlling, of the size that was asked for, and all three streams.
func TestTerminal(t *testing.T) {
	tables(t, func(t *testing.T, table *Table) {
		running := at(t, table, `stty size; tty; tty <&1; tty <&2; echo $(cut -d' ' -f7,8 /proc/$$/stat) $$; stty -a | grep -o ' iutf8'`)
		if size := line(t, running); size != "30 100" {
			t.Errorf("its size is %s", size)
		}
		name := line(t, running)
		if !strings.HasPrefix(name, "/dev/pts/") || line(t, running) != name || line(t, running) != name {
			t.Errorf("its name is %s", name)
		}
		if got := strings.Fields(line(t, running)); len(got) != 3 || got[0] == "0" || got[1] != got[2] {
			t.Errorf("terminal, foreground group and process: %q", got)
		}
		if got := line(t, running); got != "iutf8" {
			t.Errorf("got %q", got)
		}
		if got := ended(t, running); got.Code != 0 {
			t.Errorf("got %+v", got)
		}
		_ = running.Stdin.Close()
		if rest := shown(t, running); rest != "" {
			t.Errorf("%q", rest)
		}
		running.Stdout.Close()
	})
}

// What is typed reaches the command, and the interrupt character everything in the foreground.
func TestKeyboard(t *testing.T) {
	table := newTestTable(t, "")
	running := at(t, table, "trap 'echo caught; exit 3' INT; stty -echo; echo up; read word; echo \"got $word\"; while :; do sleep 0.01; done")
	line(t, running)
	_, _ = running.Stdin.Write([]byte("a word\n"))
	if got := line(t, running); got != "got a word" {
		t.Errorf("got %q", got)
	}
	_, _ = running.Stdin.Write([]byte{3})
	if got := line(t, running); !strings.HasSuffix(got, "caught") {
		t.Errorf("got %q", got)
	}
	if got := ended(t, running); got.Code != 3 {
		t.Errorf("got %+v", got)
	}
}

// The end of the input ends a line that was begun, too; a terminal that has no such character is left alone.
func TestEndOfInput(t *testing.T) {
	table := newTestTable(t, "")
	for typed, want := range map[string]string{"": "", "one\n": "one\r\n", "one\ntwo": "one\r\ntwo"} {
		running := at(t, table, "stty -echo; echo up; exec cat")
		line(t, running)
		_, _ = running.Stdin.Write([]byte(typed))
		running.Stdin.End()
		status := ended(t, running)
		_ = running.Stdin.Close()
		if got := shown(t, running); got != want || status.Code != 0 {
			t.Errorf("%q: %q, %+v", typed, got, status)
		}
	}
	running := at(t, table, "stty -echo eof undef; echo up; read word; exit 5")
	line(t, running)
	running.Stdin.End()
	_, _ = running.Stdin.Write([]byte("\n"))
	if got := ended(t, running); got.Code != 5 {
		t.Errorf("got %+v", got)
	}
}

// A new size is there at once, and the command hears of it.
func TestResize(t *testing.T) {
	table := newTestTable(t, "")
	running := at(t, table, "trap 'stty size; exit 0' WINCH; echo up; while :; do sleep 0.01; done")
	line(t, running)
	if found, err := table.Resize(t.Name(), Size{Rows: 1, Cols: 65535}); !found || err != nil {
		t.Fatal(found, err)
	}
	if got := line(t, running); got != "1 65535" {
		t.Errorf("got %q", got)
	}
	ended(t, running)
	if found, err := table.Resize(t.Name(), Size{Rows: 1, Cols: 1}); found || err != nil {
		t.Error(found, err)
	}
	sh(t, table, "exec sleep 100")
	if found, err := table.Resize(t.Name(), Size{Rows: 1, Cols: 1}); !found || err == nil {
		t.Error("a command without a terminal was resized")
	}
	table.End(t.Name(), 0)
}

// Nothing of what a command writes before it ends is lost, however much of it nobody has read yet.
func TestScreenKeeps(t *testing.T) {
	table := newTestTable(t, "")
	for range 20 {
		running := at(t, table, "stty -opost; head -c 10000 /dev/zero | tr '\\0' x; echo .")
		ended(t, running)
		_ = running.Stdin.Close()
		if got := shown(t, running); len(got) != 10002 || !strings.HasSuffix(got, "x.\n") {
			t.Fatalf("%d bytes came", len(got))
		}
	}
}

// A terminal that somebody else still has open comes to no end, and can be dropped.
func TestScreenStaysOpen(t *testing.T) {
	table := newTestTable(t, "")
	running := at(t, table, "trap '' HUP; (sleep 0.5; head -c 200000 /dev/zero) & echo $!")
	background := line(t, running)
	ended(t, running)
	_ = running.Stdin.Close()
	running.Stdout.Stop()
	if _, err := running.Stdout.Wait(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	running.Stdout.Discard()
	eventually(t, "what was left running is stuck", func() bool { return !alive(background) })
}

// Input that nobody reads keeps nobody from closing the terminal, and no line is too long for it.
func TestKeyboardNeverStuck(t *testing.T) {
	table := newTestTable(t, "")
	for _, typed := range []string{strings.Repeat("x\n", 1<<20), strings.Repeat("x", 1<<20)} {
		running := at(t, table, "stty -echo; echo up; exec sleep 100")
		line(t, running)
		written := make(chan error, 1)
		go func() {
			_, err := running.Stdin.Write([]byte(typed))
			written <- err
		}()
		time.Sleep(50 * time.Millisecond)
		table.End(t.Name(), time.Second)
		if got := ended(t, running); got.Signal != 15 {
			t.Errorf("got %+v", got)
		}
		_ = running.Stdin.Close()
		select {
		case <-written:
		case <-time.After(5 * time.Second):
			t.Fatal("who typed is stuck")
		}
		running.Stdout.Discard()
	}
}

// A shell that a person types at ends by a hang-up, without waiting for SIGKILL.
func TestEndHangsUp(t *testing.T) {
	table := newTestTable(t, "")
	running := at(t, table, "trap '' TERM; echo up; while :; do sleep 0.05; done")
	line(t, running)
	table.End(t.Name(), 5*time.Second)
	if got := ended(t, running); got.Signal != 1 {
		t.Errorf("got %+v", got)
	}
}

// Nothing of a terminal is left when its command has ended or could not be started.
func TestTerminalLeavesNothing(t *testing.T) {
	table := newTestTable(t, "")
	count := func() int {
		entries, _ := os.ReadDir("/proc/self/fd")
		return len(entries)
	}
	for round, before := 0, 0; round < 20; round++ {
		if round == 1 { // the first one makes the runtime's poller
			before = count()
		}
		ended(t, closed(at(t, table, "exit 0")))
		if _, failure := table.Start(Command{ID: "x", Argv: []string{"/no/such"}, Terminal: &Size{Rows: 1, Cols: 1}}); failure == nil {
			t.Fatal("it was started")
		}
		if round > 0 && count() > before {
			t.Fatalf("%d descriptors, %d before", count(), before)
		}
	}
}

func closed(running *Running) *Running {
	_ = running.Stdin.Close()
	running.Stdout.Close()
	return running
}
