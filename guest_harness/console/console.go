// Package console writes the harness's few log lines to the guest's console.
package console

import (
	"runtime"
	"syscall"
)

const stderr = 2

// Log writes one line, made of *parts*, in one write.
func Log(parts ...string) {
	line := []byte("aegis: ")
	for _, part := range parts {
		line = append(line, part...)
	}
	_, _ = syscall.Write(stderr, append(line, '\n'))
}

// Survive, deferred, turns a panic into a log line and calls *cleanup*: the death of PID 1 is the guest's.
func Survive(where string, cleanup func()) {
	failure := recover()
	if failure == nil {
		return
	}
	Log("panic in ", where, ": ", describe(failure))
	stack := make([]byte, 2048)
	Log(string(stack[:runtime.Stack(stack, false)]))
	cleanup()
}

func describe(failure any) string {
	switch failure := failure.(type) {
	case error:
		return failure.Error()
	case string:
		return failure
	}
	return "unknown"
}
