package calls

import (
	"errors"
	"io"
	"os"

	"aegis/guest_harness/console"
	"aegis/guest_harness/frames"
	"aegis/guest_harness/process"
	"aegis/guest_harness/yamux"
)

const (
	room = yamux.HeaderSize + frames.HeaderSize // before a frame's payload
	// small outputs are copied: header and payload in one write(2) wake the host once.
	small = 16 << 10
	// leastRoom keeps a nearly full window from being used up in splinters.
	leastRoom = 4 << 10
)

// output carries what a command writes to one of its streams.
type output struct {
	pipe   *process.Output
	kind   frames.Kind
	stream *yamux.Stream
	buffer []byte
	done   chan struct{} // closed when everything that will be sent has been
}

// relay sends what comes out of *pipe* until it ends or finish is called; what comes later is read and dropped.
func relay(pipe *process.Output, kind frames.Kind, stream *yamux.Stream) *output {
	o := &output{pipe: pipe, kind: kind, stream: stream, done: make(chan struct{})}
	go o.run()
	return o
}

func (o *output) run() {
	ended := o.sendAll()
	close(o.done)
	if ended {
		o.pipe.Close()
	} else {
		o.pipe.Discard()
	}
}

// sendAll ends at the end of the pipe, which it then tells, when the host hangs up, or with what is in the pipe when
// finish is called.
func (o *output) sendAll() (ended bool) {
	defer console.Survive("an output", o.stream.Reset)
	for {
		waiting, err := o.pipe.Wait()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			_ = o.send(o.pipe.Waiting())
			return false
		}
		if err != nil || o.send(waiting) != nil {
			return err == io.EOF
		}
	}
}

// finish sends what the command wrote before it ended, whoever else still holds the other end of its pipe.
func (o *output) finish() {
	select {
	case <-o.done:
	default:
		o.pipe.Stop()
		<-o.done
	}
}

// send sends *waiting* bytes, which are in the pipe.
func (o *output) send(waiting int) error {
	for waiting > 0 {
		most := min(waiting, yamux.MaxFrame-frames.HeaderSize)
		granted, err := o.stream.Reserve(frames.HeaderSize+min(most, leastRoom), frames.HeaderSize+most)
		if err != nil {
			return err
		}
		count := granted - frames.HeaderSize
		if err := o.frame(count); err != nil {
			return err
		}
		waiting -= count
	}
	return nil
}

func (o *output) frame(count int) error {
	header := frames.Header(o.kind, count)
	if count > small {
		start := append(make([]byte, yamux.HeaderSize, room), header[:]...)
		return o.stream.SpliceReserved(start, o.pipe.Descriptor(), count)
	}
	if cap(o.buffer) < room+count {
		o.buffer = make([]byte, room+count)
	}
	frame := o.buffer[:room+count]
	copy(frame[yamux.HeaderSize:], header[:])
	if err := o.pipe.Read(frame[room:]); err != nil {
		return err
	}
	return o.stream.SendReserved(frame)
}
