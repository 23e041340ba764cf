package process

import (
	"bytes"
	"encoding/binary"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// explain says why the kernel refused to execute a file that is there and has an execute bit.
func explain(file string, start launch, err error) *Failure {
	if why := checkCwd(start.cwd); why != nil {
		return why
	}
	switch err {
	case syscall.ENOENT, syscall.ENOTDIR:
		return failed(notFound, file+": "+missingHelper(file))
	case syscall.ENOEXEC:
		return failed(notExecutable, file+": "+foreign(file))
	case syscall.EACCES:
		if !maySearch(start.cwd, start.account) {
			return failed(otherFailure, "working directory "+start.cwd+": permission denied"+asUser(start.account))
		}
		if info, err := os.Stat(file); err != nil || !info.Mode().IsRegular() {
			return unfit(file)
		}
		return failed(notExecutable, file+": permission denied"+asUser(start.account))
	case syscall.EISDIR, syscall.ETXTBSY, syscall.ELIBBAD, syscall.EINVAL, syscall.ELOOP, syscall.EPERM:
		return failed(notExecutable, file+": "+reason(err))
	case syscall.EAGAIN:
		return failed(otherFailure, file+": too many processes run in this guest")
	}
	return failed(otherFailure, file+": "+reason(err))
}

// missingHelper names what a file needs to run and the image lacks.
func missingHelper(file string) string {
	if interpreter := scriptInterpreter(head(file)); interpreter != "" {
		if strings.HasSuffix(interpreter, "\r") {
			return "its interpreter " + strconv.Quote(interpreter) + " is missing: its lines end with CR LF"
		}
		return "its interpreter " + interpreter + " is missing"
	}
	if loader := elfLoader(file); loader != "" {
		return "its loader " + loader + " is missing"
	}
	return "no such file"
}

// head returns as much of a file as the kernel looks at.
func head(file string) []byte {
	opened, err := os.Open(file)
	if err != nil {
		return nil
	}
	defer opened.Close()
	buffer := make([]byte, 256)
	n, _ := opened.Read(buffer)
	return buffer[:n]
}

func scriptInterpreter(head []byte) string {
	line, script := bytes.CutPrefix(head, []byte("#!"))
	if !script {
		return ""
	}
	line, _, _ = bytes.Cut(line, []byte("\n"))
	name, _, _ := strings.Cut(strings.Trim(string(line), " \t"), " ") // a CR is part of it, as for the kernel
	name, _, _ = strings.Cut(name, "\t")
	return name
}

// plainScript tells whether execvp would have /bin/sh run a file that the kernel does not know: text, and no #!.
func plainScript(file string) bool {
	start := head(file)
	line, _, _ := bytes.Cut(start, []byte("\n"))
	return !bytes.HasPrefix(start, []byte("#!")) && !isELF(start) && bytes.IndexByte(line, 0) < 0
}

const (
	elfHeaderSize  = 64
	programSize    = 56
	programInterp  = 3
	mostPrograms   = 256
	longestLoader  = 4096
	machineAMD64   = 62
	machineAArch64 = 183
)

var machines = map[uint16]string{
	3: "386", 8: "mips", 20: "ppc", 21: "ppc64", 22: "s390x", 40: "arm", machineAMD64: "amd64",
	machineAArch64: "arm64", 243: "riscv64", 258: "loong64",
}

func isELF(head []byte) bool {
	return len(head) >= 20 && string(head[:4]) == "\x7fELF"
}

func foreign(file string) string {
	start := head(file)
	if interpreter := scriptInterpreter(start); interpreter != "" {
		return "its interpreter " + interpreter + " cannot be executed here"
	}
	if !isELF(start) {
		return "exec format error: neither a program nor a script"
	}
	machine := binary.LittleEndian.Uint16(start[18:])
	if start[5] == 2 {
		machine = binary.BigEndian.Uint16(start[18:])
	}
	name := machines[machine]
	if name == "" || machine == ownMachine {
		return "exec format error: the program is damaged or of another kind"
	}
	return "exec format error: the program is for " + name + ", this guest is " + machines[ownMachine]
}

// elfLoader returns the dynamic loader that a 64-bit little-endian program names.
func elfLoader(file string) string {
	opened, err := os.Open(file)
	if err != nil {
		return ""
	}
	defer opened.Close()
	start := make([]byte, elfHeaderSize)
	if _, err := opened.ReadAt(start, 0); err != nil || !isELF(start) {
		return ""
	}
	offset := int64(binary.LittleEndian.Uint64(start[32:]))
	for i := range min(int64(binary.LittleEndian.Uint16(start[56:])), mostPrograms) {
		program := make([]byte, programSize)
		if _, err := opened.ReadAt(program, offset+i*programSize); err != nil {
			return ""
		}
		if binary.LittleEndian.Uint32(program) == programInterp {
			return loaderName(opened, program)
		}
	}
	return ""
}

func loaderName(opened *os.File, program []byte) string {
	size := min(binary.LittleEndian.Uint64(program[32:]), longestLoader)
	name := make([]byte, size)
	if _, err := opened.ReadAt(name, int64(binary.LittleEndian.Uint64(program[8:]))); err != nil {
		return ""
	}
	name, _, _ = bytes.Cut(name, []byte{0})
	return string(name)
}
