package yamux_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"aegis/guest_harness/link"
	"aegis/guest_harness/testhost"
	"aegis/guest_harness/yamux"
)

// serve starts a session and returns the host's end and what Serve returns.
func serve(t testing.TB, accept func(*yamux.Stream)) (*testhost.Host, <-chan error) {
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
	go func() { ended <- yamux.New(port, accept).Serve() }()
	t.Cleanup(func() { _ = host.Conn.Close() })
	return host, ended
}

func echo(stream *yamux.Stream) {
	for {
		view, err := stream.Peek()
		if err != nil {
			_ = stream.SendLast(nil)
			return
		}
		piece := bytes.Clone(view[:min(len(view), yamux.MaxFrame)])
		stream.Discard(len(piece))
		if stream.Send(piece) != nil {
			return
		}
	}
}

func readAll(t *testing.T, stream *testhost.Stream) []byte {
	t.Helper()
	got, err := io.ReadAll(stream)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// Many streams at once, each with more than its window, keep their bytes apart and in order, half close included.
func TestManyStreams(t *testing.T) {
	host, _ := serve(t, echo)
	var group sync.WaitGroup
	for i := range 20 {
		group.Add(1)
		go func() {
			defer group.Done()
			sent := bytes.Repeat([]byte{byte(i), 0, 255}, 1<<20)
			stream := host.Open(nil)
			go func() {
				_, _ = stream.Write(sent)
				_ = stream.Close()
			}()
			if got, err := io.ReadAll(stream); err != nil || !bytes.Equal(got, sent) {
				t.Errorf("stream %d: %d bytes came back: %v", i, len(got), err)
			}
		}()
	}
	group.Wait()
}

// The harness never sends more than the host's window.
func TestSendWindow(t *testing.T) {
	host, _ := serve(t, func(stream *yamux.Stream) {
		for range 64 {
			if stream.Send(make([]byte, 64<<10)) != nil {
				return
			}
		}
		_ = stream.SendLast(nil)
	})
	stream := host.Open(nil)
	stream.Hold = true
	time.Sleep(100 * time.Millisecond)
	if got := stream.Buffered(); got != 1<<20 {
		t.Fatalf("%d bytes came through a window of 1 MiB", got)
	}
	_, _ = host.Conn.Write(testhost.Frame(testhost.Window, 0, stream.ID(), 4<<20, nil))
	if got := len(readAll(t, stream)); got != 4<<20 {
		t.Fatalf("%d bytes came", got)
	}
}

// A host that sends more than the window ends the session.
func TestReceiveWindow(t *testing.T) {
	host, ended := serve(t, func(*yamux.Stream) {})
	stream := host.Open(nil)
	for range 17 {
		_, _ = host.Conn.Write(testhost.Frame(testhost.Data, 0, stream.ID(), 64<<10, make([]byte, 64<<10)))
	}
	if err := <-ended; err == nil || err.Error() != "yamux: the host sent more than the window" {
		t.Fatal(err)
	}
}

// Pings are answered while a stream that nobody reads is stuck.
func TestPingUnderLoad(t *testing.T) {
	host, _ := serve(t, func(stream *yamux.Stream) {
		for stream.Send(make([]byte, 256<<10)) == nil {
		}
	})
	stream := host.Open(nil)
	stream.Hold = true
	for number := range uint32(10) {
		_, _ = host.Conn.Write(testhost.Frame(testhost.Ping, testhost.SYN, 0, number, nil))
		select {
		case got := <-host.Pongs:
			if got != number {
				t.Fatalf("ping %d answered by %d", number, got)
			}
		case <-time.After(5 * time.Second):
			t.Fatal("no answer to a ping")
		}
	}
}

// A reset ends reads and sends, and tells whoever waits for it.
func TestReset(t *testing.T) {
	failed := make(chan error, 2)
	host, _ := serve(t, func(stream *yamux.Stream) {
		go func() {
			_, err := stream.Peek()
			failed <- err
		}()
		for {
			if err := stream.Send(make([]byte, 64<<10)); err != nil {
				<-stream.Gone()
				failed <- err
				return
			}
		}
	})
	stream := host.Open(nil)
	stream.Hold = true
	time.Sleep(20 * time.Millisecond)
	stream.Reset()
	for range 2 {
		if err := <-failed; err == nil {
			t.Fatal("no error after a reset")
		}
	}
	again := host.Open([]byte("x"))
	_, _ = again.Read(make([]byte, 1)) // the session goes on
}

// A line may come in pieces; what follows it is not lost; one that does not end is refused.
func TestReadLine(t *testing.T) {
	lines := make(chan string, 3)
	host, _ := serve(t, func(stream *yamux.Stream) {
		for {
			line, err := stream.ReadLine(10)
			if err != nil {
				lines <- err.Error()
				return
			}
			lines <- string(line)
		}
	})
	stream := host.Open([]byte("a"))
	_, _ = stream.Write([]byte("b\n0123456789\nmuch too long"))
	for _, want := range []string{"ab", "0123456789", "line longer than 1 MiB"} {
		if got := <-lines; got != want {
			t.Fatalf("got %q", got)
		}
	}
}

// A spliced frame holds exactly the pipe's bytes, also when more come meanwhile.
func TestSplice(t *testing.T) {
	sent := bytes.Repeat([]byte("0123456789abcdef"), 40<<10/16)
	host, _ := serve(t, func(stream *yamux.Stream) {
		var ends [2]int
		if err := syscall.Pipe2(ends[:], syscall.O_CLOEXEC); err != nil {
			panic(err)
		}
		_, _ = syscall.Write(ends[1], sent)
		_, _ = syscall.Write(ends[1], []byte("more"))
		start := func(int) []byte { return append(make([]byte, yamux.HeaderSize), "head "...) }
		if _, err := stream.Reserve(5+len(sent), 5+len(sent)); err != nil {
			panic(err)
		}
		if _, err := stream.SpliceReserved(start, ends[0], len(sent)); err != nil {
			panic(err)
		}
		_ = stream.SendLast([]byte(" tail"))
	})
	if got := readAll(t, host.Open(nil)); string(got) != "head "+string(sent)+" tail" {
		t.Fatalf("%d bytes came: %.20q ... %.20q", len(got), got, got[max(0, len(got)-20):])
	}
}

// The harness takes the frames that the Python side makes.
func TestGolden(t *testing.T) {
	text, err := os.ReadFile("../../tests/golden/yamux.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Name, Bytes    string
		Type           byte
		Flags          uint16
		Stream, Length uint32
	}
	if err := json.Unmarshal(text, &cases); err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		frame, _ := hex.DecodeString(c.Bytes)
		kind, flags, stream, length, err := yamux.Parse(frame)
		if err != nil || kind != c.Type || flags != c.Flags || stream != c.Stream || length != c.Length {
			t.Errorf("%s: %d %d %d %d %v", c.Name, kind, flags, stream, length, err)
		}
	}
}

// A malformed frame ends the session with words, never with a crash, and no stream outlives it.
func FuzzServe(f *testing.F) {
	open := testhost.Frame(testhost.Window, testhost.SYN, 1, 786432, nil)
	f.Add(slices.Concat(open, testhost.Frame(testhost.Data, 0, 1, 5, []byte("hello"))))
	f.Add(slices.Concat(open, open))
	f.Add(testhost.Frame(testhost.Data, testhost.SYN|testhost.FIN, 3, 2, []byte("a\n")))
	f.Add(testhost.Frame(testhost.Window, testhost.SYN, 2, 0, nil))
	f.Add(slices.Concat(open, testhost.Frame(testhost.Window, 0, 1, 1<<32-1, nil)))
	f.Add(slices.Concat(open, testhost.Frame(testhost.Data, testhost.RST, 1, 1<<31, nil)))
	f.Add(slices.Concat(open, testhost.Frame(testhost.Data, testhost.RST, 1, 0, nil), open))
	f.Add(testhost.Frame(testhost.GoAway, 0, 0, 0, nil))
	f.Add([]byte{1, 2, 3})
	f.Fuzz(func(t *testing.T, input []byte) {
		before := runtime.NumGoroutine()
		err := yamux.New(&script{bytes.NewReader(input)}, func(stream *yamux.Stream) {
			for {
				view, err := stream.Peek()
				if err != nil {
					_ = stream.SendLast(nil)
					return
				}
				stream.Discard(len(view))
			}
		}).Serve()
		if err == nil {
			t.Fatal("the session outlived its link")
		}
		for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("a stream outlived its session") // or the session's own goroutines did
			}
		}
	})
}

// script is a link on which the host says *Reader* and hangs up.
type script struct{ *bytes.Reader }

func (*script) Write(frames []byte) (int, error) { return len(frames), nil }
func (*script) Stage(int, int) (int, error)      { return 0, nil }
func (*script) SendStage(int) error              { return nil }

// broken is a link that gives up in the middle of a frame, or finds a pipe empty that was said to hold something.
type broken struct {
	io.Reader
	staged  int
	written chan []byte
}

func (b *broken) Write(frames []byte) (int, error) {
	b.written <- bytes.Clone(frames)
	return len(frames), nil
}
func (b *broken) Stage(int, int) (int, error) { return b.staged, nil }
func (*broken) SendStage(int) error           { return errors.New("no more") }

// A frame that cannot be sent to its end is the end of the session; one that would be empty is not begun.
func TestTorn(t *testing.T) {
	for _, staged := range []int{0, 3} {
		reader, host := io.Pipe()
		link := &broken{reader, staged, make(chan []byte, 9)}
		results := make(chan error, 2)
		over := make(chan error, 1)
		go func() {
			over <- yamux.New(link, func(stream *yamux.Stream) {
				_, err := stream.SpliceReserved(func(int) []byte { return make([]byte, yamux.HeaderSize) }, 0, 9)
				results <- err
				results <- stream.Send([]byte("x"))
			}).Serve()
		}()
		_, _ = host.Write(testhost.Frame(testhost.Window, testhost.SYN, 1, 0, nil))
		first, second := <-results, <-results
		if torn := staged > 0; (first != nil) != torn || (second != nil) != torn || len(link.written) != 1 {
			t.Errorf("%d bytes: %v, %v, %d frames", staged, first, second, len(link.written))
		}
		if staged == 0 {
			_ = host.Close()
		}
		select {
		case <-over:
		case <-time.After(5 * time.Second):
			t.Fatal("the session goes on")
		}
		_ = host.Close()
	}
}
