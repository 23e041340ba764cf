package ports

import (
	"bytes"
	"cmp"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
)

const (
	longestTable = 1 << 20 // of which the listening sockets are the first
	mostListed   = 64
	mostProcess  = 1024 // processes that are looked into ...
	mostFiles    = 1 << 16
	listening    = "0A"
)

// Listener is a socket that takes connections. Its address is text as Python's ipaddress reads it.
type Listener struct {
	Address string
	Port    int
	Own     bool // it is one of the processes that were named
	inode   string
}

// Listeners returns what listens in the guest, first what is *processes*' own, then the rest, each in the order of the
// ports. When *told* is false, nobody knows whose processes are whose, and all are taken for their own.
func Listeners(processes []int, told bool) []Listener {
	found := append(table("/proc/net/tcp"), table("/proc/net/tcp6")...)
	own := sockets(processes)
	for i := range found {
		found[i].Own = !told || own[found[i].inode]
	}
	slices.SortStableFunc(found, func(a, b Listener) int {
		if a.Own != b.Own {
			return cmp.Compare(index(!a.Own), index(!b.Own))
		}
		return cmp.Compare(a.Port, b.Port)
	})
	return found[:min(len(found), mostListed)]
}

func index(truth bool) int {
	if truth {
		return 1
	}
	return 0
}

// table reads the listening sockets of one of the kernel's tables.
func table(path string) []Listener {
	file, err := os.Open(path)
	if err != nil {
		return nil // a kernel without IPv6
	}
	defer file.Close()
	text, _ := io.ReadAll(io.LimitReader(file, longestTable))
	var found []Listener
	for line := range bytes.Lines(text) {
		if listener, ok := parse(string(line)); ok {
			found = append(found, listener)
		}
	}
	return found
}

// parse reads one line of a table: number, local address, peer, state, queues, timers, retransmissions, user, timeout, inode.
func parse(line string) (Listener, bool) {
	fields := strings.Fields(line)
	if len(fields) < 10 || fields[3] != listening {
		return Listener{}, false
	}
	address, port, _ := strings.Cut(fields[1], ":")
	number, err := strconv.ParseUint(port, 16, 16)
	text := readable(address)
	if err != nil || text == "" {
		return Listener{}, false
	}
	return Listener{Address: text, Port: int(number), inode: fields[9]}, true
}

// readable returns an address that the kernel wrote as 32-bit words, each of which begins with its last byte.
func readable(address string) string {
	var numbers []byte
	for at := 0; at+8 <= len(address); at += 8 {
		word, err := strconv.ParseUint(address[at:at+8], 16, 32)
		if err != nil {
			return ""
		}
		numbers = append(numbers, byte(word), byte(word>>8), byte(word>>16), byte(word>>24))
	}
	var parts []string
	switch len(numbers) {
	case 4:
		for _, number := range numbers {
			parts = append(parts, strconv.Itoa(int(number)))
		}
		return strings.Join(parts, ".")
	case 16:
		for at := 0; at < len(numbers); at += 2 {
			parts = append(parts, strconv.FormatUint(uint64(numbers[at])<<8|uint64(numbers[at+1]), 16))
		}
		return strings.Join(parts, ":")
	}
	return ""
}

// sockets returns the inodes of the sockets that these processes have open.
func sockets(processes []int) map[string]bool {
	found := map[string]bool{}
	left := mostFiles
	for _, process := range processes[:min(len(processes), mostProcess)] {
		place := "/proc/" + strconv.Itoa(process) + "/fd"
		directory, err := os.Open(place)
		if err != nil {
			continue
		}
		names, _ := directory.Readdirnames(left)
		_ = directory.Close()
		for _, name := range names {
			target, _ := os.Readlink(place + "/" + name)
			if inode, is := strings.CutPrefix(target, "socket:["); is {
				found[strings.TrimSuffix(inode, "]")] = true
			}
		}
		if left -= len(names); left <= 0 {
			break
		}
	}
	return found
}
