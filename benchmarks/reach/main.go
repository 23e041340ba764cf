// A client of a server on the host: how long the guest takes to read or write so many bytes, or to connect so often.
//
//	reach down|up|connect HOST:PORT COUNT     writes the seconds that it took
//
// As the first process of a guest it gives the network card the address that QEMU's user networking expects, and takes
// such words from the bare port, a line each.
package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"syscall"
	"time"
	"unsafe"
)

func main() {
	if os.Getpid() != 1 {
		count, _ := strconv.Atoi(os.Args[3])
		fmt.Println(measure(os.Args[1], os.Args[2], count))
		return
	}
	_ = syscall.Mount("sys", "/sys", "sysfs", 0, "")
	raise("lo", net.IPv4(127, 0, 0, 1))
	raise("eth0", net.IPv4(10, 0, 2, 15))
	port := open()
	fmt.Fprint(port, "R")
	for orders := bufio.NewReader(port); ; {
		var what, where string
		var count int
		if _, err := fmt.Fscanln(orders, &what, &where, &count); err != nil {
			time.Sleep(time.Millisecond)
			continue
		}
		fmt.Fprintln(port, measure(what, where, count))
	}
}

func measure(what, where string, count int) string {
	server, err := net.ResolveTCPAddr("tcp4", where) // asked once: it is the connections that are measured
	if err != nil {
		return err.Error()
	}
	where = server.String()
	start := time.Now()
	switch what {
	case "down":
		err = down(where, count)
	case "up":
		err = up(where, count)
	default:
		for ; count > 0 && err == nil; count-- {
			err = down(where, 0)
		}
	}
	if err != nil {
		return err.Error()
	}
	return strconv.FormatFloat(time.Since(start).Seconds(), 'f', 6, 64)
}

func down(where string, count int) error {
	conn, err := net.Dial("tcp", where)
	if err != nil {
		return err
	}
	defer conn.Close()
	got, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{conn}, make([]byte, 128<<10))
	if err == nil && int(got) != count {
		err = fmt.Errorf("there are %d bytes, not %d", got, count)
	}
	return err
}

// up ends with the server's word that all has come.
func up(where string, count int) error {
	conn, err := net.Dial("tcp", where)
	if err != nil {
		return err
	}
	defer conn.Close()
	buffer := make([]byte, 128<<10)
	for left := count; left > 0 && err == nil; left -= len(buffer) {
		_, err = conn.Write(buffer[:min(left, len(buffer))])
	}
	if err == nil {
		err = conn.(*net.TCPConn).CloseWrite()
	}
	if err == nil {
		_, err = io.ReadFull(conn, buffer[:1])
	}
	return err
}

// raise gives an interface an address of a net of 256, and switches it on (netdevice(7)).
func raise(name string, address net.IP) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM, 0)
	if err != nil {
		return
	}
	defer syscall.Close(fd)
	set := func(request uintptr, value []byte) {
		var words [40]byte // struct ifreq
		copy(words[:16], name)
		copy(words[16:], value)
		_, _, _ = syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), request, uintptr(unsafe.Pointer(&words)))
	}
	set(syscall.SIOCSIFADDR, append([]byte{syscall.AF_INET, 0, 0, 0}, address.To4()...))
	set(syscall.SIOCSIFNETMASK, []byte{syscall.AF_INET, 0, 0, 0, 255, 255, 255, 0})
	set(syscall.SIOCSIFFLAGS, []byte{syscall.IFF_UP | syscall.IFF_RUNNING, 0})
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
	return nil
}
