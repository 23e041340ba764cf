package files

import (
	"encoding/binary"
	"syscall"

	"aegis/guest_harness/frames"
	"aegis/guest_harness/wire"
)

const longestRead = 1 << 20 // of one request

// openRegular opens a file that holds bytes, and no FIFO or device.
func openRegular(place string, flags int, mode uint32) (int, *syscall.Stat_t, error) {
	fd, err := openat(current, place, flags|quietly, mode)
	if err == syscall.ENXIO { // a FIFO that nobody reads, or a socket
		return none, nil, irregular(place)
	}
	if err != nil {
		return none, nil, of(place, err)
	}
	stat := &syscall.Stat_t{}
	if err := syscall.Fstat(fd, stat); err != nil {
		_ = syscall.Close(fd)
		return none, nil, of(place, err)
	}
	switch stat.Mode & syscall.S_IFMT {
	case syscall.S_IFREG:
		return fd, stat, nil
	case syscall.S_IFDIR:
		err = of(place, syscall.EISDIR)
	default:
		err = irregular(place)
	}
	_ = syscall.Close(fd)
	return none, nil, err
}

func (c *call) read() ([]wire.Pair, error) {
	fd, stat, err := openRegular(c.Path, syscall.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer syscall.Close(fd)
	send := sender{c.out}
	if err := send.head(describe("", stat, "")); err != nil {
		return nil, err
	}
	return nil, send.contents(fd, c.Path, stat.Size)
}

// create opens a file to be written, with the directories that are missing above it.
func (c *call) create(flags int) (int, *syscall.Stat_t, error) {
	mode := uint32(0o644)
	if c.Mode != Unset {
		mode = uint32(c.Mode)
	}
	fd, stat, err := openRegular(c.Path, flags, mode)
	if about, ok := err.(*failure); ok && about.err == syscall.ENOENT && flags&syscall.O_CREAT != 0 {
		if err := makeParents(c.Path); err != nil {
			return none, nil, err
		}
		fd, stat, err = openRegular(c.Path, flags, mode)
	}
	if err == nil && c.Mode != Unset {
		if err = of(c.Path, syscall.Fchmod(fd, mode)); err != nil {
			_ = syscall.Close(fd)
		}
	}
	return fd, stat, err
}

func (c *call) write() ([]wire.Pair, error) {
	flags := syscall.O_WRONLY | syscall.O_CREAT | syscall.O_TRUNC
	if c.Flags.Append {
		flags = syscall.O_WRONLY | syscall.O_CREAT | syscall.O_APPEND
	}
	fd, _, err := c.create(flags)
	if err != nil {
		return nil, err
	}
	var gather gather
	for err == nil {
		var kind frames.Kind
		var length int
		if kind, length, err = c.in.next(); err != nil || kind == endFrame {
			break
		}
		if kind != dataFrame {
			err = errFrame
			break
		}
		err = c.in.pass(length, func(bytes []byte) error { return of(c.Path, gather.add(fd, bytes)) })
	}
	if err == nil {
		err = of(c.Path, gather.flush(fd))
	}
	closed := syscall.Close(fd)
	if err == nil {
		err = of(c.Path, closed)
	}
	return nil, err
}

func (f Flags) bits() int {
	bits := syscall.O_RDONLY
	if f.Write {
		bits = syscall.O_WRONLY
		if f.Read {
			bits = syscall.O_RDWR
		}
	}
	for flag, on := range map[int]bool{
		syscall.O_APPEND: f.Append, syscall.O_CREAT: f.Create, syscall.O_EXCL: f.Exclusive, syscall.O_TRUNC: f.Truncate,
	} {
		if on {
			bits |= flag
		}
	}
	return bits
}

// open keeps a file open, and does what the host asks of it, a frame at a time, until it hangs up.
func (c *call) open() ([]wire.Pair, error) {
	fd, stat, err := c.create(c.Flags.bits())
	if err != nil {
		return nil, err
	}
	defer syscall.Close(fd)
	if err := (sender{c.out}).head(describe("", stat, "")); err != nil {
		return nil, err
	}
	for {
		if err := c.out.flush(); err != nil {
			return nil, lost(err)
		}
		kind, length, err := c.in.next()
		if err != nil {
			return nil, err
		}
		if kind == endFrame {
			return nil, of(c.Path, settled(fd, c.Flags.Write))
		}
		if err := c.handle(fd, kind, length); err != nil {
			return nil, err
		}
	}
}

// settled makes errors heard that a file system tells late.
func settled(fd int, written bool) error {
	if !written {
		return nil
	}
	copied, err := syscall.Dup(fd)
	if err != nil {
		return err
	}
	return syscall.Close(copied)
}

// handle does one thing with an open file, and says how it went; the error is the host's or the connection's.
func (c *call) handle(fd int, kind frames.Kind, length int) error {
	var head [12]byte
	size := map[frames.Kind]int{readFrame: 12, writeFrame: 8, resizeFrame: 8}[kind]
	if size == 0 || length < size || kind != writeFrame && length > size {
		return errFrame
	}
	if err := c.in.fill(head[:size]); err != nil {
		return err
	}
	at := int64(binary.BigEndian.Uint64(head[:]))
	var err error
	switch kind {
	case readFrame:
		err = c.readAt(fd, at, int(binary.BigEndian.Uint32(head[8:])))
	case writeFrame:
		err = c.writeAt(fd, at, length-size)
	case resizeFrame:
		err = syscall.Ftruncate(fd, at)
	}
	if isLost(err) {
		return err
	}
	stat := &syscall.Stat_t{}
	if err == nil {
		err = syscall.Fstat(fd, stat)
	}
	if err != nil {
		return c.out.frame(failedFrame, wire.Write(outcome(of(c.Path, err))))
	}
	return c.out.frame(entryFrame, describe("", stat, "").encode())
}

func (c *call) readAt(fd int, at int64, count int) error {
	for count = min(count, longestRead); count > 0; {
		space, err := c.out.space(int64(count))
		if err != nil {
			return lost(err)
		}
		n, err := syscall.Pread(fd, space[:min(len(space), count)], at)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || n <= 0 {
			return err
		}
		c.out.filled(n)
		at, count = at+int64(n), count-n
	}
	return nil
}

func (c *call) writeAt(fd int, at int64, length int) error {
	var failed error
	err := c.in.pass(length, func(bytes []byte) error {
		for len(bytes) > 0 && failed == nil {
			n, err := syscall.Pwrite(fd, bytes, at)
			if err == syscall.EINTR {
				continue
			}
			if err == nil && n == 0 {
				err = syscall.ENOSPC
			}
			failed = err
			bytes, at = bytes[max(n, 0):], at+int64(max(n, 0))
		}
		return nil
	})
	if err != nil {
		return err
	}
	return failed
}
