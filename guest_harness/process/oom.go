package process

import (
	"bytes"
	"io"
	"strconv"
	"syscall"
)

const (
	mostRecords = 4096 // that are read at once: root in the guest can write them without end
	mostKills   = 64
)

// oomLog follows the kernel's log for processes that were killed for lack of memory. When nothing was logged, a look costs
// one system call.
type oomLog struct {
	fd     int // -1 where there is no log to be read
	count  int
	killed [mostKills]int // the last ones' pids
}

func newOOMLog() oomLog {
	fd, err := syscall.Open("/dev/kmsg", syscall.O_RDONLY|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if err != nil {
		return oomLog{fd: -1}
	}
	_, _ = syscall.Seek(fd, 0, io.SeekEnd)
	return oomLog{fd: fd}
}

// read takes in what was logged since, and returns how many processes were killed in all.
func (l *oomLog) read() int {
	var record [1024]byte
	for range mostRecords {
		size, err := syscall.Read(l.fd, record[:])
		switch {
		case err == syscall.EINTR || err == syscall.EPIPE || err == syscall.EINVAL: // overwritten, or longer than ours are
			continue
		case err != nil || size <= 0:
			return l.count
		}
		if pid := killedProcess(record[:size]); pid > 0 {
			l.killed[l.count%mostKills] = pid
			l.count++
		}
	}
	return l.count
}

// since tells whether a process was killed after the first *count*: *pid*, or any when that is 0.
func (l *oomLog) since(count, pid int) bool {
	now := l.read()
	for i := max(count, now-mostKills); i < now; i++ {
		if pid == 0 || l.killed[i%mostKills] == pid {
			return true
		}
	}
	return false
}

// killedProcess returns the process that a record of /dev/kmsg is about, 0 when it is about something else. What
// commands write there has a priority above 7.
func killedProcess(record []byte) int {
	priority, rest, _ := bytes.Cut(record, []byte(","))
	if level, err := strconv.Atoi(string(priority)); err != nil || level > 7 {
		return 0
	}
	_, text, _ := bytes.Cut(rest, []byte(";"))
	_, after, found := bytes.Cut(text, []byte(": Killed process "))
	number, _, _ := bytes.Cut(after, []byte(" "))
	pid, err := strconv.Atoi(string(number))
	if !found || err != nil {
		return 0
	}
	return pid
}
