package outgoing

import (
	"encoding/binary"
	"strconv"
	"syscall"
)

// address is an IPv4 address, in the first four bytes, or an IPv6 address.
type address struct {
	bytes [16]byte
	six   bool
}

func (a address) length() int {
	if a.six {
		return 16
	}
	return 4
}

// String is how the host reads it: dotted, or eight groups.
func (a address) String() string {
	text := ""
	if !a.six {
		for i, part := range a.bytes[:4] {
			if i > 0 {
				text += "."
			}
			text += strconv.Itoa(int(part))
		}
		return text
	}
	for i := 0; i < 16; i += 2 {
		if i > 0 {
			text += ":"
		}
		text += strconv.FormatUint(uint64(binary.BigEndian.Uint16(a.bytes[i:])), 16)
	}
	return text
}

func fourAddress(bytes []byte) (a address) {
	copy(a.bytes[:4], bytes)
	return a
}

// sixAddress turns an IPv4 address that a socket for both families has written as an IPv6 one into what it is.
func sixAddress(bytes []byte) (a address) {
	if string(bytes[:12]) == "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff" {
		return fourAddress(bytes[12:16])
	}
	a.six = true
	copy(a.bytes[:], bytes)
	return a
}

// end is an address and a port.
type end struct {
	address address
	port    uint16
}

// flow is a TCP connection of a program in the guest: from where, and to where.
type flow struct {
	client, server end
}

func endOf(name syscall.Sockaddr) end {
	switch name := name.(type) {
	case *syscall.SockaddrInet4:
		return end{fourAddress(name.Addr[:]), uint16(name.Port)}
	case *syscall.SockaddrInet6:
		return end{sixAddress(name.Addr[:]), uint16(name.Port)}
	}
	return end{}
}
