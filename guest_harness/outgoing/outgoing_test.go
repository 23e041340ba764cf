package outgoing

import (
	"bytes"
	"testing"
)

// A first segment is understood, and its refusal is one for its sender: checksums included.
func TestPackets(t *testing.T) {
	for _, ends := range [][2]address{
		{fourAddress([]byte{127, 0, 0, 1}), fourAddress([]byte{1, 2, 3, 4})},
		{{six: true, bytes: [16]byte{15: 1}}, {six: true, bytes: [16]byte{0x20, 1, 0xd, 0xb8, 15: 7}}},
	} {
		segment := append([]byte{0xc0, 0, 1, 0xbb, 0, 0, 0, 9, 0, 0, 0, 0, 0x60, 2, 1, 1, 0xff, 0xff, 0, 0}, 2, 4, 5, 0xb4)
		packet := datagram(ends[0], ends[1], segment)
		if !ends[0].six {
			f, found, ok := parse(packet)
			want := flow{end{ends[0], 0xc000}, end{ends[1], 443}}
			if !ok || f != want || !bytes.Equal(found[:16], segment[:16]) {
				t.Errorf("%v: %v, %v", packet, f, ok)
			}
		}
		whole := packet[len(packet)-len(segment):]
		if checksum(ends[0], ends[1], whole) != 0 {
			t.Errorf("%v: wrong checksum", whole)
		}
		answer := refusal(segment)
		if !bytes.Equal(answer, []byte{1, 0xbb, 0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 10, 0x50, 0x14, 0, 0, 0, 0, 0, 0}) {
			t.Errorf("%v", answer)
		}
	}
}

// What is no whole segment is none.
func TestCutPackets(t *testing.T) {
	packet := datagram(fourAddress([]byte{127, 0, 0, 1}), fourAddress([]byte{1, 2, 3, 4}), make([]byte, tcpHeader))
	for length := range packet {
		if _, _, ok := parse(packet[:length]); ok {
			t.Errorf("%d bytes were taken", length)
		}
	}
}

// Addresses are written as the host reads them.
func TestAddresses(t *testing.T) {
	mapped := append(append(make([]byte, 10), 0xff, 0xff), 8, 8, 4, 4)
	for text, a := range map[string]address{
		"1.2.3.4": fourAddress([]byte{1, 2, 3, 4}), "8.8.4.4": sixAddress(mapped),
		"2001:db8:0:0:0:0:0:1": {six: true, bytes: [16]byte{0x20, 1, 0xd, 0xb8, 15: 1}},
	} {
		if a.String() != text {
			t.Errorf("%s: %s", text, a)
		}
	}
}

// Jumps of the program lead forward and to instructions.
func TestProgram(t *testing.T) {
	program := code(3)
	for at := 0; at < len(program); at += 8 {
		if class := program[at] & 7; class == 5 && program[at] != 0x85 && program[at] != 0x95 {
			offset := int(program[at+2]) | int(program[at+3])<<8
			if to := at/8 + 1 + offset; to >= len(program)/8 || program[8*to] == 0 {
				t.Errorf("instruction %d jumps to %d", at/8, to)
			}
		}
	}
}
