package process

import (
	"os"
	"syscall"
)

// pipeSize is what the kernel may hold of an output that the host has not taken yet.
const pipeSize = 1 << 20

const setPipeSize = 1031 // F_SETPIPE_SZ

// pipes are the standard streams of one command: for each, the child's end and ours, -1 where there is none.
type pipes struct {
	child [3]int
	our   [3]int
}

func openPipes(stdin bool) (*pipes, error) {
	p := &pipes{child: [3]int{-1, -1, -1}, our: [3]int{-1, -1, -1}}
	for stream := range 3 {
		if stream == 0 && !stdin {
			continue
		}
		var ends [2]int
		if err := syscall.Pipe2(ends[:], syscall.O_CLOEXEC); err != nil {
			p.closeChilds()
			p.closeOurs()
			return nil, err
		}
		if stream == 0 {
			p.child[0], p.our[0] = ends[0], ends[1]
		} else {
			p.our[stream], p.child[stream] = ends[0], ends[1]
			_, _, _ = syscall.RawSyscall(syscall.SYS_FCNTL, uintptr(ends[0]), setPipeSize, pipeSize)
		}
		_ = syscall.SetNonblock(p.our[stream], true)
		makeRoom(ends[1])
	}
	return p, nil
}

// childs returns the descriptors that the child gets as 0, 1 and 2.
func (p *pipes) childs(null int) []uintptr {
	stdin := p.child[0]
	if stdin < 0 {
		stdin = null
	}
	return []uintptr{uintptr(stdin), uintptr(p.child[1]), uintptr(p.child[2])}
}

func (p *pipes) ours(null int) (stdin *os.File, stdout, stderr *Output) {
	if p.our[0] >= 0 {
		stdin = os.NewFile(uintptr(p.our[0]), "stdin")
	}
	return stdin, newOutput(p.our[1], "stdout", null), newOutput(p.our[2], "stderr", null)
}

func (p *pipes) closeChilds() { closeAll(p.child) }
func (p *pipes) closeOurs()   { closeAll(p.our) }

func closeAll(descriptors [3]int) {
	for _, fd := range descriptors {
		if fd >= 0 {
			_ = syscall.Close(fd)
		}
	}
}
