package files

import (
	"runtime"
	"syscall"
	"unsafe"

	"aegis/guest_harness/users"
)

// as does *work* with the rights that an account has to files. They are this thread's alone, and nobody else gets the
// thread before it is root's again.
func as(account users.Account, work func() error) error {
	runtime.LockOSThread()
	defer func() {
		if assume(0, 0, nil) {
			runtime.UnlockOSThread()
		}
	}()
	if !assume(account.UID, account.GID, account.Groups) {
		return syscall.EPERM
	}
	return work()
}

// assume tells whether it has worked: these calls do not.
func assume(uid, gid uint32, groups []uint32) bool {
	_, _, number := syscall.RawSyscall(
		syscall.SYS_SETGROUPS, uintptr(len(groups)), uintptr(unsafe.Pointer(unsafe.SliceData(groups))), 0)
	return number == 0 && change(syscall.SYS_SETFSGID, gid) && change(syscall.SYS_SETFSUID, uid)
}

func change(call uintptr, id uint32) bool {
	const nobodys = 1<<32 - 1
	_, _, _ = syscall.RawSyscall(call, uintptr(id), 0, 0)
	now, _, _ := syscall.RawSyscall(call, nobodys, 0, 0)
	return uint32(now) == id
}
