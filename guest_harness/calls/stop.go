package calls

import (
	"time"

	"aegis/guest_harness/power"
	"aegis/guest_harness/wire"
	"aegis/guest_harness/yamux"
)

var powerOff = power.Off

// stop has all commands end, and then the guest. It is not answered: the end is the answer.
func (g *Guest) stop(stream *yamux.Stream, fields *wire.Fields) error {
	grace := fields.Seconds("grace")
	if err := fields.Done(); err != nil {
		return err
	}
	g.stopping.Store(true)
	g.commands.Stop(time.Duration(min(grace, longestEnd) * float64(time.Second)))
	powerOff("the host stops it")
	return nil
}

// heldBack waits for the end when the guest is being stopped: what a command that had to end says is not how it ended.
func (g *Guest) heldBack(stream *yamux.Stream) bool {
	if !g.stopping.Load() {
		return false
	}
	<-stream.Gone()
	return true
}
