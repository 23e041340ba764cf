"""Directories of the host in a QEMU machine: the virtiofsd that shares them, found and put beside the monitor."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from aegis_sdk import packages
from aegis_sdk.drivers import seccomp
from aegis_sdk.drivers.base import Shared
from aegis_sdk.errors import DriverUnavailable
from aegis_sdk.model import Check, printable

_SHARE = Path(__file__).with_name("share.py")
# Written in Rust, and before QEMU 8.0 in C.
_PROGRAMS = ("/usr/libexec/virtiofsd", "/usr/lib/virtiofsd", "/usr/lib/qemu/virtiofsd", "/usr/libexec/qemu/virtiofsd")
_OPTIONS = "cache=auto,sandbox=chroot"
# It has to read whatever is there; what could change an owner is dropped. (The other one has no such option.)
_OPTIONS_OF_C = f"{_OPTIONS},log_level=err,modcaps=-chown:-fsetid:-mknod:-setfcap:-setuid:-setgid"
_NO_WRITER = ":-fowner"  # who changes the modes and times of others' files


def command(directories: Iterable[tuple[int, Shared]], monitor: Sequence[str]) -> list[str]:
    """The command that shares *directories* and becomes *monitor*; DriverUnavailable if there is no way to share.

    Each directory has its descriptor, which is closed when nobody shares it any more.
    """
    program = _find()
    if not program:
        raise DriverUnavailable("virtiofsd, which shares directories, is not installed", hint=_hint())
    if refused := _refused():
        raise DriverUnavailable(f"directories cannot be shared here: {refused}", hint=_how_to_be_allowed())
    words = (word for pipe, shared in directories for word in (str(pipe), *_terms(program, shared)))
    return [*_share(), program, *words, "--", *monitor]


def _terms(program: str, shared: Shared) -> tuple[str, ...]:
    """How *program* is to share it: what ``share.py`` takes after the descriptor."""
    options = _OPTIONS_OF_C + (_NO_WRITER if shared.read_only else "") if _is_in_c(program) else _OPTIONS
    rules = seccomp.for_sharing(read_only=shared.read_only)
    return "ro" if shared.read_only else "rw", options, rules.hex(), str(shared.directory)


def arguments(memory: int) -> tuple[str, ...]:
    """What QEMU is told so that another process can see the guest's memory (MiB), and Linux the device."""
    return (
        *("-object", f"memory-backend-memfd,id=memory,size={memory}M,share=on", "-machine", "memory-backend=memory"),
        *("-global", "virtio-mmio.force-legacy=false"),
    )


def check() -> Check:
    """Whether a guest can be given directories of this host."""
    name = "file sharing"
    program = _find()
    if not program:
        return Check(name=name, ok=False, seen="virtiofsd is not installed", fix=_hint(), required=False)
    if refused := _refused():
        return Check(name=name, ok=False, seen=refused, fix=_how_to_be_allowed(), required=False)
    return Check(name=name, ok=True, seen=program, required=False)


def _find() -> str | None:
    for path in _PROGRAMS:
        if os.access(path, os.X_OK):
            return path
    return packages.program("virtiofsd")


def _share() -> tuple[str, ...]:
    return (sys.executable, "-I", "-S", str(_SHARE))


def _is_in_c(program: str) -> bool:
    return "/qemu/" in program


def _refused() -> str:
    """Why this user cannot have a view of the file system of its own; empty if all is well."""
    try:
        done = subprocess.run([*_share(), "--"], stderr=subprocess.PIPE, timeout=20, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        return f"{_SHARE.name} does not run: {error}"
    return printable(done.stderr.decode("utf-8", "replace").strip()) if done.returncode else ""


def _hint() -> str:
    return packages.to_install("virtiofsd")


def _how_to_be_allowed() -> str:
    return "run as root" if os.geteuid() else "let this container make mounts, namespaces and its own /proc"
