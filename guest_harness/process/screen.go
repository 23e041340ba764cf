package process

import (
	"io"
	"os"
	"syscall"
)

// screenful is more than the kernel holds of what was written to a terminal: a page of it for us to read, and two or three on
// their way there.
const screenful = 32 << 10

// screen is the side of a terminal that shows what the command writes.
type screen struct {
	source
}

func newScreen(fd int) *screen {
	return &screen{newSource(fd, "terminal")}
}

// Descriptor is none: a terminal has no pages to be moved.
func (s *screen) Descriptor() int { return -1 }

// Waiting returns the most that can be there: what is still on its way is not counted by the kernel.
func (s *screen) Waiting() int { return screenful }

// Wait waits for bytes and returns how many there are at most, io.EOF when no process has the terminal open, or
// os.ErrDeadlineExceeded after Stop.
func (s *screen) Wait() (int, error) {
	var seen int16
	err := s.raw.Read(func(uintptr) bool {
		seen = s.poll()
		return seen != 0
	})
	switch {
	case err != nil:
		return 0, err
	case seen&pollIn == 0 && s.poll()&pollIn == 0: // once more: it may have been written between the looks at both
		return 0, io.EOF
	}
	return screenful, nil
}

// Read reads what is there, without waiting: each read(2) gives a page of it at most.
func (s *screen) Read(buffer []byte) (int, error) {
	count := 0
	for count < len(buffer) {
		got, err := syscall.Read(s.fd, buffer[count:])
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN, err == syscall.EIO, err == nil && got == 0: // nobody has it open, which Wait tells
			return count, nil
		case err != nil:
			return count, os.NewSyscallError("read", err)
		}
		count += got
	}
	return count, nil
}

// Discard reads and drops everything until no process has the terminal open, then closes it.
func (s *screen) Discard() {
	var dropped [4096]byte
	s.drop(func(fd int) (int64, error) {
		got, err := syscall.Read(fd, dropped[:])
		return int64(got), err
	})
}
