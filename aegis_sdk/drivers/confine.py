"""Becomes a machine's monitor, confined.

    python -I -S confine.py PARENT PROGRAM ARGUMENT...

Run as a program of its own between a driver and its monitor, with the standard library alone. The monitor gains no
privileges, dumps no core (it holds the guest's memory) and dies with who started it. A PROGRAM that is a Python file
runs in this same interpreter, because starting another would take as long as all of this.
"""

import ctypes
import os
import sys

# By their numbers: the modules that name them take longer to import than all of this takes to run.
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38  # linux/prctl.h
_SIGKILL, _RLIMIT_FSIZE, _RLIMIT_CORE = 9, 1, 4
_GLANCE = 0.25


def main() -> None:
    """Confine this process, then become the program."""
    parent, *command = sys.argv[1:]
    if sys.platform == "linux":
        be_bound()
    else:
        watch(int(parent))
    if os.getppid() != int(parent):
        sys.exit("the process that wanted this machine has gone")  # before its death could be a signal
    libc = ctypes.CDLL(None, use_errno=True)
    _checked(libc.setrlimit(_RLIMIT_CORE, (ctypes.c_ulong * 2)(0, 0)), "setrlimit")
    _lift(libc, _RLIMIT_FSIZE)  # the guest's memory may be a file
    os.chdir("/")
    if not command[0].endswith(".py"):
        os.execv(command[0], command)
    sys.argv = command
    with open(command[0], "rb") as file:  # noqa: PTH123  # runpy and pathlib would take longer than all of this, too
        exec(compile(file.read(), command[0], "exec"), {"__name__": "__main__"})  # noqa: S102  # a file of ours


def _lift(libc: ctypes.CDLL, resource: int) -> None:
    """Raise a limit as far as its owner lets everyone raise it."""
    limits = (ctypes.c_ulong * 2)()
    _checked(libc.getrlimit(resource, limits), "getrlimit")
    limits[0] = limits[1]
    _checked(libc.setrlimit(resource, limits), "setrlimit")


def _checked(result: int, what: str) -> None:
    if result:
        sys.exit(f"{what}: {os.strerror(ctypes.get_errno())}")


def be_bound() -> None:
    """Have Linux end this process with the thread that started it, and whatever it becomes; it gains no privileges."""
    libc = ctypes.CDLL(None, use_errno=True)
    for option, value in ((_PR_SET_PDEATHSIG, _SIGKILL), (_PR_SET_NO_NEW_PRIVS, 1)):
        _checked(libc.prctl(option, value, 0, 0, 0), f"prctl {option}")


def watch(parent: int) -> None:
    """Have a thread end this process within a quarter of a second of *parent*, also while a library's call lasts.

    It looks rather than waits: an orphan has another parent, on every system, whatever its parent died of.
    """
    import threading  # late: Linux does without
    import time

    def end_with_parent() -> None:
        while os.getppid() == parent:
            time.sleep(_GLANCE)
        os.kill(os.getpid(), _SIGKILL)

    threading.Thread(target=end_with_parent, daemon=True).start()


if __name__ == "__main__":
    main()
