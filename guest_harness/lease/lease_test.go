package lease

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

func at(t *testing.T, text string, age time.Duration) {
	t.Helper()
	before := path
	t.Cleanup(func() { path = before })
	path = filepath.Join(t.TempDir(), "keepalive")
	if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
	when := time.Now().Add(-age)
	if err := os.Chtimes(path, when, when); err != nil {
		t.Fatal(err)
	}
}

// A lease counts from when it was written, and lasts a day at most.
func TestLeft(t *testing.T) {
	const second = time.Second
	for _, lease := range []struct {
		text      string
		age, left time.Duration
	}{
		{"300\n", 0, 300 * second}, {"300", 100 * second, 200 * second}, {" 1.5 ", 0, 1500 * time.Millisecond}, {"5", 60 * second, 0},
		{"999999999999", 0, Longest}, {"60", -time.Hour, 60 * second}, {"0", 0, 0}, {"", 10 * second, 0}, {"", 0, second},
	} {
		at(t, lease.text, lease.age)
		if got := Left(); (got - lease.left).Abs() > second/2 {
			t.Errorf("%q after %v: %v", lease.text, lease.age, got)
		}
	}
}

// What is no number of seconds is no lease.
func TestHostile(t *testing.T) {
	for _, text := range []string{
		"-1", "+5", "inf", "nan", "1e9", "0x10", "300 s", "1.2.3", "1_000", ".", "3\x00", "99999999999999999999", "٣", "5\n5", string(make([]byte, 100)),
	} {
		at(t, text, 0)
		if got := Left(); got != 0 {
			t.Errorf("%q: %v", text, got)
		}
	}
}

// What is no file is no lease, and nobody waits for it.
func TestNoFile(t *testing.T) {
	at(t, "300", 0)
	target := path
	for name, replace := range map[string]func() error{
		"nothing":   func() error { return nil },
		"a FIFO":    func() error { return syscall.Mkfifo(path, 0o666) },
		"a link":    func() error { return os.Symlink(target+".real", path) },
		"directory": func() error { return os.Mkdir(path, 0o755) },
	} {
		_ = os.RemoveAll(path)
		_ = os.WriteFile(target+".real", []byte("300"), 0o666)
		if err := replace(); err != nil {
			t.Fatal(err)
		}
		if got := Left(); got != 0 {
			t.Errorf("%s: %v", name, got)
		}
	}
}
