package link

import (
	"errors"
	"io"
	"os"
	"syscall"
	"time"
)

const (
	absence   = 10 * time.Second // how long the host may be away before it is gone
	interval  = 5 * time.Millisecond
	stageSize = 256 << 10
)

// ErrLost says that nobody holds the host's end of the port any more.
var ErrLost = errors.New("link: the host is gone")

// Port is the open port. Reads and writes wait in the runtime's poller, not in a thread: with one CPU, a thread that
// blocks in the kernel keeps all other goroutines waiting for up to 10 ms.
type Port struct {
	file     *os.File
	raw      syscall.RawConn
	patience time.Duration
	stage    [2]int // a pipe, empty between calls
}

// Open opens the port's device.
func Open(path string) (*Port, error) {
	fd, err := syscall.Open(path, syscall.O_RDWR|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return New(fd, path, absence)
}

// New makes a port, whose host may be away for *patience*, of any descriptor that is in non-blocking mode.
func New(fd int, name string, patience time.Duration) (*Port, error) {
	file := os.NewFile(uintptr(fd), name)
	raw, err := file.SyscallConn()
	if err != nil {
		return nil, err
	}
	port := &Port{file: file, raw: raw, patience: patience}
	if err := syscall.Pipe2(port.stage[:], syscall.O_CLOEXEC|syscall.O_NONBLOCK); err != nil {
		return nil, os.NewSyscallError("pipe2", err)
	}
	const setPipeSize = 1031 // F_SETPIPE_SZ
	_, _, _ = syscall.RawSyscall(syscall.SYS_FCNTL, uintptr(port.stage[0]), setPipeSize, stageSize)
	return port, nil
}

// Read is io.Reader's. The driver returns no bytes while the host is not connected: it is lost when it stays away.
func (p *Port) Read(buffer []byte) (int, error) {
	var since time.Time
	for {
		n, err := p.file.Read(buffer)
		if n > 0 {
			return n, nil
		}
		if err != nil && err != io.EOF {
			return 0, err
		}
		if since.IsZero() {
			since = time.Now()
		}
		if time.Since(since) > p.patience {
			return 0, ErrLost
		}
		time.Sleep(interval)
	}
}

// Write writes all of *bytes*.
func (p *Port) Write(bytes []byte) (int, error) {
	return p.file.Write(bytes)
}

// Stage takes up to *most* bytes from a pipe, without waiting, and returns how many it has got: pages change hands,
// nothing is copied. They go by way of a pipe of our own, which nobody else can empty. And it is always emptied, because
// virtio_console builds its list of pages for all that a pipe holds, and a shorter splice leaves entries in it that make
// QEMU give up the guest (Linux 6.18).
func (p *Port) Stage(pipe int, most int) (int, error) {
	for {
		moved, err := syscall.Splice(pipe, nil, p.stage[1], nil, min(most, stageSize), 0)
		switch err {
		case syscall.EINTR:
			continue
		case nil, syscall.EAGAIN:
			return max(int(moved), 0), nil
		}
		return 0, os.NewSyscallError("splice", err)
	}
}

// SendStage empties the stage, which holds *n* bytes.
func (p *Port) SendStage(n int) error {
	var failure error
	err := p.raw.Write(func(fd uintptr) bool {
		for n > 0 && failure == nil {
			moved, err := splice(p.stage[0], int(fd), n)
			if err == syscall.EAGAIN {
				return false
			}
			n -= moved
			failure = err
		}
		return true
	})
	if failure == syscall.EINVAL {
		return p.copy(p.stage[0], n)
	}
	return errors.Join(err, failure)
}

func splice(from, to, n int) (int, error) {
	for {
		moved, err := syscall.Splice(from, nil, to, nil, n, 0)
		if err == syscall.EINTR {
			continue
		}
		if err == nil && moved == 0 {
			err = syscall.ENOBUFS // the kernel took the bytes and had no memory to pass them on
		}
		return max(int(moved), 0), err
	}
}

// copy is for a port whose driver cannot splice. Its buffer is longer than a packet of a pipe in packet mode.
func (p *Port) copy(pipe int, n int) error {
	buffer := make([]byte, 32<<10)
	for n > 0 {
		got, err := syscall.Read(pipe, buffer)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || got == 0 {
			return errors.Join(errors.New("link: the stage holds less than was put in"), err)
		}
		if _, err := p.file.Write(buffer[:got]); err != nil {
			return err
		}
		n -= got
	}
	return nil
}
