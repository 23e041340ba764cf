package ports

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"
)

func listen(t *testing.T, address string) (*net.TCPListener, int) {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Skip(err) // no IPv6 here
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener.(*net.TCPListener), listener.Addr().(*net.TCPAddr).Port
}

// A server is reached wherever it listens on the loopback: on IPv4, on IPv6 alone, and on all addresses.
func TestDial(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "[::1]:0", "0.0.0.0:0", "[::]:0"} {
		t.Run(address, func(t *testing.T) {
			listener, port := listen(t, address)
			conn, err := Dial(port, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			other, err := listener.Accept()
			if err != nil {
				t.Fatal(err)
			}
			_, _ = other.Write([]byte("hello"))
			_ = other.Close()
			if got, err := io.ReadAll(conn.file); string(got) != "hello" || err != nil {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}

// Where nobody listens, that is said at once; on 127.0.0.5 alone is nowhere.
func TestRefused(t *testing.T) {
	_, port := listen(t, "127.0.0.5:0")
	if _, err := Dial(port, nil); err != syscall.ECONNREFUSED {
		t.Error(err)
	}
}

// A port from which connections are made is never connected to itself, however often it is tried.
func TestNotItself(t *testing.T) {
	listener, port := listen(t, "127.0.0.1:0")
	_ = listener.Close()
	for range 60000 { // Linux connects from even ports and binds to odd ones, or the other way round
		if conn, err := Dial(port^1, nil); err != syscall.ECONNREFUSED {
			t.Fatal(conn, err)
		}
	}
}

// Who does not wait any more stops the attempt to reach a server that has too many waiting.
func TestGone(t *testing.T) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	address, _ := syscall.Getsockname(fd)
	port := address.(*syscall.SockaddrInet4).Port
	gone := make(chan struct{})
	time.AfterFunc(200*time.Millisecond, func() { close(gone) })
	for range 10 {
		conn, err := Dial(port, gone)
		if err == ErrGone {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	t.Error("a queue of none takes ten")
}

// What listens is found with its address, and what belongs to the processes that were named comes first.
func TestListeners(t *testing.T) {
	_, four := listen(t, "127.0.0.5:0")
	_, six := listen(t, "[::1]:0")
	found := Listeners([]int{os.Getpid()}, true)
	for _, want := range []Listener{{Address: "127.0.0.5", Port: four}, {Address: "0:0:0:0:0:0:0:1", Port: six}} {
		at := slices.IndexFunc(found, func(l Listener) bool { return l.Address == want.Address && l.Port == want.Port })
		if at < 0 || !found[at].Own || at > 1 {
			t.Errorf("%v is at %d of %v", want, at, found)
		}
	}
	for _, listener := range Listeners(nil, true) {
		if listener.Own {
			t.Error(listener, " is nobody's")
		}
	}
	for _, listener := range Listeners(nil, false) {
		if !listener.Own {
			t.Error(listener, " may be theirs")
		}
	}
}

// The kernel's tables are read as it writes them.
func TestParse(t *testing.T) {
	const rest = " 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0000000000000000 100 0 0 10 0\n"
	got, ok := parse("   0: 0100007F:1F90" + rest)
	if want := (Listener{Address: "127.0.0.1", Port: 8080, inode: "4711"}); got != want || !ok {
		t.Errorf("%v", got)
	}
	got, ok = parse("   1: B80D0120000000000000000001000000:0050" + rest)
	if want := (Listener{Address: "2001:db8:0:0:0:0:0:1", Port: 80, inode: "4711"}); got != want || !ok {
		t.Errorf("%v", got)
	}
	for _, line := range []string{
		"", "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n",
		"   0: 0100007F:1F90 0100007F:9999 01" + rest[17:], "   0: 0100007F" + rest, "   0: 01007F:1F90" + rest, "   0: 0100007F:11F90" + rest,
	} {
		if got, ok := parse(line); ok {
			t.Errorf("%q is %v", line, got)
		}
	}
}

// A table that is not there, and a process that has ended, are nothing.
func TestNothing(t *testing.T) {
	if found := table(filepath.Join(t.TempDir(), strconv.Itoa(1))); found != nil {
		t.Error(found)
	}
	if found := sockets([]int{1 << 30}); len(found) > 0 {
		t.Error(found)
	}
}
