package files

import (
	"errors"
	"syscall"

	"aegis/guest_harness/wire"
)

// names are what both ends call the kernel's errors, whose numbers differ between systems.
var names = map[syscall.Errno]string{
	syscall.EACCES: "EACCES", syscall.EBUSY: "EBUSY", syscall.EDQUOT: "EDQUOT", syscall.EEXIST: "EEXIST",
	syscall.EFBIG: "EFBIG", syscall.EINVAL: "EINVAL", syscall.EIO: "EIO", syscall.EISDIR: "EISDIR",
	syscall.ELOOP: "ELOOP", syscall.EMFILE: "EMFILE", syscall.ENAMETOOLONG: "ENAMETOOLONG", syscall.ENOENT: "ENOENT",
	syscall.ENOMEM: "ENOMEM", syscall.ENOSPC: "ENOSPC", syscall.ENOTDIR: "ENOTDIR", syscall.ENOTEMPTY: "ENOTEMPTY",
	syscall.ENXIO: "ENXIO", syscall.EPERM: "EPERM", syscall.EROFS: "EROFS", syscall.ETXTBSY: "ETXTBSY",
	syscall.EXDEV: "EXDEV",
}

// failure is what the kernel said, and of which path.
type failure struct {
	path  string
	err   error
	words string // in place of the kernel's
}

func (f *failure) Error() string {
	if f.words != "" {
		return f.words
	}
	return f.err.Error()
}

func (f *failure) Unwrap() error { return f.err }

// of says which path an error is about, unless that is known already.
func of(path string, err error) error {
	var known *failure
	if err == nil || errors.As(err, &known) {
		return err
	}
	return &failure{path: path, err: err}
}

// outcome is what the last frame says of an error, or of none.
func outcome(err error) []wire.Pair {
	if err == nil {
		return []wire.Pair{}
	}
	var number syscall.Errno
	name := "EIO"
	if errors.As(err, &number) {
		if known := names[number]; known != "" {
			name = known
		}
	}
	path := ""
	var about *failure
	if errors.As(err, &about) {
		path = about.path
	}
	return []wire.Pair{{Name: "error", Value: name}, {Name: "path", Value: path}, {Name: "message", Value: err.Error()}}
}
