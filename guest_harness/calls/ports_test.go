package calls

import (
	"bytes"
	"io"
	"net"
	"reflect"
	"testing"
	"time"

	"aegis/guest_harness/testhost"
)

// serving listens on *address* and has *serve* serve each connection.
func serving(t *testing.T, address string, serve func(*net.TCPConn)) int {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go serve(conn.(*net.TCPConn))
		}
	}()
	return listener.Addr().(*net.TCPAddr).Port
}

func dialled(t *testing.T, host *testhost.Host, port int) *testhost.Stream {
	t.Helper()
	stream := host.Open(call(t, map[string]any{"call": "connect", "port": port}))
	if answer := lineOf(t, stream); answer["connected"] != true {
		t.Fatal(answer)
	}
	return stream
}

func echo(conn *net.TCPConn) {
	_, _ = io.Copy(conn, conn)
	_ = conn.CloseWrite()
	_, _ = io.Copy(io.Discard, conn)
	_ = conn.Close()
}

// Bytes pass both ways, beyond all windows, and the end of one way is passed on while the other goes on.
func TestConnect(t *testing.T) {
	host := booted(t)
	stream := dialled(t, host, serving(t, "127.0.0.1:0", echo))
	sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<18)
	go func() {
		_, _ = stream.Write(sent)
		_ = stream.Close()
	}()
	if got, err := io.ReadAll(stream); !bytes.Equal(got, sent) || err != nil {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	untilActivity(t, host, "connections", 0)
}

// The server may end its way first, and still hears what comes.
func TestConnectHalfClosedByTheServer(t *testing.T) {
	heard := make(chan string, 1)
	stream := dialled(t, booted(t), serving(t, "127.0.0.1:0", func(conn *net.TCPConn) {
		_, _ = conn.Write([]byte("first"))
		_ = conn.CloseWrite()
		text, _ := io.ReadAll(conn)
		heard <- string(text)
	}))
	if got, err := io.ReadAll(stream); string(got) != "first" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	_, _ = stream.Write([]byte("then"))
	_ = stream.Close()
	if got := <-heard; got != "then" {
		t.Errorf("%q", got)
	}
}

// What the host sent before it went away reaches the server; what the server says then, nobody.
func TestConnectHostGoes(t *testing.T) {
	for name, leave := range map[string]func(*testhost.Stream){
		"reset": (*testhost.Stream).Reset, "close and reset": func(s *testhost.Stream) { _ = s.Close(); s.Reset() },
	} {
		t.Run(name, func(t *testing.T) {
			host, heard := booted(t), make(chan string, 1)
			failed := make(chan error, 1)
			stream := dialled(t, host, serving(t, "127.0.0.1:0", func(conn *net.TCPConn) {
				time.Sleep(50 * time.Millisecond)
				text, _ := io.ReadAll(conn)
				heard <- string(text)
				var err error
				for err == nil {
					_, err = conn.Write(make([]byte, 1<<16))
				}
				failed <- err
			}))
			_, _ = stream.Write(bytes.Repeat([]byte("x"), 200000))
			leave(stream)
			if got := <-heard; len(got) != 200000 {
				t.Errorf("%d bytes", len(got))
			}
			<-failed
			untilActivity(t, host, "connections", 0)
		})
	}
}

// A connection that the server resets ends, after what the server said.
func TestConnectServerResets(t *testing.T) {
	host := booted(t)
	stream := dialled(t, host, serving(t, "127.0.0.1:0", func(conn *net.TCPConn) {
		_, _ = conn.Write([]byte("bye"))
		_ = conn.SetLinger(0)
		_ = conn.Close()
	}))
	if got, err := io.ReadAll(stream); err == nil || len(got) != 3 && len(got) != 0 { // the kernel may drop it
		t.Errorf("%q, %v", got, err)
	}
	untilActivity(t, host, "connections", 0)
}

// Where nobody listens, the host is told so.
func TestConnectRefused(t *testing.T) {
	host := booted(t)
	port := serving(t, "127.0.0.5:0", echo)
	answer := lineOf(t, host.Open(call(t, map[string]any{"call": "connect", "port": port})))
	if want := map[string]any{"error": "connection refused", "refused": true}; !reflect.DeepEqual(answer, want) {
		t.Error(answer)
	}
	for _, port := range []any{0, 65536, "80", nil} {
		answer := lineOf(t, host.Open(call(t, map[string]any{"call": "connect", "port": port})))
		if _, tried := answer["refused"]; tried || answer["error"] == nil {
			t.Error(port, answer)
		}
	}
}

// A host that does not read costs a bounded window, and hinders no other connection.
func TestConnectBackPressure(t *testing.T) {
	host := booted(t)
	poured := make(chan int, 1)
	port := serving(t, "127.0.0.1:0", func(conn *net.TCPConn) {
		_ = conn.SetWriteDeadline(time.Now().Add(time.Second))
		n, _ := conn.Write(make([]byte, 64<<20))
		poured <- n
	})
	dialled(t, host, port).Hold = true
	other := dialled(t, host, serving(t, "127.0.0.1:0", echo))
	_, _ = other.Write([]byte("on"))
	_ = other.Close()
	if got, err := io.ReadAll(other); string(got) != "on" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if n := <-poured; n == 64<<20 {
		t.Error("all of it was taken")
	}
}

func ask(t *testing.T, host *testhost.Host, port int, timeout float64) map[string]any {
	t.Helper()
	return lineOf(t, host.Open(call(t, map[string]any{
		"call": "ready", "id": t.Name(), "port": port, "interval": 0.02, "timeout": timeout,
	})))
}

// A server is ready as soon as it takes a connection, and not before.
func TestReady(t *testing.T) {
	host := booted(t)
	port := serving(t, "127.0.0.1:0", echo)
	command(t, host, true, "cat")
	untilActivity(t, host, "commands", 1)
	if answer := ask(t, host, port, 5); answer["event"] != "serverReady" || answer["seconds"].(float64) > 4 {
		t.Error(answer)
	}
}

// A server that has ended, or ends, is not ready, whoever listens in its place.
func TestReadyExited(t *testing.T) {
	host := booted(t)
	want := map[string]any{
		"event": "serverFailed", "reason": "exited", "code": 3.0, "signal": nil, "oom": false, "full": false,
	}
	stream := command(t, host, true, "/bin/sh", "-c", "read line; exit 3")
	untilActivity(t, host, "commands", 1)
	time.AfterFunc(100*time.Millisecond, func() { _, _ = stream.Write(stdin([]byte("go\n"))) })
	if answer := ask(t, host, 1, 10); !reflect.DeepEqual(answer, want) {
		t.Error(answer)
	}
	if answer := ask(t, host, serving(t, "127.0.0.1:0", echo), 10); !reflect.DeepEqual(answer, want) {
		t.Error(answer)
	}
}

// Of a server that is late it is said what listens instead.
func TestReadyLate(t *testing.T) {
	host := booted(t)
	port := serving(t, "127.0.0.5:0", echo)
	command(t, host, true, "cat")
	untilActivity(t, host, "commands", 1)
	answer := ask(t, host, port, 0.1)
	listening, _ := answer["listening"].([]any)
	if answer["event"] != "serverFailed" || answer["reason"] == "exited" || len(listening) == 0 {
		t.Fatal(answer)
	}
	for _, one := range listening {
		one := one.(map[string]any)
		if one["address"] == "127.0.0.5" && one["port"] == float64(port) {
			return
		}
	}
	t.Error(answer)
}

// A server that could not be started is not ready, and why is said.
func TestReadyNotStarted(t *testing.T) {
	host := booted(t)
	want := map[string]any{"event": "serverFailed", "reason": "failed", "code": 127.0, "message": "/no/such: no such file"}
	collect(t, command(t, host, true, "/no/such"))
	if answer := ask(t, host, 80, 5); !reflect.DeepEqual(answer, want) {
		t.Error(answer)
	}
}

// The call may overtake that which starts the server.
func TestReadyOvertakes(t *testing.T) {
	host := booted(t)
	port := serving(t, "127.0.0.1:0", echo)
	stream := host.Open(call(t, map[string]any{"call": "ready", "id": t.Name(), "port": port, "interval": 0.02, "timeout": 5.0}))
	time.Sleep(50 * time.Millisecond)
	command(t, host, true, "cat")
	if answer := lineOf(t, stream); answer["event"] != "serverReady" {
		t.Error(answer)
	}
}

// Who does not wait any more is not waited for.
func TestReadyNobodyWaits(t *testing.T) {
	host := booted(t)
	for range 2 {
		stream := host.Open(call(t, map[string]any{"call": "ready", "id": t.Name(), "port": 1, "interval": 3000.0, "timeout": 3600.0}))
		_ = stream.Close()
		if answer := lineOf(t, stream); answer["error"] != "nobody waits for it any more" {
			t.Error(answer)
		}
		command(t, host, true, "cat")
		untilActivity(t, host, "commands", 1)
	}
}

func untilActivity(t *testing.T, host *testhost.Host, name string, want float64) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		answer := lineOf(t, host.Open(call(t, map[string]any{"call": "activity"})))
		if answer[name] == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(answer)
		}
	}
}

// What goes on is told: connections from outside, commands, and time on the CPU.
func TestActivity(t *testing.T) {
	host := booted(t)
	stream := dialled(t, host, serving(t, "127.0.0.1:0", echo))
	untilActivity(t, host, "connections", 1)
	stream.Reset()
	untilActivity(t, host, "connections", 0)
	used := func() float64 {
		return lineOf(t, host.Open(call(t, map[string]any{"call": "activity"})))["cpu_ms"].(float64)
	}
	before := used()
	collect(t, command(t, host, false, "/bin/sh", "-c", "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done"))
	if more := used() - before; more < 20 {
		t.Errorf("%v ms", more)
	}
	if answer := lineOf(t, host.Open(call(t, map[string]any{"call": "activity"}))); answer["keepalive"] != 0.0 {
		t.Error(answer)
	}
}
