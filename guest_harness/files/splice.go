package files

import (
	"syscall"

	"aegis/guest_harness/frames"
	"aegis/guest_harness/yamux"
)

const (
	// worthwhile is from what size on a file's pages go into frames without being copied by us.
	worthwhile = 128 << 10
	mostPages  = yamux.MaxFrame - frames.HeaderSize
	leastPages = 16 << 10 // a nearly full window is not used up in splinters
)

// conveyor takes a file's pages to the host by way of a pipe, which is empty between calls.
type conveyor struct {
	stream *yamux.Stream
	pipe   [2]int
}

func newConveyor(stream *yamux.Stream) (*conveyor, error) {
	c := &conveyor{stream: stream}
	if err := syscall.Pipe2(c.pipe[:], syscall.O_CLOEXEC|syscall.O_NONBLOCK); err != nil {
		return nil, err
	}
	const setPipeSize = 1031 // F_SETPIPE_SZ
	_, _, _ = syscall.RawSyscall(syscall.SYS_FCNTL, uintptr(c.pipe[0]), setPipeSize, yamux.MaxFrame)
	return c, nil
}

func (c *conveyor) close() {
	_ = syscall.Close(c.pipe[0])
	_ = syscall.Close(c.pipe[1])
}

// carry sends up to *most* bytes from where a file's descriptor is, and returns how many there were.
func (c *conveyor) carry(fd, most int) (int, error) {
	var moved int64
	err := error(syscall.EINTR)
	for err == syscall.EINTR {
		moved, err = syscall.Splice(fd, nil, c.pipe[1], nil, min(most, mostPages), 0)
	}
	if err != nil {
		return 0, err
	}
	for left := int(moved); left > 0; {
		sent, err := c.send(left)
		if err != nil {
			return 0, lost(err)
		}
		left -= sent
	}
	return int(moved), nil
}

func (c *conveyor) send(waiting int) (int, error) {
	granted, err := c.stream.Reserve(frames.HeaderSize+min(waiting, leastPages), frames.HeaderSize+waiting)
	if err != nil {
		return 0, err
	}
	most := granted - frames.HeaderSize
	sent, err := c.stream.SpliceReserved(func(count int) []byte {
		header := frames.Header(dataFrame, count)
		return append(make([]byte, room, room+frames.HeaderSize), header[:]...)
	}, c.pipe[0], most)
	if err == nil && sent == 0 {
		err = errFrame // what we have put into the pipe has gone
	}
	c.stream.Return(most - sent)
	return sent, err
}
