// Package files does what the host asks of the guest's file system.
//
// Nothing that runs in the guest can make it wait for a FIFO, follow a link that was exchanged for a directory, or hold
// more in memory than a batch of frames. A file system that never answers (FUSE) holds one thread a call.
package files

import (
	"syscall"
	"time"

	"aegis/guest_harness/users"
	"aegis/guest_harness/wire"
	"aegis/guest_harness/yamux"
)

// most is how many calls there can be at once: each takes a descriptor, and perhaps a thread that waits for a disk.
const most = 256

// patience is how long a call waits for a place.
const patience = 5 * time.Second

// Request is one call; which fields matter depends on the operation.
type Request struct {
	Op        string
	Path      string
	To        string
	Name      string
	User      string
	Owner     string
	Mode      int64 // or Unset
	Recursive bool
	Follow    bool
	Flags     Flags
}

// Unset is the mode of who did not say one.
const Unset = -1

// Flags are how a file is opened.
type Flags struct {
	Read, Write, Append, Create, Exclusive, Truncate bool
}

// Accounts finds who a user is.
type Accounts interface {
	Find(text string) (users.Account, error)
}

// Desk does the calls of one guest.
type Desk struct {
	accounts Accounts
	places   chan struct{}
}

// NewDesk returns a desk that knows users by *accounts*.
func NewDesk(accounts Accounts) *Desk {
	return &Desk{accounts: accounts, places: make(chan struct{}, most)}
}

// call is a request under way.
type call struct {
	Request
	in   In
	out  *Out
	gone <-chan struct{}
	run  func(func() error) error // as the user who asks
	desk *Desk
}

var operations = map[string]func(*call) ([]wire.Pair, error){
	"read": (*call).read, "write": (*call).write, "open": (*call).open,
	"list": (*call).list, "stat": (*call).stat, "mkdir": (*call).mkdir,
	"move": (*call).move, "remove": (*call).remove, "chmod": (*call).chmod, "chown": (*call).chown,
	"download": (*call).download, "upload": (*call).upload, "watch": (*call).watch,
}

// Known tells whether there is such an operation.
func Known(op string) bool { return operations[op] != nil }

// Serve does one call and returns its last bytes.
func (d *Desk) Serve(stream *yamux.Stream, request Request) error {
	c := &call{Request: request, in: In{stream}, out: toHost(stream), gone: stream.Gone(), desk: d}
	defer c.out.close()
	result, err := d.serve(c)
	if isLost(err) {
		stream.Reset()
		return nil
	}
	if err != nil {
		result = outcome(err)
	}
	if err := c.out.end(result); err != nil {
		return nil
	}
	return c.out.last(stream)
}

func (d *Desk) serve(c *call) ([]wire.Pair, error) {
	select {
	case d.places <- struct{}{}:
		defer func() { <-d.places }()
	case <-time.After(patience):
		return nil, &failure{path: c.Path, err: syscall.EMFILE, words: "256 calls for files at once are the most"}
	}
	c.run = func(work func() error) error { return work() }
	if c.User != "" {
		account, err := d.accounts.Find(c.User)
		if err != nil {
			return nil, &failure{path: c.Path, err: syscall.EINVAL, words: err.Error()}
		}
		c.run = func(work func() error) error { return as(account, work) }
	}
	var result []wire.Pair
	err := c.run(func() (err error) {
		result, err = operations[c.Op](c)
		return err
	})
	return result, err
}

func (c *call) list() ([]wire.Pair, error) {
	fd, err := openat(current, c.Path, enter, 0)
	if err != nil {
		return nil, of(c.Path, err)
	}
	defer syscall.Close(fd)
	send := sender{c.out}
	return nil, send.each(fd, c.Path, func(name string) error {
		if err := c.out.tick(); err != nil {
			return lost(err)
		}
		entry, err := lookAt(fd, name, false)
		if err == syscall.ENOENT {
			return nil
		}
		if err != nil {
			return of(c.Path+"/"+name, err)
		}
		return send.head(entry)
	})
}

func lookAt(dir int, name string, follow bool) (Entry, error) {
	flags := noFollow
	if follow {
		flags = 0
	}
	stat, err := statat(dir, name, flags)
	if err != nil {
		return Entry{}, err
	}
	target := ""
	if kinds[stat.Mode&syscall.S_IFMT] == 0 { // what /proc/PID/fd leads to may be of no kind at all
		return Entry{}, irregular(name)
	}
	if stat.Mode&syscall.S_IFMT == syscall.S_IFLNK {
		if target, err = readlinkat(dir, name); err != nil {
			return Entry{}, err
		}
	}
	return describe(name, stat, target), nil
}

func (c *call) stat() ([]wire.Pair, error) {
	entry, err := lookAt(current, c.Path, c.Follow)
	if err != nil {
		return nil, of(c.Path, err)
	}
	entry.Name = ""
	return nil, sender{c.out}.head(entry)
}

func (c *call) mkdir() ([]wire.Pair, error) {
	if err := makeParents(c.Path); err != nil {
		return nil, err
	}
	err := syscall.Mkdir(c.Path, 0o755)
	if err == syscall.EEXIST {
		if stat, failed := statat(current, c.Path, 0); failed == nil && stat.Mode&syscall.S_IFMT == syscall.S_IFDIR {
			return nil, nil
		}
	}
	if err == nil && c.Mode != Unset {
		err = chmodMade(c.Path, uint32(c.Mode))
	}
	return nil, of(c.Path, err)
}

// chmodMade sets the mode of a new directory, and not of what a link that took its place leads to.
func chmodMade(place string, mode uint32) error {
	fd, err := openat(current, trim(place), enter|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	return syscall.Fchmod(fd, mode)
}

func (c *call) move() ([]wire.Pair, error) {
	return nil, move(c.Path, c.To, c.out.tick, c.run)
}

func (c *call) remove() ([]wire.Pair, error) {
	return nil, remove(c.Path, c.Recursive, c.out.tick)
}

func (c *call) chmod() ([]wire.Pair, error) {
	return nil, of(c.Path, syscall.Chmod(c.Path, uint32(c.Mode)))
}

func (c *call) chown() ([]wire.Pair, error) {
	account, err := c.desk.accounts.Find(c.Owner)
	if err != nil {
		return nil, &failure{path: c.Path, err: syscall.EINVAL, words: err.Error()}
	}
	return nil, of(c.Path, syscall.Chown(c.Path, int(account.UID), int(account.GID)))
}

func (c *call) download() ([]wire.Pair, error) {
	return nil, sender{c.out}.tree(c.Path, true)
}

func (c *call) upload() ([]wire.Pair, error) {
	lander := lander{in: c.in}
	return nil, lander.land(c.Path, c.Name)
}
