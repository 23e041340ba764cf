package files

import (
	"errors"
	"io"

	"aegis/guest_harness/frames"
)

// source is where frames come from: bytes that are valid until they have been discarded.
type source interface {
	Peek() ([]byte, error)
	Discard(n int)
}

var errFrame = errors.New("a frame that cannot be")

// In reads frames.
type In struct {
	source source
}

// next reads a frame's header.
func (in In) next() (kind frames.Kind, length int, err error) {
	var header [frames.HeaderSize]byte
	if err := in.fill(header[:]); err != nil {
		return 0, 0, err
	}
	kind = frames.Kind(header[0])
	header[0] = byte(frames.Stdin) // whose header has the same form
	length, err = frames.ParseHeader(header)
	return kind, length, err
}

// fill reads as many bytes as *buffer* takes.
func (in In) fill(buffer []byte) error {
	for len(buffer) > 0 {
		view, err := in.source.Peek()
		if err != nil {
			return lost(err)
		}
		n := copy(buffer, view)
		in.source.Discard(n)
		buffer = buffer[n:]
	}
	return nil
}

// payload reads a short payload.
func (in In) payload(length int) ([]byte, error) {
	if length > 16<<10 {
		return nil, errFrame
	}
	buffer := make([]byte, length)
	return buffer, in.fill(buffer)
}

// pass gives a payload to *write*, in the pieces in which it comes.
func (in In) pass(length int, write func([]byte) error) error {
	for length > 0 {
		view, err := in.source.Peek()
		if err != nil {
			return lost(err)
		}
		view = view[:min(len(view), length)]
		if err := write(view); err != nil {
			return err
		}
		length -= len(view)
		in.source.Discard(len(view))
	}
	return nil
}

// errLost says that nobody waits for an answer any more.
var errLost = errors.New("the host has hung up")

func lost(err error) error {
	if err == io.EOF {
		return errLost
	}
	return errors.Join(errLost, err)
}
