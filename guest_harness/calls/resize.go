package calls

import (
	"errors"
	"math"

	"aegis/guest_harness/process"
	"aegis/guest_harness/wire"
	"aegis/guest_harness/yamux"
)

func (g *Guest) resize(stream *yamux.Stream, fields *wire.Fields) error {
	id, size := fields.String("id"), parseSize(fields)
	if err := fields.Done(); err != nil {
		return err
	}
	found, err := g.commands.Resize(id, size)
	if err != nil {
		return err
	}
	return stream.SendLast(wire.Line(wire.Pair{Name: "found", Value: found}))
}

func parseSize(fields *wire.Fields) process.Size {
	rows, cols := fields.Int("rows"), fields.Int("cols")
	for _, count := range []int64{rows, cols} {
		if count < 1 || count > math.MaxUint16 {
			fields.Join(errors.New("rows and cols must be from 1 to 65535"))
		}
	}
	return process.Size{Rows: uint16(rows), Cols: uint16(cols)}
}
