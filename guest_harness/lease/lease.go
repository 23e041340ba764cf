// Package lease is how what runs in the guest keeps it awake: a file that says for how many seconds from now.
package lease

import (
	"bytes"
	"os"
	"strconv"
	"syscall"
	"time"
)

const (
	directory = "/run/aegis"
	// Longest is how long one lease can be.
	Longest = 24 * time.Hour
	digits  = 12 // of a number that can be meant
	// beingWritten is a lease whose file is empty: a shell empties it first.
	beingWritten = time.Second
)

var path = directory + "/keepalive"

// Make makes the file, which every user of the guest may write, in a directory where nobody else puts another in its place.
func Make() error {
	if err := os.Mkdir(directory, 0o755); err != nil {
		return err
	}
	fd, err := syscall.Open(path, syscall.O_WRONLY|syscall.O_CREAT|syscall.O_EXCL|syscall.O_CLOEXEC, 0o666)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer syscall.Close(fd)
	return os.NewSyscallError("fchmod", syscall.Fchmod(fd, 0o666)) // whatever the umask
}

// Left returns how long the guest is to be kept awake, 0 when nobody asked for it in a way that can be understood.
func Left() time.Duration {
	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if err != nil {
		return 0
	}
	defer syscall.Close(fd)
	var stat syscall.Stat_t
	if syscall.Fstat(fd, &stat) != nil || stat.Mode&syscall.S_IFMT != syscall.S_IFREG {
		return 0
	}
	var text [64]byte
	count, err := syscall.Read(fd, text[:])
	if err != nil {
		return 0
	}
	age := time.Since(time.Unix(stat.Mtim.Unix()))
	return left(parse(text[:count]), age)
}

// left is what remains of a lease; one that was written in the future, by a clock that was set since, begins now.
func left(lease, age time.Duration) time.Duration {
	return max(0, lease-max(0, age))
}

func parse(text []byte) time.Duration {
	text = bytes.TrimSpace(text)
	if len(text) == 0 {
		return beingWritten
	}
	if len(text) > digits || len(bytes.Trim(text, "0123456789.")) > 0 {
		return 0
	}
	seconds, err := strconv.ParseFloat(string(text), 64)
	if err != nil {
		return 0
	}
	return time.Duration(min(seconds, Longest.Seconds()) * float64(time.Second))
}
