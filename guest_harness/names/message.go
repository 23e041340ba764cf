package names

import (
	"encoding/binary"
	"strings"
)

// RFC 1035, 6891
const (
	headerSize = 12
	typeA      = 1
	typePTR    = 12
	typeAAAA   = 28
	typeOPT    = 41
	classIN    = 1

	noError, formatError, serverFailure, nameError, notImplemented, refused = 0, 1, 2, 3, 4, 5

	flagAnswer, flagTruncated, flagAvailable = 0x8000, 0x0200, 0x0080
	keptFlags                                = 0x7900 // operation, and that recursion is desired

	smallest  = 512  // what every client takes over UDP
	largest   = 4096 // what we send over UDP at most
	ourSize   = 1232 // what we take
	mostOther = 16   // records behind the question that are looked through
)

// question is what a message asks.
type question struct {
	raw   []byte // as it came: also the case of its letters
	name  string // without the dot at its end
	kind  uint16
	class uint16
}

// query is a message that is answered.
type query struct {
	header [headerSize]byte
	question
	extended bool // it has an OPT record: so has the answer
	room     int  // what the client takes over UDP
}

// record is an answer to the question.
type record struct {
	kind uint16
	data []byte
}

// parse returns what *message* asks, or what is wrong; with ok false there is nothing to be answered at all.
func parse(message []byte) (q query, code int, ok bool) {
	if len(message) < headerSize || message[2]&0x80 != 0 {
		return q, 0, false
	}
	copy(q.header[:], message)
	q.room = smallest
	if message[2]&0x78 != 0 {
		return q, notImplemented, true
	}
	if binary.BigEndian.Uint16(message[4:]) != 1 {
		return q, formatError, true
	}
	name, at, ok := readName(message, headerSize)
	if !ok || at+4 > len(message) {
		return q, formatError, true
	}
	q.question = question{
		message[headerSize : at+4], name, binary.BigEndian.Uint16(message[at:]), binary.BigEndian.Uint16(message[at+2:]),
	}
	if !q.readExtension(message, at+4) {
		return q, formatError, true
	}
	return q, noError, true
}

// readExtension looks for the OPT record behind the question.
func (q *query) readExtension(message []byte, at int) bool {
	others := 0
	for _, count := range []int{6, 8, 10} {
		others += int(binary.BigEndian.Uint16(message[count:]))
	}
	if others > mostOther {
		return false
	}
	for ; others > 0; others-- {
		_, end, ok := readName(message, at)
		if !ok || end+10 > len(message) {
			return false
		}
		if binary.BigEndian.Uint16(message[end:]) == typeOPT {
			q.extended = true
			q.room = min(max(int(binary.BigEndian.Uint16(message[end+2:])), smallest), largest)
		}
		at = end + 10 + int(binary.BigEndian.Uint16(message[end+8:]))
		if at > len(message) {
			return false
		}
	}
	return true
}

// readName reads a name that is written out: there is nothing before a question to point to. What no host name can hold
// becomes a character that none holds.
func readName(message []byte, at int) (name string, end int, ok bool) {
	var labels []string
	for total := 0; at < len(message); {
		length := int(message[at])
		at++
		if total += length + 1; length == 0 {
			return strings.Join(labels, "."), at, total <= 255
		}
		if length > 63 || at+length > len(message) || total > 255 {
			return "", 0, false
		}
		labels = append(labels, readLabel(message[at:at+length]))
		at += length
	}
	return "", 0, false
}

func readLabel(bytes []byte) string {
	label := make([]byte, len(bytes))
	for i, char := range bytes {
		if char <= ' ' || char == '.' || char >= 0x7f {
			char = '?'
		}
		label[i] = char
	}
	return string(label)
}

// writeName is the form of a name in a record.
func writeName(name string) []byte {
	var out []byte
	for _, label := range strings.Split(name, ".") {
		out = append(append(out, byte(len(label))), label...)
	}
	return append(out, 0)
}

// answer is the message that answers *q*, of *room* bytes at most: without records, and with the flag that says so, if
// they are more.
func (q query) answer(code int, records []record, seconds uint32, room int) []byte {
	flags := binary.BigEndian.Uint16(q.header[2:])&keptFlags | flagAnswer | flagAvailable | uint16(code)
	out := q.start(flags, len(records))
	for _, record := range records {
		out = append(out, 0xc0, headerSize) // the name is the question's
		out = binary.BigEndian.AppendUint16(out, record.kind)
		out = binary.BigEndian.AppendUint16(out, classIN)
		out = binary.BigEndian.AppendUint32(out, seconds)
		out = binary.BigEndian.AppendUint16(out, uint16(len(record.data)))
		out = append(out, record.data...)
	}
	if out = q.extend(out); len(out) > room {
		out = q.extend(q.start(flags|flagTruncated, 0))
	}
	return out
}

func (q query) start(flags uint16, records int) []byte {
	out := append([]byte(nil), q.header[:2]...)
	out = binary.BigEndian.AppendUint16(out, flags)
	questions, extensions := uint16(0), uint16(0)
	if q.raw != nil {
		questions = 1
	}
	if q.extended {
		extensions = 1
	}
	for _, count := range []uint16{questions, uint16(records), 0, extensions} {
		out = binary.BigEndian.AppendUint16(out, count)
	}
	return append(out, q.raw...)
}

func (q query) extend(out []byte) []byte {
	if !q.extended {
		return out
	}
	out = append(out, 0, 0, typeOPT)
	out = binary.BigEndian.AppendUint16(out, ourSize)
	return append(out, 0, 0, 0, 0, 0, 0)
}
