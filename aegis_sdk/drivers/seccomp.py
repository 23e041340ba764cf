"""What the kernel keeps a virtiofsd from doing, whatever its guest makes of it: a seccomp filter, as bytes.

https://www.kernel.org/doc/html/latest/userspace-api/seccomp_filter.html; the numbers are those of x86-64, which is
where QEMU boots guests.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator

_ALLOW, _ERRNO, _KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000  # linux/seccomp.h
_ARCHITECTURE, _X32 = 0xC000003E, 0x40000000  # linux/audit.h, asm/unistd.h
_LOAD, _RETURN, _EQUAL, _AT_LEAST, _ANY_BIT = 0x20, 0x06, 0x15, 0x35, 0x45  # linux/bpf_common.h
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16  # struct seccomp_data

# A user and groups of one's own: it would become whom the guest names, who is nobody here.
_TO_BE_ANOTHER = {"setgroups": 116, "setresuid": 117, "setresgid": 119}
_TO_GIVE_AWAY = {"chown": 92, "fchown": 93, "lchown": 94, "fchownat": 260}
_UNKNOWN = {"io_uring_setup": 425, "openat2": 437}  # their arguments are where no filter sees them
_FORBIDDEN = {"setxattr": 188, "lsetxattr": 189, "fsetxattr": 190}  # capabilities of files are attributes
_SET_ID = 0o6000
_DEVICE = 0o20000  # of a character or a block
#: Calls that make a file or change its mode: their number, and which argument is the mode.
_MODES = {
    "open": (2, 2),
    "creat": (85, 1),
    "openat": (257, 3),
    "mkdir": (83, 1),
    "mkdirat": (258, 2),
    "chmod": (90, 1),
    "fchmod": (91, 1),
    "fchmodat": (268, 2),
    "fchmodat2": (452, 2),
    "mknod": (133, 1),
    "mknodat": (259, 2),
}


def for_sharing(*, read_only: bool) -> bytes:
    """The filter of a process that shares a directory, as an array of struct sock_filter.

    All that it makes is its own user's: calls that would change owners do nothing, and say that they have. It can make
    no device, and no file with the identity of its owner for whoever runs it.
    """
    return b"".join(_statement(*words) for words in _program(read_only=read_only))


def _program(*, read_only: bool) -> Iterator[tuple[int, int, int, int]]:
    yield (_LOAD, 0, 0, _ARCHITECTURE_AT)
    yield from _unless(_EQUAL, _ARCHITECTURE, _KILL_PROCESS)
    yield (_LOAD, 0, 0, _NUMBER_AT)
    yield from _when(_AT_LEAST, _X32, _KILL_PROCESS)
    for number in _TO_BE_ANOTHER.values():
        yield from _when(_EQUAL, number, _ERRNO)
    if not read_only:
        yield from _writing()
    yield (_RETURN, 0, 0, _ALLOW)


def _writing() -> Iterator[tuple[int, int, int, int]]:
    for numbers, error in ((_TO_GIVE_AWAY, 0), (_UNKNOWN, errno.ENOSYS), (_FORBIDDEN, errno.EPERM)):
        for number in numbers.values():
            yield from _when(_EQUAL, number, _ERRNO | error)
    for name, (number, argument) in _MODES.items():
        refused = _SET_ID | _DEVICE if name.startswith("mknod") else _SET_ID
        yield (_EQUAL, 0, 4, number)
        yield (_LOAD, 0, 0, _ARGUMENTS_AT + 8 * argument)
        yield from _when(_ANY_BIT, refused, _ERRNO | errno.EPERM)
        yield (_RETURN, 0, 0, _ALLOW)


def _when(test: int, value: int, answer: int) -> Iterator[tuple[int, int, int, int]]:
    yield (test, 0, 1, value)
    yield (_RETURN, 0, 0, answer)


def _unless(test: int, value: int, answer: int) -> Iterator[tuple[int, int, int, int]]:
    yield (test, 1, 0, value)
    yield (_RETURN, 0, 0, answer)


def _statement(code: int, if_true: int, if_false: int, value: int) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)
