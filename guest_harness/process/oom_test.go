package process

import "testing"

// Only the kernel's own words count.
func TestKilledProcess(t *testing.T) {
	for record, want := range map[string]int{
		"3,812,9180123,-;Out of memory: Killed process 411 (tail) total-vm:1kB\n": 411,
		"3,1,2,-;Memory cgroup out of memory: Killed process 7 (sh) total-vm\n":   7,
		"12,812,9180123,-;Out of memory: Killed process 411 (tail)\n":             0,
		"6,1,2,-;Killed process\n": 0, "6": 0, "": 0, "3,1,2,-;x: Killed process \n": 0,
	} {
		if got := killedProcess([]byte(record)); got != want {
			t.Errorf("%q: %d", record, got)
		}
	}
}

// A kill counts for the command that it ended, or any that ran then.
func TestKillsSince(t *testing.T) {
	log := oomLog{fd: -1, count: 2, killed: [mostKills]int{5, 6}}
	if !log.since(1, 6) || !log.since(0, 5) || !log.since(1, 0) || log.since(1, 5) || log.since(2, 0) {
		t.Error("other kills count")
	}
}
