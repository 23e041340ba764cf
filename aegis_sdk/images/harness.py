"""The disk that every guest starts from: the harness as /init, and empty directories to mount on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

from aegis_sdk.artifacts import Artifacts, edition
from aegis_sdk.errors import HarnessNotFound
from aegis_sdk.images.tree import Directory, File, Metadata
from aegis_sdk.model import Check

_PROGRAMS = Path(__file__).parent.parent / "_harness"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
_MOUNT_POINTS = (b"dev", b"mnt", b"proc", b"sys")
_HINT = "install Aegis again with pip, which builds the harness"


def disk(artifacts: Artifacts) -> Path:
    """The harness's disk for guests of this machine's architecture; HarnessNotFound if none is installed."""
    program = _program()
    return artifacts.get(f"harness-{edition(program)}.erofs", lambda out: _write(out, program.read_bytes()))


def check() -> Check:
    """Whether a harness is installed."""
    try:
        return Check(name="guest harness", ok=True, seen=str(_program()))
    except HarnessNotFound as error:
        return Check(name="guest harness", ok=False, seen=error.message, fix=error.hint)


def architecture() -> str:
    """What guests of this machine are, by Go's name for it."""
    machine = os.uname().machine
    return _ARCHITECTURES.get(machine, machine)


def _program() -> Path:
    if architecture() not in _ARCHITECTURES.values():
        raise HarnessNotFound(f"there is no guest harness for {os.uname().machine}")
    path = _PROGRAMS / architecture() / "init"
    if not path.is_file():
        raise HarnessNotFound(f"the guest harness is missing: {path}", hint=_HINT)
    return path


def _write(out: BinaryIO, program: bytes) -> None:
    from aegis_sdk.images.erofs import ErofsWriter

    writer = ErofsWriter(out)
    init = File(writer.add([program]), Metadata())
    empty = {name: Directory({}, Metadata()) for name in _MOUNT_POINTS}
    writer.finish(Directory({b"init": init, **empty}, Metadata()))
