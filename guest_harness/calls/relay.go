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
	// leastRoom keeps a nearly full window from being used up in splinters, and is enough for a packet.
	leastRoom = process.Packet
)

// output carries what a command writes to one of its streams.
type output struct {
	pipe   process.Output
	kind   frames.Kind
	stream *yamux.Stream
	buffer []byte
	done   chan struct{} // closed when everything that will be sent has been
}

// relay sends what comes out of *pipe* until it ends or finish is called; what comes later is read and dropped.
func relay(pipe process.Output, kind frames.Kind, stream *yamux.Stream) *output {
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
			o.sendRest()
			return false
		}
		if err != nil {
			return err == io.EOF
		}
		if _, err := o.send(waiting); err != nil {
			o.stream.Reset()
			return false
		}
	}
}

// sendRest sends what is in the pipe now, and not all that may still come from whoever else holds its other end.
func (o *output) sendRest() {
	for left := o.pipe.Waiting(); left > 0; {
		sent, err := o.send(min(left, o.pipe.Waiting()))
		if err != nil {
			o.stream.Reset()
			return
		}
		if sent == 0 {
			return
		}
		left -= sent
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

// send sends one frame of what is in the pipe, where *waiting* bytes were seen, and returns how many bytes it found. The
// frame's length is that of what was taken out: the command may change what the pipe holds at any time.
func (o *output) send(waiting int) (int, error) {
	most := min(max(waiting, leastRoom), yamux.MaxFrame-frames.HeaderSize)
	granted, err := o.stream.Reserve(frames.HeaderSize+leastRoom, frames.HeaderSize+most)
	if err != nil {
		return 0, err
	}
	most = granted - frames.HeaderSize
	var sent int
	if fd := o.pipe.Descriptor(); fd >= 0 && most > small {
		sent, err = o.stream.SpliceReserved(o.start, fd, most)
	} else {
		sent, err = o.copy(most)
	}
	if sent == 0 {
		o.stream.Return(granted)
	} else {
		o.stream.Return(most - sent)
	}
	return sent, err
}

// start is what comes before the payload of a frame of *count* bytes.
func (o *output) start(count int) []byte {
	header := frames.Header(o.kind, count)
	return append(make([]byte, yamux.HeaderSize, room), header[:]...)
}

func (o *output) copy(most int) (int, error) {
	if cap(o.buffer) < room+most {
		o.buffer = make([]byte, room+most)
	}
	frame := o.buffer[:room+most]
	count, err := o.pipe.Read(frame[room:])
	if err != nil || count == 0 {
		return 0, err
	}
	header := frames.Header(o.kind, count)
	copy(frame[yamux.HeaderSize:], header[:])
	return count, o.stream.SendReserved(frame[:room+count])
}
