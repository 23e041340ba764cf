package boot

import (
	"errors"
	"os"
	"syscall"
)

// theKernels are places that no directory of the host may hide.
var theKernels = []string{"/proc", "/sys", "/dev"}

// mountShared mounts what the host shares. Where the guest may write is the host's to enforce, whatever is made of the flags.
func mountShared(mounts []Mount) error {
	for _, shared := range mounts {
		if err := mountOne(shared); err != nil {
			return errors.New(shared.Target + ": " + err.Error())
		}
	}
	return nil
}

func mountOne(shared Mount) error {
	real, err := follow(shared.Target, theKernels)
	if err != nil {
		return err
	}
	if real == "/" {
		return errors.New("this leads to the root directory")
	}
	if err := os.MkdirAll(real, 0o755); err != nil {
		return err
	}
	flags := uintptr(nodev)
	if shared.ReadOnly {
		flags |= syscall.MS_RDONLY
	}
	return mount{shared.Tag, real, "virtiofs", flags, ""}.do()
}
