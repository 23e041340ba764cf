package ports

import (
	"io"
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"aegis/guest_harness/console"
	"aegis/guest_harness/yamux"
)

const (
	bytesWaiting = 0x541b // FIONREAD
	// small answers are copied: header and payload in one write(2) wake the host once.
	small = 16 << 10
	// leastRoom keeps a nearly full window from being used up in splinters.
	leastRoom = 4 << 10
	// delivery is how long a server has to take what the host sent before it went away.
	delivery = 30 * time.Second
)

var buffers = sync.Pool{New: func() any { return new([yamux.HeaderSize + small]byte) }}

// Carry passes bytes both ways, and the end of each way by itself, until both have ended or one side is gone.
// *lost* is called when the host is: what it had sent may still have to be delivered.
func (c *Conn) Carry(stream *yamux.Stream, lost func()) {
	defer c.Close()
	delivered := make(chan struct{})
	stream.OnLoss(func() {
		lost()
		select {
		case <-delivered:
		case <-time.After(delivery):
		}
		c.breakOff()
		c.Close()
	})
	go func() {
		defer close(delivered)
		defer console.Survive("a connection", func() { stream.Reset(); c.Close() })
		c.deliver(stream)
	}()
	c.collect(stream)
	<-delivered
	if stream.Failed() {
		c.breakOff()
	}
	stream.Reset()
}

// deliver gives the server what the host sends.
func (c *Conn) deliver(stream *yamux.Stream) {
	for {
		view, err := stream.Peek()
		if err == io.EOF {
			_ = syscall.Shutdown(c.fd, syscall.SHUT_WR)
		}
		if err != nil {
			return
		}
		n, err := c.file.Write(view)
		if err != nil { // the server has gone, as collect notices once it has all that came before
			return
		}
		stream.Discard(n)
	}
}

// collect sends the host what the server says.
func (c *Conn) collect(stream *yamux.Stream) {
	for {
		waiting, err := c.wait()
		if err == io.EOF {
			stream.Finish()
			return
		}
		if err == nil {
			err = c.send(stream, waiting)
		}
		if err != nil {
			stream.Reset()
			return
		}
	}
}

// wait waits for bytes and returns how many there are, or io.EOF when no more come.
func (c *Conn) wait() (count int, err error) {
	var failure error
	err = c.raw.Read(func(uintptr) bool {
		if count = c.waiting(); count > 0 {
			return true
		}
		failure = c.peek()
		return failure != syscall.EAGAIN
	})
	if err == nil && count == 0 {
		err = failure
		count = c.waiting() // what came between the two looks
	}
	if count > 0 {
		err = nil
	}
	return count, err
}

func (c *Conn) waiting() int {
	var count int32
	_, _, _ = syscall.RawSyscall(syscall.SYS_IOCTL, uintptr(c.fd), bytesWaiting, uintptr(unsafe.Pointer(&count)))
	return int(count)
}

// peek returns io.EOF at the end, EAGAIN when there is nothing yet, or what is wrong.
func (c *Conn) peek() error {
	var one [1]byte
	for {
		count, _, err := syscall.Recvfrom(c.fd, one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		switch {
		case err == syscall.EINTR:
			continue
		case err == nil && count == 0:
			return io.EOF
		}
		return err
	}
}

// send sends one frame of what has come, where *waiting* bytes were seen.
func (c *Conn) send(stream *yamux.Stream, waiting int) error {
	granted, err := stream.Reserve(min(waiting, leastRoom), min(waiting, yamux.MaxFrame))
	if err != nil {
		return err
	}
	var sent int
	if granted > small {
		sent, err = stream.SpliceReserved(func(int) []byte { return make([]byte, yamux.HeaderSize) }, c.fd, granted)
	} else {
		sent, err = c.copy(stream, granted)
	}
	stream.Return(granted - sent)
	return err
}

func (c *Conn) copy(stream *yamux.Stream, most int) (int, error) {
	buffer := buffers.Get().(*[yamux.HeaderSize + small]byte)
	defer buffers.Put(buffer)
	for {
		count, err := syscall.Read(c.fd, buffer[yamux.HeaderSize:yamux.HeaderSize+most])
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN || err == nil && count == 0:
			return 0, nil
		case err != nil:
			return 0, os.NewSyscallError("read", err)
		}
		return count, stream.SendReserved(buffer[:yamux.HeaderSize+count])
	}
}
