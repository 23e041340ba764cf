package process

import (
	"sync/atomic"
	"syscall"
	"unsafe"
)

// What a login on an ordinary Linux has. The harness itself stays at the soft limit too, because its children inherit
// its limits and Go offers no way to change them between fork and exec.
const (
	softFiles = 1024
	hardFiles = 1 << 20
	crowded   = softFiles - 128
	manyFiles = 1 << 16
)

// LimitFiles gives the harness, and with it all commands, the limits of open files.
func LimitFiles() error {
	return syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: softFiles, Max: hardFiles})
}

// roomy says that the harness has raised its own soft limit, which new commands would inherit.
var roomy atomic.Bool

// limitFiles gives a new command the ordinary limits.
func limitFiles(pid int) {
	if roomy.Load() {
		limit := syscall.Rlimit{Cur: softFiles, Max: hardFiles}
		_, _, _ = syscall.RawSyscall6(
			syscall.SYS_PRLIMIT64, uintptr(pid), syscall.RLIMIT_NOFILE, uintptr(unsafe.Pointer(&limit)), 0, 0, 0,
		)
	}
}

// MakeRoom raises the soft limit when *fd* shows that the harness comes near it: with some three hundred commands at once.
func MakeRoom(fd int) {
	if fd > crowded && !roomy.Swap(true) {
		_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: manyFiles, Max: hardFiles})
	}
}
