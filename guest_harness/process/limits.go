package process

import "syscall"

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

// makeRoom raises the soft limit when *fd* shows that the harness comes near it: with some three hundred commands at once.
func makeRoom(fd int) {
	if fd > crowded {
		_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: manyFiles, Max: hardFiles})
	}
}
