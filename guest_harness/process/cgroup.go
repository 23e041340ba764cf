package process

import (
	"bytes"
	"os"
	"strconv"
	"syscall"
)

const (
	oPath = 0x200000 // O_PATH
	// spares are kept for the next commands: under emulation a fresh cgroup makes a start one millisecond slower.
	spares = 8
)

// cgroups gives every command a cgroup of its own, from which its processes cannot escape by setsid.
// No controllers are enabled in it, so it costs little.
type cgroups struct {
	root  string // empty when the guest has no cgroups
	next  int
	spare []*cgroup
}

// cgroup holds one command's processes.
type cgroup struct {
	path  string
	dir   int // to start a process in it
	procs int // cgroup.procs, to see whether it is empty
	spent bool
}

func newCgroups(root string) cgroups {
	if err := os.Mkdir(root, 0o755); err != nil {
		return cgroups{}
	}
	if _, err := os.Stat(root + "/cgroup.kill"); err != nil {
		_ = os.Remove(root)
		return cgroups{}
	}
	return cgroups{root: root}
}

// take returns an empty group, nil when there are no cgroups.
func (c *cgroups) take() *cgroup {
	if last := len(c.spare) - 1; last >= 0 {
		group := c.spare[last]
		c.spare = c.spare[:last]
		return group
	}
	if c.root == "" {
		return nil
	}
	c.next++
	path := c.root + "/" + strconv.Itoa(c.next)
	if err := syscall.Mkdir(path, 0o755); err != nil {
		return nil
	}
	dir, err := syscall.Open(path, oPath|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	procs, err := syscall.Open(path+"/cgroup.procs", syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		_ = syscall.Close(dir)
		return nil
	}
	return &cgroup{path: path, dir: dir, procs: procs}
}

// give takes back an empty group, and tells whether it is in order: one that must go can still hold a dying process.
func (c *cgroups) give(group *cgroup) bool {
	if len(c.spare) < spares && !group.spent {
		c.spare = append(c.spare, group)
		return true
	}
	if syscall.Rmdir(group.path) == syscall.EBUSY {
		return false
	}
	_ = syscall.Close(group.dir)
	_ = syscall.Close(group.procs)
	return true
}

// processes returns the ids of all that runs in the group.
func (g *cgroup) processes() []int {
	var list []byte
	page := make([]byte, 4096)
	for {
		count, err := syscall.Pread(g.procs, page, int64(len(list)))
		if err != nil || count <= 0 {
			break
		}
		list = append(list, page[:count]...)
	}
	var pids []int
	for line := range bytes.Lines(list) {
		if pid, err := strconv.Atoi(string(bytes.TrimSpace(line))); err == nil && pid > 1 {
			pids = append(pids, pid)
		}
	}
	return pids
}

func (g *cgroup) empty() bool {
	var some [1]byte
	count, err := syscall.Pread(g.procs, some[:], 0)
	return err == nil && count == 0
}

// kill ends everything in the group at once, new children included. Linux 6.18 would also kill whatever is started in
// the group later, so it is never used again.
func (g *cgroup) kill() {
	g.spent = true
	file, err := syscall.Open(g.path+"/cgroup.kill", syscall.O_WRONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer syscall.Close(file)
	_, _ = syscall.Write(file, []byte("1"))
}
