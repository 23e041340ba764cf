"""Shares directories with a machine, then becomes its monitor.

    python -I -S share.py VIRTIOFSD [DESCRIPTOR ACCESS OPTIONS FILTER DIRECTORY]... -- PROGRAM ARGUMENT...
    python -I -S share.py -- (only tries whether directories can be shared here)

Run as a program of its own between ``confine.py`` and QEMU, with the standard library alone. Each directory gets a
virtiofsd, whose connection is a device of the machine's: the first has the tag ``aegis0``, and so on. It alone keeps
the DESCRIPTOR, the end of a pipe, so that who started this hears of its end. FILTER is a seccomp filter in hexadecimal.

A virtiofsd is PID 1 of a process namespace of its own, has no network and a file system in which nothing can be
written, but for the DIRECTORY if ACCESS is ``rw``, and dies with the monitor. Its connection is made in its own network
namespace, so that it has no name in the file system, and nobody else can take it.
"""

import contextlib
import ctypes
import fcntl
import os
import resource
import signal
import socket
import struct
import sys
from collections.abc import Iterator

if sys.platform != "linux":
    sys.exit("directories can be shared from Linux only")

_CLONE3, _MOUNT_SETATTR = 435, 442  # asm-generic/unistd.h: the same on every architecture
_CLONE_NEWNS, _CLONE_NEWUSER, _CLONE_NEWPID, _CLONE_NEWNET = 0x20000, 0x10000000, 0x20000000, 0x40000000  # sched.h
# linux/mount.h
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 1, 2, 4, 8
_MS_BIND, _MS_REC, _MS_PRIVATE = 1 << 12, 1 << 14, 1 << 18
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000  # linux/fcntl.h
_MOUNT_ATTR_RDONLY, _MOUNT_ATTR_NOSUID, _MOUNT_ATTR_NODEV = 1, 2, 4  # linux/mount.h
_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 1, 22, 2  # linux/prctl.h, linux/seccomp.h
_LISTENER, _DIRECTORY, _ALIVE = 3, 4, 5
_SOURCE = f"source=/proc/self/fd/{_DIRECTORY}/"  # however it is named: in an option a comma would end the name
_MOST_FILES = 1_000_000  # virtiofsd holds one open for each that the guest has seen

_UID, _GID = os.geteuid(), os.getegid()  # in a new namespace of users they are nobody's
_libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    """Share the directories, then become the program, with a device for each of them."""
    end = sys.argv.index("--")
    program = sys.argv[end + 1 :]
    if not program:
        _share([], "/", -1)
        return
    virtiofsd, *words = sys.argv[1:end]
    for number in range(len(words) // 5):
        alive, access, options, rules, directory = words[5 * number :][:5]
        command = [virtiofsd, f"--fd={_LISTENER}", "--rlimit-nofile=0", "-o", f"{_SOURCE},{options}"]
        connection = _share(command, directory, int(alive), writable=access == "rw", rules=bytes.fromhex(rules))
        os.close(int(alive))
        os.set_inheritable(connection, True)
        tag = f"aegis{number}"
        program += ["-chardev", f"socket,id={tag},fd={connection}"]
        program += ["-device", f"vhost-user-fs-device,chardev={tag},tag={tag},queue-size=1024"]
    os.execv(program[0], program)


def _share(virtiofsd: list[str], directory: str, alive: int, *, writable: bool = False, rules: bytes = b"") -> int:
    """The connection to a new *virtiofsd* for *directory*; an empty command only tries."""
    ours, theirs = socket.socketpair()
    child, users = _clone()
    if not child:
        ours.close()
        with _dying(directory):
            _isolate(users=users)
            _live(virtiofsd, _mounted(directory, writable=writable), theirs, alive, rules)
    theirs.close()
    with ours:
        descriptors = socket.recv_fds(ours, 1, 1)[1]
    if not (virtiofsd and descriptors):
        os.waitpid(child, 0)
    if not descriptors:
        sys.exit(1)  # the child has said why
    return descriptors[0]


def _clone() -> tuple[int, bool]:
    """Fork into new namespaces: as os.fork, and whether one of users was needed for the others."""
    for users in (0, _CLONE_NEWUSER):
        flags = _CLONE_NEWNS | _CLONE_NEWPID | _CLONE_NEWNET | users
        wanted = struct.pack("8Q", flags, 0, 0, 0, signal.SIGCHLD, 0, 0, 0)  # struct clone_args
        child = _libc.syscall(_CLONE3, wanted, len(wanted))
        if child >= 0:
            return child, bool(users)
    sys.exit(f"this user may not make namespaces: {os.strerror(ctypes.get_errno())}")


@contextlib.contextmanager
def _dying(directory: str) -> Iterator[None]:
    """End this process, with whoever started it, or when it cannot go on, in words."""
    try:
        _checked(_libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl")
        yield
    except OSError as error:
        os.write(2, os.fsencode(f"{directory} cannot be shared: {error}\n"))
    finally:
        os._exit(1)


def _live(virtiofsd: list[str], place: int, parent: socket.socket, alive: int, rules: bytes) -> None:
    listener = _connect(parent)
    if virtiofsd:
        _allow_many_files()
        _give({_LISTENER: listener, _DIRECTORY: place, _ALIVE: alive})
        os.closerange(_ALIVE + 1, 1 << 30)  # what the monitor is given is the monitor's
        _obey(rules)
        os.execv(virtiofsd[0], virtiofsd)


def _obey(rules: bytes) -> None:
    """Have the kernel keep this process, which can gain no privileges, to the seccomp filter *rules*."""
    held = ctypes.create_string_buffer(rules, len(rules))
    program = struct.pack("HxxxxxxP", len(rules) // 8, ctypes.addressof(held))  # struct sock_fprog
    _checked(_libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, program, 0, 0), "prctl")


def _isolate(*, users: bool) -> None:
    if users:
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"0 {_UID} 1")
        _write("/proc/self/gid_map", f"0 {_GID} 1")
    here = os.open("/", os.O_PATH | os.O_DIRECTORY)
    _go_to_the_top(here)
    _checked(_libc.mount(None, b"/", None, ctypes.c_ulong(_MS_REC | _MS_PRIVATE), None), "mount / privately")
    _set_attributes(b"/", _AT_RECURSIVE, _MOUNT_ATTR_RDONLY, 0)
    os.fchdir(here)
    os.chroot(".")
    flags = ctypes.c_ulong(_MS_RDONLY | _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
    _checked(_libc.mount(b"proc", b"/proc", b"proc", flags, None), "mount /proc")


def _go_to_the_top(here: int) -> None:
    """Make the root of all mounts this process's: in a chroot, / is no mount, and none of them could be changed."""
    os.fchdir(here)
    os.chroot("proc")  # anything below: what is outside of its root may go up to where there is no ..
    while not os.path.samefile(".", ".."):  # noqa: PTH121  # pathlib costs each boot some milliseconds
        os.chdir("..")
    os.chroot(".")


def _set_attributes(path: bytes, flags: int, wanted: int, unwanted: int) -> None:
    attributes = struct.pack("4Q", wanted, unwanted, 0, 0)  # struct mount_attr
    done = _libc.syscall(_MOUNT_SETATTR, _AT_FDCWD, path, flags, attributes, len(attributes))
    _checked(done, "change what may be written to")


def _mounted(directory: str, *, writable: bool) -> int:
    """*directory*, made a mount of its own; what is mounted below is never writable.

    Whoever holds a directory that is moved out of it finds nothing above; from one that is moved out of a mere chroot,
    ".." leads to the root of the host.
    """
    name = os.fsencode(directory)
    _checked(_libc.mount(name, name, None, ctypes.c_ulong(_MS_BIND | _MS_REC), None), "mount it on itself")
    if writable:
        _set_attributes(name, 0, _MOUNT_ATTR_NOSUID | _MOUNT_ATTR_NODEV, _MOUNT_ATTR_RDONLY)
    return os.open(directory, os.O_PATH | os.O_DIRECTORY)


def _connect(parent: socket.socket) -> int:
    """Give *parent* the one connection that the socket behind the descriptor will ever have."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("")  # the kernel names it, where only this network namespace sees it
    listener.listen(1)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(listener.getsockname())
        # If there is no parent any more this fails, and if it ends later it takes this process along.
        socket.send_fds(parent, [b"."], [connection.fileno()])
    return listener.detach()


def _give(descriptors: dict[int, int]) -> None:
    above = {number: fcntl.fcntl(descriptor, fcntl.F_DUPFD, 16) for number, descriptor in descriptors.items()}
    for number, descriptor in above.items():
        os.dup2(descriptor, number)


def _allow_many_files() -> None:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (_MOST_FILES, _MOST_FILES))
    except (OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:  # noqa: PTH123  # pathlib would cost each boot some milliseconds
        file.write(text)


def _checked(result: int, what: str) -> None:
    if result:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")


if __name__ == "__main__":
    main()
