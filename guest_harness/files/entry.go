package files

import (
	"encoding/binary"
	"errors"
	"strings"
	"syscall"
)

// The kinds of an entry.
const (
	regular   = 'f'
	directory = 'd'
	link      = 'l'
)

// Entry is one thing in a directory.
type Entry struct {
	Kind        byte
	Mode        uint32 // permissions and the three bits before them
	UID, GID    uint32
	Size        int64
	Seconds     int64
	Nanoseconds uint32
	Name        string
	Target      string // of a symbolic link
}

const entryHead = 1 + 4 + 4 + 4 + 8 + 8 + 4 + 2

var errEntry = errors.New("an entry that cannot be")

var kinds = map[uint32]byte{
	syscall.S_IFREG: regular, syscall.S_IFDIR: directory, syscall.S_IFLNK: link, syscall.S_IFIFO: 'p',
	syscall.S_IFSOCK: 's', syscall.S_IFBLK: 'b', syscall.S_IFCHR: 'c',
}

func describe(name string, stat *syscall.Stat_t, target string) Entry {
	return Entry{
		Kind: kinds[stat.Mode&syscall.S_IFMT], Mode: stat.Mode & 0o7777, UID: stat.Uid, GID: stat.Gid, Size: stat.Size,
		Seconds: stat.Mtim.Sec, Nanoseconds: uint32(stat.Mtim.Nsec), Name: name, Target: target,
	}
}

func (e Entry) encode() []byte {
	out := append(make([]byte, 0, entryHead+len(e.Name)+len(e.Target)), e.Kind)
	out = binary.BigEndian.AppendUint32(out, e.Mode)
	out = binary.BigEndian.AppendUint32(out, e.UID)
	out = binary.BigEndian.AppendUint32(out, e.GID)
	out = binary.BigEndian.AppendUint64(out, uint64(e.Size))
	out = binary.BigEndian.AppendUint64(out, uint64(e.Seconds))
	out = binary.BigEndian.AppendUint32(out, e.Nanoseconds)
	out = binary.BigEndian.AppendUint16(out, uint16(len(e.Name)))
	return append(append(out, e.Name...), e.Target...)
}

func parseEntry(in []byte) (Entry, error) {
	if len(in) < entryHead {
		return Entry{}, errEntry
	}
	e := Entry{
		Kind: in[0], Mode: binary.BigEndian.Uint32(in[1:]), UID: binary.BigEndian.Uint32(in[5:]),
		GID: binary.BigEndian.Uint32(in[9:]), Size: int64(binary.BigEndian.Uint64(in[13:])),
		Seconds: int64(binary.BigEndian.Uint64(in[21:])), Nanoseconds: binary.BigEndian.Uint32(in[29:]),
	}
	end := entryHead + int(binary.BigEndian.Uint16(in[33:]))
	if end > len(in) {
		return Entry{}, errEntry
	}
	e.Name, e.Target = string(in[entryHead:end]), string(in[end:])
	return e, nil
}

// plain tells whether a name is that of something in its directory.
func plain(name string) bool {
	return name != "" && name != "." && name != ".." && !strings.ContainsAny(name, "/\x00")
}
