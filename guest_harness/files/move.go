package files

import (
	"crypto/rand"
	"path"
	"syscall"

	"aegis/guest_harness/console"
)

// move gives something another name. Between file systems it is copied, beside its new name first, and then removed.
func move(from, to string, tick func() error, run func(func() error) error) error {
	from, to = trim(from), trim(to)
	err := syscall.Rename(from, to)
	if err != syscall.EXDEV {
		return of(from, err)
	}
	beside := above(to) + "/.aegis-" + rand.Text()
	if err = copyTree(from, beside, tick, run); err == nil {
		err = of(to, syscall.Rename(beside, to))
	}
	if err != nil {
		_ = remove(beside, true, tick)
		return err
	}
	return remove(from, true, tick)
}

// copyTree sends a tree to ourselves. *run* runs the sender as who makes the call.
func copyTree(from, to string, tick func() error, run func(func() error) error) error {
	pipe := newPipe()
	out := newOut(pipe.send)
	sent := make(chan error, 1)
	go func() {
		failed := errLost
		defer func() { sent <- failed }()
		defer func() { pipe.close() }()
		defer console.Survive("a copy", func() {})
		failed = run(func() error { return sender{out}.tree(from, false) })
		if failed == nil {
			_ = out.end(nil)
			_ = out.flush()
		}
	}()
	err := receive(In{pipe}, to, tick)
	pipe.close()
	if failed := <-sent; failed != nil && (err == nil || !isLost(failed)) {
		return failed
	}
	return err
}

func receive(in In, to string, tick func() error) error {
	lander := lander{in: in, owners: syscall.Geteuid() == 0, heard: tick, file: none}
	defer lander.abandon()
	entry, err := lander.first()
	if err != nil {
		return err
	}
	if entry.Kind == link {
		entry.Name = path.Base(to)
	}
	return lander.as(to, entry)
}
