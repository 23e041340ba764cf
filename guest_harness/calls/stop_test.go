package calls

import (
	"encoding/binary"
	"io"
	"strings"
	"testing"
	"time"

	"aegis/guest_harness/process"
	"aegis/guest_harness/wire"
	"aegis/guest_harness/yamux"
)

// A stop ends the commands and then the guest, and says of none how it ended.
func TestStop(t *testing.T) {
	ended := make(chan string, 1)
	before := powerOff
	powerOff = func(why ...string) { ended <- strings.Join(why, "") }
	t.Cleanup(func() { powerOff = before })
	host := booted(t)
	stream := command(t, host, false, "sleep", "100")
	var header [5]byte // of the event that says that it runs
	if _, err := io.ReadFull(stream, header[:]); err != nil {
		t.Fatal(err)
	}
	_, _ = io.ReadFull(stream, make([]byte, binary.BigEndian.Uint32(header[1:])))
	host.Open(call(t, map[string]any{"call": "stop", "grace": 5.0}))
	select {
	case why := <-ended:
		if why != "the host stops it" {
			t.Error(why)
		}
	case <-time.After(4 * time.Second):
		t.Fatal("the guest goes on")
	}
	if stream.Buffered() > 0 {
		t.Error("a command that had to end says how it ended")
	}
}

// A command that the stop overtakes on its way says nothing, not even that it could not be started.
func TestStopBeforeAStart(t *testing.T) {
	commands, err := process.NewTable("here", "", 0)
	if err != nil {
		t.Fatal(err)
	}
	commands.Stop(0)
	guest := &Guest{commands: commands}
	guest.stopping.Store(true)
	request, err := wire.Parse([]byte(`{"id": "x", "argv": ["true"], "env": {}, "stdin": false}`))
	if err != nil {
		t.Fatal(err)
	}
	said := make(chan error, 1)
	host := serve(t, func(stream *yamux.Stream) { said <- guest.process(stream, wire.Take(request)) })
	stream := host.Open(nil)
	select {
	case err := <-said:
		t.Fatalf("it was answered (%v)", err)
	case <-time.After(300 * time.Millisecond):
	}
	if stream.Buffered() > 0 {
		t.Error("it says that it could not be started")
	}
}
