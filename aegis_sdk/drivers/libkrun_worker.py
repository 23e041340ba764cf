"""Becomes a libkrun machine.

    python -I -S confine.py PARENT libkrun_worker.py NAME=VALUE...

Run as a program of its own, with the standard library alone: ``krun_start_enter`` never returns, it ends the process.
All that it is told is on its command line and in inherited descriptors; what it says in the end is on standard error.
"""

import ctypes
import os
import sys
from typing import NoReturn

_STRING, _NUMBER, _FLAG = ctypes.c_char_p, ctypes.c_uint32, ctypes.c_bool
ARGUMENTS = {
    "krun_set_log_level": (_NUMBER,),
    "krun_create_ctx": (),
    "krun_set_vm_config": (_NUMBER, ctypes.c_uint8, _NUMBER),
    "krun_set_kernel": (_NUMBER, _STRING, _NUMBER, _STRING, _STRING),
    "krun_add_disk": (_NUMBER, _STRING, _STRING, _FLAG),
    "krun_add_vsock": (_NUMBER, _NUMBER),
    "krun_add_vsock_port2": (_NUMBER, _NUMBER, _STRING, _FLAG),
    "krun_add_virtio_console_default": (_NUMBER, ctypes.c_int, ctypes.c_int, ctypes.c_int),
    "krun_start_enter": (_NUMBER,),
}
_IMPLICIT = ("krun_disable_implicit_console", "krun_disable_implicit_init", "krun_disable_implicit_vsock")
# On macOS to open one is to duplicate the descriptor: a disk stays one that can only be read, as on Linux.
_DESCRIPTORS = "/dev/fd" if sys.platform == "darwin" else "/proc/self/fd"
_PORT = 1024  # what the harness calls; guest_harness/link/vsock.go


def main() -> None:
    """Make the machine that the command line tells of, and become it."""
    told = dict(word.split("=", 1) for word in sys.argv[1:])
    krun = _load(told["library"], told["renderer"])
    # Before anything else: the first call that logs would fix the level.
    _call(krun, "krun_set_log_level", int(told["log"]))
    context = _call(krun, "krun_create_ctx")
    _call(krun, "krun_set_vm_config", context, int(told["cpus"]), int(told["memory"]))
    _call(krun, "krun_set_kernel", context, _path(told["kernel"]), int(told["format"]), None, told["append"].encode())
    for disk in ("harness", "image"):
        _call(krun, "krun_add_disk", context, disk.encode(), _descriptor(told[disk]), True)
    for name in _IMPLICIT:
        if hasattr(krun, name):
            _check(name, getattr(krun, name)(_NUMBER(context)))
    _call(krun, "krun_add_vsock", context, 0)
    _call(krun, "krun_add_vsock_port2", context, _PORT, _path(told["port"]), False)
    console = int(told["console"])
    _call(krun, "krun_add_virtio_console_default", context, console, console, console)
    _call(krun, "krun_start_enter", context)


def _load(path: str, renderer: str) -> ctypes.CDLL:
    try:
        if renderer:
            # Such a build does not say that it needs it, and finds it only if it is there already, for all to see.
            ctypes.CDLL(renderer, mode=ctypes.RTLD_GLOBAL)
        return ctypes.CDLL(path)
    except OSError as error:
        _fail(f"{path} cannot be loaded: {error}")


def _call(krun: ctypes.CDLL, name: str, *arguments: object) -> int:
    function = getattr(krun, name, None)
    if function is None:
        _fail(f"the library lacks {name}")
    function.argtypes = ARGUMENTS[name]
    return _check(name, function(*arguments))


def _check(name: str, result: int) -> int:
    if result < 0:
        _fail(f"{name}: {os.strerror(-result)}")
    return result


def _path(path: str) -> bytes:
    return os.fsencode(path)


def _descriptor(number: str) -> bytes:
    return f"{_DESCRIPTORS}/{int(number)}".encode()


def _fail(what: str) -> NoReturn:
    sys.exit(f"libkrun: {what}")


if __name__ == "__main__":
    main()
