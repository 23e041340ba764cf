package process

import (
	"os"
	"syscall"
	"time"

	"aegis/guest_harness/power"
	"aegis/guest_harness/users"
)

// launch is everything about a start but the file to execute.
type launch struct {
	command Command
	account users.Account
	cwd     string
	env     []string
	files   []uintptr
}

// Start starts a command, or says why it cannot be.
func (t *Table) Start(command Command) (*Running, *Failure) {
	if !t.claim(command.ID) {
		return nil, failed(otherFailure, "id "+command.ID+" is in use")
	}
	running, why := t.start(command)
	if why != nil {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.byID, command.ID)
		t.history.add(command.ID, Ending{Failure: why})
	}
	return running, why
}

// claim registers an id, whose command is yet to start, and tells whether it was free.
func (t *Table) claim(id string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, known := t.byID[id]; known {
		return false
	}
	t.byID[id] = nil
	return true
}

func (t *Table) start(command Command) (*Running, *Failure) {
	account, err := t.users.Find(command.User)
	if err != nil {
		return nil, failed(otherFailure, err.Error())
	}
	env := environment(command, account, t.hostname)
	streams, why := t.open(command, account)
	if why != nil {
		return nil, why
	}
	start := launch{command, account, within("/", command.Cwd), environ(env), streams.childs()}
	running, why := t.search(env["PATH"], start)
	if why != nil {
		streams.closeChilds()
		streams.closeOurs()
		return nil, why
	}
	streams.closeStarted()
	t.mu.Lock()
	defer t.mu.Unlock()
	streams.give(running)
	return running, nil
}

// streams are what a command has as stdin, stdout and stderr: pipes or a terminal.
type streams interface {
	// childs returns the descriptors that the child gets as 0, 1 and 2.
	childs() []uintptr
	// give makes our ends those of the command that was started.
	give(running *Running)
	// closeStarted closes what only the command needs, once it runs.
	closeStarted()
	closeChilds()
	closeOurs()
}

func (t *Table) open(command Command, account users.Account) (streams, *Failure) {
	if command.Terminal != nil {
		terminal, err := openTerminal(t.devpts, *command.Terminal, account)
		if err != nil {
			return nil, failed(otherFailure, "terminal: "+reason(err))
		}
		return terminal, nil
	}
	pipes, err := openPipes(command.Stdin, t.null)
	if err != nil {
		return nil, failed(otherFailure, "pipes: "+reason(err))
	}
	return pipes, nil
}

// search starts the first file that the kernel accepts, as execvp does. Only when there is none does it look why:
// under emulation a look at a file costs almost as much as the start.
func (t *Table) search(path string, start launch) (*Running, *Failure) {
	name := start.command.Argv[0]
	var refused *Failure
	for _, file := range places(name, path, start.cwd) {
		if !executable(file) {
			continue
		}
		running, err := t.executeAny(file, start)
		if err == nil {
			return running, nil
		}
		why := explain(file, start, err)
		if why.Code == otherFailure {
			return nil, why
		}
		if refused == nil || refused.Code == notFound {
			refused = why
		}
	}
	if why := checkCwd(start.cwd); why != nil {
		return nil, why
	}
	if refused == nil {
		refused = missing(name, path, start.cwd)
	}
	return nil, refused
}

// executeAny executes a file, by /bin/sh when it is a script that does not name its interpreter.
func (t *Table) executeAny(file string, start launch) (*Running, error) {
	running, err := t.execute(file, start.command.Argv, start)
	if err == syscall.ENOEXEC && plainScript(file) {
		argv := append([]string{"/bin/sh", file}, start.command.Argv[1:]...)
		return t.execute("/bin/sh", argv, start)
	}
	return running, err
}

func (t *Table) execute(file string, argv []string, start launch) (*Running, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.refuse(); err != nil {
		return nil, err
	}
	running := &Running{
		Ended: make(chan Status, 1), over: make(chan struct{}), id: start.command.ID, table: t, kills: t.oom.read(),
	}
	for attempt := 0; ; attempt++ {
		running.group = t.cgroups.take()
		var err error
		running.PID, err = fork(file, argv, start, running.group)
		if err == nil {
			t.byID[running.id], t.byPID[running.PID] = running, running
			return running, nil
		}
		if running.group == nil {
			return nil, err
		}
		running.group.spent = unusable(err)
		_ = t.cgroups.give(running.group)
		if !unusable(err) || attempt > spares {
			return nil, err
		}
	}
}

// unusable tells whether it was the cgroup that could not take a process: the guest may have changed or removed it.
func unusable(err error) bool {
	return err == syscall.EBUSY || err == syscall.ENODEV || err == syscall.EOPNOTSUPP
}

// longestFork is how long the start of a process may take, during which the harness can do nothing else. Root in the guest
// can make it last for ever: by cgroup.freeze, or a signal that stops the process before it is the command.
const longestFork = 20 * time.Second

var giveUp = power.Off

func fork(file string, argv []string, start launch, group *cgroup) (int, error) {
	attributes := &syscall.ProcAttr{
		Dir:   start.cwd,
		Env:   start.env,
		Files: start.files,
		Sys:   &syscall.SysProcAttr{Setsid: true, Setctty: start.command.Terminal != nil},
	}
	if group != nil {
		attributes.Sys.UseCgroupFD, attributes.Sys.CgroupFD = true, group.dir
	}
	if os.Geteuid() == 0 {
		attributes.Sys.Credential = &syscall.Credential{
			Uid: start.account.UID, Gid: start.account.GID, Groups: start.account.Groups,
		}
	}
	stuck := time.AfterFunc(longestFork, func() { giveUp("a process cannot be started: the guest has stopped it") })
	pid, err := syscall.ForkExec(file, argv, attributes)
	stuck.Stop()
	if err == nil {
		ordinary(pid)
		limitFiles(pid)
	}
	return pid, err
}
