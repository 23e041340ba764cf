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
	pollHangUp   = 0x10
)

// Output is the pipe that a command writes stdout or stderr to.
type Output struct {
	fd   int
	file *os.File
	raw  syscall.RawConn
	null int
}

func newOutput(fd int, name string, null int) *Output {
	file := os.NewFile(uintptr(fd), name)
	raw, _ := file.SyscallConn()
	return &Output{fd: fd, file: file, raw: raw, null: null}
}

// Descriptor is the pipe itself, for splice(2).
func (o *Output) Descriptor() int { return o.fd }

// Waiting returns how many bytes are there to be read.
func (o *Output) Waiting() int {
	var count int32
	_, _, _ = syscall.RawSyscall(syscall.SYS_IOCTL, uintptr(o.fd), bytesWaiting, uintptr(unsafe.Pointer(&count)))
	return int(count)
}

// Wait waits for bytes and returns how many there are, io.EOF when no process can write any more, or
// os.ErrDeadlineExceeded after Stop.
func (o *Output) Wait() (count int, err error) {
	ended := false
	err = o.raw.Read(func(uintptr) bool {
		if count = o.Waiting(); count == 0 {
			ended = o.hungUp()
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
func (o *Output) Stop() {
	_ = o.file.SetReadDeadline(time.Unix(1, 0))
}

// Packet is the longest packet of a pipe in packet mode (O_DIRECT): a shorter read loses the rest.
const Packet = 4096

// Read reads bytes that are there, without waiting, and returns how many: it may be none, since the command, too, can
// read its pipe.
func (o *Output) Read(buffer []byte) (int, error) {
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

// Close gives up the pipe.
func (o *Output) Close() {
	_ = o.file.Close()
}

// Discard reads and drops everything until no process can write any more, then closes the pipe.
func (o *Output) Discard() {
	defer o.Close()
	for {
		_ = o.file.SetReadDeadline(time.Time{})
		err := o.raw.Read(func(fd uintptr) bool {
			for {
				moved, err := syscall.Splice(int(fd), nil, o.null, nil, pipeSize, 0)
				if err == syscall.EAGAIN {
					return false
				}
				if err != syscall.EINTR && (err != nil || moved == 0) {
					return true
				}
			}
		})
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
	}
}

// hungUp tells whether all writers are gone.
func (o *Output) hungUp() bool {
	poll := struct {
		fd      int32
		events  int16
		revents int16
	}{fd: int32(o.fd)}
	var now syscall.Timespec
	_, _, _ = syscall.RawSyscall6(
		syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&poll)), 1, uintptr(unsafe.Pointer(&now)), 0, 0, 0,
	)
	return poll.revents&pollHangUp != 0
}
