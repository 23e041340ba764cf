package calls

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"aegis/guest_harness/testhost"
)

const dataFrame, entryFrame, endFrame = 0, 2, 4

func frame(kind byte, payload []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(payload))), payload...)
}

func fileCall(t *testing.T, host *testhost.Host, fields map[string]any) *testhost.Stream {
	t.Helper()
	fields["call"] = "file"
	return host.Open(call(t, fields))
}

// answer is all that a file call brought: its data, how many entries, and what its last frame said.
func answer(t *testing.T, stream *testhost.Stream) (data []byte, entries int, outcome map[string]any) {
	t.Helper()
	for {
		var header [5]byte
		if _, err := io.ReadFull(stream, header[:]); err != nil {
			t.Fatal(err)
		}
		payload := make([]byte, binary.BigEndian.Uint32(header[1:]))
		if _, err := io.ReadFull(stream, payload); err != nil {
			t.Fatal(err)
		}
		switch header[0] {
		case dataFrame:
			data = append(data, payload...)
		case entryFrame:
			entries++
		case endFrame:
			if err := json.Unmarshal(payload, &outcome); err != nil {
				t.Fatal(err)
			}
			return data, entries, outcome
		}
	}
}

// A file is written and read back, larger than any window, whatever the bytes of its name.
func TestFileWriteAndRead(t *testing.T) {
	host := booted(t)
	dir := t.TempDir()
	sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	path := dir + `/new/\udcff`
	line := `{"call": "file", "op": "write", "path": "` + path + `"}` + "\n"
	stream := host.Open([]byte(line))
	go func() {
		for range 5 {
			_, _ = stream.Write(frame(dataFrame, sent))
		}
		_, _ = stream.Write(frame(endFrame, nil))
	}()
	if _, _, outcome := answer(t, stream); len(outcome) > 0 {
		t.Fatal(outcome)
	}
	if _, err := os.Stat(dir + "/new/\xff"); err != nil {
		t.Error(err)
	}
	got, entries, outcome := answer(t, host.Open([]byte(strings.Replace(line, "write", "read", 1))))
	if !bytes.Equal(got, bytes.Repeat(sent, 5)) || entries != 1 || len(outcome) > 0 {
		t.Errorf("%d bytes, %d entries, %v", len(got), entries, outcome)
	}
}

// Nothing waits for a FIFO's other end, and a device is not read.
func TestFileIrregular(t *testing.T) {
	host := booted(t)
	fifo := t.TempDir() + "/fifo"
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{fifo, "/dev/zero"} {
		for _, op := range []string{"read", "write", "download"} {
			_, _, outcome := answer(t, fileCall(t, host, map[string]any{"op": op, "path": path}))
			if outcome["error"] != "EINVAL" || outcome["path"] != path || outcome["message"] != "not a regular file" {
				t.Errorf("%s %s: %v", op, path, outcome)
			}
		}
	}
}

// When the host hangs up in the midst of an upload, half a file is removed.
func TestFileHangUp(t *testing.T) {
	host := booted(t)
	dir := t.TempDir()
	stream := fileCall(t, host, map[string]any{"op": "upload", "path": dir + "/f", "name": "f"})
	_, _ = stream.Write(append(frame(entryFrame, append(append([]byte{'f'}, make([]byte, 33)...), 1, 'f')), frame(dataFrame, []byte("half"))...))
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		if _, err := os.Stat(dir + "/f"); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("it does not arrive")
		}
	}
	stream.Reset()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		if left, _ := filepath.Glob(dir + "/*"); len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("half a file is left")
		}
	}
}

// A call that is not understood says so.
func TestFileMisunderstood(t *testing.T) {
	host := booted(t)
	for _, fields := range []map[string]any{
		{"op": "dance", "path": "/x"}, {"op": "read", "path": "x"}, {"op": "read"}, {"op": "chmod", "path": "/x"},
		{"op": "move", "path": "/x"}, {"op": "chmod", "path": "/x", "mode": 0o10000}, {"op": "read", "path": "/a\x00b"},
		{"op": "read", "path": "/x", "more": 1}, {"op": "read", "path": "/x", "follow": "yes"},
	} {
		if got := lineOf(t, fileCall(t, host, fields)); got["error"] == nil {
			t.Errorf("%v: %v", fields, got)
		}
	}
}

// A watch that the host closes ends.
func TestFileWatchEnds(t *testing.T) {
	host := booted(t)
	before := descriptors(t)
	stream := fileCall(t, host, map[string]any{"op": "watch", "path": t.TempDir(), "recursive": true})
	var header [5]byte
	if _, err := io.ReadFull(stream, header[:]); err != nil || header != [5]byte{} {
		t.Fatal(header, err)
	}
	_ = stream.Close()
	for deadline := time.Now().Add(5 * time.Second); descriptors(t) > before; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it goes on")
		}
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	found, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(found)
}
