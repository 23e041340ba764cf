package yamux_test

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"

	"aegis/guest_harness/link"
	"aegis/guest_harness/testhost"
	"aegis/guest_harness/yamux"
)

// A stream of ours is opened by its first bytes, in the order of the numbers, whoever opens many at once.
func TestOpen(t *testing.T) {
	ends, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(ends[1]), "host")
	host, err := net.FileConn(file)
	_ = file.Close()
	if err != nil {
		t.Fatal(err)
	}
	port, err := link.New(ends[0], "test", 0)
	if err != nil {
		t.Fatal(err)
	}
	session := yamux.New(port, func(stream *yamux.Stream) { stream.Reset() })
	ended := make(chan error, 1)
	go func() { ended <- session.Serve() }()
	const count = 50
	answers := make(chan string, count)
	var opening sync.WaitGroup
	for range count {
		opening.Add(1)
		go func() {
			defer opening.Done()
			stream, err := session.Open([]byte("hello"))
			if err != nil {
				answers <- err.Error()
				return
			}
			line, err := stream.ReadLine(99)
			if err != nil {
				line = []byte(err.Error())
			}
			answers <- string(line)
			stream.Reset()
		}()
	}
	reader := bufio.NewReader(host)
	for number := uint32(2); number <= 2*count; number += 2 {
		frames := make([]byte, 2*yamux.HeaderSize+5)
		if _, err := io.ReadFull(reader, frames); err != nil {
			t.Fatal(err)
		}
		if frames[1] != testhost.Window || binary.BigEndian.Uint16(frames[2:]) != testhost.SYN ||
			binary.BigEndian.Uint32(frames[4:]) != number || string(frames[2*yamux.HeaderSize:]) != "hello" {
			t.Fatalf("stream %d: %v", number, frames)
		}
	}
	for number := uint32(2); number <= 2*count; number += 2 {
		_, _ = host.Write(testhost.Frame(testhost.Data, testhost.ACK, number, 4, []byte("yes\n")))
	}
	for range count {
		if answer := <-answers; answer != "yes" {
			t.Error(answer)
		}
	}
	opening.Wait()
	_ = host.Close()
	<-ended
	if _, err := session.Open([]byte("late")); err == nil {
		t.Error("a stream was opened to nobody")
	}
}
