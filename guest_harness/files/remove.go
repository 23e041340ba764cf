package files

import (
	"path"
	"syscall"
)

// remove removes what is at a path, without following it; with *recursive* also what is in it.
func remove(place string, recursive bool, tick func() error) error {
	place = trim(place)
	if name := path.Base(place); name == "." || name == ".." { // what is in it would go, and then it could not
		return &failure{path: place, err: syscall.EINVAL, words: "cannot remove . or .."}
	}
	stat, err := statat(current, place, noFollow)
	if err != nil {
		return of(place, err)
	}
	if stat.Mode&syscall.S_IFMT != syscall.S_IFDIR {
		return of(place, unlinkat(current, place, 0))
	}
	if recursive {
		return clear(current, place, place, 0, tick)
	}
	return of(place, unlinkat(current, place, removeDirectory))
}

// clear removes a directory with all that is in it.
func clear(dir int, name, place string, depth int, tick func() error) error {
	if depth >= deepestToClear {
		return &failure{path: place, err: syscall.ELOOP, words: "more than 4096 directories in each other"}
	}
	fd, err := openat(dir, name, enter|syscall.O_NOFOLLOW, 0)
	if err == syscall.ENOENT {
		return nil
	}
	if err != nil {
		return of(place, err)
	}
	err = empty(fd, place, depth, tick)
	_ = syscall.Close(fd)
	if err != nil {
		return err
	}
	return of(place, gone(unlinkat(dir, name, removeDirectory)))
}

// deepestToClear is more than anybody makes: each takes a descriptor.
const deepestToClear = 4096

func empty(fd int, place string, depth int, tick func() error) error {
	for {
		found, err := some(fd)
		if err != nil || len(found) == 0 {
			return of(place, err)
		}
		for _, name := range found {
			if err := tick(); err != nil {
				return lost(err)
			}
			err := unlinkat(fd, name, 0)
			if err == syscall.EISDIR {
				err = clear(fd, name, path.Join(place, name), depth+1, tick)
			}
			if err := of(path.Join(place, name), gone(err)); err != nil {
				return err
			}
		}
	}
}

// some returns names of a directory, from its beginning: it changes while they are removed.
func some(fd int) ([]string, error) {
	if _, err := syscall.Seek(fd, 0, 0); err != nil {
		return nil, err
	}
	buffer := make([]byte, 16<<10)
	for {
		n, err := syscall.ReadDirent(fd, buffer)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || n <= 0 {
			return nil, err
		}
		if _, _, names := syscall.ParseDirent(buffer[:n], -1, nil); len(names) > 0 {
			return names, nil
		}
	}
}

func gone(err error) error {
	if err == syscall.ENOENT {
		return nil
	}
	return err
}
