"""What to do about a command that failed for a limit of its guest."""

from __future__ import annotations

from collections.abc import Sequence

_READ_ONLY = (
    "the guest's root is read-only, as are mounts that say so: write to /tmp, /var or /workspace, or boot it with"
    " writable=True (aegis run --writable)"
)
_FULL = (
    "there is no room for more files: boot it with more disk= (aegis run --disk), which is part of its memory, or with"
    " more memory= for /run and for very many files; in a mount it is this machine's file system that is full"
)
_PROCESSES = "the guest reached its limit of processes: boot it with more processes= (aegis run --processes)"
_MEMORY = "the guest ran out of memory: boot it with more memory= (aegis run --memory)"
#: What programs say in the words of their C library, and our harness in its own, and what helps.
_SAID = {
    b"Read-only file system": _READ_ONLY,
    b"No space left on device": _FULL,
    b": too many processes run in this guest": _PROCESSES,
}


def hint(code: int, stderr: bytes, *, out_of_memory: bool, out_of_processes: bool, refused: Sequence[str] = ()) -> str:
    """What helps a command that ended with exit code *code*; empty if it went well, or none of this is the reason.

    *refused* are words about what its guest was refused, which may be why.
    """
    if not code:
        return ""
    if out_of_memory:
        return _MEMORY
    if out_of_processes:
        return _PROCESSES
    return next((helps for said, helps in _SAID.items() if said in stderr), "\n".join(refused))
