package calls

import (
	"aegis/guest_harness/console"
	"aegis/guest_harness/frames"
	"aegis/guest_harness/process"
	"aegis/guest_harness/yamux"
)

// feed gives a command its stdin until the connection ends. It reports only a host that breaks the protocol.
func feed(stream *yamux.Stream, stdin process.Input, broken chan<- error) {
	defer console.Survive("a stdin", stream.Reset)
	for {
		var header [frames.HeaderSize]byte
		if stream.ReadFull(header[:]) != nil {
			return
		}
		length, err := frames.ParseHeader(header)
		if err != nil {
			broken <- err
			return
		}
		if length == 0 && stdin != nil {
			stdin.End()
		}
		if copyFrame(stream, stdin, length) != nil {
			return
		}
	}
}

// copyFrame writes one frame's payload, or drops it when the command does not read any more.
func copyFrame(stream *yamux.Stream, stdin process.Input, length int) error {
	for length > 0 {
		view, err := stream.Peek()
		if err != nil {
			return err
		}
		view = view[:min(len(view), length)]
		if stdin != nil {
			_, _ = stdin.Write(view)
		}
		stream.Discard(len(view))
		length -= len(view)
	}
	return nil
}
