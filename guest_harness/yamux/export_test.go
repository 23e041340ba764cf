package yamux

// Parse gives the tests the fields of a header.
func Parse(frame []byte) (kind byte, flags uint16, stream, length uint32, err error) {
	h, err := parseHeader(frame)
	if again := h.append(nil); err == nil && string(again) != string(frame[:HeaderSize]) {
		panic("a header does not survive")
	}
	return h.kind, h.flags, h.stream, h.length, err
}
