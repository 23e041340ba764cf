"""Becomes a machine's monitor, confined.

    python -I -S confine.py PARENT PROGRAM ARGUMENT...

Run as a program of its own between a driver and its monitor, with the standard library alone. The monitor gains no
privileges, dumps no core (it holds the guest's memory) and dies with the thread that started it.
"""

import ctypes
import os
import resource
import signal
import sys

_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38  # linux/prctl.h


def main() -> None:
    """Confine this process, then become the program."""
    parent, *command = sys.argv[1:]
    libc = ctypes.CDLL(None, use_errno=True)
    for option, value in ((_PR_SET_PDEATHSIG, signal.SIGKILL), (_PR_SET_NO_NEW_PRIVS, 1)):
        if libc.prctl(option, value, 0, 0, 0):
            sys.exit(f"prctl {option}: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != int(parent):
        sys.exit("the process that wanted this machine has gone")  # before its death could be a signal
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.chdir("/")
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
