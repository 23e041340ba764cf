package wire

import (
	"strconv"
	"unicode/utf8"
)

// Pair is one key of an object that is written in the order given.
type Pair struct {
	Name  string
	Value any
}

// Line writes an object as one line of JSON, its newline included.
func Line(pairs ...Pair) []byte {
	return append(Write(pairs), '\n')
}

// Write returns the JSON of *value*: []Pair, [][]Pair, string, Number, int, float64, bool or nil.
func Write(value any) []byte {
	return appendValue(nil, value)
}

func appendValue(out []byte, value any) []byte {
	switch value := value.(type) {
	case []Pair:
		return appendObject(out, value)
	case [][]Pair:
		return appendList(out, value)
	case string:
		return appendString(out, value)
	case Number:
		return append(out, value...)
	case int:
		return strconv.AppendInt(out, int64(value), 10)
	case float64:
		return strconv.AppendFloat(out, value, 'f', 6, 64)
	case bool:
		return strconv.AppendBool(out, value)
	}
	return append(out, "null"...)
}

func appendObject(out []byte, pairs []Pair) []byte {
	out = append(out, '{')
	for i, pair := range pairs {
		if i > 0 {
			out = append(out, ", "...)
		}
		out = appendString(out, pair.Name)
		out = append(out, ": "...)
		out = appendValue(out, pair.Value)
	}
	return append(out, '}')
}

func appendList(out []byte, objects [][]Pair) []byte {
	out = append(out, '[')
	for i, object := range objects {
		if i > 0 {
			out = append(out, ", "...)
		}
		out = appendObject(out, object)
	}
	return append(out, ']')
}

const hexDigits = "0123456789abcdef"

// appendString keeps bytes that are not UTF-8 as the lone surrogates that Python's surrogateescape knows.
func appendString(out []byte, text string) []byte {
	out = append(out, '"')
	for i := 0; i < len(text); {
		c := text[i]
		char, size := utf8.DecodeRuneInString(text[i:])
		switch {
		case c == '"' || c == '\\':
			out = append(out, '\\', c)
		case c < ' ':
			out = append(out, `\u00`...)
			out = append(out, hexDigits[c>>4], hexDigits[c&15])
		case char == utf8.RuneError && size == 1:
			out = append(out, `\udc`...)
			out = append(out, hexDigits[c>>4], hexDigits[c&15])
		default:
			out = append(out, text[i:i+size]...)
		}
		i += size
	}
	return append(out, '"')
}
