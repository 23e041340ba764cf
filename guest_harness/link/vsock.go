package link

import (
	"encoding/binary"
	"syscall"
	"unsafe"
)

const (
	afVsock  = 40 // linux/socket.h
	hostCID  = 2  // VMADDR_CID_HOST
	hostPort = 1024
)

// dialHost connects to the host by vsock. It fails at once where there is no such device.
func dialHost() (int, error) {
	fd, err := syscall.Socket(afVsock, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	var address [16]byte // struct sockaddr_vm
	binary.NativeEndian.PutUint16(address[0:], afVsock)
	binary.NativeEndian.PutUint32(address[4:], hostPort)
	binary.NativeEndian.PutUint32(address[8:], hostCID)
	_, _, errno := syscall.Syscall(
		syscall.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&address[0])), unsafe.Sizeof(address))
	if errno == 0 {
		err = syscall.SetNonblock(fd, true)
	} else {
		err = errno
	}
	if err != nil {
		syscall.Close(fd)
		return -1, err
	}
	return fd, nil
}
