package files

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"aegis/guest_harness/wire"
)

const (
	// what a change is, as the host knows it
	created  = 'c'
	modified = 'm'
	removed  = 'r'
	moved    = 'v'
	overflow = 'o'

	seen = syscall.IN_CREATE | syscall.IN_MODIFY | syscall.IN_ATTRIB | syscall.IN_DELETE | syscall.IN_MOVED_FROM |
		syscall.IN_MOVED_TO | syscall.IN_DELETE_SELF | syscall.IN_MOVE_SELF | syscall.IN_EXCL_UNLINK
	below = seen | syscall.IN_ONLYDIR | syscall.IN_DONT_FOLLOW

	mostWatches = 65536

	halfway = 50 * time.Millisecond // between the two halves of a move
)

// watcher tells of changes below one directory, or of one file.
type watcher struct {
	out       *Out
	fd        int
	top       string
	recursive bool
	places    map[int32]string // of each watch
	from      *event           // the first half of a move
	over      bool
}

// event is one of inotify's.
type event struct {
	watch        int32
	mask, cookie uint32
	name         string
}

func (c *call) watch() ([]wire.Pair, error) {
	fd, err := syscall.InotifyInit1(syscall.IN_CLOEXEC | syscall.IN_NONBLOCK)
	if err != nil {
		return nil, of(c.Path, err)
	}
	file := os.NewFile(uintptr(fd), "inotify")
	defer file.Close()
	w := &watcher{out: c.out, fd: fd, top: trim(c.Path), recursive: c.Recursive, places: map[int32]string{}}
	if err := w.begin(); err != nil {
		return nil, err
	}
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		select {
		case <-c.gone: // what waits for a change waits no longer
		case <-ended:
		}
		file.Close()
	}()
	return nil, w.tell(file)
}

// begin watches, and lets the host know.
func (w *watcher) begin() error {
	number, err := syscall.InotifyAddWatch(w.fd, w.top, seen)
	if err != nil {
		return of(w.top, err)
	}
	w.places[int32(number)] = w.top
	if w.recursive {
		if err := w.descend(w.top, 0, false); err != nil {
			return err
		}
	}
	if err := w.out.frame(dataFrame, nil); err != nil {
		return lost(err)
	}
	return w.flush()
}

func (w *watcher) flush() error {
	if err := w.out.flush(); err != nil {
		return lost(err)
	}
	return nil
}

// descend watches the directories in one; with *tell* it says that all that is there was created.
func (w *watcher) descend(place string, depth int, tell bool) error {
	fd, err := openat(current, place, enter, 0)
	if err != nil || depth >= deepest {
		return nil // it has gone, or become something else
	}
	defer syscall.Close(fd)
	return sender{w.out}.each(fd, place, func(name string) error {
		here := path.Join(place, name)
		if tell {
			if err := w.change(created, here, ""); err != nil {
				return err
			}
		}
		if stat, err := statat(fd, name, noFollow); err != nil || stat.Mode&syscall.S_IFMT != syscall.S_IFDIR {
			return nil
		}
		return w.add(here, depth+1, tell)
	})
}

// add watches a directory and those in it.
func (w *watcher) add(place string, depth int, tell bool) error {
	if len(w.places) >= mostWatches {
		return &failure{path: place, err: syscall.ENOSPC, words: "more than 65536 directories to watch"}
	}
	number, err := syscall.InotifyAddWatch(w.fd, place, below)
	switch err {
	case nil:
		w.places[int32(number)] = place
		return w.descend(place, depth, tell)
	case syscall.ENOSPC, syscall.ENOMEM:
		return of(place, err)
	}
	return nil
}

// tell sends changes until the host hangs up, or what is watched has gone.
func (w *watcher) tell(file *os.File) error {
	buffer := make([]byte, 64<<10)
	for !w.over {
		n, err := w.next(file, buffer)
		if err != nil {
			return err
		}
		for rest := buffer[:n]; len(rest) > 0; {
			var e event
			e, rest = parse(rest)
			if err := w.handle(e); err != nil {
				return err
			}
		}
		if err := w.flush(); err != nil {
			return err
		}
	}
	return nil
}

// next waits for events, but not long for the second half of a move.
func (w *watcher) next(file *os.File, buffer []byte) (int, error) {
	for {
		var until time.Time
		if w.from != nil {
			until = time.Now().Add(halfway)
		}
		_ = file.SetReadDeadline(until)
		n, err := file.Read(buffer)
		if err == nil {
			return n, nil
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return 0, lost(err)
		}
		if err := w.settle(); err != nil {
			return 0, err
		}
		if err := w.flush(); err != nil {
			return 0, err
		}
	}
}

func parse(buffer []byte) (event, []byte) {
	raw := (*syscall.InotifyEvent)(unsafe.Pointer(&buffer[0]))
	end := syscall.SizeofInotifyEvent + int(raw.Len)
	name := buffer[syscall.SizeofInotifyEvent:end]
	if zero := bytes.IndexByte(name, 0); zero >= 0 {
		name = name[:zero]
	}
	return event{raw.Wd, raw.Mask, raw.Cookie, string(name)}, buffer[end:]
}

func (w *watcher) handle(e event) error {
	if e.mask&syscall.IN_Q_OVERFLOW != 0 {
		return w.lost()
	}
	place, known := w.places[e.watch]
	if !known {
		return nil
	}
	if e.name != "" {
		place = path.Join(place, e.name)
	}
	if w.from != nil && (e.mask&syscall.IN_MOVED_TO == 0 || e.cookie != w.from.cookie) {
		if err := w.settle(); err != nil {
			return err
		}
	}
	return w.say(e, place)
}

func (w *watcher) say(e event, place string) error {
	switch {
	case e.mask&syscall.IN_IGNORED != 0: // it has gone, or its file system was unmounted
		delete(w.places, e.watch)
		return w.lose(place)
	case e.mask&(syscall.IN_DELETE_SELF|syscall.IN_MOVE_SELF) != 0:
		return w.lose(place)
	case e.mask&syscall.IN_MOVED_FROM != 0:
		e.name = place
		w.from = &e
		return nil
	case e.mask&syscall.IN_MOVED_TO != 0 && w.from != nil:
		return w.move(e, place)
	case e.mask&(syscall.IN_CREATE|syscall.IN_MOVED_TO) != 0:
		return w.appear(e, place)
	case e.mask&syscall.IN_DELETE != 0:
		return w.change(removed, place, "")
	case e.mask&(syscall.IN_MODIFY|syscall.IN_ATTRIB) != 0 && e.mask&syscall.IN_ISDIR == 0:
		return w.change(modified, place, "")
	}
	return nil
}

// lost says so of changes; that the watch's own subject has gone may have been one of them.
func (w *watcher) lost() error {
	if err := w.change(overflow, w.top, ""); err != nil {
		return err
	}
	number, err := syscall.InotifyAddWatch(w.fd, w.top, seen) // the same number for what is watched already
	if err == nil && w.places[int32(number)] == w.top {
		return nil
	}
	return w.lose(w.top)
}

// lose ends the watch when it was its own subject that has gone; of others, the directory above tells.
func (w *watcher) lose(place string) error {
	if place != w.top || w.over {
		return nil
	}
	w.over = true
	return w.change(removed, place, "")
}

func (w *watcher) appear(e event, place string) error {
	if err := w.change(created, place, ""); err != nil {
		return err
	}
	if w.recursive && e.mask&syscall.IN_ISDIR != 0 {
		return w.add(place, strings.Count(strings.TrimPrefix(place, w.top), "/"), true)
	}
	return nil
}

func (w *watcher) move(e event, place string) error {
	from := w.from.name
	w.from = nil
	for number, old := range w.places {
		if old == from || strings.HasPrefix(old, from+"/") {
			w.places[number] = place + strings.TrimPrefix(old, from)
		}
	}
	return w.change(moved, place, from)
}

// settle says that what was moved, and did not arrive, is gone.
func (w *watcher) settle() error {
	if w.from == nil {
		return nil
	}
	from := w.from.name
	w.from = nil
	for number, old := range w.places {
		if old == from || strings.HasPrefix(old, from+"/") {
			_, _ = syscall.InotifyRmWatch(w.fd, uint32(number))
			delete(w.places, number)
		}
	}
	return w.change(removed, from, "")
}

func (w *watcher) change(kind byte, place, from string) error {
	payload := binary.BigEndian.AppendUint16([]byte{kind}, uint16(len(place)))
	if err := w.out.frame(changeFrame, append(append(payload, place...), from...)); err != nil {
		return lost(err)
	}
	return nil
}
