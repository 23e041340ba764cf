package calls

import (
	"errors"
	"strings"
	"time"

	"aegis/guest_harness/console"
	"aegis/guest_harness/frames"
	"aegis/guest_harness/process"
	"aegis/guest_harness/wire"
	"aegis/guest_harness/yamux"
)

const (
	longestID = 64
	grace     = 5 * time.Second // between SIGTERM and SIGKILL when the host hangs up
)

func parseCommand(fields *wire.Fields) (process.Command, error) {
	command := process.Command{
		ID:    fields.String("id"),
		Argv:  fields.Strings("argv"),
		Env:   fields.StringMap("env"),
		Stdin: fields.Bool("stdin"),
	}
	if fields.Has("cwd") {
		command.Cwd = fields.String("cwd")
	}
	if fields.Has("user") {
		command.User = fields.String("user")
	}
	if fields.Has("tty") {
		command.Terminal = new(process.Size)
		tty := wire.Take(fields.Any("tty"))
		*command.Terminal = parseSize(tty)
		fields.Join(tty.Done())
	}
	if err := fields.Done(); err != nil {
		return command, err
	}
	return command, validate(command)
}

func validate(command process.Command) error {
	switch {
	case len(command.ID) < 1 || len(command.ID) > longestID:
		return errors.New("id must have 1 to 64 bytes")
	case len(command.Argv) == 0:
		return errors.New("argv is empty")
	case strings.Contains(strings.Join(command.Argv, "")+command.Cwd, "\x00"):
		return errors.New("argv and cwd cannot hold NUL")
	}
	for name, value := range command.Env {
		if name == "" || strings.ContainsAny(name, "=\x00") || strings.Contains(value, "\x00") {
			return errors.New("env has a name that is empty or holds = or NUL, or a value that holds NUL")
		}
	}
	return nil
}

// process runs one command and relays its streams.
func (g *Guest) process(stream *yamux.Stream, fields *wire.Fields) error {
	command, err := parseCommand(fields)
	if err != nil {
		return err
	}
	running, failure := g.commands.Start(command)
	if failure != nil {
		if g.heldBack(stream) { // it may have been on its way when the stop came
			return nil
		}
		return stream.SendLast(event("failed",
			wire.Pair{Name: "code", Value: failure.Code}, wire.Pair{Name: "message", Value: failure.Message}))
	}
	_ = stream.Send(event("started", wire.Pair{Name: "pid", Value: running.PID}))
	fed := make(chan error, 1)
	go feed(stream, running.Stdin, fed)
	outputs := []*output{relay(running.Stdout, frames.Stdout, stream)}
	if running.Stderr != nil {
		outputs = append(outputs, relay(running.Stderr, frames.Stderr, stream))
	}

	status := g.outcome(command.ID, running, stream, fed)
	if running.Stdin != nil {
		_ = running.Stdin.Close()
	}
	if g.heldBack(stream) {
		return nil
	}
	for _, output := range outputs {
		output.finish()
	}
	_ = stream.SendLast(exited(status))
	return nil
}

// outcome waits for the command to end, and ends it when the host hangs up or breaks the protocol.
func (g *Guest) outcome(id string, running *process.Running, stream *yamux.Stream, fed <-chan error) process.Status {
	select {
	case status := <-running.Ended:
		return status
	case <-stream.Gone():
	case err := <-fed:
		console.Log("stdin: ", err.Error())
		stream.Reset()
	}
	g.commands.End(id, grace)
	return <-running.Ended
}

func exited(status process.Status) []byte {
	return event("exited", ending(status)...)
}

func event(name string, pairs ...wire.Pair) []byte {
	pairs = append([]wire.Pair{{Name: "event", Value: name}}, pairs...)
	return frames.Encode(frames.Event, wire.Write(pairs))
}

// ending is how a command ended.
func ending(status process.Status) []wire.Pair {
	var signal any
	if status.Signal != 0 {
		signal = status.Signal
	}
	return []wire.Pair{
		{Name: "code", Value: status.Code}, {Name: "signal", Value: signal},
		{Name: "oom", Value: status.OOM}, {Name: "full", Value: status.Full},
	}
}
