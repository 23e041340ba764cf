package calls

import (
	"sync"
	"time"
)

// What the guest's time may be behind the host's: a call takes that long on a busy machine.
const clockTolerance = 500 * time.Millisecond

var begin = time.Now()

// reading is what the clocks say: the time of day, and the time since the harness began.
type reading struct{ day, since time.Duration }

func readClocks() reading {
	now := time.Now()
	return reading{time.Duration(now.UnixNano()), now.Sub(begin)}
}

// clock is the time of day, which the host says.
type clock struct {
	set   func(nanoseconds int64) error
	read  func() reading
	lock  sync.Mutex
	known *reading // when the time of day was last the host's
}

// Set makes it that time.
func (c *clock) Set(nanoseconds int64) error {
	if err := c.set(nanoseconds); err != nil {
		return err
	}
	c.Trust()
	return nil
}

// Trust takes what it says now for the host's time.
func (c *clock) Trust() {
	now := c.read()
	c.lock.Lock()
	defer c.lock.Unlock()
	c.known = &now
}

// KeepUp makes it that time where it has fallen behind, as when the host has slept, or had no time for its guest. What
// somebody in the guest has set it to is theirs.
func (c *clock) KeepUp(nanoseconds int64) {
	if behind := time.Duration(nanoseconds) - c.read().day; behind > clockTolerance && c.ours() {
		_ = c.Set(nanoseconds) // a time that the kernel refuses is none to keep up with
	}
}

// ours is whether the time of day has gone as far as the time since the boot.
func (c *clock) ours() bool {
	now := c.read()
	c.lock.Lock()
	defer c.lock.Unlock()
	if c.known == nil {
		return false
	}
	moved := now.day - c.known.day - (now.since - c.known.since)
	return moved.Abs() <= clockTolerance
}
