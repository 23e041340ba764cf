package files

// gathered is how much is written at once.
const gathered = 128 << 10

// gather collects what is to be written, so that all writes but the last are of whole pages at their places: those that
// begin or end in the midst of a page take twice as long.
type gather struct {
	buffer []byte
}

func (g *gather) add(fd int, bytes []byte) error {
	for len(bytes) > 0 {
		n := min(len(bytes), gathered-len(g.buffer))
		g.buffer = append(g.buffer, bytes[:n]...)
		bytes = bytes[n:]
		if len(g.buffer) == gathered {
			if err := g.flush(fd); err != nil {
				return err
			}
		}
	}
	return nil
}

// flush writes what was collected; after an error it is lost.
func (g *gather) flush(fd int) error {
	err := writeAll(fd, g.buffer)
	g.buffer = g.buffer[:0]
	return err
}
