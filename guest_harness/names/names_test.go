package names

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
	"time"
)

func asks(name string, kind uint16, more ...byte) []byte {
	message := []byte{0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, byte(len(more) / 11)}
	message = append(message, writeName(name)...)
	message = binary.BigEndian.AppendUint16(message, kind)
	message = binary.BigEndian.AppendUint16(message, classIN)
	return append(message, more...)
}

func extension(size uint16) []byte {
	return []byte{0, 0, typeOPT, byte(size >> 8), byte(size), 0, 0, 0, 0, 0, 0}
}

// knowing returns a memory to which nobody says anything more.
func knowing(names map[string][]string) *memory {
	m := newMemory(nil)
	for name, addresses := range names {
		f := &found{until: time.Now().Add(time.Minute), ready: make(chan struct{})}
		for _, text := range addresses {
			r, ok := recordOf(text)
			if !ok {
				panic(text)
			}
			f.records = append(f.records, r)
			m.reverse(r, name)
		}
		close(f.ready)
		m.names[name] = f
	}
	return m
}

var known = map[string][]string{
	"a.example": {"1.2.3.4", "2001:db8::1"}, "six.example": {"::1:2"}, "many.example": many(100),
}

func many(count int) (addresses []string) {
	for range count {
		addresses = append(addresses, "1.2.3.4")
	}
	return addresses
}

func outcome(answer []byte) (code int, records int) {
	return int(answer[3] & 15), int(binary.BigEndian.Uint16(answer[6:]))
}

// What is known is answered by its type, in any case of letters; the question comes back as it was.
func TestAnswers(t *testing.T) {
	m := knowing(known)
	for _, c := range []struct {
		name          string
		kind          uint16
		code, records int
		last          string
	}{
		{"a.example", typeA, noError, 1, "\x01\x02\x03\x04"},
		{"A.Example", typeAAAA, noError, 1, "\x20\x01\x0d\xb8" + strings.Repeat("\x00", 11) + "\x01"},
		{"six.example", typeA, noError, 0, ""},
		{"a.example", 15, notImplemented, 0, ""},
		{"a.example", 255, notImplemented, 0, ""},
		{"4.3.2.1.in-addr.arpa", typePTR, noError, 1, "\x00"},
		{"5.3.2.1.in-addr.arpa", typePTR, nameError, 0, ""},
		{reversedName([]byte("\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01")), typePTR, noError, 1, "example\x00"},
	} {
		message := asks(c.name, c.kind)
		answer := m.answer(message, false)
		code, records := outcome(answer)
		if code != c.code || records != c.records || !bytes.HasSuffix(answer, []byte(c.last)) {
			t.Errorf("%s %d: %d, %d: %q", c.name, c.kind, code, records, answer)
		}
		if !bytes.Equal(answer[headerSize:][:len(message)-headerSize], message[headerSize:]) || !bytes.Equal(answer[:2], message[:2]) {
			t.Errorf("%s: another question: %q", c.name, answer)
		}
	}
}

// What is too long for a datagram says so, and comes whole where there is room.
func TestTruncation(t *testing.T) {
	m := knowing(known)
	short := m.answer(asks("many.example", typeA), false)
	if _, records := outcome(short); records != 0 || short[2]&2 == 0 || len(short) > smallest {
		t.Errorf("not truncated: %q", short)
	}
	for _, long := range [][]byte{
		m.answer(asks("many.example", typeA), true), m.answer(asks("many.example", typeA, extension(4096)...), false),
	} {
		if _, records := outcome(long); records != 100 || long[2]&2 != 0 {
			t.Errorf("%d records", records)
		}
	}
	extended := m.answer(asks("a.example", typeA, extension(1232)...), false)
	if extended[11] != 1 || !bytes.HasSuffix(extended, []byte{0, 0, typeOPT, ourSize >> 8, ourSize & 255, 0, 0, 0, 0, 0, 0}) {
		t.Errorf("no OPT: %q", extended)
	}
}

// What is no question is not answered, what is a wrong one is answered by an error, and nothing of it hurts.
func TestNonsense(t *testing.T) {
	m := knowing(known)
	good := asks("a.example", typeA, extension(1232)...)
	for end := range good {
		answer := m.answer(good[:end], false)
		if (end < headerSize) != (answer == nil) {
			t.Errorf("%d bytes: %q", end, answer)
		}
		if answer != nil {
			if code, _ := outcome(answer); code != formatError {
				t.Errorf("%d bytes: code %d", end, code)
			}
		}
	}
	for _, message := range [][]byte{
		append(asks("a.example", typeA)[:headerSize], 0xc0, 12, 0, 1, 0, 1), append([]byte{0, 0, 1, 0, 0, 2}, good[6:]...),
		append([]byte{0, 0, 1, 0, 0, 1, 0xff, 0xff, 0xff, 0xff}, good[10:]...), asks(strings.Repeat("a.", 130)+"a", typeA),
	} {
		if code, _ := outcome(m.answer(message, false)); code != formatError {
			t.Errorf("%q: code %d", message, code)
		}
	}
	if m.answer(append([]byte{0, 0, 0x81}, good[3:]...), false) != nil {
		t.Error("an answer was answered")
	}
	if code, _ := outcome(m.answer(append([]byte{0, 0, 0x28}, good[3:]...), false)); code != notImplemented {
		t.Error("an update was taken for a question")
	}
	if code, _ := outcome(m.answer(asks("a b.example", typeA), false)); code != nameError {
		t.Error("a space in a name")
	}
}

// FuzzAnswer: whatever comes, nothing fails.
func FuzzAnswer(f *testing.F) {
	f.Add(asks("a.example", typeA, extension(1232)...))
	f.Add(asks("4.3.2.1.in-addr.arpa", typePTR))
	f.Fuzz(func(_ *testing.T, message []byte) {
		m := knowing(known)
		if q, code, ok := parse(message); ok && code == noError && m.names[strings.ToLower(q.name)] == nil && q.kind != typePTR {
			return // the host would be asked
		}
		m.answer(message, false)
	})
}
