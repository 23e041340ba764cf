package names

import (
	"encoding/binary"
	"strconv"
	"strings"
	"sync"
	"time"

	"aegis/guest_harness/wire"
	"aegis/guest_harness/yamux"
)

const (
	longestLine  = 64 << 10
	mostNames    = 2048
	mostSeconds  = 300
	mostAsked    = 64 // at once, of the host
	mostReversed = 8192
)

// Host opens a stream to the host with its first bytes.
type Host func(first []byte) (*yamux.Stream, error)

// found is what a name leads to, for a while.
type found struct {
	code    int
	records []record
	until   time.Time
	ready   chan struct{} // closed when it is there
}

// memory is what the host has said about names.
type memory struct {
	host   Host
	asking chan struct{}

	mu       sync.Mutex
	names    map[string]*found
	reversed map[string]string // what PTR is asked for, and the name whose address that was
}

func newMemory(host Host) *memory {
	return &memory{
		host: host, asking: make(chan struct{}, mostAsked), names: map[string]*found{}, reversed: map[string]string{},
	}
}

// find returns what *name* leads to; who asks while the host is asked waits for that answer.
func (m *memory) find(name string) *found {
	name = strings.ToLower(name)
	m.mu.Lock()
	f := m.names[name]
	if f != nil && (f.until.IsZero() || time.Now().Before(f.until)) {
		m.mu.Unlock()
		<-f.ready
		return f
	}
	if len(m.names) >= mostNames {
		clear(m.names)
	}
	f = &found{code: serverFailure, ready: make(chan struct{})}
	m.names[name] = f
	m.mu.Unlock()
	m.ask(name, f)
	return f
}

func (m *memory) ask(name string, f *found) {
	m.asking <- struct{}{}
	code, addresses, seconds := m.resolve(name)
	<-m.asking
	m.mu.Lock()
	f.code, f.until = code, time.Now().Add(time.Duration(seconds)*time.Second)
	for _, text := range addresses {
		if record, ok := recordOf(text); ok {
			f.records = append(f.records, record)
			m.reverse(record, name)
		}
	}
	m.mu.Unlock()
	close(f.ready)
}

// resolve asks the host.
func (m *memory) resolve(name string) (code int, addresses []string, seconds int64) {
	stream, err := m.host(wire.Line(wire.Pair{Name: "call", Value: "resolve"}, wire.Pair{Name: "name", Value: name}))
	if err != nil {
		return serverFailure, nil, 0
	}
	defer stream.Reset()
	line, err := stream.ReadLine(longestLine)
	if err != nil {
		return serverFailure, nil, 0
	}
	value, err := wire.Parse(line)
	if err != nil {
		return serverFailure, nil, 0
	}
	return understood(wire.Take(value))
}

func understood(fields *wire.Fields) (code int, addresses []string, seconds int64) {
	if fields.Has("error") {
		if fields.Bool("unknown") {
			return nameError, nil, 0
		}
		return serverFailure, nil, 0
	}
	addresses, seconds = fields.Strings("addresses"), fields.Int("seconds")
	if fields.Err() != nil {
		return serverFailure, nil, 0
	}
	if len(addresses) == 0 {
		return nameError, nil, 0
	}
	return noError, addresses, min(max(seconds, 0), mostSeconds)
}

// reverse needs the lock.
func (m *memory) reverse(r record, name string) {
	if len(m.reversed) >= mostReversed {
		clear(m.reversed)
	}
	m.reversed[reversedName(r.data)] = name
}

// pointer returns the name of an address that was found by it.
func (m *memory) pointer(reversed string) (string, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	name, ok := m.reversed[strings.ToLower(reversed)]
	return name, ok
}

// reversedName is what PTR is asked for to get the name of an address.
func reversedName(address []byte) string {
	var labels []string
	for i := len(address) - 1; i >= 0; i-- {
		if len(address) == 4 {
			labels = append(labels, strconv.Itoa(int(address[i])))
		} else {
			labels = append(labels, strconv.FormatUint(uint64(address[i]&15), 16), strconv.FormatUint(uint64(address[i]>>4), 16))
		}
	}
	if len(address) == 4 {
		return strings.Join(labels, ".") + ".in-addr.arpa"
	}
	return strings.Join(labels, ".") + ".ip6.arpa"
}

// recordOf reads an address as the host writes it: dotted, or IPv6 with or without ::.
func recordOf(text string) (record, bool) {
	if !strings.Contains(text, ":") {
		parts := strings.Split(text, ".")
		data := make([]byte, 0, 4)
		for _, part := range parts {
			number, err := strconv.ParseUint(part, 10, 8)
			if err != nil {
				return record{}, false
			}
			data = append(data, byte(number))
		}
		return record{typeA, data}, len(data) == 4
	}
	head, tail, short := strings.Cut(text, "::")
	before, after := groups(head), groups(tail)
	if before == nil || after == nil || len(before)+len(after) > 16 || !short && len(before) != 16 {
		return record{}, false
	}
	data := make([]byte, 16)
	copy(data, before)
	copy(data[16-len(after):], after)
	return record{typeAAAA, data}, true
}

// groups returns nil for what is none.
func groups(text string) []byte {
	data := []byte{}
	if text == "" {
		return data
	}
	for _, group := range strings.Split(text, ":") {
		number, err := strconv.ParseUint(group, 16, 16)
		if err != nil {
			return nil
		}
		data = binary.BigEndian.AppendUint16(data, uint16(number))
	}
	return data
}
