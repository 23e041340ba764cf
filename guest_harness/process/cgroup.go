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
// It has a fair share of the CPU, as has the harness, whatever the number of processes; what all commands together may have
// of these leaves the harness room.
type cgroups struct {
	root  string // empty when the guest has no cgroups
	most  string // processes of one command
	usage int    // cpu.stat of all commands, -1 when there is none
	next  int
	spare []*cgroup
}

// cgroup holds one command's processes.
type cgroup struct {
	path   string
	dir    int // to start a process in it
	procs  int // cgroup.procs
	events int // cgroup.events, to see whether it and all below it are empty
	end    int // cgroup.kill, open while the guest's cgroups are still in reach
	pids   int // pids.events, -1 where the kernel has none
	spent  bool

	refusals int // of new processes, seen so far
}

func newCgroups(root string, limit int) cgroups {
	if err := os.Mkdir(root, 0o755); err != nil {
		return cgroups{usage: -1}
	}
	if _, err := os.Stat(root + "/cgroup.kill"); err != nil {
		_ = os.Remove(root)
		return cgroups{usage: -1}
	}
	most := mostProcesses(limit)
	set(root+"/pids.max", strconv.Itoa(most))
	set(root+"/cgroup.subtree_control", "+cpu +pids") // so that one command does not use up what others need
	usage, err := syscall.Open(root+"/cpu.stat", syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		usage = -1
	}
	return cgroups{root: root, most: strconv.Itoa(most - most/8), usage: usage}
}

const (
	perMiB   = 4 // processes and threads of commands: each takes some 20 KiB of the kernel's memory at the least
	fewest   = 128
	reserved = 256 // of the process ids and of the kernel's threads
)

// mostProcesses is how many processes all commands may have together: as many as are *wanted*, or what the memory allows.
func mostProcesses(wanted int) int {
	if wanted > 0 {
		return wanted
	}
	var info syscall.Sysinfo_t
	if syscall.Sysinfo(&info) != nil {
		return fewest
	}
	most := int(uint64(info.Totalram) * uint64(info.Unit) >> 20 * perMiB)
	for _, name := range []string{"pid_max", "threads-max"} {
		text, _ := os.ReadFile("/proc/sys/kernel/" + name)
		if limit, err := strconv.Atoi(string(bytes.TrimSpace(text))); err == nil {
			most = min(most, limit-reserved)
		}
	}
	return max(most, fewest)
}

// set writes a value to a file of a cgroup that a kernel may not have.
func set(path, value string) {
	file, err := syscall.Open(path, syscall.O_WRONLY|syscall.O_CLOEXEC, 0)
	if err == nil {
		_, _ = syscall.Write(file, []byte(value))
		_ = syscall.Close(file)
	}
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
	set(path+"/cgroup.max.descendants", "0")
	set(path+"/pids.max", c.most)
	group := &cgroup{path: path, pids: -1}
	files := []struct {
		fd   *int
		name string
		mode int
	}{
		{&group.dir, "", oPath | syscall.O_DIRECTORY}, {&group.procs, "/cgroup.procs", syscall.O_RDONLY},
		{&group.events, "/cgroup.events", syscall.O_RDONLY}, {&group.end, "/cgroup.kill", syscall.O_WRONLY},
	}
	for opened, file := range files {
		var err error
		if *file.fd, err = syscall.Open(path+file.name, file.mode|syscall.O_CLOEXEC, 0); err != nil {
			for _, file := range files[:opened] {
				_ = syscall.Close(*file.fd)
			}
			_ = syscall.Rmdir(path)
			return nil
		}
	}
	if fd, err := syscall.Open(path+"/pids.events", syscall.O_RDONLY|syscall.O_CLOEXEC, 0); err == nil {
		group.pids = fd
	}
	return group
}

// give takes back an empty group, and tells whether it is in order: one that must go can still hold a dying process.
func (c *cgroups) give(group *cgroup) bool {
	if len(c.spare) < spares && !group.spent && group.childless() {
		c.spare = append(c.spare, group)
		return true
	}
	if syscall.Rmdir(group.path) == syscall.EBUSY {
		return false
	}
	for _, fd := range []int{group.dir, group.procs, group.events, group.end, group.pids} {
		_ = syscall.Close(fd)
	}
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

// refused tells whether a process of the group was refused a child since the last look: there were too many.
func (g *cgroup) refused() bool {
	var events [64]byte
	count, err := syscall.Pread(g.pids, events[:], 0)
	if err != nil {
		return false
	}
	before := g.refusals
	line, _, _ := bytes.Cut(bytes.TrimPrefix(events[:count], []byte("max ")), []byte("\n"))
	g.refusals, _ = strconv.Atoi(string(line))
	return g.refusals > before
}

// empty looks at the groups below, too.
func (g *cgroup) empty() bool {
	var events [256]byte
	count, err := syscall.Pread(g.events, events[:], 0)
	return err == syscall.ENODEV || err == nil && bytes.Contains(events[:count], []byte("populated 0\n"))
}

// childless tells whether there are no groups below: root in the guest can make some.
func (g *cgroup) childless() bool {
	var stat syscall.Stat_t
	return syscall.Fstat(g.dir, &stat) == nil && stat.Nlink == 2
}

// kill ends everything in the group at once, new children included. Linux 6.18 would also kill whatever is started in
// the group later, so it is never used again.
func (g *cgroup) kill() {
	g.spent = true
	_, _ = syscall.Pwrite(g.end, []byte("1"), 0)
}
