// Package process runs the host's commands in the guest, from their start to the end of all their processes.
package process

import (
	"strconv"

	"aegis/guest_harness/users"
)

// Command is what the host wants to have run.
type Command struct {
	ID       string
	Argv     []string
	Env      map[string]string
	Cwd      string
	User     string
	Stdin    bool
	Terminal *Size // nil for pipes
}

// Failure says why a command did not start, with the exit code that a shell would give.
type Failure struct {
	Code    int
	Message string
}

const (
	notFound      = 127
	notExecutable = 126
	otherFailure  = 125
)

func failed(code int, message string) *Failure {
	return &Failure{Code: code, Message: message}
}

// Status is how a command ended.
type Status struct {
	Code   int
	Signal int // 0 when no signal killed it
	OOM    bool
	Full   bool // it was refused a process, because there were too many
}

const defaultTerm = "xterm-256color" // which nearly every terminal understands, and nearly every image knows

const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// environment is the command's: what every command has, then what the host adds or overrides.
func environment(command Command, account users.Account, hostname string) map[string]string {
	env := map[string]string{"PATH": defaultPath, "HOME": account.Home, "HOSTNAME": hostname}
	if account.Name != "" {
		env["USER"], env["LOGNAME"] = account.Name, account.Name
	}
	if command.Terminal != nil {
		env["TERM"] = defaultTerm
	}
	for name, value := range command.Env {
		env[name] = value
	}
	return env
}

func environ(env map[string]string) []string {
	list := make([]string, 0, len(env))
	for name, value := range env {
		list = append(list, name+"="+value)
	}
	return list
}

func asUser(account users.Account) string {
	if account.UID == 0 {
		return ""
	}
	name := account.Name
	if name == "" {
		name = strconv.Itoa(int(account.UID))
	}
	return " for user " + name
}
