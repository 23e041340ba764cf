package calls

import (
	"errors"
	"strings"

	"aegis/guest_harness/files"
	"aegis/guest_harness/wire"
	"aegis/guest_harness/yamux"
)

// file does one thing with the guest's files.
func (g *Guest) file(stream *yamux.Stream, fields *wire.Fields) error {
	request, err := parseFile(fields)
	if err != nil {
		return err
	}
	return g.files.Serve(stream, request)
}

func parseFile(fields *wire.Fields) (files.Request, error) {
	request := files.Request{Op: fields.String("op"), Path: fields.String("path"), Mode: files.Unset}
	for name, text := range map[string]*string{
		"to": &request.To, "name": &request.Name, "user": &request.User, "owner": &request.Owner,
	} {
		if fields.Has(name) {
			*text = fields.String(name)
		}
	}
	flags := &request.Flags
	for name, flag := range map[string]*bool{
		"recursive": &request.Recursive, "follow": &request.Follow, "reading": &flags.Read, "writing": &flags.Write,
		"append": &flags.Append, "create": &flags.Create, "exclusive": &flags.Exclusive, "truncate": &flags.Truncate,
	} {
		if fields.Has(name) {
			*flag = fields.Bool(name)
		}
	}
	if fields.Has("mode") {
		request.Mode = fields.Int("mode")
	}
	if err := fields.Done(); err != nil {
		return request, err
	}
	return request, check(request)
}

func check(request files.Request) error {
	switch {
	case !files.Known(request.Op):
		return errors.New("unknown op: " + request.Op)
	case !strings.HasPrefix(request.Path, "/"), request.Op == "move" && !strings.HasPrefix(request.To, "/"):
		return errors.New("a path must begin with /")
	case strings.Contains(request.Path+request.To+request.Name, "\x00"):
		return errors.New("a path cannot hold NUL")
	case request.Mode < files.Unset || request.Mode > 0o7777:
		return errors.New("mode must be from 0 to 07777")
	case request.Op == "chmod" && request.Mode == files.Unset:
		return errors.New("mode is missing")
	}
	return nil
}
