package files

import (
	"errors"
	"io"
	"sync"
)

// pipe carries frames from an Out to an In of our own, a batch at a time.
type pipe struct {
	mu      sync.Mutex
	changed sync.Cond
	view    []byte
	closed  bool
}

func newPipe() *pipe {
	p := &pipe{}
	p.changed.L = &p.mu
	return p
}

func (p *pipe) send(batch []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.view = batch[room:]
		p.changed.Broadcast()
	}
	for len(p.view) > 0 && !p.closed { // the batch is the sender's again when this returns
		p.changed.Wait()
	}
	if p.closed {
		return io.ErrClosedPipe
	}
	return nil
}

func (p *pipe) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.changed.Broadcast()
}

// Peek is a source's.
func (p *pipe) Peek() ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.view) == 0 && !p.closed {
		p.changed.Wait()
	}
	if p.closed {
		return nil, io.EOF
	}
	return p.view, nil
}

// Discard is a source's.
func (p *pipe) Discard(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.view = p.view[n:]
	p.changed.Broadcast()
}

func isLost(err error) bool { return errors.Is(err, errLost) }
