// Package users reads an image's /etc/passwd and /etc/group, which may hold anything.
package users

import (
	"bufio"
	"errors"
	"io"
	"strconv"
	"strings"
	"syscall"
)

const (
	longestLine = 64 << 10
	largestFile = 1 << 20
	mostGroups  = 65536 // NGROUPS_MAX
)

// Account is who a command runs as. Name is empty when the image does not know the number.
type Account struct {
	Name   string
	UID    uint32
	GID    uint32
	Groups []uint32
	Home   string
}

// Files are the two databases of an image.
type Files struct {
	Passwd string
	Group  string
}

// Find resolves `name`, `uid`, `name:group` or `uid:gid`; an empty text is root.
func (f Files) Find(text string) (Account, error) {
	if text == "" {
		text = "0"
	}
	user, group, explicit := strings.Cut(text, ":")
	account, err := f.account(user)
	if err != nil {
		return Account{}, err
	}
	if explicit {
		account.GID, err = f.gid(group)
		return account, err
	}
	account.Groups = f.memberships(account.Name)
	return account, nil
}

// account finds a user by name, then by number; an unknown number is a user without a name.
func (f Files) account(user string) (Account, error) {
	uid, numeric := number(user)
	var found Account
	known := false
	f.each(f.Passwd, 7, func(fields []string) bool {
		entry, ok := parseAccount(fields)
		if !ok || fields[0] != user && (known || !numeric || entry.UID != uid) {
			return true
		}
		found, known = entry, true
		return fields[0] != user
	})
	switch {
	case known:
		return found, nil
	case numeric:
		return Account{Name: rootName(uid), UID: uid, Home: "/"}, nil
	}
	return Account{}, errors.New("no user named " + user + " in " + f.Passwd)
}

// rootName is right even in an image that has no /etc/passwd.
func rootName(uid uint32) string {
	if uid == 0 {
		return "root"
	}
	return ""
}

func parseAccount(fields []string) (Account, bool) {
	uid, validUID := number(fields[2])
	gid, validGID := number(fields[3])
	account := Account{Name: fields[0], UID: uid, GID: gid, Home: fields[5]}
	if account.Home == "" {
		account.Home = "/"
	}
	return account, validUID && validGID && account.Name != ""
}

func (f Files) gid(group string) (uint32, error) {
	gid, numeric := number(group)
	named := false
	f.each(f.Group, 4, func(fields []string) bool {
		if id, ok := number(fields[2]); ok && fields[0] == group && group != "" {
			gid, named = id, true
		}
		return !named
	})
	if named || numeric {
		return gid, nil
	}
	return 0, errors.New("no group named " + group + " in " + f.Group)
}

func (f Files) memberships(name string) []uint32 {
	var groups []uint32
	f.each(f.Group, 4, func(fields []string) bool {
		gid, ok := number(fields[2])
		if ok && name != "" && listed(fields[3], name) {
			groups = append(groups, gid)
		}
		return len(groups) < mostGroups
	})
	return groups
}

func listed(members, name string) bool {
	for member := range strings.SplitSeq(members, ",") {
		if member == name {
			return true
		}
	}
	return false
}

// number reads an id. 4294967295 means "unchanged" to the kernel and is nobody's.
func number(text string) (uint32, bool) {
	id, err := strconv.ParseUint(text, 10, 32)
	return uint32(id), err == nil && id != 1<<32-1
}

// each calls *visit* with the fields of every line that has *count* of them, until it says that it has enough.
func (Files) each(path string, count int, visit func(fields []string) bool) {
	// A FIFO must not stop us, nor a file of /proc that says it is regular and has nothing to read yet.
	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_NONBLOCK|syscall.O_CLOEXEC|syscall.O_NOCTTY, 0)
	if err != nil {
		return
	}
	defer syscall.Close(fd)
	var stat syscall.Stat_t
	if err := syscall.Fstat(fd, &stat); err != nil || stat.Mode&syscall.S_IFMT != syscall.S_IFREG {
		return
	}
	eachLine(io.LimitReader(impatient(fd), largestFile), func(line string) bool {
		fields := strings.Split(line, ":")
		return len(fields) != count || visit(fields)
	})
}

// impatient is a descriptor that ends where it would have to be waited for.
type impatient int

func (fd impatient) Read(buffer []byte) (int, error) {
	for {
		count, err := syscall.Read(int(fd), buffer)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || count <= 0 {
			return 0, io.EOF
		}
		return count, nil
	}
}

// eachLine skips lines that are too long to be an entry.
func eachLine(file io.Reader, visit func(line string) bool) {
	reader := bufio.NewReaderSize(file, 4096)
	var line []byte
	for {
		piece, more, err := reader.ReadLine()
		if err != nil {
			return
		}
		if len(line) <= longestLine {
			line = append(line, piece...)
		}
		if more {
			continue
		}
		if len(line) <= longestLine && !visit(string(line)) {
			return
		}
		line = line[:0]
	}
}
