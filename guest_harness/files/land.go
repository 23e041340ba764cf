package files

import (
	"encoding/binary"
	"path"
	"strings"
	"syscall"

	"aegis/guest_harness/frames"
)

// lander makes a tree of frames. It goes by descriptors and follows no link below the directory that it starts in, so
// that nobody who changes the tree meanwhile leads it elsewhere.
type lander struct {
	in       In
	owners   bool // what arrives keeps its owners
	heard    func() error
	levels   []level
	floor    int // how many of them cannot be left, nor hold more than what arrives first
	file     int // that is being written, or none
	at       int64
	trailing bool // the file ends with a hole so far
	gather   gather
	entry    Entry
}

const none = -1

// level is a directory on the way to where the next entry goes. *made* tells that it is ours to date.
type level struct {
	fd    int
	place string
	entry Entry
	made  bool
}

// land makes what arrives, a file or a directory, at *place*, and returns when the host has said that it was all. A
// directory is merged with one that is there; a file goes into one that is there, or that *place* ends with a slash for,
// as *name*.
func (l *lander) land(place, name string) error {
	l.file = none
	defer l.abandon()
	entry, err := l.first()
	if err != nil {
		return err
	}
	stat, err := statat(current, place, 0)
	there := err == nil && stat.Mode&syscall.S_IFMT == syscall.S_IFDIR
	if entry.Kind == directory && there {
		return l.into(place, entry, false)
	}
	if entry.Kind == regular && (there || strings.HasSuffix(place, "/")) {
		place = trim(place) + "/" + name
	}
	return l.as(trim(place), entry)
}

// as makes what arrives just at *place*.
func (l *lander) as(place string, entry Entry) error {
	l.file = none
	parent, name := above(place), path.Base(place)
	if err := makeParents(place); err != nil {
		return err
	}
	fd, err := openat(current, parent, enter, 0)
	if err != nil {
		return of(parent, err)
	}
	l.levels, l.floor = append(l.levels, level{fd: fd, place: parent, entry: Entry{Kind: directory}}), 1
	entry.Name = name
	if err := l.make(entry); err != nil {
		return err
	}
	return l.rest()
}

func (l *lander) into(place string, entry Entry, made bool) error {
	fd, err := openat(current, place, enter, 0)
	if err != nil {
		return of(place, err)
	}
	l.levels = append(l.levels, level{fd, place, entry, made})
	return l.rest()
}

func (l *lander) first() (Entry, error) {
	kind, length, err := l.in.next()
	if err != nil {
		return Entry{}, err
	}
	if kind != entryFrame {
		return Entry{}, errFrame
	}
	return l.parse(length)
}

func (l *lander) parse(length int) (Entry, error) {
	payload, err := l.in.payload(length)
	if err != nil {
		return Entry{}, err
	}
	return parseEntry(payload)
}

// rest makes everything after the first entry.
func (l *lander) rest() error {
	for {
		kind, length, err := l.in.next()
		if err != nil {
			return err
		}
		if l.heard != nil {
			if err := l.heard(); err != nil {
				return err
			}
		}
		if kind == endFrame {
			return l.finish()
		}
		if err := l.take(kind, length); err != nil {
			return err
		}
	}
}

func (l *lander) take(kind frames.Kind, length int) error {
	switch kind {
	case dataFrame:
		return l.data(length)
	case holeFrame:
		return l.hole(length)
	case entryFrame:
		entry, err := l.parse(length)
		if err != nil {
			return err
		}
		if len(l.levels) == l.floor {
			return errFrame
		}
		if !plain(entry.Name) {
			return errEntry
		}
		return l.make(entry)
	case leaveFrame:
		return l.leave()
	}
	return errFrame
}

func (l *lander) top() *level { return &l.levels[len(l.levels)-1] }

func (l *lander) make(entry Entry) error {
	if err := l.finish(); err != nil {
		return err
	}
	place := path.Join(l.top().place, entry.Name)
	switch entry.Kind {
	case directory:
		return of(place, l.enter(entry, place))
	case regular:
		return of(place, l.begin(entry))
	case link:
		return of(place, l.link(entry))
	}
	return irregular(place)
}

// replacing calls *make* until nothing is in its way.
func (l *lander) replacing(name string, make func() error) error {
	err := make()
	for range tries {
		if err != syscall.EEXIST {
			break
		}
		if err = l.replaceable(name); err != nil {
			return err
		}
		if err = unlinkat(l.top().fd, name, 0); err != nil && err != syscall.ENOENT {
			return err
		}
		err = make()
	}
	return err
}

// replaceable refuses devices, FIFOs and sockets, such as /dev/null: others use them.
func (l *lander) replaceable(name string) error {
	stat, err := statat(l.top().fd, name, noFollow)
	if err != nil {
		return gone(err)
	}
	switch kinds[stat.Mode&syscall.S_IFMT] {
	case regular, link, directory:
		return nil
	}
	words := "a device, FIFO or socket, which is not replaced"
	return &failure{path: path.Join(l.top().place, name), err: syscall.EEXIST, words: words}
}

func (l *lander) begin(entry Entry) error {
	return l.replacing(entry.Name, func() (err error) {
		l.file, err = openat(l.top().fd, entry.Name, fresh, 0o600)
		l.entry, l.at, l.trailing = entry, 0, false
		return err
	})
}

func (l *lander) link(entry Entry) error {
	err := l.replacing(entry.Name, func() error { return symlinkat(entry.Target, l.top().fd, entry.Name) })
	if err != nil {
		return err
	}
	if l.owners {
		if err := syscall.Fchownat(l.top().fd, entry.Name, int(entry.UID), int(entry.GID), noFollow); err != nil {
			return err
		}
	}
	return date(l.top().fd, entry.Name, entry.Seconds, entry.Nanoseconds)
}

func (l *lander) enter(entry Entry, place string) error {
	if len(l.levels) > deepest {
		return errEntry
	}
	err := syscall.Mkdirat(l.top().fd, entry.Name, 0o700)
	if err != nil && err != syscall.EEXIST {
		return err
	}
	fd, opened := openat(l.top().fd, entry.Name, enter|syscall.O_NOFOLLOW, 0)
	if opened != nil {
		return opened
	}
	l.levels = append(l.levels, level{fd, place, entry, err == nil})
	return nil
}

func (l *lander) leave() error {
	if len(l.levels) == l.floor {
		return errFrame
	}
	if err := l.finish(); err != nil {
		return err
	}
	top := *l.top()
	l.levels = l.levels[:len(l.levels)-1]
	defer syscall.Close(top.fd)
	if !top.made {
		return nil
	}
	return of(top.place, l.dress(top.fd, top.entry))
}

func (l *lander) data(length int) error {
	if l.file == none {
		return errFrame
	}
	return l.in.pass(length, func(bytes []byte) error {
		l.at += int64(len(bytes))
		l.trailing = false
		return of(path.Join(l.top().place, l.entry.Name), l.gather.add(l.file, bytes))
	})
}

func (l *lander) hole(length int) error {
	payload, err := l.in.payload(length)
	if err != nil || len(payload) != 8 || l.file == none {
		return errFrame
	}
	l.at += int64(binary.BigEndian.Uint64(payload))
	l.trailing = true
	if err = l.gather.flush(l.file); err == nil {
		_, err = syscall.Seek(l.file, l.at, 0)
	}
	return of(path.Join(l.top().place, l.entry.Name), err)
}

// finish ends the file that is being written.
func (l *lander) finish() error {
	if l.file == none {
		return nil
	}
	err := l.gather.flush(l.file)
	if err == nil && l.trailing {
		err = syscall.Ftruncate(l.file, l.at)
	}
	if err == nil {
		err = l.dress(l.file, l.entry)
	}
	place := path.Join(l.top().place, l.entry.Name)
	if err != nil {
		return of(place, err)
	}
	err = syscall.Close(l.file)
	l.file = none
	return of(place, err)
}

// dress gives what was made its owner, mode and time.
func (l *lander) dress(fd int, entry Entry) error {
	if l.owners {
		if err := syscall.Fchown(fd, int(entry.UID), int(entry.GID)); err != nil {
			return err
		}
	}
	if err := syscall.Fchmod(fd, entry.Mode&0o7777); err != nil {
		return err
	}
	return date(fd, "", entry.Seconds, entry.Nanoseconds)
}

// abandon lets go of everything; half a file is removed.
func (l *lander) abandon() {
	if l.file != none {
		_ = syscall.Close(l.file)
		_ = unlinkat(l.top().fd, l.entry.Name, 0)
	}
	for _, level := range l.levels {
		_ = syscall.Close(level.fd)
	}
	l.file, l.levels = none, nil
}

// makeParents makes what is missing of the directories above *place*.
func makeParents(place string) error {
	return makeDirectories(above(place))
}

// trim takes the slashes from a path's end. Nothing else is changed: /a/link/.. may be anywhere.
func trim(place string) string {
	if trimmed := strings.TrimRight(place, "/"); trimmed != "" {
		return trimmed
	}
	return "/"
}

// above is the path of the directory that a path is in.
func above(place string) string {
	place = trim(place)
	return trim(place[:strings.LastIndexByte(place, '/')+1])
}

func makeDirectories(place string) error {
	if _, err := statat(current, place, 0); err == nil || place == "/" {
		return nil
	} else if err != syscall.ENOENT {
		return of(place, err)
	}
	if err := makeParents(place); err != nil {
		return err
	}
	if err := syscall.Mkdir(place, 0o755); err != nil && err != syscall.EEXIST {
		return of(place, err)
	}
	return nil
}
