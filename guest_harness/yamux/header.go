// Package yamux is the server side of a yamux session: many byte streams over one link.
// https://github.com/hashicorp/yamux/blob/master/spec.md
package yamux

import (
	"encoding/binary"
	"errors"
)

const (
	typeData byte = iota
	typeWindow
	typePing
	typeGoAway
)

const (
	flagSYN uint16 = 1 << iota
	flagACK
	flagFIN
	flagRST
)

const (
	// HeaderSize is the length of a frame's header.
	HeaderSize = 12
	// MaxFrame is the most payload that one frame of ours carries, so that streams take turns.
	MaxFrame = 256 << 10

	initialWindow = 256 << 10
	raisedWindow  = 1 << 20
)

// header is the start of every frame; *length* is the payload's for data, a number for all other types.
type header struct {
	kind   byte
	flags  uint16
	stream uint32
	length uint32
}

func (h header) append(out []byte) []byte {
	out = append(out, 0, h.kind)
	out = binary.BigEndian.AppendUint16(out, h.flags)
	out = binary.BigEndian.AppendUint32(out, h.stream)
	return binary.BigEndian.AppendUint32(out, h.length)
}

func parseHeader(bytes []byte) (header, error) {
	if bytes[0] != 0 {
		return header{}, errors.New("yamux: frame of an unknown version")
	}
	if bytes[1] > typeGoAway {
		return header{}, errors.New("yamux: frame of an unknown type")
	}
	return header{
		kind:   bytes[1],
		flags:  binary.BigEndian.Uint16(bytes[2:]),
		stream: binary.BigEndian.Uint32(bytes[4:]),
		length: binary.BigEndian.Uint32(bytes[8:]),
	}, nil
}
