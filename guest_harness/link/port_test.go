package link

import (
	"bytes"
	"errors"
	"io"
	"os"
	"syscall"
	"testing"
	"time"
)

func pair(t *testing.T) (*Port, *os.File) {
	t.Helper()
	ends, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	port, err := New(ends[0], "port", 20*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	host := os.NewFile(uintptr(ends[1]), "host")
	t.Cleanup(func() { _ = host.Close() })
	return port, host
}

// Splice moves the bytes that it was asked for and leaves the others, by pages and by copies.
func TestSplice(t *testing.T) {
	ways := map[string]func(port *Port, pipe, n int) error{"splice": (*Port).Splice, "copy": (*Port).copy}
	for name, move := range ways {
		t.Run(name, func(t *testing.T) {
			port, host := pair(t)
			var pipe [2]int
			if err := syscall.Pipe2(pipe[:], syscall.O_CLOEXEC); err != nil {
				t.Fatal(err)
			}
			sent := bytes.Repeat([]byte("0123456789"), 6000)
			if _, err := syscall.Write(pipe[1], append(sent, "rest"...)); err != nil {
				t.Fatal(err)
			}
			moved := make(chan error)
			go func() { moved <- move(port, pipe[0], len(sent)) }()
			got := make([]byte, len(sent))
			if _, err := io.ReadFull(host, got); err != nil || !bytes.Equal(got, sent) {
				t.Fatalf("other bytes came: %v", err)
			}
			if err := <-moved; err != nil {
				t.Fatal(err)
			}
			rest := make([]byte, 10)
			if n, err := syscall.Read(pipe[0], rest); string(rest[:n]) != "rest" {
				t.Fatalf("%q is left: %v", rest[:n], err)
			}
		})
	}
}

// A host that is away for a while is not lost, one that stays away is.
func TestLost(t *testing.T) {
	port, host := pair(t)
	if _, err := host.WriteString("x"); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 8)
	if n, err := port.Read(buffer); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	_ = host.Close()
	if _, err := port.Read(buffer); !errors.Is(err, ErrLost) {
		t.Fatal(err)
	}
}
