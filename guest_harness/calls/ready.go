package calls

import (
	"errors"
	"time"

	"aegis/guest_harness/ports"
	"aegis/guest_harness/wire"
	"aegis/guest_harness/yamux"
)

const (
	leastInterval = 10 * time.Millisecond
	// startPatience is how long it waits for the call that starts the server: the two may overtake each other.
	startPatience = 10 * time.Second
	glance        = 5 * time.Millisecond
	longestWait   = time.Hour
)

// server is what is to be ready: a command, and the port that it is to listen on.
type server struct {
	id                string
	port              int
	interval, timeout time.Duration
}

// ready waits for a server, and says why when it waits in vain.
func (g *Guest) ready(stream *yamux.Stream, fields *wire.Fields) error {
	server := server{
		id: fields.String("id"), port: parsePort(fields),
		interval: max(leastInterval, duration(fields, "interval")), timeout: duration(fields, "timeout"),
	}
	if err := fields.Done(); err != nil {
		return err
	}
	began := time.Now()
	listens, err := g.await(server, stream.Gone())
	if err != nil {
		return err
	}
	answer := []wire.Pair{{Name: "event", Value: "serverReady"}, {Name: "seconds", Value: time.Since(began).Seconds()}}
	if !listens {
		answer = g.diagnose(server)
	}
	if g.heldBack(stream) {
		return nil
	}
	return stream.SendLast(wire.Line(answer...))
}

func duration(fields *wire.Fields, name string) time.Duration {
	return time.Duration(min(fields.Seconds(name), longestWait.Seconds()) * float64(time.Second))
}

// await tells whether the server takes connections, as soon as it does, or it has ended, or it is too late.
func (g *Guest) await(server server, gone <-chan struct{}) (bool, error) {
	over, err := g.begun(server.id, gone)
	if over == nil {
		return false, err
	}
	late := time.NewTimer(server.timeout)
	defer late.Stop()
	for {
		if accepts(server, over) {
			return true, nil
		}
		next := time.NewTimer(server.interval)
		select {
		case <-next.C:
			continue
		case <-over:
		case <-late.C:
		case <-gone:
			return false, ports.ErrGone
		}
		next.Stop()
		return false, nil
	}
}

// begun waits until a server has been started, and returns what is closed at its end; nil when it has ended by now.
func (g *Guest) begun(id string, gone <-chan struct{}) (<-chan struct{}, error) {
	for deadline := time.Now().Add(startPatience); ; {
		over := g.commands.Over(id)
		if over != nil || g.commands.Ending(id) != nil {
			return over, nil
		}
		if time.Now().After(deadline) {
			return nil, errors.New("no such process: " + id)
		}
		select {
		case <-gone:
			return nil, ports.ErrGone
		case <-time.After(glance):
		}
	}
}

// accepts tries one connection, for as long as it takes until the next, but not of a server that has ended: what takes it
// then is another.
func accepts(server server, over <-chan struct{}) bool {
	enough := make(chan struct{})
	timer := time.AfterFunc(server.interval, func() { close(enough) })
	defer timer.Stop()
	conn, err := ports.Dial(server.port, enough)
	if err != nil {
		return false
	}
	conn.Close()
	select {
	case <-over:
		return false
	default:
		return true
	}
}

// diagnose says why a server is not ready.
func (g *Guest) diagnose(server server) []wire.Pair {
	reason := func(name string, more ...wire.Pair) []wire.Pair {
		return append([]wire.Pair{{Name: "event", Value: "serverFailed"}, {Name: "reason", Value: name}}, more...)
	}
	if past := g.commands.Ending(server.id); past != nil {
		if why := past.Failure; why != nil {
			return reason("failed", wire.Pair{Name: "code", Value: why.Code}, wire.Pair{Name: "message", Value: why.Message})
		}
		return reason("exited", ending(past.Status)...)
	}
	found := ports.Listeners(g.commands.Processes(server.id))
	name := "never"
	for _, listener := range found {
		switch {
		case listener.Own && listener.Port == server.port:
			name = "unreachable"
		case listener.Own && name == "never":
			name = "elsewhere"
		}
	}
	return reason(name, wire.Pair{Name: "listening", Value: described(found)})
}

func described(listeners []ports.Listener) [][]wire.Pair {
	list := [][]wire.Pair{}
	for _, listener := range listeners {
		list = append(list, []wire.Pair{
			{Name: "address", Value: listener.Address}, {Name: "port", Value: listener.Port}, {Name: "own", Value: listener.Own},
		})
	}
	return list
}
