package yamux

import (
	"errors"
	"sync"
)

var (
	errReset  = errors.New("yamux: the host reset the stream")
	errClosed = errors.New("yamux: the stream is closed")
	errWindow = errors.New("yamux: the host sent more than the window")
)

// Stream is one byte stream. One goroutine may read it, any number may send.
type Stream struct {
	session *Session
	id      uint32
	gone    chan struct{} // closed when the host has closed or reset the stream

	mu       sync.Mutex
	changed  sync.Cond // for senders that wait for credit and the reader that waits for bytes
	incoming incoming
	credit   uint32 // what we may still send
	failure  error  // set once: reset, or the session's end
	ended    bool   // the host has closed its direction
	finished bool   // we send no more, and still read
	closed   bool   // we have closed ours, and do not read either
	answered bool   // we have sent the frame that accepts the stream and raises its window
	most     uint32 // what the window is to be: the answer raises it to that
	onLoss   func() // nil when nobody asked for it
}

func newStream(session *Session, id uint32) *Stream {
	stream := &Stream{session: session, id: id, gone: make(chan struct{}), credit: initialWindow, most: raisedWindow}
	stream.incoming.window = raisedWindow
	stream.changed.L = &stream.mu
	return stream
}

// Gone is closed when the host has closed its direction of the stream or reset it.
func (s *Stream) Gone() <-chan struct{} {
	return s.gone
}

// OnLoss has *call* called, by a goroutine of its own, when the host resets the stream or is lost itself.
func (s *Stream) OnLoss(call func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failure != nil {
		go call()
		return
	}
	s.onLoss = call
}

// Failed tells whether the host has reset the stream or is lost.
func (s *Stream) Failed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failure != nil
}

// KeepSmall leaves the window as it is at first, for what there are many of at a time. It is said before the answer.
func (s *Stream) KeepSmall() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.answered && s.most != initialWindow {
		s.incoming.window -= raisedWindow - initialWindow
		s.most = initialWindow
	}
}

func (s *Stream) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failure == nil {
		s.failure = err
		if s.onLoss != nil {
			go s.onLoss()
		}
	}
	s.markGone()
}

func (s *Stream) peerClosed() {
	s.mu.Lock()
	s.markGone()
	over := s.closed || s.finished
	s.mu.Unlock()
	if over {
		s.session.forget(s)
	}
}

// markGone needs the lock.
func (s *Stream) markGone() {
	if !s.ended {
		s.ended = true
		close(s.gone)
	}
	s.changed.Broadcast()
}

func (s *Stream) addCredit(delta uint32) error {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.credit+delta < s.credit {
		return errors.New("yamux: the host raised a window beyond 4 GiB")
	}
	s.credit += delta
	s.changed.Broadcast()
	return nil
}

// Reserve takes from the window what one frame will need: at least *least* bytes, for which it waits, at most *most*.
func (s *Stream) Reserve(least, most int) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.sendError() == nil && int64(s.credit) < int64(least) {
		s.changed.Wait()
	}
	if err := s.sendError(); err != nil {
		return 0, err
	}
	granted := int(min(int64(most), int64(s.credit)))
	s.credit -= uint32(granted)
	return granted, nil
}

// sendError needs the lock.
func (s *Stream) sendError() error {
	if s.failure == nil && (s.closed || s.finished) {
		return errClosed
	}
	return s.failure
}

// SendReserved sends one frame for which the window was reserved: *payload*, after HeaderSize bytes of room.
func (s *Stream) SendReserved(payload []byte) error {
	s.data(len(payload) - HeaderSize).append(payload[:0])
	return s.session.write(payload)
}

// SpliceReserved is SendReserved with up to *most* more bytes from a pipe, and returns how many it found there: it sends
// nothing when there are none. *start* returns what comes before *n* bytes, after HeaderSize bytes of room.
func (s *Stream) SpliceReserved(start func(n int) []byte, pipe int, most int) (int, error) {
	return s.session.splice(func(n int) []byte {
		first := start(n)
		s.data(len(first) - HeaderSize + n).append(first[:0])
		return first
	}, pipe, most)
}

// Return gives back *n* bytes that were reserved and not used.
func (s *Stream) Return(n int) {
	if n > 0 {
		_ = s.addCredit(uint32(n))
	}
}

func (s *Stream) data(length int) header {
	return header{kind: typeData, stream: s.id, length: uint32(length)}
}

func (s *Stream) control(flags uint16, length uint32) header {
	return header{kind: typeWindow, flags: flags, stream: s.id, length: length}
}

// Send sends *payload*, at most 256 KiB, in one piece.
func (s *Stream) Send(payload []byte) error {
	return s.send(payload, nil)
}

// SendLast sends *payload* and closes the stream. The reset after our end tells a host that is still sending that nobody
// will read it: without, it would wait for a window that never opens.
func (s *Stream) SendLast(payload []byte) error {
	err := s.send(payload, s.control(flagRST, 0).append(s.control(flagFIN, 0).append(nil)))
	s.markClosed()
	s.session.forget(s)
	return err
}

func (s *Stream) send(payload, after []byte) error {
	if _, err := s.Reserve(len(payload), len(payload)); err != nil {
		return err
	}
	frames := s.answer(make([]byte, 0, 2*HeaderSize+len(payload)+len(after)))
	frames = s.data(len(payload)).append(frames)
	frames = append(frames, payload...)
	return s.session.write(append(frames, after...))
}

// answer appends, once, the frame that accepts the stream. It travels with the first answer to a call, not before: each
// write to the port costs as much as a few hundred system calls.
func (s *Stream) answer(frames []byte) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.answered {
		return frames
	}
	s.answered = true
	return s.control(flagACK, s.most-initialWindow).append(frames)
}

// Finish closes our direction alone: what the host still sends can be read.
func (s *Stream) Finish() {
	s.mu.Lock()
	if s.sendError() != nil {
		s.mu.Unlock()
		return
	}
	s.finished = true
	over := s.ended
	s.mu.Unlock()
	_ = s.session.write(s.control(flagFIN, 0).append(s.answer(nil)))
	if over {
		s.session.forget(s)
	}
}

// Reset ends both directions at once, unless our own is closed already, or both are at their end.
func (s *Stream) Reset() {
	if s.markClosed() {
		s.session.forget(s)
		_ = s.session.write(s.control(flagRST, 0).append(nil))
	}
}

// markClosed closes our direction, drops what arrives from now on, and tells whether it was open.
func (s *Stream) markClosed() bool {
	s.mu.Lock()
	wasOpen := !s.closed && s.failure == nil && !(s.finished && s.ended)
	s.closed = true
	s.incoming.drop()
	over := s.ended
	s.changed.Broadcast()
	s.mu.Unlock()
	if over {
		s.session.forget(s)
	}
	return wasOpen
}
