// Package frames is the framing of a `process` call: kind, length, payload.
package frames

import (
	"encoding/binary"
	"errors"
)

// Kind says whose bytes a frame carries.
type Kind byte

// The kinds of the protocol.
const (
	Stdin Kind = iota
	Stdout
	Stderr
	Event
)

const (
	// HeaderSize is the length of a frame's header, `>BI`.
	HeaderSize = 5
	// Largest is the longest payload.
	Largest = 1 << 20
)

// Header returns the five bytes before a payload of *length* bytes.
func Header(kind Kind, length int) [HeaderSize]byte {
	header := [HeaderSize]byte{byte(kind)}
	binary.BigEndian.PutUint32(header[1:], uint32(length))
	return header
}

// Encode returns a whole frame.
func Encode(kind Kind, payload []byte) []byte {
	header := Header(kind, len(payload))
	return append(header[:], payload...)
}

// ParseHeader reads the header of a frame that the host sent: only stdin comes from there.
func ParseHeader(header [HeaderSize]byte) (length int, err error) {
	if Kind(header[0]) != Stdin {
		return 0, errors.New("frame of a kind that the host does not send")
	}
	size := binary.BigEndian.Uint32(header[1:])
	if size > Largest {
		return 0, errors.New("frame longer than 1 MiB")
	}
	return int(size), nil
}
