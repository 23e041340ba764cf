package process

import (
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"aegis/guest_harness/users"
)

// maySearch tells, by the mode bits, whether an account can enter a directory. It only chooses between two explanations
// of the kernel's "permission denied", which does not say what it denied.
func maySearch(dir string, account users.Account) bool {
	if account.UID == 0 {
		return true
	}
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return false
	}
	for ; ; real = filepath.Dir(real) {
		info, err := os.Stat(real)
		if err != nil || !searchable(info.Sys().(*syscall.Stat_t), account) {
			return false
		}
		if real == "/" {
			return true
		}
	}
}

func searchable(stat *syscall.Stat_t, account users.Account) bool {
	switch {
	case stat.Uid == account.UID:
		return stat.Mode&0o100 != 0
	case stat.Gid == account.GID || slices.Contains(account.Groups, stat.Gid):
		return stat.Mode&0o010 != 0
	}
	return stat.Mode&0o001 != 0
}
