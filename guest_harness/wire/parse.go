// Package wire reads and writes the JSON of the guest protocol.
//
// It exists because encoding/json cannot carry arbitrary bytes: it turns the lone surrogates \udc80 to \udcff, in
// which Python's surrogateescape hides them, into U+FFFD.
package wire

import (
	"errors"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// Number is a JSON number as it was written, so that 64-bit integers stay exact.
type Number string

// Object is a JSON object; its values are Object, []any, string, Number, bool or nil.
type Object map[string]any

const deepest = 32

var errSyntax = errors.New("not JSON")

// Parse returns the one JSON value that *text* holds.
func Parse(text []byte) (any, error) {
	p := parser{text: text}
	value, err := p.value(0)
	if err != nil {
		return nil, err
	}
	if p.space(); p.at != len(p.text) {
		return nil, errSyntax
	}
	return value, nil
}

type parser struct {
	text []byte
	at   int
}

func (p *parser) peek() byte {
	if p.at < len(p.text) {
		return p.text[p.at]
	}
	return 0
}

func (p *parser) space() {
	for p.at < len(p.text) {
		switch p.text[p.at] {
		case ' ', '\t', '\r', '\n':
			p.at++
		default:
			return
		}
	}
}

// take skips white space and consumes *token* if it is next.
func (p *parser) take(token string) bool {
	p.space()
	if end := p.at + len(token); end <= len(p.text) && string(p.text[p.at:end]) == token {
		p.at = end
		return true
	}
	return false
}

func (p *parser) value(depth int) (any, error) {
	if depth > deepest {
		return nil, errors.New("JSON nested too deeply")
	}
	p.space()
	switch c := p.peek(); {
	case c == '{':
		return p.object(depth)
	case c == '[':
		return p.array(depth)
	case c == '"':
		return p.string()
	case c == '-' || '0' <= c && c <= '9':
		return p.number()
	case p.take("true"):
		return true, nil
	case p.take("false"):
		return false, nil
	case p.take("null"):
		return nil, nil
	}
	return nil, errSyntax
}

func (p *parser) object(depth int) (Object, error) {
	p.at++
	object := Object{}
	if p.take("}") {
		return object, nil
	}
	for {
		p.space()
		name, err := p.string()
		if err != nil {
			return nil, err
		}
		if _, twice := object[name]; twice {
			return nil, errors.New("JSON object has a key twice: " + name)
		}
		if !p.take(":") {
			return nil, errSyntax
		}
		if object[name], err = p.value(depth + 1); err != nil {
			return nil, err
		}
		if p.take("}") {
			return object, nil
		}
		if !p.take(",") {
			return nil, errSyntax
		}
	}
}

func (p *parser) array(depth int) ([]any, error) {
	p.at++
	array := []any{}
	if p.take("]") {
		return array, nil
	}
	for {
		value, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		array = append(array, value)
		if p.take("]") {
			return array, nil
		}
		if !p.take(",") {
			return nil, errSyntax
		}
	}
}

func (p *parser) digits() int {
	start := p.at
	for c := p.peek(); '0' <= c && c <= '9'; c = p.peek() {
		p.at++
	}
	return p.at - start
}

func (p *parser) number() (Number, error) {
	start := p.at
	if p.peek() == '-' {
		p.at++
	}
	leading := p.peek()
	if count := p.digits(); count == 0 || count > 1 && leading == '0' {
		return "", errSyntax
	}
	if p.peek() == '.' {
		if p.at++; p.digits() == 0 {
			return "", errSyntax
		}
	}
	if c := p.peek(); c == 'e' || c == 'E' {
		p.at++
		if c := p.peek(); c == '+' || c == '-' {
			p.at++
		}
		if p.digits() == 0 {
			return "", errSyntax
		}
	}
	return Number(p.text[start:p.at]), nil
}

func (p *parser) string() (string, error) {
	if p.peek() != '"' {
		return "", errSyntax
	}
	p.at++
	var text []byte
	for p.at < len(p.text) {
		c := p.text[p.at]
		p.at++
		switch {
		case c == '"':
			return string(text), nil
		case c < ' ':
			return "", errSyntax
		case c != '\\':
			text = append(text, c)
		default:
			var err error
			if text, err = p.escape(text); err != nil {
				return "", err
			}
		}
	}
	return "", errSyntax
}

const escapes, escaped = `"\/bfnrt`, "\"\\/\b\f\n\r\t"

// escape appends what the escape sequence after a backslash stands for.
func (p *parser) escape(text []byte) ([]byte, error) {
	c := p.peek()
	p.at++
	if c == 'u' {
		return p.unicode(text)
	}
	for i := range len(escapes) {
		if escapes[i] == c {
			return append(text, escaped[i]), nil
		}
	}
	return nil, errSyntax
}

func (p *parser) unicode(text []byte) ([]byte, error) {
	unit, err := p.hex()
	if err != nil {
		return nil, err
	}
	if !utf16.IsSurrogate(unit) {
		return utf8.AppendRune(text, unit), nil
	}
	if 0xdc80 <= unit && unit <= 0xdcff {
		return append(text, byte(unit)), nil
	}
	if p.at+1 < len(p.text) && p.text[p.at] == '\\' && p.text[p.at+1] == 'u' {
		p.at += 2
		low, err := p.hex()
		if err != nil {
			return nil, err
		}
		if pair := utf16.DecodeRune(unit, low); pair != utf8.RuneError {
			return utf8.AppendRune(text, pair), nil
		}
	}
	return nil, errors.New("JSON text has a lone surrogate that stands for no byte")
}

func (p *parser) hex() (rune, error) {
	if p.at+4 > len(p.text) {
		return 0, errSyntax
	}
	unit, err := strconv.ParseUint(string(p.text[p.at:p.at+4]), 16, 16)
	if err != nil {
		return 0, errSyntax
	}
	p.at += 4
	return rune(unit), nil
}
