package calls

import (
	"bytes"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"aegis/guest_harness/testhost"
)

func terminal(t *testing.T, host *testhost.Host, script string) *testhost.Stream {
	t.Helper()
	return host.Open(call(t, map[string]any{
		"call": "process", "id": t.Name(), "argv": []string{"/bin/sh", "-c", script}, "env": map[string]string{},
		"cwd": nil, "user": nil, "stdin": true, "tty": map[string]int{"rows": 24, "cols": 80},
	}))
}

// A terminal's output is one stream; its input's end is typed.
func TestTerminal(t *testing.T) {
	stream := terminal(t, booted(t), "stty -echo -opost; stty size; echo err >&2; cat; exit 3")
	_, _ = stream.Write(append(stdin([]byte("typed\n")), stdin(nil)...))
	got := collect(t, stream)
	// The input may come before the command has turned the echo off.
	text := strings.Replace(string(got.stdout), "typed\r\n", "", 1)
	if !strings.HasPrefix(text, "24 80\nerr\n") || len(got.stderr) > 0 || got.last()["code"] != 3.0 {
		t.Errorf("got %q %q %v", got.stdout, got.stderr, got.last())
	}
}

// All of a large output passes a terminal, though it holds a page.
func TestTerminalLargeOutput(t *testing.T) {
	const size = 3 << 20
	got := collect(t, terminal(t, booted(t), "stty -opost; head -c 3145728 /dev/zero | tr '\\0' x"))
	if len(got.stdout) != size || bytes.Count(got.stdout, []byte("x")) != size {
		t.Errorf("%d bytes came", len(got.stdout))
	}
}

// A terminal's end does not wait for what was left running, whose output is dropped.
func TestTerminalDrain(t *testing.T) {
	began := time.Now()
	got := collect(t, terminal(t, booted(t), "trap '' HUP; stty -opost; (sleep 5; head -c 100000 /dev/zero) & head -c 9000 /dev/zero; echo $!"))
	if len(got.stdout) < 9000 || time.Since(began) > 4*time.Second {
		t.Errorf("%d bytes after %v", len(got.stdout), time.Since(began))
	}
	background := strings.Trim(string(got.stdout), "\x00\n")
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat("/proc/" + background); err != nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("what was left running is stuck")
		}
	}
}

// A command that writes without end after its shell has gone does not put off the end.
func TestTerminalFlood(t *testing.T) {
	got := collect(t, terminal(t, booted(t), "trap '' HUP; yes & sleep 0.2; echo $!; exit 4"))
	if got.last()["code"] != 4.0 {
		t.Errorf("got %v", got.last())
	}
	lines := strings.Fields(string(got.stdout))
	for _, pid := range lines {
		if pid != "y" {
			background, _ := strconv.Atoi(pid)
			if err := syscall.Kill(background, syscall.SIGKILL); err != nil {
				t.Errorf("%s: %v", pid, err)
			}
			return
		}
	}
	t.Error("what came before the end is lost")
}

// The size of a terminal changes by a call; a size that cannot be, and a command without a terminal, are refused.
func TestResize(t *testing.T) {
	host := booted(t)
	stream := terminal(t, host, "trap 'stty size; exit 0' WINCH; while :; do sleep 0.01; done")
	resize := func(rows, cols int) map[string]any {
		return lineOf(t, host.Open(call(t, map[string]any{"call": "resize", "id": t.Name(), "rows": rows, "cols": cols})))
	}
	for resize(50, 132)["found"] != true {
		time.Sleep(time.Millisecond)
	}
	for _, wrong := range [][2]int{{0, 80}, {24, 65536}, {-1, 1}} {
		if got := resize(wrong[0], wrong[1]); got["error"] != "rows and cols must be from 1 to 65535" {
			t.Errorf("got %v", got)
		}
	}
	for rows := 51; resize(rows, 132)["found"] == true; rows = 101 - rows { // it may not listen yet
		time.Sleep(10 * time.Millisecond)
	}
	got := collect(t, stream)
	for _, line := range strings.Split(strings.TrimSpace(string(got.stdout)), "\r\n") {
		if line != "50 132" && line != "51 132" {
			t.Errorf("got %q", line)
		}
	}
}

// When the host hangs up, a shell at a terminal is ended at once.
func TestTerminalHangUp(t *testing.T) {
	host := booted(t)
	stream := terminal(t, host, "trap '' TERM; while :; do sleep 0.05; done")
	time.Sleep(200 * time.Millisecond)
	began := time.Now()
	_ = stream.Close()
	if got := collect(t, stream); got.last()["signal"] != 1.0 || time.Since(began) > 4*time.Second {
		t.Errorf("%v after %v", got.last(), time.Since(began))
	}
}
