package calls

import (
	"encoding/base64"
	"errors"

	"aegis/guest_harness/console"
	"aegis/guest_harness/files"
	"aegis/guest_harness/process"
	"aegis/guest_harness/wire"
	"aegis/guest_harness/yamux"
)

// Protocol is the version that both ends must have.
const Protocol = 1

const (
	bootFailed     = 1
	clockFailed    = 2
	notJSON        = -32700
	invalidRequest = -32600
	unknownMethod  = -32601
	invalidParams  = -32602
)

const (
	mostMiB       = 1 << 24
	mostProcesses = 1 << 22
)

// Boot makes the guest what the settings say and returns the answer to the request.
type Boot func(Settings) (answer []wire.Pair, err error)

// Settings are the parameters of the boot request.
type Settings struct {
	TimeNS   int64
	Entropy  []byte
	Hostname string
	Writable bool
	Cwd      string
	DiskMiB  int64
	Limit    int64
	Mounts   []Mount
}

// Mount is a directory that the host shares under a tag, and where the guest is to have it.
type Mount = struct {
	Tag, Target string
	ReadOnly    bool
}

// rpcError is an error of JSON-RPC.
type rpcError struct {
	code    int
	message string
}

// control serves JSON-RPC until the host closes the connection.
func (g *Guest) control(stream *yamux.Stream, fields *wire.Fields) error {
	if err := fields.Done(); err != nil {
		return err
	}
	for {
		line, err := stream.ReadLine(longestLine)
		if err != nil {
			stream.Reset()
			return nil
		}
		if answer, after := g.answer(line); answer != nil {
			if stream.Send(answer) != nil {
				return nil
			}
			after()
		}
	}
}

// answer returns the line to send, nil for a notification, and what to do once it has been sent.
func (g *Guest) answer(line []byte) (answer []byte, after func()) {
	after = func() {}
	value, err := wire.Parse(line)
	if err != nil {
		return rpcLine(nil, nil, &rpcError{notJSON, err.Error()}), after
	}
	fields := wire.Take(value)
	hasID := fields.Has("id")
	id := fields.Any("id")
	version, method, params := fields.Any("jsonrpc"), fields.String("method"), fields.Any("params")
	if err := fields.Done(); err != nil || version != "2.0" || !validID(id) {
		return rpcLine(nil, nil, &rpcError{invalidRequest, "not a JSON-RPC 2.0 request"}), after
	}
	var result []wire.Pair
	failure := &rpcError{unknownMethod, "unknown method: " + method}
	switch method {
	case "hello":
		result, failure = []wire.Pair{{Name: "protocol", Value: Protocol}}, nil
	case "boot":
		result, failure, after = g.bootOnce(params)
	case "clock":
		result, failure = g.setClock(params)
	}
	if !hasID {
		after()
		return nil, after
	}
	return rpcLine(id, result, failure), after
}

func validID(id any) bool {
	switch id.(type) {
	case nil, string, wire.Number:
		return true
	}
	return false
}

func rpcLine(id any, result []wire.Pair, failure *rpcError) []byte {
	pairs := []wire.Pair{{Name: "jsonrpc", Value: "2.0"}, {Name: "id", Value: id}}
	if failure == nil {
		return wire.Line(append(pairs, wire.Pair{Name: "result", Value: result})...)
	}
	described := []wire.Pair{{Name: "code", Value: failure.code}, {Name: "message", Value: failure.message}}
	return wire.Line(append(pairs, wire.Pair{Name: "error", Value: described})...)
}

// bootOnce boots, and lets the other calls go on after the answer.
func (g *Guest) bootOnce(params any) ([]wire.Pair, *rpcError, func()) {
	nothing := func() {}
	settings, err := parseSettings(params)
	if err != nil {
		return nil, &rpcError{invalidParams, err.Error()}, nothing
	}
	if g.boot == nil {
		return nil, &rpcError{invalidRequest, "the guest has booted already"}, nothing
	}
	boot := g.boot
	g.boot = nil
	answer, err := boot(settings)
	if err == nil {
		g.commands, err = process.NewTable(settings.Hostname, g.cgroups, int(settings.Limit))
	}
	release := func() { close(g.booted) }
	if err != nil {
		console.Log(err.Error())
		g.failure = errors.New("the guest did not boot: " + err.Error())
		return nil, &rpcError{bootFailed, err.Error()}, release
	}
	g.clock.Trust()
	g.files = files.NewDesk(g.commands.Accounts())
	go g.commands.Reap(g.children)
	return answer, nil, release
}

// setClock corrects the time of day, as after a pause.
func (g *Guest) setClock(params any) ([]wire.Pair, *rpcError) {
	fields := wire.Take(params)
	now := fields.Int("time_ns")
	if err := fields.Done(); err != nil {
		return nil, &rpcError{invalidParams, err.Error()}
	}
	if err := g.clock.Set(now); err != nil {
		return nil, &rpcError{clockFailed, err.Error()}
	}
	return []wire.Pair{}, nil
}

func parseMounts(fields *wire.Fields) []Mount {
	var mounts []Mount
	for _, item := range fields.Objects("mounts") {
		mounts = append(mounts, Mount{Tag: item.String("tag"), Target: item.String("target"), ReadOnly: item.Bool("read_only")})
		fields.Join(item.Done())
	}
	return mounts
}

func parseSettings(params any) (Settings, error) {
	fields := wire.Take(params)
	protocol := fields.Int("protocol")
	entropy := fields.String("entropy")
	settings := Settings{
		TimeNS:   fields.Int("time_ns"),
		Hostname: fields.String("hostname"),
		Writable: fields.Bool("writable"),
		Cwd:      fields.String("cwd"),
		DiskMiB:  fields.Int("disk_mib"),
		Limit:    fields.Int("processes"),
		Mounts:   parseMounts(fields),
	}
	if err := fields.Done(); err != nil {
		return settings, err
	}
	if settings.DiskMiB < 0 || settings.DiskMiB > mostMiB || settings.Limit < 0 || settings.Limit > mostProcesses {
		return settings, errors.New("disk_mib or processes cannot be meant")
	}
	if protocol != Protocol {
		return settings, errors.New("the host speaks another protocol")
	}
	var err error
	if settings.Entropy, err = base64.StdEncoding.DecodeString(entropy); err != nil {
		return settings, errors.New("entropy must be base64")
	}
	return settings, nil
}
