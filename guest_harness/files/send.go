package files

import (
	"math"
	"path"
	"syscall"
)

// deepest is how many directories may be in each other: each takes a descriptor and a buffer.
const deepest = 256

// tries is how often something is looked at again that became something else meanwhile.
const tries = 10

// guess is what there may be in a file that says it is empty, as those of /proc do.
const guess = 4 << 10

// sender sends a tree as frames.
type sender struct {
	out *Out
}

// tree sends what is at a path: a file, or a directory with all that is in it. With *follow* a symbolic link is what it leads to.
func (s sender) tree(place string, follow bool) error {
	if !follow {
		return of(place, s.look(current, place, place, 0))
	}
	fd, err := openat(current, place, syscall.O_RDONLY|quietly, 0)
	if err != nil {
		return of(place, err)
	}
	defer syscall.Close(fd)
	stat := &syscall.Stat_t{}
	if err := syscall.Fstat(fd, stat); err != nil {
		return of(place, err)
	}
	switch kinds[stat.Mode&syscall.S_IFMT] {
	case directory:
		return s.directory(fd, path.Base(place), place, stat, 0)
	case regular:
		return s.file(fd, path.Base(place), place, stat)
	}
	return irregular(place)
}

func irregular(place string) error {
	return &failure{path: place, err: syscall.EINVAL, words: "not a regular file"}
}

// entry sends one thing of a directory, without following it.
func (s sender) entry(dir int, name, where string, depth int) error {
	var err error
	for range tries {
		err = s.look(dir, name, path.Join(where, name), depth)
		switch err {
		case syscall.ENOENT:
			return nil // it has just been removed
		case syscall.ELOOP, syscall.ENOTDIR, syscall.ENXIO:
			continue
		}
		break
	}
	return of(path.Join(where, name), err)
}

// look returns a bare error of the kernel's only before it has sent anything.
func (s sender) look(dir int, name, place string, depth int) error {
	stat, err := statat(dir, name, noFollow)
	if err != nil {
		return err
	}
	if err := s.out.tick(); err != nil {
		return lost(err)
	}
	base := path.Base(name)
	switch kinds[stat.Mode&syscall.S_IFMT] {
	case directory:
		return s.open(dir, name, enter|syscall.O_NOFOLLOW, func(fd int, stat *syscall.Stat_t) error {
			return s.directory(fd, base, place, stat, depth)
		})
	case regular:
		return s.open(dir, name, syscall.O_RDONLY|syscall.O_NOFOLLOW|quietly, func(fd int, stat *syscall.Stat_t) error {
			if stat.Mode&syscall.S_IFMT != syscall.S_IFREG {
				return syscall.ENXIO // it was exchanged
			}
			return s.file(fd, base, place, stat)
		})
	case link:
		target, err := readlinkat(dir, name)
		if err != nil {
			return err
		}
		return s.head(describe(base, stat, target))
	}
	return s.head(describe(base, stat, ""))
}

func (s sender) open(dir int, name string, flags int, send func(int, *syscall.Stat_t) error) error {
	fd, err := openat(dir, name, flags, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	stat := &syscall.Stat_t{}
	if err := syscall.Fstat(fd, stat); err != nil {
		return err
	}
	return send(fd, stat)
}

func (s sender) head(entry Entry) error {
	if err := s.out.frame(entryFrame, entry.encode()); err != nil {
		return lost(err)
	}
	return nil
}

func (s sender) directory(fd int, name, place string, stat *syscall.Stat_t, depth int) error {
	if depth >= deepest {
		return &failure{path: place, err: syscall.ELOOP, words: "more than 256 directories in each other"}
	}
	if err := s.head(describe(name, stat, "")); err != nil {
		return err
	}
	if err := s.each(fd, place, func(name string) error { return s.entry(fd, name, place, depth+1) }); err != nil {
		return err
	}
	if err := s.out.frame(leaveFrame, nil); err != nil {
		return lost(err)
	}
	return nil
}

// each visits the names in a directory while it reads them: there may be any number.
func (s sender) each(fd int, place string, visit func(name string) error) error {
	buffer := make([]byte, 16<<10)
	for {
		n, err := syscall.ReadDirent(fd, buffer)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return of(place, err)
		}
		if n <= 0 {
			return nil
		}
		_, _, found := syscall.ParseDirent(buffer[:n], -1, nil)
		for _, name := range found {
			if err := visit(name); err != nil {
				return err
			}
		}
	}
}

func (s sender) file(fd int, name, place string, stat *syscall.Stat_t) error {
	if err := s.head(describe(name, stat, "")); err != nil {
		return err
	}
	if stat.Size > 0 && stat.Blocks*512 < stat.Size {
		return s.sparse(fd, place)
	}
	return s.contents(fd, place, stat.Size)
}

// contents sends all of a file, of which *size* is expected: without copying it, if it is large and the kernel can.
func (s sender) contents(fd int, place string, size int64) error {
	for size >= worthwhile {
		n, err := s.out.carry(fd, batch)
		if err == syscall.EINVAL {
			break
		}
		if err != nil || n == 0 {
			return of(place, err)
		}
	}
	return s.data(fd, place, max(size, guess)+1, math.MaxInt64)
}

// data sends up to *most* bytes from where the descriptor is, of which *want* are expected.
func (s sender) data(fd int, place string, want, most int64) error {
	for most > 0 {
		space, err := s.out.space(min(want, batch))
		if err != nil {
			return lost(err)
		}
		space = space[:min(int64(len(space)), most)]
		n, err := read(fd, space)
		if err != nil {
			return of(place, err)
		}
		if n == 0 {
			return nil
		}
		s.out.filled(n)
		want, most = max(want-int64(n), guess), most-int64(n)
	}
	return nil
}

// sparse sends data and holes.
func (s sender) sparse(fd int, place string) error {
	for at := int64(0); ; {
		start, err := syscall.Seek(fd, at, seekData)
		if err == syscall.ENXIO {
			return s.lastHole(fd, place, at)
		}
		if err != nil {
			return of(place, err)
		}
		if start > at {
			if err := s.out.hole(start - at); err != nil {
				return lost(err)
			}
		}
		if at, err = syscall.Seek(fd, start, seekHole); err != nil {
			return of(place, err)
		}
		if _, err := syscall.Seek(fd, start, 0); err != nil {
			return of(place, err)
		}
		if err := s.data(fd, place, at-start, at-start); err != nil {
			return err
		}
	}
}

func (s sender) lastHole(fd int, place string, at int64) error {
	stat := &syscall.Stat_t{}
	if err := syscall.Fstat(fd, stat); err != nil || stat.Size <= at {
		return of(place, err)
	}
	if err := s.out.hole(stat.Size - at); err != nil {
		return lost(err)
	}
	return nil
}
