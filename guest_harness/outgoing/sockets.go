package outgoing

import (
	"encoding/binary"
	"os"
	"syscall"
	"unsafe"
)

const (
	backlog      = 4096
	rawBuffer    = 4 << 20
	forceRcvBuf  = 33 // SO_RCVBUFFORCE
	attachFilter = 26 // SO_ATTACH_FILTER
	detachFilter = 27 // SO_DETACH_FILTER
	sixPacket    = 49 // IPV6_RECVPKTINFO
	dualStack    = 26 // IPV6_V6ONLY
)

// ourMark is what tells the segments that we send from those of programs. Who has the rights to write it too is connected
// to nobody: no call waits for that connection.
const ourMark = 0x6165

// markOf is where a filter finds the mark of a packet.
const markOf = 0xfffff000 + 20

// listen returns a socket that takes TCP of both families, from us alone: the first segment of a connection that bears not
// our mark is dropped without an answer. It is bound to no address: one that is bound to ::1 is for IPv6 alone, whatever it
// was told.
func listen() (int, error) {
	fd, err := syscall.Socket(syscall.AF_INET6, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	err = filter(fd, []syscall.SockFilter{
		{Code: 0x30, K: 13},                 // the flags
		{Code: 0x54, K: 0x12},               // SYN and ACK
		{Code: 0x15, Jt: 0, Jf: 2, K: 0x02}, // SYN alone
		{Code: 0x20, K: markOf},
		{Code: 0x15, Jt: 0, Jf: 1, K: ourMark},
		{Code: 0x06, K: 0xffffffff},
		{Code: 0x06, K: 0},
	})
	if err == nil {
		err = syscall.SetsockoptInt(fd, syscall.IPPROTO_IPV6, dualStack, 0)
	}
	if err == nil {
		err = syscall.Bind(fd, &syscall.SockaddrInet6{})
	}
	if err == nil {
		err = syscall.Listen(fd, backlog)
	}
	if err != nil {
		syscall.Close(fd)
		return -1, os.NewSyscallError("listen", err)
	}
	return fd, nil
}

// raw returns a socket that sends whole packets, with our mark, and one that hears the first segment of each TCP connection.
func raw(family int) (sends, hears int, err error) {
	sends, err = syscall.Socket(family, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC, syscall.IPPROTO_RAW)
	if err == nil {
		err = syscall.SetsockoptInt(sends, syscall.SOL_SOCKET, syscall.SO_MARK, ourMark)
	}
	if err == nil {
		hears, err = syscall.Socket(family, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, syscall.IPPROTO_TCP)
	}
	if err == nil {
		err = filter(hears, firstSegments(family))
	}
	if err == nil && family == syscall.AF_INET6 {
		err = syscall.SetsockoptInt(hears, syscall.IPPROTO_IPV6, sixPacket, 1)
	}
	if err == nil {
		_ = syscall.SetsockoptInt(hears, syscall.SOL_SOCKET, forceRcvBuf, rawBuffer)
	}
	return sends, hears, os.NewSyscallError("raw socket", err)
}

// firstSegments are the segments with SYN and without ACK that programs send, to other places than 127/8.
func firstSegments(family int) []syscall.SockFilter {
	flags := []syscall.SockFilter{{Code: 0x30, K: 13}} // of a segment without its IP header
	if family == syscall.AF_INET {
		flags = []syscall.SockFilter{
			{Code: 0x30, K: 16}, // the first byte of where it goes
			{Code: 0x15, Jt: 7, Jf: 0, K: 127},
			{Code: 0xb1, K: 0}, // behind the IP header
			{Code: 0x50, K: 13},
		}
	}
	return append(flags, []syscall.SockFilter{
		{Code: 0x54, K: 0x12},               // SYN and ACK
		{Code: 0x15, Jt: 0, Jf: 3, K: 0x02}, // SYN alone
		{Code: 0x20, K: markOf},
		{Code: 0x15, Jt: 1, Jf: 0, K: ourMark},
		{Code: 0x06, K: 0xffff},
		{Code: 0x06, K: 0},
	}...)
}

// filter lets the kernel drop what *program* gives no bytes of.
func filter(fd int, program []syscall.SockFilter) error {
	header := syscall.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	_, _, errno := syscall.Syscall6(syscall.SYS_SETSOCKOPT, uintptr(fd), syscall.SOL_SOCKET, attachFilter,
		uintptr(unsafe.Pointer(&header)), unsafe.Sizeof(header), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// destination is where a packet went that an IPv6 socket has read, by its control message.
func destination(control []byte) (address, bool) {
	messages, err := syscall.ParseSocketControlMessage(control)
	if err != nil {
		return address{}, false
	}
	for _, message := range messages {
		if message.Header.Level == syscall.IPPROTO_IPV6 && message.Header.Type == syscall.IPV6_PKTINFO && len(message.Data) >= 16 {
			return sixAddress(message.Data), true
		}
	}
	return address{}, false
}

// send sends a whole packet.
func send(fd int, to address, packet []byte) {
	var name syscall.Sockaddr = &syscall.SockaddrInet4{Addr: [4]byte(to.bytes[:4])}
	if to.six {
		name = &syscall.SockaddrInet6{Addr: to.bytes}
	}
	_ = syscall.Sendto(fd, packet, 0, name) // what is lost is sent once more, by whoever waits for an answer
}

// Routes makes every address one of the guest's own that no other route is for, as to a network that its root has made;
// connections there come from the loopback's address. A ping of one is not answered, which would say what nobody knows.
func Routes() error {
	for _, path := range []string{"/proc/sys/net/ipv4/icmp_echo_ignore_all", "/proc/sys/net/ipv6/icmp/echo_ignore_all"} {
		if err := os.WriteFile(path, []byte("1"), 0); err != nil {
			return err
		}
	}
	socket, err := syscall.Socket(syscall.AF_NETLINK, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC, syscall.NETLINK_ROUTE)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer syscall.Close(socket)
	for _, source := range [][]byte{{127, 0, 0, 1}, {15: 1}} {
		if err := addRoute(socket, source); err != nil {
			return err
		}
	}
	return nil
}

// addRoute adds the default route. For IPv4 the kernel asks the tables local and main as one, and the most specific route
// comes first. For IPv6 all of local comes first: there ours is in main, before any other default.
func addRoute(socket int, source []byte) error {
	family, table, priority := byte(syscall.AF_INET), byte(syscall.RT_TABLE_LOCAL), uint32(0)
	if len(source) == 16 {
		family, table, priority = syscall.AF_INET6, syscall.RT_TABLE_MAIN, 1
	}
	message := make([]byte, 16+12+8+8+4, 64)
	binary.NativeEndian.PutUint16(message[4:], syscall.RTM_NEWROUTE)
	binary.NativeEndian.PutUint16(message[6:], syscall.NLM_F_REQUEST|syscall.NLM_F_CREATE|syscall.NLM_F_ACK)
	copy(message[16:], []byte{family, 0, 0, 0, table, syscall.RTPROT_BOOT, syscall.RT_SCOPE_HOST, syscall.RTN_LOCAL})
	binary.NativeEndian.PutUint16(message[28:], 8)
	binary.NativeEndian.PutUint16(message[30:], syscall.RTA_OIF)
	binary.NativeEndian.PutUint32(message[32:], 1) // lo
	binary.NativeEndian.PutUint16(message[36:], 8)
	binary.NativeEndian.PutUint16(message[38:], syscall.RTA_PRIORITY)
	binary.NativeEndian.PutUint32(message[40:], priority)
	binary.NativeEndian.PutUint16(message[44:], uint16(4+len(source)))
	binary.NativeEndian.PutUint16(message[46:], syscall.RTA_PREFSRC)
	message = append(message, source...)
	binary.NativeEndian.PutUint32(message, uint32(len(message)))
	if err := syscall.Sendto(socket, message, 0, &syscall.SockaddrNetlink{Family: syscall.AF_NETLINK}); err != nil {
		return os.NewSyscallError("route", err)
	}
	answer := make([]byte, 4096)
	n, _, err := syscall.Recvfrom(socket, answer, 0)
	if err != nil || n < 20 {
		return os.NewSyscallError("route", err)
	}
	if code := int32(binary.NativeEndian.Uint32(answer[16:])); code != 0 {
		return os.NewSyscallError("route", syscall.Errno(-code))
	}
	return nil
}
