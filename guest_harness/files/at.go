package files

import (
	"syscall"
	"unsafe"

	"aegis/guest_harness/process"
)

const (
	removeDirectory = 0x200 // AT_REMOVEDIR
	noFollow        = 0x100 // AT_SYMLINK_NOFOLLOW
	seekData        = 3
	seekHole        = 4
	timeOmit        = 1<<30 - 2 // UTIME_OMIT

	// opening never waits for a FIFO's other end, nor takes a terminal.
	quietly = syscall.O_CLOEXEC | syscall.O_NONBLOCK | syscall.O_NOCTTY
	enter   = syscall.O_RDONLY | syscall.O_DIRECTORY | quietly
	fresh   = syscall.O_WRONLY | syscall.O_CREAT | syscall.O_EXCL | syscall.O_NOFOLLOW | quietly
)

// current is the working directory, which is the root.
const current = -100 // AT_FDCWD

func openat(dir int, name string, flags int, mode uint32) (int, error) {
	for {
		fd, err := syscall.Openat(dir, name, flags, mode)
		if err == nil {
			process.MakeRoom(fd)
		}
		if err != syscall.EINTR {
			return fd, err
		}
	}
}

func statat(dir int, name string, flags int) (*syscall.Stat_t, error) {
	stat := &syscall.Stat_t{}
	return stat, named(sysFstatat, dir, name, unsafe.Pointer(stat), flags)
}

func unlinkat(dir int, name string, flags int) error {
	pointer, err := syscall.BytePtrFromString(name)
	if err != nil {
		return err
	}
	for {
		_, _, number := syscall.Syscall(
			syscall.SYS_UNLINKAT, uintptr(dir), uintptr(unsafe.Pointer(pointer)), uintptr(flags))
		if number != syscall.EINTR {
			return reported(number)
		}
	}
}

// named makes a call whose arguments are a directory, a name in it, a structure and flags.
func named(call uintptr, dir int, name string, about unsafe.Pointer, flags int) error {
	pointer, err := syscall.BytePtrFromString(name)
	if err != nil {
		return err
	}
	for {
		_, _, number := syscall.Syscall6(
			call, uintptr(dir), uintptr(unsafe.Pointer(pointer)), uintptr(about), uintptr(flags), 0, 0)
		if number != syscall.EINTR {
			return reported(number)
		}
	}
}

func reported(number syscall.Errno) error {
	if number != 0 {
		return number
	}
	return nil
}

func symlinkat(target string, dir int, name string) error {
	from, err := syscall.BytePtrFromString(target)
	if err != nil {
		return err
	}
	to, err := syscall.BytePtrFromString(name)
	if err != nil {
		return err
	}
	_, _, number := syscall.Syscall(
		syscall.SYS_SYMLINKAT, uintptr(unsafe.Pointer(from)), uintptr(dir), uintptr(unsafe.Pointer(to)))
	return reported(number)
}

func readlinkat(dir int, name string) (string, error) {
	pointer, err := syscall.BytePtrFromString(name)
	if err != nil {
		return "", err
	}
	var buffer [4096]byte
	n, _, number := syscall.Syscall6(syscall.SYS_READLINKAT, uintptr(dir), uintptr(unsafe.Pointer(pointer)),
		uintptr(unsafe.Pointer(&buffer)), uintptr(len(buffer)), 0, 0)
	if number != 0 {
		return "", number
	}
	return string(buffer[:n]), nil
}

// date sets when something was last modified: of the name in the directory, which is not followed, or of *dir* itself.
func date(dir int, name string, seconds int64, nanoseconds uint32) error {
	times := [2]syscall.Timespec{{Nsec: timeOmit}, {Sec: seconds, Nsec: int64(nanoseconds)}}
	if name == "" {
		_, _, number := syscall.Syscall6(
			syscall.SYS_UTIMENSAT, uintptr(dir), 0, uintptr(unsafe.Pointer(&times)), 0, 0, 0)
		return reported(number)
	}
	return named(syscall.SYS_UTIMENSAT, dir, name, unsafe.Pointer(&times), noFollow)
}

func read(fd int, buffer []byte) (int, error) {
	for {
		n, err := syscall.Read(fd, buffer)
		if err != syscall.EINTR {
			return max(n, 0), err
		}
	}
}

// writeAll writes at the descriptor's position.
func writeAll(fd int, bytes []byte) error {
	for len(bytes) > 0 {
		n, err := syscall.Write(fd, bytes)
		if err == syscall.EINTR {
			continue
		}
		if err == nil && n == 0 {
			err = syscall.ENOSPC
		}
		if err != nil {
			return err
		}
		bytes = bytes[n:]
	}
	return nil
}
