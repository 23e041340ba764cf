// Package calls serves what the host asks for: one connection a call, whose first line says which.
package calls

import (
	"errors"
	"os"
	"sync/atomic"

	"aegis/guest_harness/console"
	"aegis/guest_harness/files"
	"aegis/guest_harness/process"
	"aegis/guest_harness/wire"
	"aegis/guest_harness/yamux"
)

const longestLine = 1 << 20

// Guest answers the calls of one guest.
type Guest struct {
	boot     Boot
	clock    clock
	cgroups  string
	children <-chan os.Signal
	booted   chan struct{} // closed when boot has been answered
	commands *process.Table
	files    *files.Desk
	failure  error // of the boot
	stopping atomic.Bool
	dialled  atomic.Int64 // connections with the outside that are open
}

// NewGuest returns a guest that waits for its boot request; *setClock* sets its time of day. Below the directory *cgroups* it makes a cgroup for each
// command; *children* tells when processes end.
func NewGuest(boot Boot, setClock func(nanoseconds int64) error, cgroups string, children <-chan os.Signal) *Guest {
	return &Guest{
		boot: boot, clock: clock{set: setClock, read: readClocks},
		cgroups: cgroups, children: children, booted: make(chan struct{}),
	}
}

// Serve serves one connection to its end.
func (g *Guest) Serve(stream *yamux.Stream) {
	defer console.Survive("a call", stream.Reset)
	line, err := stream.ReadLine(longestLine)
	if err == nil {
		err = g.dispatch(stream, line)
	}
	if err != nil {
		_ = stream.SendLast(wire.Line(wire.Pair{Name: "error", Value: err.Error()}))
	}
}

// dispatch returns an error when the call was not understood, before it has sent anything.
func (g *Guest) dispatch(stream *yamux.Stream, line []byte) error {
	value, err := wire.Parse(line)
	if err != nil {
		return err
	}
	fields := wire.Take(value)
	call := fields.String("call")
	if err := fields.Err(); err != nil {
		return err
	}
	if call == "control" {
		return g.control(stream, fields)
	}
	var now int64
	if fields.Has("time_ns") {
		now = fields.Int("time_ns")
	}
	<-g.booted
	g.clock.KeepUp(now)
	switch {
	case g.failure != nil:
		return g.failure
	case g.heldBack(stream):
		return nil
	case call == "process":
		return g.process(stream, fields)
	case call == "signal":
		return g.signal(stream, fields)
	case call == "resize":
		return g.resize(stream, fields)
	case call == "stop":
		return g.stop(stream, fields)
	case call == "file":
		return g.file(stream, fields)
	case call == "connect":
		return g.connect(stream, fields)
	case call == "ready":
		return g.ready(stream, fields)
	case call == "activity":
		return g.activity(stream, fields)
	}
	return errors.New("unknown call: " + call)
}
