// Package link is the guest's one way out: the virtio port that the host named aegis.0.
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

// Find waits for the port, which the kernel announces a little after it starts init, and opens it.
func Find() (*Port, error) {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		entries, _ := os.ReadDir(ports)
		for _, entry := range entries {
			name, err := os.ReadFile(ports + "/" + entry.Name() + "/name")
			if err == nil && strings.TrimSpace(string(name)) == portName {
				return Open("/dev/" + entry.Name())
			}
		}
	}
	return nil, errors.New("no virtio port is named " + portName)
}
