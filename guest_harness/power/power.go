// Package power is how a guest ends, and what PID 1 makes of signals.
package power

import (
	"os"
	"os/signal"
	"syscall"

	"aegis/guest_harness/console"
)

// ends are what busybox, sysvinit and the kernel send PID 1 to ask for the guest's end.
var ends = []os.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGPWR}

// others would end the harness, and so make the kernel panic, if they were not caught.
// They are caught and not ignored: a command would inherit that.
var others = []os.Signal{
	syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGILL, syscall.SIGTRAP, syscall.SIGABRT, syscall.SIGBUS, syscall.SIGFPE,
	syscall.SIGSEGV, syscall.SIGPIPE, syscall.SIGALRM, syscall.SIGSTKFLT, syscall.SIGXCPU, syscall.SIGXFSZ,
	syscall.SIGVTALRM, syscall.SIGPROF, syscall.SIGIO, syscall.SIGSYS,
}

// Obey ends the guest when a signal asks for it.
func Obey() {
	signal.Notify(make(chan os.Signal, 1), others...)
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, ends...)
	go func() {
		Off("signal ", (<-asked).String())
	}()
}

// Off ends the guest, and with it the VMM, which is told not to reboot.
func Off(why ...string) {
	console.Log(append([]string{"the guest ends: "}, why...)...)
	syscall.Sync()
	err := syscall.Reboot(syscall.LINUX_REBOOT_CMD_RESTART)
	console.Log("reboot: ", err.Error())
	os.Exit(1) // which makes the kernel panic: the last way to end
}
