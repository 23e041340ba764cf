package calls

import (
	"testing"
	"time"
)

// A clock follows the host's when it is behind, and nothing else.
func TestClockKeepsUp(t *testing.T) {
	const day, since = 1000 * time.Hour, time.Hour
	for name, test := range map[string]struct {
		host time.Duration
		now  reading
		want bool
	}{
		"behind":               {host: day + time.Hour, now: reading{day + time.Second, since + time.Second}, want: true},
		"a little behind":      {host: day + 1400*time.Millisecond, now: reading{day + time.Second, since + time.Second}},
		"ahead":                {host: day - time.Hour, now: reading{day + time.Second, since + time.Second}},
		"set back by somebody": {host: day, now: reading{day - time.Hour, since + time.Second}},
		"set on by somebody":   {host: day + 2*time.Hour, now: reading{day + time.Hour, since + time.Second}},
	} {
		told := time.Duration(0)
		now := reading{day, since}
		c := clock{set: func(nanoseconds int64) error { told = time.Duration(nanoseconds); return nil }, read: func() reading { return now }}
		c.KeepUp(int64(day + time.Hour))
		if told != 0 {
			t.Error(name, ": was told the time before it ever had one")
		}
		c.Trust()
		now = test.now
		if c.KeepUp(int64(test.host)); (told == test.host) != test.want || !test.want && told != 0 {
			t.Error(name, ": was told ", told)
		}
	}
}
