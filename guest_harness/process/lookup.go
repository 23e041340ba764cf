package process

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"
)

// places returns the files that execvp would try.
func places(name, search, cwd string) []string {
	if name == "" {
		return nil
	}
	if strings.Contains(name, "/") {
		return []string{within(cwd, name)}
	}
	var files []string
	for dir := range strings.SplitSeq(search, ":") {
		files = append(files, within(cwd, dir)+"/"+name)
	}
	return files
}

// executable tells whether somebody may execute a file: PID 1 is root, for whom one execute bit is enough.
func executable(file string) bool {
	const execute = 1 // X_OK
	return syscall.Access(file, execute) == nil
}

// missing says why there is nothing to execute.
func missing(name, search, cwd string) *Failure {
	if strings.Contains(name, "/") {
		return unfit(within(cwd, name))
	}
	for _, file := range places(name, search, cwd) {
		if why := unfit(file); why.Code == notExecutable {
			return why
		}
	}
	return failed(notFound, name+": not found in PATH ("+search+")")
}

func within(cwd, name string) string {
	if strings.HasPrefix(name, "/") {
		return name
	}
	return path.Join(cwd, name)
}

// unfit says why a file cannot be executed by anybody.
func unfit(file string) *Failure {
	info, err := os.Stat(file)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return failed(notFound, file+": no such file")
	case err != nil:
		return failed(notExecutable, file+": "+reason(err))
	case info.IsDir():
		return failed(notExecutable, file+": is a directory")
	case !info.Mode().IsRegular():
		return failed(notExecutable, file+": is not a regular file")
	}
	return failed(notExecutable, file+": permission denied: the file is not executable")
}

// reason is the kernel's own words, without the operation and the path that Go puts before them.
func reason(err error) string {
	var number syscall.Errno
	if errors.As(err, &number) {
		return number.Error()
	}
	return err.Error()
}

// checkCwd says why nobody can work in the directory.
func checkCwd(cwd string) *Failure {
	info, err := os.Stat(cwd)
	switch {
	case err != nil:
		return failed(otherFailure, "working directory "+cwd+": "+reason(err))
	case !info.IsDir():
		return failed(otherFailure, "working directory "+cwd+": not a directory")
	}
	return nil
}
