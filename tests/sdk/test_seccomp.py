"""The filter that keeps what shares a directory to what that takes, read as the kernel reads it."""

from __future__ import annotations

import errno
import struct

import pytest

from aegis_sdk.drivers import seccomp

X86_64, I386 = 0xC000003E, 0x40000003
ALLOW, KILL = 0x7FFF0000, 0x80000000


def _judge(program: bytes, number: int, *arguments: int, architecture: int = X86_64) -> int:
    """What the kernel would do about a system call."""
    data = struct.pack("=IIQ6Q", number, architecture, 0, *arguments, *[0] * (6 - len(arguments)))
    statements = list(struct.iter_unpack("=HBBI", program))
    at, held = 0, 0
    while True:
        code, if_true, if_false, value = statements[at]
        at += 1
        match code:
            case 0x20:
                held = struct.unpack_from("=I", data, value)[0]
            case 0x06:
                return int(value)
            case 0x15:
                at += if_true if held == value else if_false
            case 0x35:
                at += if_true if held >= value else if_false
            case 0x45:
                at += if_true if held & value else if_false
            case _:
                pytest.fail(f"statement {at - 1} is none that is known: {code:#x}")


@pytest.mark.parametrize("read_only", [True, False])
def test_what_both_say(read_only):
    """Ordinary calls are allowed, becoming another is pretended, and other systems' calls end the process."""
    program = seccomp.for_sharing(read_only=read_only)
    assert len(program) % 8 == 0
    assert [_judge(program, number) for number in (0, 1, 59, 262, 449)] == [ALLOW] * 5
    assert [_judge(program, number) for number in (116, 117, 119)] == [0x50000] * 3
    assert _judge(program, 0, architecture=I386) == KILL
    assert _judge(program, 0x40000000 | 268) == KILL


@pytest.mark.parametrize(
    ("number", "arguments"),
    [(2, 2), (85, 1), (257, 3), (83, 1), (258, 2), (90, 1), (91, 1), (268, 2), (452, 2), (133, 1), (259, 2)],
)
def test_modes(number, arguments):
    """A call with a mode may set all but the set-ID bits; mknod may make a FIFO or a socket, and no device."""
    program = seccomp.for_sharing(read_only=False)

    def judge(mode: int) -> int:
        return _judge(program, number, *[0o7777] * arguments, mode)

    assert [judge(mode) for mode in (0, 0o644, 0o1777, 0o100755, 0o140600)] == [ALLOW] * 5
    assert [judge(mode) for mode in (0o4000, 0o2000, 0o6755)] == [0x50000 | errno.EPERM] * 3
    if number in (133, 259):
        assert [judge(mode) for mode in (0o20666, 0o60666)] == [0x50000 | errno.EPERM] * 2
        assert judge(0o10644) == ALLOW


def test_owners_and_attributes():
    """Giving a file away is pretended, attributes are refused, and what a filter cannot see into is not there."""
    program = seccomp.for_sharing(read_only=False)
    assert [_judge(program, number, 7, 7) for number in (92, 93, 94, 260)] == [0x50000] * 4
    assert [_judge(program, number) for number in (188, 189, 190)] == [0x50000 | errno.EPERM] * 3
    assert [_judge(program, number) for number in (425, 437)] == [0x50000 | errno.ENOSYS] * 2
