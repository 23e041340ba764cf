package yamux

import "errors"

// Open opens a stream to the host, whose window stays small, and sends its *first* bytes, at most 256 KiB.
func (s *Session) Open(first []byte) (*Stream, error) {
	if len(first) > initialWindow {
		return nil, errors.New("yamux: more than the window at once")
	}
	var stream *Stream
	// The number is taken while nobody else writes: the host hears of them in their order.
	err := s.transmit(func() error {
		stream = s.added()
		frames := stream.control(flagSYN, 0).append(make([]byte, 0, 2*HeaderSize+len(first)))
		stream.credit -= uint32(len(first))
		_, err := s.link.Write(append(stream.data(len(first)).append(frames), first...))
		return err
	})
	if err != nil {
		return nil, err
	}
	return stream, nil
}

func (s *Session) added() *Stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opened += 2
	stream := newStream(s, s.opened)
	stream.answered, stream.most = true, initialWindow
	stream.incoming.window = initialWindow
	s.streams[s.opened] = stream
	return stream
}
