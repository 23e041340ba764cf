package wire

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

// Every JSON value is understood.
func TestParse(t *testing.T) {
	cases := map[string]any{
		`{"a": [1, -2.5e3, true, false, null, "x"]}`: Object{
			"a": []any{Number("1"), Number("-2.5e3"), true, false, nil, "x"},
		},
		`  [ ] `:                     []any{},
		`{}`:                         Object{},
		`"\"\\\/\b\f\n\r\t"`:         "\"\\/\b\f\n\r\t",
		`"\u00e9\u20AC\ud83d\ude00"`: "é€😀",
		`"\udc80\udcff\udcc3\udca9"`: "\x80\xff\xc3\xa9",
		`"\u0000"`:                   "\x00",
		`1760000000000000000`:        Number("1760000000000000000"),
	}
	for text, want := range cases {
		got, err := Parse([]byte(text))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %#v, %v", text, got, err)
		}
	}
}

// What is not JSON, or stands for no bytes, is refused.
func TestParseRefuses(t *testing.T) {
	deep := strings.Repeat("[", 100) + strings.Repeat("]", 100)
	for _, text := range []string{
		``, `{`, `{"a"}`, `{"a":1,}`, `[1,]`, `01`, `+1`, `1.`, `1e`, `tru`, `"`, `"\x"`, `"\u12"`, `"\u12g4"`, "\"\n\"", `1 2`,
		`"\ud83d"`, `"\ud83dx"`, `"\ud83d\u0041"`, `"\udc7f"`, `"\udd00"`, `{"a":1,"a":2}`, deep,
	} {
		if value, err := Parse([]byte(text)); err == nil {
			t.Errorf("%s: got %#v", text, value)
		}
	}
}

// What is written is read back, whatever the bytes.
func TestWriteRoundTrip(t *testing.T) {
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	for _, text := range []string{"", "é€😀", string(every), "\xed\xa0\x80", "\u2028"} {
		line := Line(Pair{"text", text}, Pair{"n", 3}, Pair{"s", 0.25}, Pair{"null", nil}, Pair{"yes", true})
		value, err := Parse(line)
		if err != nil || value.(Object)["text"] != text {
			t.Errorf("%q: %s: %v", text, line, err)
		}
		if !json.Valid(line) {
			t.Errorf("%q: not JSON: %s", text, line)
		}
	}
}

// The first wrong field is named, and so is one that nobody knows.
func TestFields(t *testing.T) {
	cases := map[string]string{
		`{"text": 1}`:                              "text must be a string",
		`{"text": "x"}`:                            "number must be a number",
		`{"text": "x", "number": 1.5}`:             "number must be an integer",
		`{"text": "x", "number": 1, "more": null}`: "unknown field: more",
		`[]`: "not a JSON object",
	}
	for text, want := range cases {
		value, _ := Parse([]byte(text))
		fields := Take(value)
		fields.String("text")
		fields.Int("number")
		if err := fields.Done(); err == nil || err.Error() != want {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// FuzzParse compares with encoding/json, which takes lone surrogates, duplicate keys and any depth.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		`{"call": "process", "argv": ["sh", "\udc80"], "env": {"A": "1"}, "cwd": null, "stdin": true}`,
		`{"jsonrpc": "2.0", "id": 1, "method": "boot", "params": {}}`, `[1, 2.5e-3, "\ud83d\ude00"]`, `"\`, `-`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		value, err := Parse(text)
		if err == nil && !json.Valid(text) {
			t.Fatalf("took what is not JSON: %q", text)
		}
		if err == errSyntax && json.Valid(text) {
			t.Fatalf("refused JSON: %q", text)
		}
		if text, ok := value.(string); ok && err == nil {
			if again, err := Parse(Write(text)); err != nil || again != text {
				t.Fatalf("%q became %q, %v", text, again, err)
			}
		}
	})
}
