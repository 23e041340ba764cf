package yamux

import (
	"bufio"
	"errors"
	"io"
	"sync"
)

// Link is the one byte stream under the session.
type Link interface {
	io.Reader
	io.Writer
	// Stage takes up to *most* bytes from a pipe, without waiting, and returns how many it has got. They are to be sent
	// by SendStage before the next.
	Stage(pipe int, most int) (int, error)
	// SendStage sends all *n* bytes that Stage has taken.
	SendStage(n int) error
}

// ErrGoAway ends a session in which the host said that it is over.
var ErrGoAway = errors.New("yamux: the host said go away")

// queueLimit bounds the answers that wait for the link: more means a host that sends and never reads.
const queueLimit = 64 << 10

// Session is one session, from its first frame to the loss of its link.
type Session struct {
	link   Link
	reader *bufio.Reader
	accept func(*Stream)

	writing sync.Mutex // held for the whole of a frame
	torn    bool       // a frame was begun and not ended: nothing more can be sent
	over    chan error

	mu      sync.Mutex
	streams map[uint32]*Stream
	opened  uint32 // the last stream that we have opened
	queue   []byte // whole frames that the reader, which must never wait for the link, wants sent
	wake    chan struct{}
}

var errTorn = errors.New("yamux: a frame could not be sent to its end")

// New returns a session that gives every stream that the host opens to *accept*, on its own goroutine.
func New(link Link, accept func(*Stream)) *Session {
	return &Session{
		link:    link,
		reader:  bufio.NewReaderSize(link, 32<<10),
		accept:  accept,
		streams: map[uint32]*Stream{},
		wake:    make(chan struct{}, 1),
		over:    make(chan error, 2),
	}
}

// Serve serves the session until the link or the host fails.
func (s *Session) Serve() error {
	go s.flush()
	go s.receiveAll()
	err := <-s.over
	s.fail(err)
	return err
}

func (s *Session) receiveAll() {
	defer close(s.wake)
	for {
		if err := s.receive(); err != nil {
			s.over <- err
			return
		}
	}
}

// receive handles one frame.
func (s *Session) receive() error {
	start, err := s.reader.Peek(HeaderSize)
	if err != nil {
		return err
	}
	h, err := parseHeader(start)
	if err != nil {
		return err
	}
	_, _ = s.reader.Discard(HeaderSize)
	switch h.kind {
	case typePing:
		return s.pong(h)
	case typeGoAway:
		return ErrGoAway
	}
	return s.receiveForStream(h)
}

func (s *Session) pong(h header) error {
	if h.flags&flagSYN == 0 {
		return nil
	}
	return s.soon(header{kind: typePing, flags: flagACK, length: h.length})
}

func (s *Session) receiveForStream(h header) error {
	if h.flags&flagSYN != 0 {
		if err := s.open(h.stream); err != nil {
			return err
		}
	}
	stream := s.find(h.stream)
	if err := s.receivePayload(stream, h); err != nil {
		return err
	}
	if stream == nil {
		return nil // it was reset or is over: what was under way for it does not matter any more
	}
	if h.flags&flagRST != 0 {
		stream.fail(errReset)
		s.forget(stream)
	} else if h.flags&flagFIN != 0 {
		stream.peerClosed()
	}
	return nil
}

func (s *Session) receivePayload(stream *Stream, h header) error {
	if h.kind == typeWindow {
		return stream.addCredit(h.length)
	}
	if err := stream.charge(h.length); err != nil {
		return err
	}
	for left := int(h.length); left > 0; {
		if _, err := s.reader.Peek(1); err != nil {
			return err
		}
		chunk, _ := s.reader.Peek(min(left, s.reader.Buffered()))
		stream.push(chunk)
		_, _ = s.reader.Discard(len(chunk))
		left -= len(chunk)
	}
	return nil
}

func (s *Session) open(id uint32) error {
	if id%2 == 0 {
		return errors.New("yamux: the host opened a stream with an even id")
	}
	stream := newStream(s, id)
	s.mu.Lock()
	_, twice := s.streams[id]
	if !twice { // the first, which is in use, must hear of the session's end
		s.streams[id] = stream
	}
	s.mu.Unlock()
	if twice {
		return errors.New("yamux: the host opened a stream twice")
	}
	go s.accept(stream)
	return nil
}

func (s *Session) find(id uint32) *Stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.streams[id]
}

// forget leaves a later stream alone to which the host gave the same id.
func (s *Session) forget(stream *Stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.streams[stream.id] == stream {
		delete(s.streams, stream.id)
	}
}

func (s *Session) fail(err error) {
	s.mu.Lock()
	streams := s.streams
	s.streams = map[uint32]*Stream{}
	s.mu.Unlock()
	for _, stream := range streams {
		stream.fail(err)
	}
}

// soon queues a frame that has no payload.
func (s *Session) soon(h header) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) > queueLimit {
		return errors.New("yamux: the host does not read its answers")
	}
	s.queue = h.append(s.queue)
	select {
	case s.wake <- struct{}{}:
	default:
	}
	return nil
}

// flush sends what was queued by soon.
func (s *Session) flush() {
	var spare []byte
	for range s.wake {
		s.mu.Lock()
		frames := s.queue
		s.queue = spare[:0]
		s.mu.Unlock()
		if s.write(frames) != nil {
			return
		}
		spare = frames
	}
}

// write sends whole frames.
func (s *Session) write(frames []byte) error {
	return s.transmit(func() error {
		_, err := s.link.Write(frames)
		return err
	})
}

// splice sends a frame whose payload ends with up to *most* bytes from a pipe, and returns how many it was. There is no
// frame when there are none. What the pipe said that it holds may be gone by now: only the stage is sure.
func (s *Session) splice(start func(n int) []byte, pipe int, most int) (n int, err error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	if s.torn {
		return 0, errTorn
	}
	if n, err = s.link.Stage(pipe, most); err != nil || n == 0 {
		return 0, err
	}
	return n, s.whole(func() error {
		if _, err := s.link.Write(start(n)); err != nil {
			return err
		}
		return s.link.SendStage(n)
	})
}

func (s *Session) transmit(send func() error) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	if s.torn {
		return errTorn
	}
	return s.whole(send)
}

// whole needs the lock of writing. When *send* fails or panics, the host cannot tell frames apart any more, and the
// session is over.
func (s *Session) whole(send func() error) error {
	err := errTorn
	defer func() {
		if err != nil {
			s.torn = true
			select {
			case s.over <- errors.Join(errTorn, err):
			default:
			}
		}
	}()
	err = send()
	return err
}
