package frames

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"
)

// Frames are byte for byte those of the Python side.
func TestGolden(t *testing.T) {
	text, err := os.ReadFile("../../tests/golden/frames.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Name, Payload, Bytes string
		Kind                 Kind
	}
	if err := json.Unmarshal(text, &cases); err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		payload, _ := hex.DecodeString(c.Payload)
		frame := Encode(c.Kind, payload)
		if hex.EncodeToString(frame) != c.Bytes {
			t.Errorf("%s: %x", c.Name, frame)
		}
		length, err := ParseHeader([HeaderSize]byte(frame))
		if c.Kind == Stdin && (err != nil || length != len(payload)) {
			t.Errorf("%s: %d, %v", c.Name, length, err)
		}
		if c.Kind != Stdin && err == nil {
			t.Errorf("%s: taken from the host", c.Name)
		}
	}
}

// A length is never believed beyond 1 MiB.
func FuzzParseHeader(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 5})
	f.Add([]byte{0, 0, 16, 0, 0})
	f.Add([]byte{0, 0, 16, 0, 1})
	f.Add([]byte{1, 255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, bytes []byte) {
		if len(bytes) < HeaderSize {
			return
		}
		length, err := ParseHeader([HeaderSize]byte(bytes))
		if err == nil && (length < 0 || length > Largest || bytes[0] != 0) {
			t.Fatalf("%x: %d", bytes, length)
		}
	})
}
