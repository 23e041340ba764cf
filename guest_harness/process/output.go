package process

import (
	"errors"
	"io"
	"os"
	"syscall"
	"time"
	"unsafe"
)

const (
	bytesWaiting = 0x541b // FIONREAD
	pollIn       = 0x1
	pollHangUp   = 0x10
)

// Output is our end of what a command writes to: a pipe or a terminal.
type Output interface {
	// Descriptor is for splice(2), -1 if that cannot read it.
	Descriptor() int
	// Waiting returns how many bytes are there to be read at most.
	Waiting() int
	// Wait waits for bytes and returns Waiting, io.EOF when no process can write any more, or os.ErrDeadlineExceeded after
	// Stop.
	Wait() (count int, err error)
	// Stop makes Wait return at once.
	Stop()
	// Read reads bytes that are there, without waiting, and returns how many: it may be none.
	Read(buffer []byte) (int, error)
	// Discard reads and drops everything until no process can write any more, then closes it.
	Discard()
	// Close gives it up.
	Close()
}

// source is a descriptor that the Go runtime waits for.
type source struct {
	fd   int
	file *os.File
	raw  syscall.RawConn
}

func newSource(fd int, name string) source {
	file := os.NewFile(uintptr(fd), name)
	raw, _ := file.SyscallConn()
	return source{fd: fd, file: file, raw: raw}
}

// pipe is what a command has as stdout or stderr.
type pipe struct {
	source
	null int
}

func newPipe(fd int, name string, null int) *pipe {
	return &pipe{newSource(fd, name), null}
}

// Descriptor is the pipe itself.
func (o *pipe) Descriptor() int { return o.fd }

// Waiting returns how many bytes are there to be read.
func (o *pipe) Waiting() int {
	var count int32
	_, _, _ = syscall.RawSyscall(syscall.SYS_IOCTL, uintptr(o.fd), bytesWaiting, uintptr(unsafe.Pointer(&count)))
	return int(count)
}

// Wait waits for bytes and returns how many there are, io.EOF when no process can write any more, or
// os.ErrDeadlineExceeded after Stop.
func (o *pipe) Wait() (count int, err error) {
	ended := false
	err = o.raw.Read(func(uintptr) bool {
		if count = o.Waiting(); count == 0 {
			ended = o.poll()&pollHangUp != 0
		}
		return count > 0 || ended
	})
	if err == nil && count == 0 {
		count = o.Waiting() // what was written between the look at the bytes and the look at the writers
	}
	if err == nil && count == 0 {
		err = io.EOF
	}
	return count, err
}

// Stop makes Wait return at once.
func (o *source) Stop() {
	_ = o.file.SetReadDeadline(time.Unix(1, 0))
}

// Packet is the longest packet of a pipe in packet mode (O_DIRECT): a shorter read loses the rest.
const Packet = 4096

// Read reads bytes that are there, without waiting, and returns how many: it may be none, since the command, too, can
// read its pipe.
func (o *pipe) Read(buffer []byte) (int, error) {
	for {
		got, err := syscall.Read(o.fd, buffer)
		switch err {
		case syscall.EINTR:
			continue
		case nil, syscall.EAGAIN:
			return max(got, 0), nil
		}
		return 0, os.NewSyscallError("read", err)
	}
}

// Close gives it up.
func (o *source) Close() {
	_ = o.file.Close()
}

// Discard reads and drops everything until no process can write any more, then closes the pipe.
func (o *pipe) Discard() {
	o.drop(func(fd int) (int64, error) { return syscall.Splice(fd, nil, o.null, nil, pipeSize, 0) })
}

// drop has *take* drop what is there until it says that nothing can come any more, then closes the descriptor.
func (o *source) drop(take func(fd int) (int64, error)) {
	defer o.Close()
	for {
		_ = o.file.SetReadDeadline(time.Time{})
		err := o.raw.Read(func(fd uintptr) bool {
			for {
				taken, err := take(int(fd))
				if err == syscall.EAGAIN {
					return false
				}
				if err != syscall.EINTR && (err != nil || taken == 0) {
					return true
				}
			}
		})
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
	}
}

// poll tells whether there is something to be read (pollIn), and whether all writers are gone (pollHangUp).
func (o *source) poll() int16 {
	poll := struct {
		fd      int32
		events  int16
		revents int16
	}{fd: int32(o.fd), events: pollIn}
	var now syscall.Timespec
	_, _, _ = syscall.RawSyscall6(
		syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&poll)), 1, uintptr(unsafe.Pointer(&now)), 0, 0, 0,
	)
	return poll.revents
}
