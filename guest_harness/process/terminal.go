package process

import (
	"errors"
	"os"
	"syscall"
	"unsafe"

	"aegis/guest_harness/users"
)

// Size is that of a terminal, in characters.
type Size struct {
	Rows, Cols uint16
}

const (
	unlock    = 0x40045431 // TIOCSPTLCK
	otherEnd  = 0x5441     // TIOCGPTPEER
	openAt2   = 437
	noMounts  = 0x1 // RESOLVE_NO_XDEV
	noLinks   = 0x4 // RESOLVE_NO_SYMLINKS
	keepGroup = -1
	// unset is what a terminal has in the place of a control character that it does not heed.
	unset = 0
)

// terminal is a pseudo-terminal of the guest, with its two ends: that of the command, which is a terminal to it, and ours.
type terminal struct {
	child int
	our   [2]int // to read what the command writes, and to write what it reads
}

// openTerminal makes a terminal that belongs to the account.
func openTerminal(devpts int, size Size, account users.Account) (*terminal, error) {
	our, err := openMaster(devpts)
	if err != nil {
		return nil, err
	}
	t := &terminal{child: -1, our: [2]int{our, -1}}
	if err := t.prepare(size, account); err != nil {
		t.closeChilds()
		t.closeOurs()
		return nil, err
	}
	MakeRoom(t.our[1])
	return t, nil
}

// openMaster goes by the directory that was mounted at boot: root in the guest may have put anything at /dev/ptmx since.
func openMaster(devpts int) (int, error) {
	how := struct{ flags, mode, resolve uint64 }{
		flags:   syscall.O_RDWR | syscall.O_NOCTTY | syscall.O_CLOEXEC | syscall.O_NONBLOCK,
		resolve: noMounts | noLinks,
	}
	name, _ := syscall.BytePtrFromString("ptmx")
	fd, _, number := syscall.Syscall6(openAt2, uintptr(devpts), uintptr(unsafe.Pointer(name)),
		uintptr(unsafe.Pointer(&how)), unsafe.Sizeof(how), 0, 0)
	if number != 0 {
		return -1, number
	}
	return int(fd), nil
}

func (t *terminal) prepare(size Size, account users.Account) error {
	var locked int32
	if err := ioctl(t.our[0], unlock, unsafe.Pointer(&locked)); err != nil {
		return err
	}
	child, _, number := syscall.Syscall(syscall.SYS_IOCTL, uintptr(t.our[0]), otherEnd,
		syscall.O_RDWR|syscall.O_NOCTTY|syscall.O_CLOEXEC)
	if number != 0 {
		return number
	}
	t.child = int(child)
	if err := errors.Join(expectUTF8(t.child), resize(t.our[0], size)); err != nil {
		return err
	}
	if os.Geteuid() == 0 {
		if err := syscall.Fchown(t.child, int(account.UID), keepGroup); err != nil {
			return err
		}
	}
	var err error
	t.our[1], err = duplicate(t.our[0])
	return err
}

// expectUTF8 makes the terminal erase a character, and not its last byte.
func expectUTF8(fd int) error {
	var modes syscall.Termios
	if err := ioctl(fd, syscall.TCGETS, unsafe.Pointer(&modes)); err != nil {
		return err
	}
	modes.Iflag |= syscall.IUTF8
	return ioctl(fd, syscall.TCSETS, unsafe.Pointer(&modes))
}

func resize(fd int, size Size) error {
	window := struct{ rows, cols, x, y uint16 }{rows: size.Rows, cols: size.Cols}
	return ioctl(fd, syscall.TIOCSWINSZ, unsafe.Pointer(&window))
}

func duplicate(fd int) (int, error) {
	copied, _, number := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_DUPFD_CLOEXEC, 0)
	if number != 0 {
		return -1, number
	}
	return int(copied), nil
}

func ioctl(fd int, request uintptr, argument unsafe.Pointer) error {
	if _, _, number := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), request, uintptr(argument)); number != 0 {
		return number
	}
	return nil
}

func (t *terminal) childs() []uintptr {
	return []uintptr{uintptr(t.child), uintptr(t.child), uintptr(t.child)}
}

func (t *terminal) give(running *Running) {
	keyboard := newKeyboard(t.our[1], t.child)
	running.terminal = keyboard
	running.Stdin, running.Stdout = keyboard, newScreen(t.our[0])
}

// closeStarted leaves the command's end open: the keyboard keeps it.
func (t *terminal) closeStarted() {}

func (t *terminal) closeChilds() { closeAll(t.child) }
func (t *terminal) closeOurs()   { closeAll(t.our[:]...) }

// keyboard is the side of a terminal that a person types at. It keeps the command's end open, so that a command which
// closes all its streams, and opens its terminal again later, finds it.
type keyboard struct {
	file *os.File
	raw  syscall.RawConn
	kept int
	last byte // of what was typed
}

func newKeyboard(fd, kept int) *keyboard {
	file := os.NewFile(uintptr(fd), "terminal")
	raw, _ := file.SyscallConn()
	return &keyboard{file: file, raw: raw, kept: kept, last: '\n'}
}

func (k *keyboard) Write(typed []byte) (int, error) {
	if len(typed) > 0 {
		k.last = typed[len(typed)-1]
	}
	return k.file.Write(typed)
}

// End types what ends the input: once at the start of a line; behind the start of one it first ends that.
func (k *keyboard) End() {
	var modes syscall.Termios
	_ = k.raw.Control(func(fd uintptr) { _ = ioctl(int(fd), syscall.TCGETS, unsafe.Pointer(&modes)) })
	end := modes.Cc[syscall.VEOF]
	if end == unset {
		return
	}
	typed := []byte{end}
	if k.last != '\n' && k.last != '\r' {
		typed = append(typed, end)
	}
	_, _ = k.file.Write(typed)
}

// Close gives up the command's end too, so that our other one comes to its end when no process has the terminal open.
func (k *keyboard) Close() error {
	err := k.file.Close()
	closeAll(k.kept)
	k.kept = -1
	return err
}

func (k *keyboard) resize(size Size) error {
	var err error
	if closed := k.raw.Control(func(fd uintptr) { err = resize(int(fd), size) }); closed != nil {
		return nil // the command has just ended
	}
	return err
}
