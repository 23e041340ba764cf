package calls

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"aegis/guest_harness/link"
	"aegis/guest_harness/testhost"
	"aegis/guest_harness/wire"
	"aegis/guest_harness/yamux"
)

// TestMain makes the tests the parent of all orphans, as PID 1 is.
func TestMain(m *testing.M) {
	const setChildSubreaper = 36
	_, _, _ = syscall.RawSyscall(syscall.SYS_PRCTL, setChildSubreaper, 1, 0)
	os.Exit(m.Run())
}

const bootLine = `{"jsonrpc": "2.0", "id": 1, "method": "boot", "params": {"protocol": 1, "time_ns": 1760000000000000000, ` +
	`"entropy": "AAAA", "hostname": "here", "writable": false, "cwd": "/app", "disk_mib": 100, "processes": 0, "mounts": [{"tag": "aegis0", "target": "/host", "read_only": true}]}}` + "\n"

func connect(t *testing.T, boot Boot) *testhost.Host {
	t.Helper()
	children := make(chan os.Signal, 1)
	signal.Notify(children, syscall.SIGCHLD)
	t.Cleanup(func() {
		signal.Stop(children)
		close(children)
	})
	return serve(t, NewGuest(boot, setTime, "", children).Serve)
}

// serve has *call* serve each connection, until the test ends.
func serve(t *testing.T, call func(*yamux.Stream)) *testhost.Host {
	t.Helper()
	fd, host, err := testhost.Pair()
	if err != nil {
		t.Fatal(err)
	}
	port, err := link.New(fd, "test", 0)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- yamux.New(port, call).Serve() }()
	t.Cleanup(func() {
		_ = host.Conn.Close()
		<-ended
	})
	return host
}

// booted is a guest that has booted into the root directory of the tests.
func booted(t *testing.T) *testhost.Host {
	t.Helper()
	host := connect(t, func(Settings) ([]wire.Pair, error) { return []wire.Pair{{Name: "harness", Value: "0"}}, nil })
	if answer := lineOf(t, host.Open([]byte(`{"call": "control"}`+"\n"+bootLine))); answer["error"] != nil {
		t.Fatal(answer)
	}
	return host
}

func lineOf(t *testing.T, stream *testhost.Stream) map[string]any {
	t.Helper()
	var line []byte
	for !bytes.HasSuffix(line, []byte("\n")) {
		var char [1]byte
		if _, err := stream.Read(char[:]); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		line = append(line, char[0])
	}
	var answer map[string]any
	if err := json.Unmarshal(line, &answer); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	return answer
}

func call(t *testing.T, fields map[string]any) []byte {
	t.Helper()
	line, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	return append(line, '\n')
}

func command(t *testing.T, host *testhost.Host, stdin bool, argv ...string) *testhost.Stream {
	t.Helper()
	return host.Open(call(t, map[string]any{
		"call": "process", "id": t.Name(), "argv": argv, "env": map[string]string{}, "cwd": nil, "user": nil, "stdin": stdin,
	}))
}

// outcome is everything that came over one process call.
type outcome struct {
	stdout, stderr []byte
	events         []map[string]any
}

func (o outcome) last() map[string]any { return o.events[len(o.events)-1] }

func collect(t *testing.T, stream *testhost.Stream) outcome {
	t.Helper()
	var o outcome
	for {
		var header [5]byte
		if _, err := io.ReadFull(stream, header[:]); err == io.EOF {
			return o
		} else if err != nil {
			t.Fatal(err)
		}
		payload := make([]byte, binary.BigEndian.Uint32(header[1:]))
		if _, err := io.ReadFull(stream, payload); err != nil {
			t.Fatal(err)
		}
		o.add(t, header[0], payload)
	}
}

func (o *outcome) add(t *testing.T, kind byte, payload []byte) {
	t.Helper()
	switch kind {
	case 1:
		o.stdout = append(o.stdout, payload...)
	case 2:
		o.stderr = append(o.stderr, payload...)
	case 3:
		var event map[string]any
		if err := json.Unmarshal(payload, &event); err != nil {
			t.Fatal(err)
		}
		o.events = append(o.events, event)
	default:
		t.Fatalf("a frame of kind %d", kind)
	}
}

func stdin(payload []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(payload))), payload...)
}

// A command's streams and its end come in frames; the connection ends after them.
func TestProcess(t *testing.T) {
	host := booted(t)
	stream := command(t, host, true, "/bin/sh", "-c", "cat; echo err >&2; exit 3")
	_, _ = stream.Write(append(stdin([]byte("in\x00\xff")), stdin(nil)...))
	got := collect(t, stream)
	if string(got.stdout) != "in\x00\xff" || string(got.stderr) != "err\n" || len(got.events) != 2 {
		t.Errorf("got %q %q %v", got.stdout, got.stderr, got.events)
	}
	if got.events[0]["event"] != "started" || got.events[0]["pid"].(float64) < 2 {
		t.Errorf("got %v", got.events[0])
	}
	want := map[string]any{"event": "exited", "code": 3.0, "signal": nil, "oom": false, "full": false}
	if !reflect.DeepEqual(got.last(), want) {
		t.Errorf("got %v", got.last())
	}
}

// A command that cannot start fails with a code and words, as the last frame.
func TestProcessFails(t *testing.T) {
	got := collect(t, command(t, booted(t), false, "/no/such"))
	want := []map[string]any{{"event": "failed", "code": 127.0, "message": "/no/such: no such file"}}
	if !reflect.DeepEqual(got.events, want) {
		t.Errorf("got %v", got.events)
	}
}

// Both outputs pass whole and at once, far beyond windows and pipes.
func TestLargeOutputs(t *testing.T) {
	const size = 20 << 20
	script := "head -c 20971520 /dev/zero & head -c 20971520 /dev/zero | tr '\\0' x >&2; wait"
	got := collect(t, command(t, booted(t), false, "/bin/sh", "-c", script))
	if len(got.stdout) != size || len(got.stderr) != size {
		t.Fatalf("%d and %d bytes came", len(got.stdout), len(got.stderr))
	}
	if bytes.Count(got.stdout, []byte{0}) != size || bytes.Count(got.stderr, []byte{'x'}) != size {
		t.Fatal("the bytes are others")
	}
}

// Stdin of any size comes back, while nobody waits for the other direction.
func TestLargeStdin(t *testing.T) {
	stream := command(t, booted(t), true, "cat")
	sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	go func() {
		for range 8 {
			_, _ = stream.Write(stdin(sent))
		}
		_, _ = stream.Write(stdin(nil))
	}()
	if got := collect(t, stream); !bytes.Equal(got.stdout, bytes.Repeat(sent, 8)) || got.last()["code"] != 0.0 {
		t.Errorf("%d bytes, %v", len(got.stdout), got.last())
	}
}

// What a command wrote comes before its end, which does not wait for what it left running.
func TestDrain(t *testing.T) {
	host := booted(t)
	began := time.Now()
	got := collect(t, command(t, host, false, "/bin/sh", "-c", "(sleep 5; echo late; head -c 2000000 /dev/zero) & head -c 300000 /dev/zero; echo $!"))
	if len(got.stdout) < 300000 || !strings.HasSuffix(string(got.stdout), "\n") || time.Since(began) > 4*time.Second {
		t.Errorf("%d bytes after %v", len(got.stdout), time.Since(began))
	}
	background := strings.Trim(string(got.stdout), "\x00\n")
	if _, err := os.Stat("/proc/" + background); err != nil {
		t.Error("what was left running does not run: ", err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat("/proc/" + background); err != nil {
			return // its output did not block it
		}
		if time.Now().After(deadline) {
			t.Fatal("what was left running is stuck")
		}
	}
}

// When the host closes or resets the connection, the command is ended.
func TestHangUp(t *testing.T) {
	for name, hangUp := range map[string]func(*testhost.Stream){
		"close": func(stream *testhost.Stream) { _ = stream.Close() }, "reset": (*testhost.Stream).Reset,
	} {
		t.Run(name, func(t *testing.T) {
			host := booted(t)
			stream := command(t, host, true, "/bin/sh", "-c", "echo $$; exec sleep 100")
			var o outcome
			for len(o.stdout) == 0 {
				var header [5]byte
				_, _ = io.ReadFull(stream, header[:])
				payload := make([]byte, binary.BigEndian.Uint32(header[1:]))
				_, _ = io.ReadFull(stream, payload)
				o.add(t, header[0], payload)
			}
			hangUp(stream)
			for deadline := time.Now().Add(4 * time.Second); ; time.Sleep(5 * time.Millisecond) {
				if _, err := os.Stat("/proc/" + strings.TrimSpace(string(o.stdout))); err != nil {
					break
				}
				if time.Now().After(deadline) {
					t.Fatal("it still runs")
				}
			}
			if name == "close" {
				if got := collect(t, stream); got.last()["signal"] != 15.0 {
					t.Errorf("got %v", got.last())
				}
			}
		})
	}
}

// A command is ended although the host does not read its output.
func TestEndWhileBlocked(t *testing.T) {
	host := booted(t)
	stream := command(t, host, false, "/bin/sh", "-c", "trap '' TERM; while :; do head -c 1000000 /dev/zero; done")
	stream.Hold = true
	time.Sleep(200 * time.Millisecond)
	answer := host.Open(call(t, map[string]any{"call": "signal", "id": t.Name(), "end": 0.1}))
	if got := lineOf(t, answer); got["found"] != true {
		t.Fatal(got)
	}
	time.Sleep(400 * time.Millisecond)
	again := host.Open(call(t, map[string]any{"call": "signal", "id": t.Name(), "end": 0.1}))
	if got := lineOf(t, again); got["found"] != false {
		t.Fatal("it still runs")
	}
	stream.Hold = false
	_, _ = host.Conn.Write(testhost.Frame(testhost.Window, 0, stream.ID(), 8<<20, nil))
	if got := collect(t, stream); got.last()["signal"] != 9.0 {
		t.Errorf("got %v", got.last())
	}
}

// A signal reaches the command.
func TestSignal(t *testing.T) {
	host := booted(t)
	stream := command(t, host, false, "sleep", "100")
	for {
		answer := lineOf(t, host.Open(call(t, map[string]any{"call": "signal", "id": t.Name(), "signal": 2})))
		if answer["found"] == true {
			break
		}
	}
	if got := collect(t, stream); got.last()["code"] != 130.0 || got.last()["signal"] != 2.0 {
		t.Errorf("got %v", got.last())
	}
}

// A command that makes its stdout a pipe of packets loses none of them.
func TestPackets(t *testing.T) {
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("no python3")
	}
	const script = `import fcntl, os
fcntl.fcntl(1, fcntl.F_SETFL, fcntl.fcntl(1, fcntl.F_GETFL) | os.O_DIRECT)
for i in range(3000):
    os.write(1, bytes([i % 256]) * (4096 - i % 4000))`
	var want []byte
	for i := range 3000 {
		want = append(want, bytes.Repeat([]byte{byte(i)}, 4096-i%4000)...)
	}
	if got := collect(t, command(t, booted(t), false, "python3", "-c", script)); !bytes.Equal(got.stdout, want) {
		t.Errorf("%d bytes came of %d", len(got.stdout), len(want))
	}
}

// A command that reads its own stdout leaves the connections in order.
func TestThief(t *testing.T) {
	host := booted(t)
	const script = `cat </proc/self/fd/1 >/dev/null & a=$!; cat </proc/self/fd/1 >/dev/null & b=$!
		dd if=/dev/zero bs=64k count=400 2>/dev/null; i=0; while [ $i -lt 2000 ]; do echo $i; i=$((i+1)); done; kill $a $b; echo end >&2`
	got := collect(t, command(t, host, false, "/bin/sh", "-c", script))
	if string(got.stderr) != "end\n" || len(got.events) != 2 || len(got.stdout) > 400*64<<10+10000 {
		t.Errorf("%d bytes, %q, %v", len(got.stdout), got.stderr, got.events)
	}
	if got := collect(t, command(t, host, false, "echo", "on")); string(got.stdout) != "on\n" {
		t.Errorf("the next command: %q", got.stdout)
	}
}
