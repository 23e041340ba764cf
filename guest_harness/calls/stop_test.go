package calls

import (
	"encoding/binary"
	"io"
	"strings"
	"testing"
	"time"
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
