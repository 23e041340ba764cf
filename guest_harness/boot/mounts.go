package boot

import (
	"errors"
	"os"
	"syscall"
)

const (
	nosuid = syscall.MS_NOSUID
	nodev  = syscall.MS_NODEV
	noexec = syscall.MS_NOEXEC
)

// mount is one file system to mount; *mode*, when set, is its root directory's.
type mount struct {
	source  string
	target  string
	kind    string
	flags   uintptr
	options string
}

func (m mount) do() error {
	if err := syscall.Mount(m.source, m.target, m.kind, m.flags, m.options); err != nil {
		return errors.New("mount " + m.source + " (" + m.kind + ") on " + m.target + ": " + err.Error())
	}
	return nil
}

func mountAll(mounts []mount) error {
	for _, m := range mounts {
		if err := m.do(); err != nil {
			return err
		}
	}
	return nil
}

// kernelFiles are mounted twice: for the harness to find its devices, and in the image's root.
var kernelFiles = []mount{
	{"proc", "/proc", "proc", nosuid | nodev | noexec, ""},
	{"sysfs", "/sys", "sysfs", nosuid | nodev | noexec, ""},
	{"devtmpfs", "/dev", "devtmpfs", nosuid, "mode=0755"},
}

// Mounts mounts what the harness itself needs. The kernel has usually mounted /dev already.
func Mounts() error {
	needed := kernelFiles
	if _, err := os.Stat("/dev/null"); err == nil {
		needed = kernelFiles[:2]
	}
	return mountAll(needed)
}
