package boot

import (
	"errors"
	"os"
	"syscall"
)

// theKernels are places that no directory of the host may hide.
var theKernels = []string{"/proc", "/sys", "/dev"}

// mountShared mounts what the host shares. The host lets nobody write there, whatever the guest makes of the flags.
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
	return mount{shared.Tag, real, "virtiofs", syscall.MS_RDONLY | nodev, ""}.do()
}
