package files

import (
	"encoding/binary"
	"syscall"
	"time"

	"aegis/guest_harness/frames"
	"aegis/guest_harness/wire"
	"aegis/guest_harness/yamux"
)

// The kinds of frames in a `file` call.
const (
	dataFrame frames.Kind = iota
	holeFrame
	entryFrame
	leaveFrame
	endFrame
	failedFrame
	readFrame
	writeFrame
	resizeFrame
	changeFrame
)

const (
	room  = yamux.HeaderSize // before the frames of a batch
	batch = yamux.MaxFrame   // many frames go in one write to the port: that costs as much as a few hundred system calls
	least = 16 << 10         // for data it is not worth to begin a frame in less
	first = 512
	pulse = 2 * time.Second // between signs of life while there is nothing to say
)

// Out gathers frames and sends them in batches.
type Out struct {
	send   func(batch []byte) error // after *room* bytes
	buffer []byte
	sent   time.Time
	open   func() (*conveyor, error) // nil when pages cannot be passed on
	pages  *conveyor
}

func newOut(send func([]byte) error) *Out {
	return &Out{send: send, buffer: make([]byte, room, room+first), sent: time.Now()}
}

// toHost sends to the other end of a connection.
func toHost(stream *yamux.Stream) *Out {
	begun := false
	out := newOut(func(batch []byte) error {
		if !begun { // the first answer also accepts the stream
			begun = true
			return stream.Send(batch[room:])
		}
		if _, err := stream.Reserve(len(batch)-room, len(batch)-room); err != nil {
			return err
		}
		return stream.SendReserved(batch)
	})
	out.open = func() (*conveyor, error) { return newConveyor(stream) }
	return out
}

// carry sends up to *most* bytes of a file after all that was added; EINVAL if they have to be read.
func (o *Out) carry(fd int, most int64) (int, error) {
	if o.open == nil {
		return 0, syscall.EINVAL
	}
	if err := o.flush(); err != nil {
		return 0, lost(err)
	}
	if o.pages == nil {
		var err error
		if o.pages, err = o.open(); err != nil {
			return 0, err
		}
	}
	return o.pages.carry(fd, int(min(most, batch)))
}

func (o *Out) close() {
	if o.pages != nil {
		o.pages.close()
	}
}

// frame adds a frame, whose payload is short.
func (o *Out) frame(kind frames.Kind, payload []byte) error {
	if len(o.buffer)+frames.HeaderSize+len(payload) > room+batch {
		if err := o.flush(); err != nil {
			return err
		}
	}
	header := frames.Header(kind, len(payload))
	o.buffer = append(append(o.buffer, header[:]...), payload...)
	return nil
}

func (o *Out) hole(length int64) error {
	return o.frame(holeFrame, binary.BigEndian.AppendUint64(nil, uint64(length)))
}

func (o *Out) end(result []wire.Pair) error {
	return o.frame(endFrame, wire.Write(result))
}

// space is where data can be put, to be added by filled: all of *want* bytes, if that is not many.
func (o *Out) space(want int64) ([]byte, error) {
	need := frames.HeaderSize + int(min(max(want, first), least))
	if len(o.buffer)+need > room+batch {
		if err := o.flush(); err != nil {
			return nil, err
		}
	}
	need = frames.HeaderSize + int(max(want, first))
	if end := min(len(o.buffer)+need, room+batch); end > cap(o.buffer) {
		o.buffer = append(make([]byte, 0, min(2*end, room+batch)), o.buffer...)
	}
	return o.buffer[len(o.buffer)+frames.HeaderSize : min(cap(o.buffer), room+batch)], nil
}

// filled makes a frame of the first *n* bytes of the space.
func (o *Out) filled(n int) {
	header := frames.Header(dataFrame, n)
	at := len(o.buffer)
	copy(o.buffer[at:at+frames.HeaderSize], header[:])
	o.buffer = o.buffer[:at+frames.HeaderSize+n]
}

func (o *Out) flush() error {
	if len(o.buffer) == room {
		return nil
	}
	err := o.send(o.buffer)
	o.buffer = o.buffer[:room]
	o.sent = time.Now()
	return err
}

// tick, called in the midst of work, lets the host know now and then that there is some.
func (o *Out) tick() error {
	if time.Since(o.sent) < pulse {
		return nil
	}
	if len(o.buffer) == room {
		if err := o.frame(dataFrame, nil); err != nil {
			return err
		}
	}
	return o.flush()
}

// last sends what is left, and closes the connection.
func (o *Out) last(stream *yamux.Stream) error {
	return stream.SendLast(o.buffer[room:])
}
