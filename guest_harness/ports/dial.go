// Package ports is the way in to the TCP ports of the guest, and says what is wrong with one that nobody can reach.
package ports

import (
	"errors"
	"os"
	"syscall"
	"time"

	"aegis/guest_harness/process"
)

// ErrGone says that whoever asked for a connection does not wait for it any more.
var ErrGone = errors.New("nobody waits for it any more")

// Conn is a connection to a port of the guest.
type Conn struct {
	fd   int
	file *os.File
	raw  syscall.RawConn
	// abrupt is whether the host's loss of it is passed on as a reset.
	abrupt bool
}

// Dial connects to *port* on the guest's own loopback, by IPv6 where IPv4 is refused. It waits until *gone* is closed for
// a server that has too many connections waiting.
func Dial(port int, gone <-chan struct{}) (*Conn, error) {
	conn, err := dial(syscall.AF_INET, &syscall.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}, port, gone)
	if err != syscall.ECONNREFUSED {
		return conn, err
	}
	six := &syscall.SockaddrInet6{Port: port, Addr: [16]byte{15: 1}}
	if conn, err := dial(syscall.AF_INET6, six, port, gone); err == nil {
		return conn, nil
	}
	return nil, err
}

func dial(family int, address syscall.Sockaddr, port int, gone <-chan struct{}) (*Conn, error) {
	fd, err := syscall.Socket(family, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	process.MakeRoom(fd)
	_ = syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1)
	err = syscall.Connect(fd, address)
	if err == syscall.EINPROGRESS {
		err = connected(fd, address) // over loopback it is done by now, and nobody has to wait
	}
	if err != nil && err != syscall.EALREADY {
		syscall.Close(fd)
		return nil, err
	}
	conn := newConn(fd)
	if err != nil {
		err = conn.await(address, gone)
	}
	if err == nil && conn.leadsToItself(port) {
		err = syscall.ECONNREFUSED
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// connected is nil when the connection has been made, EALREADY when it takes longer, or why there is none.
func connected(fd int, address syscall.Sockaddr) error {
	err := syscall.Connect(fd, address)
	if err == syscall.EISCONN {
		return nil
	}
	return err
}

func newConn(fd int) *Conn {
	file := os.NewFile(uintptr(fd), "port")
	raw, _ := file.SyscallConn()
	return &Conn{fd: fd, file: file, raw: raw}
}

// Close closes it; what nobody has read by then resets it.
func (c *Conn) Close() {
	_ = c.file.Close()
}

func (c *Conn) await(address syscall.Sockaddr, gone <-chan struct{}) error {
	over := make(chan struct{})
	defer close(over)
	go func() {
		select {
		case <-gone:
			_ = c.file.SetWriteDeadline(time.Unix(1, 0))
		case <-over:
		}
	}()
	var outcome error
	err := c.raw.Write(func(fd uintptr) bool {
		outcome = connected(int(fd), address)
		return outcome != syscall.EALREADY
	})
	if err != nil {
		return ErrGone
	}
	return outcome
}

// leadsToItself tells whether it has the port at both ends, and so is both: where nobody listens on a port from which
// connections are made, too, the kernel may choose that very port, and TCP lets two ends meet that both call.
func (c *Conn) leadsToItself(port int) bool {
	here, err := syscall.Getsockname(c.fd)
	if err != nil {
		return false
	}
	switch here := here.(type) {
	case *syscall.SockaddrInet4:
		return here.Port == port
	case *syscall.SockaddrInet6:
		return here.Port == port
	}
	return false
}
