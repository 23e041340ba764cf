package ports

import "syscall"

// Adopt makes *fd* a connection whose end, where the host has lost it, is a reset: what was broken off there must not look
// complete here.
func Adopt(fd int) *Conn {
	_ = syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1)
	conn := newConn(fd)
	conn.abrupt = true
	return conn
}

func (c *Conn) breakOff() {
	if !c.abrupt {
		return
	}
	_ = c.raw.Control(func(fd uintptr) { // which fails where it has been closed: the number may be another's by now
		_ = syscall.SetsockoptLinger(int(fd), syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1})
	})
}
