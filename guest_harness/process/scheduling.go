package process

import (
	"os"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"unsafe"
)

const (
	batch       = 3          // SCHED_BATCH
	resetOnFork = 1          // SCHED_FLAG_RESET_ON_FORK: commands start with the ordinary niceness
	mostUrgent  = -20        // so that a guest full of busy processes still answers
	slack       = "20000000" // nanoseconds
)

// schedule is struct sched_attr of sched_setattr(2).
type schedule struct {
	size, policy              uint32
	flags                     uint64
	nice                      int32
	priority                  uint32
	runtime, deadline, period uint64
}

// Schedule lets the harness wait for a command to give up the CPU instead of interrupting it at each of its steps. With
// one emulated CPU, where a switch is dear, that makes `true` a tenth faster, and the next measure a sixth.
func Schedule() error {
	gatherThreads()
	attributes := schedule{policy: batch, flags: resetOnFork, nice: mostUrgent}
	attributes.size = uint32(unsafe.Sizeof(attributes))
	_, _, number := syscall.AllThreadsSyscall(setAttributes, 0, uintptr(unsafe.Pointer(&attributes)), 0)
	if number != 0 {
		return os.NewSyscallError("sched_setattr", number)
	}
	return calmMonitor()
}

// threads are made before the policy, since those made later have the ordinary one: the flag that spares the commands
// holds for threads, too.
const threads = 8

// gatherThreads makes the Go runtime have that many threads, which it keeps.
func gatherThreads() {
	var met, left sync.WaitGroup
	met.Add(threads)
	left.Add(threads)
	for range threads {
		go func() {
			defer left.Done()
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			met.Done()
			met.Wait()
		}()
	}
	left.Wait()
}

// ordinary gives a new command the ordinary policy, which the flag above does not.
func ordinary(pid int) {
	var priority int32
	_, _, _ = syscall.Syscall(syscall.SYS_SCHED_SETSCHEDULER, uintptr(pid), 0, uintptr(unsafe.Pointer(&priority)))
}

// calmMonitor lets the kernel delay the Go runtime's monitor, its first thread after the main one, which otherwise wakes
// every 20 microseconds while anything goes on. That thread starts no other and no process: nothing inherits the delay.
func calmMonitor() error {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	monitor := 0
	for _, thread := range threads {
		id, _ := strconv.Atoi(thread.Name())
		if id != os.Getpid() && (monitor == 0 || id < monitor) {
			monitor = id
		}
	}
	return os.WriteFile("/proc/"+strconv.Itoa(monitor)+"/timerslack_ns", []byte(slack), 0)
}
