package boot

import (
	"os"
	"syscall"
	"unsafe"
)

// network names the guest and brings up its only interface; the kernel gives lo its addresses.
func network(hostname string) error {
	if err := syscall.Sethostname([]byte(hostname)); err != nil {
		return os.NewSyscallError("sethostname", err)
	}
	socket, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer syscall.Close(socket)
	request := struct {
		name  [syscall.IFNAMSIZ]byte
		flags uint16
		_     [22]byte
	}{flags: syscall.IFF_UP | syscall.IFF_RUNNING}
	copy(request.name[:], "lo")
	return ioctl(uintptr(socket), syscall.SIOCSIFFLAGS, unsafe.Pointer(&request))
}
