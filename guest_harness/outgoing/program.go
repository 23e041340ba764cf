package outgoing

import (
	"encoding/binary"
	"os"
	"runtime"
	"syscall"
	"unsafe"
)

// linux/bpf.h
const (
	mapCreate, mapUpdate, progLoad, linkCreate = 0, 2, 5, 28

	mapTypeSockmap   = 15
	progTypeSkLookup = 30
	attachSkLookup   = 36
)

// Where the kernel's struct bpf_sk_lookup has what the program reads.
const (
	ctxProtocol = 12
	ctxLocalIP4 = 40
	ctxLocalIP6 = 44
)

// load puts a program into the kernel that gives *listener*, from then on, each TCP connection which the guest opens to what
// is not its own loopback.
func load(listener int) error {
	sockets, err := newMap(mapTypeSockmap, 4, 8, 1)
	if err != nil {
		return err
	}
	key, value := uint32(0), uint64(listener)
	if err := update(sockets, unsafe.Pointer(&key), unsafe.Pointer(&value)); err != nil {
		return err
	}
	return attach(code(sockets))
}

func attach(code []byte) error {
	license := []byte("GPL\x00") // of this program, for helpers that ask for it
	attr := make([]byte, 120)
	binary.NativeEndian.PutUint32(attr, progTypeSkLookup)
	binary.NativeEndian.PutUint32(attr[4:], uint32(len(code)/8))
	put(attr[8:], unsafe.Pointer(&code[0]))
	put(attr[16:], unsafe.Pointer(&license[0]))
	binary.NativeEndian.PutUint32(attr[68:], attachSkLookup)
	program, err := bpf(progLoad, attr)
	runtime.KeepAlive(code)
	runtime.KeepAlive(license)
	if err != nil {
		return err
	}
	namespace, err := os.Open("/proc/self/ns/net")
	if err != nil {
		return err
	}
	defer namespace.Close()
	attr = make([]byte, 48)
	binary.NativeEndian.PutUint32(attr, uint32(program))
	binary.NativeEndian.PutUint32(attr[4:], uint32(namespace.Fd()))
	binary.NativeEndian.PutUint32(attr[8:], attachSkLookup)
	_, err = bpf(linkCreate, attr)
	return err
}

// code is, in words: what is TCP and does not go to 127/8 or ::1 goes to the one socket in the map.
func code(sockets int) []byte {
	const r0, r1, r2, r3, r6, r7, r10 = 0, 1, 2, 3, 6, 7, 10
	a := &assembler{}
	a.add(0xbf, r6, r1, 0, 0)                     // r6 = context
	a.add(0x61, r1, r6, ctxProtocol, 0)           // r1 = protocol
	a.jump(0x55, r1, syscall.IPPROTO_TCP, "pass") // not TCP
	a.add(0x61, r1, r6, ctxLocalIP4, 0)           // r1 = where it goes
	a.add(0x57, r1, 0, 0, 0xff)                   // its first byte
	a.jump(0x15, r1, 127, "pass")                 // the loopback
	a.add(0x61, r1, r6, ctxLocalIP6, 0)           //
	for _, part := range []int16{4, 8} {          //
		a.add(0x61, r2, r6, ctxLocalIP6+part, 0) //
		a.add(0x4f, r1, r2, 0, 0)                // r1 |= r2
	} //
	a.add(0x61, r2, r6, ctxLocalIP6+12, 0) //
	a.add(0xa7, r2, 0, 0, 1<<24)           // r2 ^= what ::1 ends with
	a.add(0x4f, r1, r2, 0, 0)              // r1 |= r2
	a.jump(0x15, r1, 0, "pass")            // ::1
	a.add(0x62, r10, 0, -4, 0)             // key = 0, on the stack
	a.address(r1, sockets)                 // r1 = map
	a.add(0xbf, r2, r10, 0, 0)             //
	a.add(0x07, r2, 0, 0, -4)              // r2 = &key
	a.add(0x85, 0, 0, 0, 1)                // r0 = bpf_map_lookup_elem
	a.jump(0x15, r0, 0, "pass")            // none
	a.add(0xbf, r7, r0, 0, 0)              // r7 = socket
	a.add(0xbf, r1, r6, 0, 0)              //
	a.add(0xbf, r2, r7, 0, 0)              //
	a.add(0xb7, r3, 0, 0, 0)               //
	a.add(0x85, 0, 0, 0, 124)              // bpf_sk_assign(context, socket, 0)
	a.add(0xbf, r1, r7, 0, 0)              //
	a.add(0x85, 0, 0, 0, 86)               // bpf_sk_release(socket)
	a.label("pass")                        //
	a.add(0xb7, r0, 0, 0, 1)               // SK_PASS
	a.add(0x95, 0, 0, 0, 0)                // exit
	return a.done()
}

// assembler writes instructions, whose jumps lead forward to labels.
type assembler struct {
	code   []byte
	jumps  map[string][]int
	labels map[string]int
}

func (a *assembler) add(code, dst, src byte, offset int16, value int32) {
	a.code = append(a.code, code, dst|src<<4)
	a.code = binary.NativeEndian.AppendUint16(a.code, uint16(offset))
	a.code = binary.NativeEndian.AppendUint32(a.code, uint32(value))
}

// address loads a map, which takes two instructions.
func (a *assembler) address(dst byte, file int) {
	a.add(0x18, dst, 1, 0, int32(file))
	a.add(0, 0, 0, 0, 0)
}

func (a *assembler) jump(code, dst byte, value int32, label string) {
	if a.jumps == nil {
		a.jumps, a.labels = map[string][]int{}, map[string]int{}
	}
	a.jumps[label] = append(a.jumps[label], len(a.code))
	a.add(code, dst, 0, 0, value)
}

func (a *assembler) label(name string) {
	a.labels[name] = len(a.code)
}

func (a *assembler) done() []byte {
	for label, jumps := range a.jumps {
		for _, at := range jumps {
			binary.NativeEndian.PutUint16(a.code[at+2:], uint16((a.labels[label]-at)/8-1))
		}
	}
	return a.code
}

func newMap(kind, key, value, count int) (int, error) {
	attr := make([]byte, 72)
	for i, number := range []int{kind, key, value, count} {
		binary.NativeEndian.PutUint32(attr[4*i:], uint32(number))
	}
	return bpf(mapCreate, attr)
}

func update(file int, key, value unsafe.Pointer) error {
	attr := make([]byte, 32)
	binary.NativeEndian.PutUint32(attr, uint32(file))
	put(attr[8:], key)
	put(attr[16:], value)
	_, err := bpf(mapUpdate, attr)
	runtime.KeepAlive(key)
	runtime.KeepAlive(value)
	return err
}

func put(attr []byte, pointer unsafe.Pointer) {
	binary.NativeEndian.PutUint64(attr, uint64(uintptr(pointer)))
}

func bpf(command int, attr []byte) (int, error) {
	fd, _, errno := syscall.Syscall(sysBPF, uintptr(command), uintptr(unsafe.Pointer(&attr[0])), uintptr(len(attr)))
	if errno != 0 {
		return -1, os.NewSyscallError("bpf", errno)
	}
	return int(fd), nil
}
