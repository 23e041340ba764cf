package boot

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	imageDisk = "/dev/vdb"
	patience  = 10 * time.Second

	scratch = "/mnt" // a tmpfs that holds everything that the guest may change about its image, and /tmp and its like
	// scratchPart, in hundredths of the free memory, leaves some to run in when files fill it; mostScratch is what may be asked for.
	scratchPart = 65
	mostScratch = 80
	disk        = scratch + "/disk"
	root        = scratch + "/root"
)

// layers builds the root directory: the image's disk, which is read-only, below a throw-away layer in memory.
type layers struct {
	writable bool
	disk     int64    // MiB that files may take, 0 for scratchPart
	scratch  *os.File // keeps the layers in reach when the root has changed
	old      string   // where the old root is until seal
}

// enter mounts the image and makes it the root directory.
func (l *layers) enter() error {
	size, err := scratchSize(uint64(l.disk) << 20)
	if err != nil {
		return err
	}
	tmpfs := mount{"tmpfs", scratch, "tmpfs", nosuid | nodev, "mode=0755,size=" + strconv.FormatUint(size, 10)}
	if err := tmpfs.do(); err != nil {
		return err
	}
	for _, name := range []string{"disk", "root", "upper", "work", "image-var", "var", "varwork"} {
		if err := os.Mkdir(scratch+"/"+name, 0o755); err != nil {
			return err
		}
	}
	if err := waitFor(imageDisk); err != nil {
		return err
	}
	image := mount{imageDisk, disk, "erofs", syscall.MS_RDONLY | nodev, ""}
	if err := image.do(); err != nil {
		return err
	}
	overlay := mount{"overlay", root, "overlay", nodev, overlayOptions(scratch, disk, "upper", "work")}
	if err := overlay.do(); err != nil {
		return err
	}
	return l.pivot()
}

// scratchSize is how many bytes files may take: as many as are *wanted*, or a part of the memory that is free at boot. It
// is not all that the machine has: in a small guest the kernel and the harness take most of it.
func scratchSize(wanted uint64) (uint64, error) {
	var info syscall.Sysinfo_t
	if err := syscall.Sysinfo(&info); err != nil {
		return 0, os.NewSyscallError("sysinfo", err)
	}
	free := uint64(info.Freeram) * uint64(info.Unit)
	if wanted == 0 {
		return free / 100 * scratchPart, nil
	}
	if most := free / 100 * mostScratch; wanted > most {
		return 0, errors.New("a disk of " + mebibytes(wanted) + " is too much: the memory has room for " + mebibytes(most))
	}
	return wanted, nil
}

func mebibytes(size uint64) string {
	return strconv.FormatUint(size>>20, 10) + " MiB"
}

func overlayOptions(scratch, lower, upper, work string) string {
	// With redirect_dir a directory of the image can be renamed.
	return "redirect_dir=on,lowerdir=" + lower + ",upperdir=" + scratch + "/" + upper + ",workdir=" + scratch + "/" + work
}

// waitFor waits for a disk: the kernel may still be looking for it.
func waitFor(device string) error {
	deadline := time.Now().Add(patience)
	for {
		if _, err := os.Stat(device); err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return errors.New("no disk at " + device)
		}
		time.Sleep(time.Millisecond)
	}
}

// pivot swaps the roots. The old one gets a directory of its own: were it mounted over the new one's top, as is the
// custom, the image's links to "/.." would lead into it.
func (l *layers) pivot() error {
	var err error
	if l.scratch, err = os.Open(scratch); err != nil {
		return err
	}
	old, err := os.MkdirTemp(root, ".aegis-")
	if err != nil {
		return err
	}
	if err := syscall.PivotRoot(root, old); err != nil {
		return os.NewSyscallError("pivot_root", err)
	}
	l.old = strings.TrimPrefix(old, root)
	return os.Chdir("/")
}

// mountVar gives /var a throw-away layer of its own when the root has none. It uses the disk as the lower layer, not
// the root, so that an overlay can be mounted in there: the kernel stacks two at most.
func (l *layers) mountVar() error {
	if l.writable {
		return nil
	}
	real, err := follow("/var", ours)
	if err != nil {
		return err
	}
	below := l.below()
	// The disk may have something else in the place of the directory that is in the root.
	image := below + "/disk" + real
	if info, err := os.Lstat(image); err != nil || !info.IsDir() {
		return mount{below + "/var", real, "", syscall.MS_BIND, ""}.do()
	}
	lower := below + "/image-var" // a name of our own: one of the image's could be taken for more options
	return mountAll([]mount{
		{image, lower, "", syscall.MS_BIND, ""},
		{"overlay", real, "overlay", nosuid | nodev, overlayOptions(below, lower, "var", "varwork")},
	})
}

// below is the way to the layers when the root has changed.
func (l *layers) below() string {
	return "/proc/self/fd/" + strconv.Itoa(int(l.scratch.Fd()))
}

// seal makes the root read-only and lets go of the old one: nothing of the harness's disk or of the layers can be
// reached from the guest's tree any more.
func (l *layers) seal() error {
	l.scratch.Close()
	if err := syscall.Unmount(l.old, syscall.MNT_DETACH); err != nil {
		return os.NewSyscallError("umount of the old root", err)
	}
	if err := os.Remove(l.old); err != nil {
		return err
	}
	if l.writable {
		return nil
	}
	return mount{"overlay", "/", "", syscall.MS_REMOUNT | syscall.MS_RDONLY | nodev, ""}.do()
}
