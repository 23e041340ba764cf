// Package boot turns a fresh kernel with two disks into the guest that commands run in.
package boot

import (
	"errors"
	"strings"
	"syscall"
	"time"

	"aegis/guest_harness/wire"
)

// Settings are what the host decides about a guest.
type Settings struct {
	TimeNS   int64
	Entropy  []byte
	Hostname string
	Writable bool
	Cwd      string
	DiskMiB  int64 // what files may take; 0 for what the memory allows
	Limit    int64 // of processes; 0 for what the memory allows
	Mounts   []Mount
}

// Mount is a directory that the host shares under a tag, and where the guest is to have it.
type Mount = struct {
	Tag, Target string
	ReadOnly    bool
}

// Story is a boot under way: its named steps and how long each took.
type Story struct {
	phases []wire.Pair
}

// Phases are the seconds that each step took, in the order of the steps.
func (s *Story) Phases() []wire.Pair {
	return s.phases
}

// Step runs one step and puts its name before its error.
func (s *Story) Step(name string, run func() error) error {
	start := time.Now()
	err := run()
	s.phases = append(s.phases, wire.Pair{Name: name, Value: time.Since(start).Seconds()})
	if err != nil {
		return errors.New(name + ": " + err.Error())
	}
	return nil
}

// Finish does all that needs the host's settings.
func (s *Story) Finish(settings Settings) error {
	layers := &layers{writable: settings.Writable, disk: settings.DiskMiB}
	steps := []struct {
		name string
		run  func() error
	}{
		{"clock", func() error { return SetClock(settings.TimeNS) }},
		{"entropy", func() error { return addEntropy(settings.Entropy) }},
		{"network", func() error { return network(settings.Hostname) }},
		{"root", layers.enter},
		{"places", func() error { return places(layers.below()) }},
		{"var", layers.mountVar},
		{"files", func() error { return writeFiles(settings.Hostname) }},
		{"shared", func() error { return mountShared(settings.Mounts) }},
		{"cwd", func() error { makeWorkingDirectory(settings.Cwd); return nil }},
		{"seal", layers.seal},
	}
	for _, step := range steps {
		if err := s.Step(step.name, step.run); err != nil {
			return err
		}
	}
	return nil
}

// Kernel is the running kernel's release.
func Kernel() string {
	var name syscall.Utsname
	_ = syscall.Uname(&name)
	var release strings.Builder
	for _, char := range name.Release {
		if char == 0 {
			break
		}
		release.WriteByte(byte(char))
	}
	return release.String()
}
