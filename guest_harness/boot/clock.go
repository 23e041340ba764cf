package boot

import (
	"os"
	"syscall"
	"unsafe"
)

// SetClock makes it that time of day.
func SetClock(nanoseconds int64) error {
	now := syscall.NsecToTimeval(nanoseconds)
	return os.NewSyscallError("settimeofday", syscall.Settimeofday(&now))
}

const (
	addEntropyRequest = 0x40085203 // RNDADDENTROPY
	largestPool       = 512
)

// addEntropy feeds the kernel's random numbers and lets them count.
func addEntropy(seed []byte) error {
	var pool struct {
		bits  int32
		bytes int32
		seed  [largestPool]byte
	}
	size := copy(pool.seed[:], seed)
	pool.bits, pool.bytes = int32(8*size), int32(size)
	random, err := os.OpenFile("/dev/urandom", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer random.Close()
	return ioctl(random.Fd(), addEntropyRequest, unsafe.Pointer(&pool))
}

func ioctl(fd uintptr, request uintptr, argument unsafe.Pointer) error {
	if _, _, number := syscall.Syscall(syscall.SYS_IOCTL, fd, request, uintptr(argument)); number != 0 {
		return os.NewSyscallError("ioctl", number)
	}
	return nil
}
