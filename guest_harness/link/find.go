// Package link is the guest's one way out: the virtio port, or the vsock connection, that its host has for it.
package link

import (
	"errors"
	"os"
	"strings"
	"time"
)

const (
	portName = "aegis.0"
	ports    = "/sys/class/virtio-ports"
	patience = 10 * time.Second
)

// Find waits for what the driver gives its guests, which the kernel announces a little after it starts init, and
// opens it.
func Find() (*Port, error) {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if path := findPort(); path != "" {
			return Open(path)
		}
		if fd, err := dialHost(); err == nil {
			return New(fd, "vsock", absence)
		}
	}
	return nil, errors.New("there is neither a virtio port named " + portName + " nor a host at vsock port 1024")
}

func findPort() string {
	entries, _ := os.ReadDir(ports)
	for _, entry := range entries {
		name, err := os.ReadFile(ports + "/" + entry.Name() + "/name")
		if err == nil && strings.TrimSpace(string(name)) == portName {
			return "/dev/" + entry.Name()
		}
	}
	return ""
}
