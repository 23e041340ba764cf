package boot

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"aegis/guest_harness/lease"
)

// ours are mount points, which must be real directories; theirs may also be symbolic links of the image.
var (
	ours   = []string{"/proc", "/sys", "/dev", "/tmp", "/run", "/workspace"}
	theirs = []string{"/etc", "/var"}
)

var devices = []mount{
	{"devtmpfs", "/dev", "", syscall.MS_REMOUNT | nosuid, "size=1m"}, // which a mount does not heed: it is there already
	{"devpts", "/dev/pts", "devpts", nosuid | noexec, "newinstance,ptmxmode=0666,mode=0620,gid=5"},
	{"mqueue", "/dev/mqueue", "mqueue", nosuid | nodev | noexec, ""},
}

// localEvents has pids.events count what a group was refused, and not what groups below it were; before Linux 6.11 it did.
const localEvents = "pids_localevents"

var (
	run     = mount{"tmpfs", "/run", "tmpfs", nosuid | nodev, "mode=0755,size=3%"}
	cgroups = mount{"cgroup2", "/sys/fs/cgroup", "cgroup2", nosuid | nodev | noexec, localEvents}
)

// shared places are directories of the one tmpfs that holds all that the guest may change: they share its size.
var shared = []struct {
	target string
	name   string
	mode   uint32
}{{"/tmp", "tmp", 0o1777}, {"/workspace", "workspace", 0o777}, {"/dev/shm", "shm", 0o1777}}

var links = [][2]string{
	{"/proc/self/fd", "/dev/fd"},
	{"/proc/self/fd/0", "/dev/stdin"},
	{"/proc/self/fd/1", "/dev/stdout"},
	{"/proc/self/fd/2", "/dev/stderr"},
}

// places gives the image the directories and file systems that every Linux system has. *scratch* is the way to the shared
// tmpfs.
func places(scratch string) error {
	if err := directories(); err != nil {
		return err
	}
	if err := mountAll(kernelFiles); err != nil {
		return err
	}
	for _, target := range []string{"/dev/pts", "/dev/shm", "/dev/mqueue"} {
		if err := os.Mkdir(target, 0o755); err != nil && !os.IsExist(err) {
			return err
		}
	}
	for _, link := range links {
		if err := os.Symlink(link[0], link[1]); err != nil && !os.IsExist(err) {
			return err
		}
	}
	if err := mountAll(devices); err != nil {
		return err
	}
	if err := run.do(); err != nil {
		return err
	}
	if err := lease.Make(); err != nil {
		return err
	}
	if err := mountCgroups(); err != nil {
		return err
	}
	// A kernel without these controllers does without the limits.
	_ = os.WriteFile("/sys/fs/cgroup/cgroup.subtree_control", []byte("+pids +cpu"), 0)
	return share(scratch)
}

func mountCgroups() error {
	if cgroups.do() == nil {
		return nil
	}
	older := cgroups
	older.options = ""
	return older.do()
}

func share(scratch string) error {
	for _, place := range shared {
		source := scratch + "/" + place.name
		if err := syscall.Mkdir(source, 0o755); err != nil {
			return &os.PathError{Op: "mkdir", Path: source, Err: err}
		}
		if err := syscall.Chmod(source, place.mode); err != nil {
			return &os.PathError{Op: "chmod", Path: source, Err: err}
		}
		if err := (mount{source, place.target, "", syscall.MS_BIND, ""}).do(); err != nil {
			return err
		}
	}
	return nil
}

func directories() error {
	for _, path := range ours {
		if info, err := os.Lstat(path); err != nil || !info.IsDir() {
			if err := replace(path); err != nil {
				return err
			}
		}
	}
	// Once more for what led through a link that had to be replaced.
	for _, path := range slices.Concat(theirs, theirs) {
		if !usable(path) {
			if err := replace(path); err != nil {
				return err
			}
		}
	}
	return nil
}

// usable tells whether *path* is a directory, or leads to one that is not the root, by a way that no mount changes.
func usable(path string) bool {
	info, err := os.Stat(path)
	if err != nil || !info.IsDir() {
		return false
	}
	real, err := follow(path, ours)
	return err == nil && real != "/"
}

// replace puts an empty directory where the image has something else or nothing.
func replace(path string) error {
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return err
	}
	return os.Mkdir(path, 0o755)
}

// resolvConf names the harness's own name server.
const resolvConf = "nameserver 127.0.0.1\n"

// writeFiles writes the few files of /etc that are about this guest and not about its image.
func writeFiles(hostname string) error {
	hosts := "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\t" + hostname + "\n"
	files := [][2]string{
		{"/etc/hosts", hosts}, {"/etc/hostname", hostname + "\n"}, {"/etc/resolv.conf", resolvConf},
	}
	for _, file := range files {
		if err := writeFresh(file[0], file[1]); err != nil {
			return err
		}
	}
	return nil
}

// writeFresh never follows a symbolic link of the image.
func writeFresh(path, text string) error {
	if err := makeRoom(path); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, 0o644)
	if err != nil {
		return err
	}
	_, err = file.WriteString(text)
	return errors.Join(err, file.Close())
}

// makeRoom makes *path* free. A directory is put aside: to remove all that is in it may take longer than a boot.
func makeRoom(path string) error {
	info, err := os.Lstat(path)
	switch {
	case os.IsNotExist(err):
		return nil
	case err != nil:
		return err
	case !info.IsDir():
		return os.Remove(path)
	}
	aside, err := os.MkdirTemp(filepath.Dir(path), filepath.Base(path)+".image-")
	if err != nil {
		return err
	}
	if err := syscall.Rename(path, aside); err != nil { // os.Rename replaces no directory, not even an empty one
		return &os.LinkError{Op: "rename", Old: path, New: aside, Err: err}
	}
	return nil
}
