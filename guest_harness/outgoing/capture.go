// Package outgoing gives the host every TCP connection that a program in the guest opens, before it is made: the program
// learns that it is connected, or refused, when the host knows it.
//
// There is no network card: every address is a local one. A connection's first segment (SYN) gets to a listening socket
// that does not answer, and, by a raw socket, to us. When the host has connected, we send the segment once more with a
// mark, by which that socket takes it; when the host refuses, it is answered by a reset, as if nobody listened there.
package outgoing

import (
	"os"
	"sync"
	"syscall"
	"time"

	"aegis/guest_harness/console"
	"aegis/guest_harness/ports"
	"aegis/guest_harness/process"
	"aegis/guest_harness/wire"
	"aegis/guest_harness/yamux"
)

const (
	// mostPending is how many connections may be asked for at once; the host allows less.
	mostPending = 4096
	// acceptance is how long a program's kernel has to come for the connection that was made for it.
	acceptance  = 5 * time.Second
	longestLine = 4096
	// repetition is when a segment that was sent once more, and may have been lost, is sent again.
	repetition = time.Second
	// echo is how long a first segment that its kernel has sent again may take to be heard.
	echo = 5 * time.Second
)

// Host opens a stream to the host with its first bytes.
type Host func(first []byte) (*yamux.Stream, error)

// Capture is what takes the connections.
type Capture struct {
	host  Host
	count func() (gone func())
	sends map[bool]int // raw sockets, by whether they are for IPv6

	mu    sync.Mutex
	calls map[flow]*call
	open  int // of the calls, those that are not over
}

// call is a connection that the host is asked about, or was a moment ago.
type call struct {
	segment  []byte
	accepted chan int // gets the connection
	over     bool
}

// repeats tells whether *segment* is the same first segment: of another connection the number differs.
func (c *call) repeats(segment []byte) bool {
	return string(c.segment[4:8]) == string(segment[4:8])
}

// Start captures all connections from now on; *count* is told of each that is made.
func Start(host Host, count func() (gone func())) (*Capture, error) {
	listener, err := listen()
	if err != nil {
		return nil, err
	}
	if err := load(listener); err != nil {
		return nil, err
	}
	c := &Capture{host: host, count: count, sends: map[bool]int{}, calls: map[flow]*call{}}
	for six, family := range map[bool]int{false: syscall.AF_INET, true: syscall.AF_INET6} {
		sends, hears, err := raw(family)
		if err != nil {
			return nil, err
		}
		c.sends[six] = sends
		go c.hear(os.NewFile(uintptr(hears), "raw"), six)
	}
	go c.accept(os.NewFile(uintptr(listener), "listener"))
	return c, nil
}

// hear takes the first segments of connections.
func (c *Capture) hear(file *os.File, six bool) {
	conn, err := file.SyscallConn()
	packet, control := make([]byte, 2048), make([]byte, 256)
	for err == nil {
		var n, with int
		var from syscall.Sockaddr
		var failure error
		err = conn.Read(func(fd uintptr) bool {
			n, with, _, from, failure = syscall.Recvmsg(int(fd), packet, control, 0)
			return failure != syscall.EAGAIN
		})
		if err != nil || failure != nil {
			continue
		}
		if f, segment, ok := found(six, packet[:n], control[:with], from); ok {
			c.begin(f, append([]byte(nil), segment...))
		}
	}
	console.Log("outgoing: ", err.Error())
}

func found(six bool, packet, control []byte, from syscall.Sockaddr) (flow, []byte, bool) {
	if !six {
		return parse(packet)
	}
	server, ok := destination(control)
	loopback := server == address{six: true, bytes: [16]byte{15: 1}}
	if !ok || loopback || len(packet) < tcpHeader {
		return flow{}, nil, false
	}
	return flowOf(endOf(from).address, server, packet), packet, true
}

// begin asks the host about a connection; a segment that was sent once more is none.
func (c *Capture) begin(f flow, segment []byte) {
	c.mu.Lock()
	known := c.calls[f]
	if known != nil && (!known.over || known.repeats(segment)) {
		c.mu.Unlock()
		return
	}
	full := c.open >= mostPending
	if !full {
		known = &call{segment: segment, accepted: make(chan int, 1)}
		c.calls[f] = known
		c.open++
	}
	c.mu.Unlock()
	if full {
		c.refuse(f, segment)
		return
	}
	go c.ask(f, known)
}

func (c *Capture) ask(f flow, asked *call) {
	defer console.Survive("a connection", func() { c.end(f, asked, 0) })
	stream, connected := c.connect(f)
	if !connected {
		c.end(f, asked, 0)
		c.refuse(f, asked.segment)
		return
	}
	conn := c.take(f, asked)
	c.end(f, asked, echo)
	if conn == nil {
		stream.Reset()
		return
	}
	gone := c.count()
	defer gone()
	conn.Carry(stream, gone)
}

// connect has the host connect.
func (c *Capture) connect(f flow) (*yamux.Stream, bool) {
	stream, err := c.host(wire.Line(
		wire.Pair{Name: "call", Value: "outgoing"},
		wire.Pair{Name: "address", Value: f.server.address.String()},
		wire.Pair{Name: "port", Value: int(f.server.port)},
	))
	if err != nil {
		return nil, false
	}
	line, err := stream.ReadLine(longestLine)
	if err == nil {
		var answer any
		if answer, err = wire.Parse(line); err == nil && wire.Take(answer).Has("connected") {
			return stream, true
		}
	}
	stream.Reset()
	return nil, false
}

// take lets the program's kernel come for the connection; nil if the program does not want it any more.
func (c *Capture) take(f flow, asked *call) *ports.Conn {
	packet := datagram(f.client.address, f.server.address, asked.segment)
	for tries := acceptance / repetition; tries > 0; tries-- {
		send(c.sends[f.server.address.six], f.server.address, packet)
		select {
		case fd := <-asked.accepted:
			return ports.Adopt(fd)
		case <-time.After(repetition):
		}
	}
	return nil
}

// end ends a call, which is remembered for as long; a connection that came too late is closed.
func (c *Capture) end(f flow, asked *call, remembered time.Duration) {
	c.mu.Lock()
	if !asked.over {
		asked.over = true
		c.open--
	}
	c.mu.Unlock()
	if remembered == 0 {
		c.forget(f, asked)
	} else {
		time.AfterFunc(remembered, func() { c.forget(f, asked) })
	}
	select {
	case fd := <-asked.accepted:
		_ = syscall.Close(fd)
	default:
	}
}

func (c *Capture) forget(f flow, asked *call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.calls[f] == asked {
		delete(c.calls, f)
	}
}

func (c *Capture) refuse(f flow, segment []byte) {
	send(c.sends[f.server.address.six], f.client.address, datagram(f.server.address, f.client.address, refusal(segment)))
}

// accept gives each connection to who waits for it.
func (c *Capture) accept(file *os.File) {
	conn, err := file.SyscallConn()
	for err == nil {
		var fd int
		var from syscall.Sockaddr
		var failure error
		err = conn.Read(func(listener uintptr) bool {
			fd, from, failure = syscall.Accept4(int(listener), syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK)
			return failure != syscall.EAGAIN
		})
		if err != nil || failure != nil {
			if failure == syscall.EMFILE || failure == syscall.ENFILE || failure == syscall.ENOMEM {
				time.Sleep(10 * time.Millisecond)
			}
			continue
		}
		process.MakeRoom(fd)
		_ = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, detachFilter, 0)
		if to, err := syscall.Getsockname(fd); err != nil || !c.deliver(flow{endOf(from), endOf(to)}, fd) {
			_ = syscall.Close(fd)
		}
	}
	console.Log("outgoing: ", err.Error())
}

func (c *Capture) deliver(f flow, fd int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	asked := c.calls[f]
	if asked == nil || asked.over {
		return false
	}
	select {
	case asked.accepted <- fd:
		return true
	default:
		return false
	}
}
