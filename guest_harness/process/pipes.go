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
	null  int
}

func openPipes(stdin bool, null int) (*pipes, error) {
	p := &pipes{child: [3]int{-1, -1, -1}, our: [3]int{-1, -1, -1}, null: null}
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
		MakeRoom(ends[1])
	}
	return p, nil
}

func (p *pipes) childs() []uintptr {
	stdin := p.child[0]
	if stdin < 0 {
		stdin = p.null
	}
	return []uintptr{uintptr(stdin), uintptr(p.child[1]), uintptr(p.child[2])}
}

func (p *pipes) give(running *Running) {
	if p.our[0] >= 0 {
		running.Stdin = inPipe{os.NewFile(uintptr(p.our[0]), "stdin")}
	}
	running.Stdout, running.Stderr = newPipe(p.our[1], "stdout", p.null), newPipe(p.our[2], "stderr", p.null)
}

func (p *pipes) closeStarted() { p.closeChilds() }
func (p *pipes) closeChilds()  { closeAll(p.child[:]...) }
func (p *pipes) closeOurs()    { closeAll(p.our[:]...) }

func closeAll(descriptors ...int) {
	for _, fd := range descriptors {
		if fd >= 0 {
			_ = syscall.Close(fd)
		}
	}
}

// inPipe is what a command has as stdin.
type inPipe struct{ *os.File }

// End closes it.
func (p inPipe) End() { _ = p.Close() }
