// The harness is PID 1 of every guest: it boots the image and then does what the host asks for, a connection a call.
package main

import (
	"os"
	"os/signal"
	"syscall"

	"aegis/guest_harness/boot"
	"aegis/guest_harness/calls"
	"aegis/guest_harness/console"
	"aegis/guest_harness/link"
	"aegis/guest_harness/names"
	"aegis/guest_harness/outgoing"
	"aegis/guest_harness/power"
	"aegis/guest_harness/process"
	"aegis/guest_harness/wire"
	"aegis/guest_harness/yamux"
)

// version is set by the build: -ldflags "-X main.version=1.2.3".
var version = "0"

const cgroups = "/sys/fs/cgroup/aegis"

func main() {
	if os.Getpid() != 1 {
		console.Log("the harness ", version, " is the init of a guest and nothing else")
		os.Exit(2)
	}
	power.Obey()
	power.Off(run().Error())
}

// run is the life of a guest. It returns the reason of its end.
func run() error {
	children := make(chan os.Signal, 1)
	signal.Notify(children, syscall.SIGCHLD)
	syscall.Umask(0o022)
	if err := process.LimitFiles(); err != nil {
		console.Log("limits: ", err.Error())
	}
	story := &boot.Story{}
	if err := story.Step("mounts", boot.Mounts); err != nil {
		return err
	}
	if err := process.Schedule(); err != nil {
		console.Log("schedule: ", err.Error())
	}
	var port *link.Port
	if err := story.Step("link", func() (err error) {
		port, err = link.Find()
		return err
	}); err != nil {
		return err
	}
	var session *yamux.Session
	var guest *calls.Guest
	guest = calls.NewGuest(func(settings calls.Settings) ([]wire.Pair, error) {
		return finish(story, settings, func() error { return reachOut(session.Open, guest.Connected) })
	}, boot.SetClock, cgroups, children)
	session = yamux.New(port, guest.Serve)
	return session.Serve()
}

// finish ends the boot and returns the answer to the host's request.
func finish(story *boot.Story, settings calls.Settings, reachOut func() error) ([]wire.Pair, error) {
	if err := story.Finish(boot.Settings(settings)); err != nil {
		return nil, err
	}
	if err := story.Step("outgoing", reachOut); err != nil {
		return nil, err
	}
	return []wire.Pair{
		{Name: "protocol", Value: calls.Protocol},
		{Name: "harness", Value: version},
		{Name: "kernel", Value: boot.Kernel()},
		{Name: "phases", Value: story.Phases()},
	}, nil
}

// reachOut makes the host the guest's way out.
func reachOut(host outgoing.Host, count func() (gone func())) error {
	if err := outgoing.Routes(); err != nil {
		return err
	}
	if _, err := outgoing.Start(host, count); err != nil {
		return err
	}
	return names.Serve(names.Host(host))
}
