package boot

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

const mostLinks = 40 // as many as the kernel follows

// follow returns the path, free of symbolic links, that *path* leads to from the root. What is missing on the way counts
// as a directory that is yet to be made. It is an error to come by one of the places to *avoid*.
func follow(path string, avoid []string) (string, error) {
	at, names, links := "/", strings.Split(path, "/"), 0
	for len(names) > 0 {
		next := filepath.Join(at, names[0])
		names = names[1:]
		if slices.Contains(avoid, next) {
			return "", &os.PathError{Op: "follow", Path: path, Err: os.ErrPermission}
		}
		target, err := os.Readlink(next)
		if err != nil {
			at = next
			continue
		}
		if links++; links > mostLinks {
			return "", &os.PathError{Op: "follow", Path: path, Err: syscall.ELOOP}
		}
		if strings.HasPrefix(target, "/") {
			at = "/"
		}
		names = append(strings.Split(target, "/"), names...)
	}
	return at, nil
}
