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
	stage := func(port *Port, pipe, n int, send func(*Port, int) error) error {
		for n > 0 {
			got, err := port.Stage(pipe, n)
			if err != nil || got == 0 {
				return errors.Join(errors.New("nothing was staged"), err)
			}
			if err := send(port, got); err != nil {
				return err
			}
			n -= got
		}
		return nil
	}
	ways := map[string]func(port *Port, n int) error{
		"splice": (*Port).SendStage, "copy": func(port *Port, n int) error { return port.copy(port.stage[0], n) },
	}
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
			go func() { moved <- stage(port, pipe[0], len(sent), move) }()
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
			_ = syscall.SetNonblock(pipe[0], true)
			if n, err := port.Stage(pipe[0], 10); n != 0 || err != nil {
				t.Fatalf("%d bytes of an empty pipe: %v", n, err)
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
