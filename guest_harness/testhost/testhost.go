// Package testhost is the host's side of the protocol, for tests.
package testhost

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
)

// Types and flags of yamux, as the host sends them.
const (
	Data, Window, Ping, GoAway = 0, 1, 2, 3
	SYN, ACK, FIN, RST         = 1, 2, 4, 8
)

// Frame returns the bytes of one yamux frame.
func Frame(kind byte, flags uint16, stream uint32, length uint32, payload []byte) []byte {
	out := []byte{0, kind}
	out = binary.BigEndian.AppendUint16(out, flags)
	out = binary.BigEndian.AppendUint32(out, stream)
	return append(binary.BigEndian.AppendUint32(out, length), payload...)
}

// Host is the client of one session.
type Host struct {
	Conn  net.Conn
	Pongs chan uint32

	mu      sync.Mutex
	next    uint32
	streams map[uint32]*Stream
}

// Stream is one stream that the host opened. It reads without limit: the window is raised as bytes are read.
type Stream struct {
	host    *Host
	id      uint32
	changed *sync.Cond
	got     []byte
	credit  uint32
	ended   bool
	reset   bool
	Hold    bool // do not give window back
}

// Pair returns the guest's end of a fresh link, in non-blocking mode, and the host's.
func Pair() (guest int, host *Host, err error) {
	ends, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return 0, nil, err
	}
	file := os.NewFile(uintptr(ends[1]), "host")
	defer file.Close()
	conn, err := net.FileConn(file)
	if err != nil {
		return 0, nil, err
	}
	host = &Host{Conn: conn, Pongs: make(chan uint32, 64), next: 1, streams: map[uint32]*Stream{}}
	go host.receive()
	return ends[0], host, nil
}

// Open opens a stream and sends *first* on it.
func (h *Host) Open(first []byte) *Stream {
	h.mu.Lock()
	stream := &Stream{host: h, id: h.next, changed: sync.NewCond(&h.mu), credit: 256 << 10}
	h.streams[h.next] = stream
	h.next += 2
	h.mu.Unlock()
	_, _ = h.Conn.Write(Frame(Window, SYN, stream.id, (1<<20)-(256<<10), nil))
	_, _ = stream.Write(first)
	return stream
}

func (h *Host) receive() {
	reader := bufio.NewReader(h.Conn)
	for {
		var head [12]byte
		if _, err := io.ReadFull(reader, head[:]); err != nil {
			break
		}
		kind, flags := head[1], binary.BigEndian.Uint16(head[2:])
		id, length := binary.BigEndian.Uint32(head[4:]), binary.BigEndian.Uint32(head[8:])
		var payload []byte
		if kind == Data {
			payload = make([]byte, length)
			if _, err := io.ReadFull(reader, payload); err != nil {
				break
			}
		}
		if kind == Ping {
			h.Pongs <- length
			continue
		}
		h.deliver(kind, flags, id, length, payload)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, stream := range h.streams {
		stream.reset = true
		stream.changed.Broadcast()
	}
}

func (h *Host) deliver(kind byte, flags uint16, id, length uint32, payload []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	stream := h.streams[id]
	if stream == nil {
		return
	}
	if kind == Window {
		stream.credit += length
	}
	stream.got = append(stream.got, payload...)
	stream.ended = stream.ended || flags&FIN != 0
	stream.reset = stream.reset || flags&RST != 0
	stream.changed.Broadcast()
}

// ID is the stream's number.
func (s *Stream) ID() uint32 { return s.id }

// Buffered returns how many bytes have arrived and not been read.
func (s *Stream) Buffered() int {
	s.host.mu.Lock()
	defer s.host.mu.Unlock()
	return len(s.got)
}

// Read is io.Reader's.
func (s *Stream) Read(buffer []byte) (int, error) {
	s.host.mu.Lock()
	for len(s.got) == 0 && !s.ended && !s.reset {
		s.changed.Wait()
	}
	n := copy(buffer, s.got)
	s.got = s.got[n:]
	ended, hold := s.ended, s.Hold
	s.host.mu.Unlock()
	switch {
	case n > 0 && !hold:
		_, err := s.host.Conn.Write(Frame(Window, 0, s.id, uint32(n), nil))
		return n, err
	case n > 0:
		return n, nil
	case ended:
		return 0, io.EOF
	}
	return 0, errors.New("reset")
}

// Write is io.Writer's; it waits for the window.
func (s *Stream) Write(bytes []byte) (int, error) {
	written := 0
	for len(bytes) > 0 {
		s.host.mu.Lock()
		for s.credit == 0 && !s.reset {
			s.changed.Wait()
		}
		n := min(len(bytes), int(s.credit), 64<<10)
		s.credit -= uint32(n)
		reset := s.reset
		s.host.mu.Unlock()
		if reset {
			return written, errors.New("reset")
		}
		if _, err := s.host.Conn.Write(Frame(Data, 0, s.id, uint32(n), bytes[:n])); err != nil {
			return written, err
		}
		bytes, written = bytes[n:], written+n
	}
	return written, nil
}

// Close closes the host's direction.
func (s *Stream) Close() error {
	_, err := s.host.Conn.Write(Frame(Window, FIN, s.id, 0, nil))
	return err
}

// Reset ends the stream.
func (s *Stream) Reset() {
	_, _ = s.host.Conn.Write(Frame(Window, RST, s.id, 0, nil))
}
