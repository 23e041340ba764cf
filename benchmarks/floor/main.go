// The least that a guest can be: a static init that answers on the bare port, or, where there is none, on the host's vsock
// port 1024. What Aegis adds is measured against it.
//
// It writes one byte when it runs. Then it takes one byte for what to do and four, little endian, for how often:
// d N writes N bytes in pieces of 64 KiB; u N reads N bytes into a file in memory, and answers with one; x N forks, executes and waits for `true`, N times, and answers with one byte.
package main

import (
	"encoding/binary"
	"io"
	"os"
	"syscall"
	"time"
	"unsafe"
)

const vsock = 40 // AF_VSOCK, linux/socket.h

func main() {
	_ = syscall.Mount("sys", "/sys", "sysfs", 0, "")
	port := open()
	_, _ = port.Write([]byte("R"))
	request := make([]byte, 5)
	for {
		if _, err := io.ReadFull(port, request); err != nil {
			time.Sleep(time.Millisecond)
			continue
		}
		count := int(binary.LittleEndian.Uint32(request[1:]))
		switch request[0] {
		case 'd':
			pour(port, count)
		case 'u':
			take(port, count)
		default:
			spawn(port, count)
		}
	}
}

func open() *os.File {
	const class = "/sys/class/virtio-ports/"
	entries, _ := os.ReadDir(class)
	for _, entry := range entries {
		name, _ := os.ReadFile(class + entry.Name() + "/name")
		if string(name) == "aegis.0\n" {
			port, _ := os.OpenFile("/dev/"+entry.Name(), os.O_RDWR, 0)
			return port
		}
	}
	return call()
}

func call() *os.File {
	fd, _ := syscall.Socket(vsock, syscall.SOCK_STREAM, 0)
	host := [16]byte{0: vsock, 4: 1024 & 0xff, 5: 1024 >> 8, 8: 2} // struct sockaddr_vm: family, -, port, CID
	for {
		_, _, e := syscall.Syscall(syscall.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&host)), unsafe.Sizeof(host))
		if e == 0 {
			return os.NewFile(uintptr(fd), "vsock")
		}
		time.Sleep(time.Millisecond)
	}
}

func take(port *os.File, left int) {
	_ = syscall.Mount("tmpfs", "/mnt", "tmpfs", 0, "size=100%")
	file, _ := os.Create("/mnt/file")
	buffer := make([]byte, 128<<10)
	for left > 0 {
		n, _ := io.ReadFull(port, buffer[:min(left, len(buffer))])
		_, _ = file.Write(buffer[:n])
		left -= n
	}
	_, _ = port.Write([]byte("u"))
}

func pour(port *os.File, count int) {
	buffer := make([]byte, 64<<10)
	for count > 0 {
		n, _ := port.Write(buffer[:min(count, len(buffer))])
		count -= n
	}
}

func spawn(port *os.File, count int) {
	_ = syscall.Mount("/dev/vdb", "/mnt", "erofs", syscall.MS_RDONLY, "")
	for range count {
		pid, _ := syscall.ForkExec("/mnt/bin/busybox", []string{"true"}, &syscall.ProcAttr{})
		_, _ = syscall.Wait4(pid, nil, 0, nil)
	}
	_, _ = port.Write([]byte("X"))
}
