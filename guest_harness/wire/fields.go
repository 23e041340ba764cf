package wire

import (
	"errors"
	"strconv"
)

// Fields takes the fields of an object one by one and remembers the first that is wrong.
type Fields struct {
	object Object
	err    error
}

// Take starts on *value*, which should be an object.
func Take(value any) *Fields {
	object, ok := value.(Object)
	if !ok {
		return &Fields{err: errors.New("not a JSON object")}
	}
	return &Fields{object: object}
}

// Err returns what was wrong so far.
func (f *Fields) Err() error {
	return f.err
}

// Done returns what was wrong, a field that nobody took included: both ends have the same version.
func (f *Fields) Done() error {
	for name := range f.object {
		if f.err == nil {
			f.err = errors.New("unknown field: " + name)
		}
	}
	return f.err
}

// Has tells whether the object has the field and it is not null.
func (f *Fields) Has(name string) bool {
	if f.object[name] == nil {
		delete(f.object, name)
		return false
	}
	return true
}

// Any returns the field as it is, nil when it is missing.
func (f *Fields) Any(name string) any {
	value := f.object[name]
	delete(f.object, name)
	return value
}

// String returns a text.
func (f *Fields) String(name string) string {
	return take[string](f, name, "a string")
}

// Bool returns a truth value.
func (f *Fields) Bool(name string) bool {
	return take[bool](f, name, "true or false")
}

// Int returns an integer.
func (f *Fields) Int(name string) int64 {
	number, err := strconv.ParseInt(string(take[Number](f, name, "a number")), 10, 64)
	f.note(err, name, "an integer")
	return number
}

// Seconds returns a number that is not negative.
func (f *Fields) Seconds(name string) float64 {
	number, err := strconv.ParseFloat(string(take[Number](f, name, "a number")), 64)
	if err == nil && number < 0 {
		err = strconv.ErrRange
	}
	f.note(err, name, "a number of seconds")
	return number
}

// Strings returns a list of texts.
func (f *Fields) Strings(name string) []string {
	var texts []string
	for _, item := range take[[]any](f, name, "a list of strings") {
		text, ok := item.(string)
		if !ok {
			f.note(errSyntax, name, "a list of strings")
		}
		texts = append(texts, text)
	}
	return texts
}

// Objects returns a list of objects.
func (f *Fields) Objects(name string) []*Fields {
	var objects []*Fields
	for _, item := range take[[]any](f, name, "a list of objects") {
		objects = append(objects, Take(item))
	}
	return objects
}

// Join makes what was wrong with a field's own fields this object's.
func (f *Fields) Join(err error) {
	if f.err == nil {
		f.err = err
	}
}

// StringMap returns an object whose values are texts.
func (f *Fields) StringMap(name string) map[string]string {
	texts := map[string]string{}
	for key, item := range take[Object](f, name, "an object of strings") {
		text, ok := item.(string)
		if !ok {
			f.note(errSyntax, name, "an object of strings")
		}
		texts[key] = text
	}
	return texts
}

func take[T any](f *Fields, name, kind string) T {
	value, ok := f.Any(name).(T)
	if !ok {
		f.note(errSyntax, name, kind)
	}
	return value
}

func (f *Fields) note(err error, name, kind string) {
	if err != nil && f.err == nil {
		f.err = errors.New(name + " must be " + kind)
	}
}
