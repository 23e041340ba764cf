package calls

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"aegis/guest_harness/process"
	"aegis/guest_harness/wire"
)

// A call that is not understood gets one line that says why.
func TestNotUnderstood(t *testing.T) {
	host := booted(t)
	full := `{"call": "process", "id": "1", "argv": ["true"], "env": {}, "cwd": null, "user": null, "stdin": false}`
	for line, want := range map[string]string{
		`nonsense`:                      "not JSON",
		`[]`:                            "not a JSON object",
		`{"call": "what"}`:              "unknown call: what",
		`{"call": "control", "x": 1}`:   "unknown field: x",
		`{"call": "signal", "id": "x"}`: "signal must be a number",
		`{"call": "signal", "id": "x", "signal": 99}`:    "no such signal",
		`{"call": "signal", "id": "x", "end": -1}`:       "end must be a number of seconds",
		strings.Replace(full, `["true"]`, `[]`, 1):       "argv is empty",
		strings.Replace(full, `["true"]`, `[1]`, 1):      "argv must be a list of strings",
		strings.Replace(full, `true`, `\u0000`, 1):       "argv and cwd cannot hold NUL",
		strings.Replace(full, `{}`, `{"A=": "1"}`, 1):    "env has a name that is empty or holds = or NUL, or a value that holds NUL",
		strings.Replace(full, `"1"`, `""`, 1):            "id must have 1 to 64 bytes",
		strings.Replace(full, `false`, `null`, 1):        "stdin must be true or false",
		strings.Replace(full, `"cwd"`, `"directory"`, 1): "unknown field: directory",
	} {
		stream := host.Open([]byte(line + "\n"))
		if got := lineOf(t, stream)["error"]; got != want {
			t.Errorf("%s: %v", line, got)
		}
		if rest, err := io.ReadAll(stream); len(rest) > 0 || err != nil {
			t.Errorf("%s: then %q, %v", line, rest, err)
		}
	}
}

// Control answers as JSON-RPC wants it.
func TestControl(t *testing.T) {
	host := connect(t, func(settings Settings) ([]wire.Pair, error) {
		if settings.TimeNS != 1760000000000000000 || settings.Hostname != "here" || settings.Cwd != "/app" ||
			settings.DiskMiB != 100 ||
			!reflect.DeepEqual(settings.Mounts, []Mount{{Tag: "aegis0", Target: "/host", ReadOnly: true}}) || len(settings.Entropy) != 3 {
			return nil, errors.New("other settings")
		}
		return []wire.Pair{{Name: "phases", Value: []wire.Pair{{Name: "root", Value: 0.5}}}}, nil
	})
	control := host.Open([]byte(`{"call": "control"}` + "\n"))
	for _, c := range []struct{ line, want string }{
		{`{`, `{"jsonrpc": "2.0", "id": null, "error": {"code": -32700, "message": "not JSON"}}`},
		{`{"id": 5}`, `{"jsonrpc": "2.0", "id": null, "error": {"code": -32600, "message": "not a JSON-RPC 2.0 request"}}`},
		{`{"jsonrpc": "2.0", "id": 1, "method": "hello", "params": {}}`, `{"jsonrpc": "2.0", "id": 1, "result": {"protocol": 1}}`},
		{`{"jsonrpc": "2.0", "id": "x", "method": "what"}`, `{"jsonrpc": "2.0", "id": "x", "error": {"code": -32601, "message": "unknown method: what"}}`},
		{`{"jsonrpc": "2.0", "id": 2, "method": "boot", "params": {}}`, `{"jsonrpc": "2.0", "id": 2, "error": {"code": -32602, "message": "protocol must be a number"}}`},
		{strings.Replace(bootLine, `"protocol": 1`, `"protocol": 2`, 1), `{"jsonrpc": "2.0", "id": 1, "error": {"code": -32602, "message": "the host speaks another protocol"}}`},
		{strings.Replace(bootLine, `, "cwd": "/app"`, "", 1), `{"jsonrpc": "2.0", "id": 1, "error": {"code": -32602, "message": "cwd must be a string"}}`},
		{strings.Replace(bootLine, `"target": "/host"`, `"target": 1`, 1), `{"jsonrpc": "2.0", "id": 1, "error": {"code": -32602, "message": "target must be a string"}}`},
		{strings.Replace(bootLine, `"tag"`, `"x": 1, "tag"`, 1), `{"jsonrpc": "2.0", "id": 1, "error": {"code": -32602, "message": "unknown field: x"}}`},
		{bootLine, `{"jsonrpc": "2.0", "id": 1, "result": {"phases": {"root": 0.5}}}`},
		{bootLine, `{"jsonrpc": "2.0", "id": 1, "error": {"code": -32600, "message": "the guest has booted already"}}`},
	} {
		_, _ = control.Write([]byte(strings.TrimSuffix(c.line, "\n") + "\n"))
		var want map[string]any
		if err := json.Unmarshal([]byte(c.want), &want); err != nil {
			t.Fatal(err)
		}
		if got := lineOf(t, control); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v", c.line, got)
		}
	}
}

// Calls wait for the boot; when it fails they say so.
func TestCallsWaitForBoot(t *testing.T) {
	host := connect(t, func(Settings) ([]wire.Pair, error) { return nil, errors.New("root: mount failed") })
	early := command(t, host, false, "true")
	time.Sleep(20 * time.Millisecond)
	if early.Buffered() > 0 {
		t.Error("a call was served before the boot")
	}
	control := host.Open([]byte(`{"call": "control"}` + "\n" + bootLine))
	failure := lineOf(t, control)["error"].(map[string]any)
	if failure["code"] != 1.0 || failure["message"] != "root: mount failed" {
		t.Error(failure)
	}
	if got := lineOf(t, early)["error"]; got != "the guest did not boot: root: mount failed" {
		t.Error(got)
	}
}

// A process call's line means what the Python side says it means.
func TestGoldenCalls(t *testing.T) {
	text, err := os.ReadFile("../../tests/golden/calls.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Name, Line string
		Argv       []string
		Env        map[string]string
		Cwd, User  string
		Stdin      bool
		TTY        []uint16
	}
	if err := json.Unmarshal(text, &cases); err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		value, err := wire.Parse([]byte(c.Line))
		if err != nil {
			t.Errorf("%s: %v", c.Name, err)
			continue
		}
		fields := wire.Take(value)
		fields.String("call")
		got, err := parseCommand(fields)
		if err != nil || got.Cwd != c.Cwd || got.User != c.User || got.Stdin != c.Stdin {
			t.Errorf("%s: %+v, %v", c.Name, got, err)
		}
		var argv []string
		for _, text := range got.Argv {
			argv = append(argv, hex.EncodeToString([]byte(text)))
		}
		env := map[string]string{}
		for name, value := range got.Env {
			env[hex.EncodeToString([]byte(name))] = hex.EncodeToString([]byte(value))
		}
		if (got.Terminal != nil) != (c.TTY != nil) || c.TTY != nil && *got.Terminal != (process.Size{Rows: c.TTY[0], Cols: c.TTY[1]}) {
			t.Errorf("%s: %v", c.Name, got.Terminal)
		}
		if !reflect.DeepEqual(argv, c.Argv) || !reflect.DeepEqual(env, c.Env) {
			t.Errorf("%s: %q %q", c.Name, argv, env)
		}
	}
}

// FuzzCommand looks for lines that are taken and cannot be executed.
func FuzzCommand(f *testing.F) {
	f.Add([]byte(`{"call": "process", "id": "6f1c", "argv": ["sh", "\udc80"], "env": {"A": "1"}, "cwd": "/tmp", "user": null, "stdin": true}`))
	f.Add([]byte(`{"id": "x", "argv": ["\u0000"], "env": {"=": ""}, "stdin": false}`))
	f.Add([]byte(`{"argv": {}}`))
	f.Add([]byte(`{"id": "x", "argv": ["sh"], "env": {}, "stdin": true, "tty": {"rows": 24, "cols": 80}}`))
	f.Add([]byte(`{"id": "x", "argv": ["sh"], "env": {}, "stdin": true, "tty": {"rows": -1, "cols": 65536, "x": 1}}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		value, err := wire.Parse(line)
		if err != nil {
			return
		}
		fields := wire.Take(value)
		_ = fields.Any("call")
		command, err := parseCommand(fields)
		if err == nil && (len(command.Argv) == 0 || strings.Contains(strings.Join(command.Argv, ""), "\x00")) {
			t.Fatalf("%q", command.Argv)
		}
	})
}

// FuzzControl answers every line with JSON or not at all, and boots at most once.
func FuzzControl(f *testing.F) {
	for _, seed := range []string{bootLine, `{"jsonrpc": "2.0", "id": {}, "method": "boot"}`, `[]`, `{"jsonrpc": "2.0", "method": "x"}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		guest := NewGuest(func(Settings) ([]wire.Pair, error) { return nil, errors.New("not here") }, setTime, "", nil)
		answer, after := guest.answer(line)
		if answer != nil && (!json.Valid(answer) || bytes.Count(answer, []byte("\n")) != 1) {
			t.Fatalf("%q", answer)
		}
		if answer != nil {
			after()
		}
		_, _ = guest.answer([]byte(bootLine))
	})
}

// setTime stands for the clock: what it was last told, but for the time 1, which it refuses.
var lastTime int64

func setTime(nanoseconds int64) error {
	if nanoseconds == 1 {
		return errors.New("no such time")
	}
	lastTime = nanoseconds
	return nil
}

// The time of day is set as often as the host says it.
func TestClock(t *testing.T) {
	stream := booted(t).Open([]byte(`{"call": "control"}` + "\n"))
	for params, want := range map[string]string{
		`{"time_ns": 5}`:         `result:map[]`,
		`{"time_ns": 1}`:         `no such time`,
		`{"time_ns": "5"}`:       `time_ns must be a number`,
		`{"time_ns": 5, "x": 1}`: `unknown field: x`,
	} {
		_, _ = stream.Write([]byte(`{"jsonrpc": "2.0", "id": 1, "method": "clock", "params": ` + params + "}\n"))
		if answer := fmt.Sprint(lineOf(t, stream)); !strings.Contains(answer, want) {
			t.Errorf("%s: %s", params, answer)
		}
	}
	if lastTime != 5 {
		t.Error("the clock was told ", lastTime)
	}
}
