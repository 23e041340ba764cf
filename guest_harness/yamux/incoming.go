package yamux

import (
	"bytes"
	"errors"
	"io"
	"sync"
)

// blockSize is how much is kept together.
const blockSize = 64 << 10

// blocks go round: fresh memory costs several times what it takes to fill it, under emulation above all.
var blocks = sync.Pool{New: func() any { return new([blockSize]byte) }}

// incoming holds what the host sent and the reader has not discarded: never more than the window.
type incoming struct {
	window   uint32   // what the host may still send
	arrived  [][]byte // in their order; the last one is being filled
	view     []byte   // what the reader is at; only the reader touches it
	backing  []byte   // the block that view is a part of
	spare    []byte   // the next block to be filled: as large as the stream has needed so far
	consumed uint32   // discarded, and not yet given back to the window
	dropped  bool     // nobody reads any more
}

func (in *incoming) drop() {
	in.dropped = true
	for _, block := range in.arrived {
		recycle(block)
	}
	in.arrived, in.spare = nil, nil
}

func recycle(block []byte) {
	if cap(block) == blockSize {
		blocks.Put((*[blockSize]byte)(block[:blockSize]))
	}
}

// add keeps bytes that have come. What comes in small pieces, each of which is read at once, stays in one small block.
func (in *incoming) add(chunk []byte) {
	for len(chunk) > 0 {
		last := len(in.arrived) - 1
		if last < 0 || len(in.arrived[last]) == blockSize {
			in.arrived = append(in.arrived, in.fresh())
			last++
		}
		n := min(len(chunk), blockSize-len(in.arrived[last]))
		in.arrived[last] = append(in.arrived[last], chunk[:n]...)
		chunk = chunk[n:]
	}
}

func (in *incoming) fresh() []byte {
	block := in.spare
	in.spare = nil
	if block == nil && len(in.arrived) > 0 {
		block = blocks.Get().(*[blockSize]byte)[:0]
	}
	return block[:0]
}

// swap makes the first block the view.
func (in *incoming) swap() {
	if in.spare == nil {
		in.spare = in.backing
	} else {
		recycle(in.backing)
	}
	in.view = in.arrived[0]
	in.backing = in.view
	in.arrived = in.arrived[1:]
}

func (s *Stream) charge(length uint32) error {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if length > s.incoming.window {
		return errWindow
	}
	if length > 0 && s.ended {
		return errors.New("yamux: the host sent data on a stream that it had closed")
	}
	s.incoming.window -= length
	return nil
}

func (s *Stream) push(chunk []byte) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.incoming.dropped {
		s.incoming.add(chunk)
		s.changed.Broadcast()
	}
}

// Peek waits for bytes and returns the first that are there. They are valid until they have been discarded.
func (s *Stream) Peek() ([]byte, error) {
	in := &s.incoming
	if len(in.view) > 0 {
		return in.view, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(in.arrived) == 0 {
		if err := s.readError(); err != nil {
			return nil, err
		}
		s.changed.Wait()
	}
	in.swap()
	return in.view, nil
}

// readError needs the lock.
func (s *Stream) readError() error {
	switch {
	case s.failure != nil:
		return s.failure
	case s.closed:
		return errClosed
	case s.ended:
		return io.EOF
	}
	return nil
}

// Discard consumes the first *n* bytes of what Peek returned; the host may then send as many again.
func (s *Stream) Discard(n int) {
	in := &s.incoming
	in.view = in.view[n:]
	s.mu.Lock()
	in.consumed += uint32(n)
	give := in.consumed
	// Before our first answer the window is still the initial one, and a long call would use it up.
	enough := s.most / 2
	if !s.answered {
		enough = initialWindow / 2
	}
	if give < enough || s.ended || s.closed {
		s.mu.Unlock()
		return
	}
	in.window += give
	in.consumed = 0
	s.mu.Unlock()
	_ = s.session.write(s.control(0, give).append(s.answer(nil)))
}

// ReadFull fills *buffer*.
func (s *Stream) ReadFull(buffer []byte) error {
	for len(buffer) > 0 {
		view, err := s.Peek()
		if err != nil {
			return err
		}
		n := copy(buffer, view)
		s.Discard(n)
		buffer = buffer[n:]
	}
	return nil
}

// ReadLine returns the bytes before the next newline, at most *limit*, and consumes the newline.
func (s *Stream) ReadLine(limit int) ([]byte, error) {
	var line []byte
	for {
		view, err := s.Peek()
		if err != nil {
			return nil, err
		}
		end := bytes.IndexByte(view, '\n')
		piece := view
		if end >= 0 {
			piece = view[:end]
		}
		if len(line)+len(piece) > limit {
			return nil, errors.New("line longer than 1 MiB")
		}
		line = append(line, piece...)
		s.Discard(len(piece))
		if end >= 0 {
			s.Discard(1)
			return line, nil
		}
	}
}
