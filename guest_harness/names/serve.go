// Package names is the guest's name server, on 127.0.0.1:53: it asks the host.
package names

import (
	"encoding/binary"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"aegis/guest_harness/console"
)

const (
	port      = 53
	mostUDP   = 256 // questions at once; more are dropped, as a busy network does
	mostTCP   = 64  // connections at once
	patience  = 10 * time.Second
	packetTop = 4096
)

var loopback = syscall.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}

// Serve answers from now on.
func Serve(host Host) error {
	datagrams, err := bound(syscall.SOCK_DGRAM)
	if err != nil {
		return err
	}
	connections, err := bound(syscall.SOCK_STREAM)
	if err == nil {
		err = os.NewSyscallError("listen", syscall.Listen(connections, mostTCP))
	}
	if err != nil {
		return err
	}
	m := newMemory(host)
	go m.serveDatagrams(os.NewFile(uintptr(datagrams), "dns"))
	go m.serveConnections(os.NewFile(uintptr(connections), "dns"))
	return nil
}

func bound(kind int) (int, error) {
	fd, err := syscall.Socket(syscall.AF_INET, kind|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	return fd, os.NewSyscallError("bind", syscall.Bind(fd, &loopback))
}

func (m *memory) serveDatagrams(file *os.File) {
	conn, err := file.SyscallConn()
	busy := make(chan struct{}, mostUDP)
	buffer := make([]byte, packetTop)
	for err == nil {
		var n, socket int
		var from syscall.Sockaddr
		var failure error
		err = conn.Read(func(fd uintptr) bool {
			socket = int(fd)
			n, from, failure = syscall.Recvfrom(socket, buffer, 0)
			return failure != syscall.EAGAIN
		})
		if err != nil || failure != nil {
			continue
		}
		message := append([]byte(nil), buffer[:n]...)
		select {
		case busy <- struct{}{}:
			go func() {
				defer func() { <-busy }()
				defer console.Survive("a question", func() {})
				if answer := m.answer(message, false); answer != nil {
					_ = syscall.Sendto(socket, answer, 0, from)
				}
			}()
		default:
		}
	}
	console.Log("dns: ", err.Error())
}

func (m *memory) serveConnections(file *os.File) {
	conn, err := file.SyscallConn()
	busy := make(chan struct{}, mostTCP)
	for err == nil {
		var fd int
		var failure error
		busy <- struct{}{}
		err = conn.Read(func(listener uintptr) bool {
			fd, _, failure = syscall.Accept4(int(listener), syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK)
			return failure != syscall.EAGAIN
		})
		if err != nil || failure != nil {
			<-busy
			if failure == syscall.EMFILE || failure == syscall.ENFILE || failure == syscall.ENOMEM {
				time.Sleep(10 * time.Millisecond)
			}
			continue
		}
		go func() {
			defer func() { <-busy }()
			defer console.Survive("a question", func() {})
			m.converse(os.NewFile(uintptr(fd), "dns"))
		}()
	}
	console.Log("dns: ", err.Error())
}

// converse answers the questions of one connection, each with its length before it.
func (m *memory) converse(client *os.File) {
	defer client.Close()
	for {
		_ = client.SetDeadline(time.Now().Add(patience))
		var length [2]byte
		if _, err := io.ReadFull(client, length[:]); err != nil {
			return
		}
		message := make([]byte, binary.BigEndian.Uint16(length[:]))
		if _, err := io.ReadFull(client, message); err != nil {
			return
		}
		answer := m.answer(message, true)
		if answer == nil {
			return
		}
		_ = client.SetDeadline(time.Now().Add(patience)) // the host may have taken its time
		if _, err := client.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...)); err != nil {
			return
		}
	}
}

// answer returns nil for what is no question.
func (m *memory) answer(message []byte, tcp bool) []byte {
	q, code, ok := parse(message)
	if !ok {
		return nil
	}
	room := q.room
	if tcp {
		room = 1<<16 - 1
	}
	if code != noError {
		return q.answer(code, nil, 0, room)
	}
	code, records, seconds := m.look(q.question)
	return q.answer(code, records, seconds, room)
}

func (m *memory) look(asked question) (code int, records []record, seconds uint32) {
	switch {
	case asked.class != classIN:
		return refused, nil, 0
	case asked.kind == typePTR:
		name, ok := m.pointer(asked.name)
		if !ok {
			return nameError, nil, 0
		}
		return noError, []record{{typePTR, writeName(name)}}, 0
	case asked.kind != typeA && asked.kind != typeAAAA:
		return notImplemented, nil, 0
	case strings.Contains(asked.name, "?") || asked.name == "":
		return nameError, nil, 0
	}
	f := m.find(asked.name)
	for _, record := range f.records {
		if record.kind == asked.kind {
			records = append(records, record)
		}
	}
	return f.code, records, uint32(max(time.Until(f.until).Seconds(), 0))
}
