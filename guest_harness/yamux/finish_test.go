package yamux_test

import (
	"io"
	"testing"
	"time"

	"aegis/guest_harness/testhost"
	"aegis/guest_harness/yamux"
)

// Either side may close its direction first, and still hears the other; when both have, the stream is forgotten.
func TestFinish(t *testing.T) {
	heard := make(chan string, 1)
	host, _ := serve(t, func(stream *yamux.Stream) {
		_ = stream.Send([]byte("first"))
		stream.Finish()
		stream.Finish()
		if stream.Send([]byte("more")) == nil {
			t.Error("it sends after its end")
		}
		var got []byte
		for {
			view, err := stream.Peek()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Error(err)
				break
			}
			got = append(got, view...)
			stream.Discard(len(view))
		}
		stream.Reset() // which says nothing: all has been said
		heard <- string(got)
	})
	stream := host.Open(nil)
	if got := readAll(t, stream); string(got) != "first" {
		t.Errorf("%q", got)
	}
	_, _ = stream.Write([]byte("then"))
	_ = stream.Close()
	if got := <-heard; got != "then" {
		t.Errorf("%q", got)
	}
	// To open a stream twice would end the session.
	_, _ = host.Conn.Write(testhost.Frame(testhost.Window, testhost.SYN|testhost.FIN, stream.ID(), 0, nil))
	if got := <-heard; got != "" {
		t.Errorf("%q", got)
	}
}

// A stream that is kept small takes no more than the initial window before it is read.
func TestKeepSmall(t *testing.T) {
	for small, want := range map[bool]int{true: 256 << 10, false: 1 << 20} {
		host, _ := serve(t, func(stream *yamux.Stream) {
			if small {
				stream.KeepSmall()
			}
			_ = stream.Send([]byte("x"))
			time.Sleep(200 * time.Millisecond)
			stream.Reset()
		})
		if n, err := host.Open(nil).Write(make([]byte, 2<<20)); n != want || err == nil {
			t.Errorf("small %v: %d bytes, %v", small, n, err)
		}
	}
}

// Who asked for it is told once when the host resets a stream or is lost, also if that has happened before.
func TestOnLoss(t *testing.T) {
	for name, lose := range map[string]func(*testhost.Host, *testhost.Stream){
		"reset": func(_ *testhost.Host, stream *testhost.Stream) { stream.Reset() },
		"lost":  func(host *testhost.Host, _ *testhost.Stream) { _ = host.Conn.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			told := make(chan struct{}, 4)
			host, _ := serve(t, func(stream *yamux.Stream) {
				stream.OnLoss(func() { told <- struct{}{} })
				_ = stream.Send([]byte("x"))
				_, err := stream.Peek()
				if err == nil || err == io.EOF {
					t.Error(err)
				}
				<-told
				stream.OnLoss(func() { told <- struct{}{} })
			})
			stream := host.Open(nil)
			_, _ = stream.Read(make([]byte, 1))
			lose(host, stream)
			<-told
		})
	}
}
