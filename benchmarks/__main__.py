"""Run every benchmark, print a table, and write it as JSON.

    python -m benchmarks [--driver NAME] [--json FILE] [NAME...]
    scripts/test-libkrun -- .venv/bin/python -m benchmarks --driver libkrun boot exec output

Each figure is the median of rounds, unless it says otherwise, in which figure and floor take turns, so that a machine
whose speed drifts is as slow for the one as for the other.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import attrs

import aegis_sdk as aegis
from benchmarks import apps, files, layers, outgoing, remote, router
from benchmarks.floor import Ground

_POURED = 200 << 20
_LEAST = "from benchmarks import layers; import aegis_sdk; print(layers.peak())"


@attrs.frozen
class Figure:
    """One row: what was measured, what it is measured against, and what is to be held."""

    what: str
    unit: str
    figure: float
    floor: float
    bar: str
    held: bool

    @property
    def ratio(self) -> float:
        return self.figure / self.floor


def boot(ground: Ground) -> Figure:
    """Cold: from ``Sandbox()`` to the first command's result."""
    ours, floors = [], []
    for _ in range(9):
        with ground.boot() as floor:
            floors.append(floor.ready)
        start = time.perf_counter()
        with aegis.Sandbox() as vm:
            vm.run("true")
            ours.append(time.perf_counter() - start)
    figure, floor_ = statistics.median(ours), statistics.median(floors)
    return Figure("cold boot to first result", "s", figure, floor_, "1.3 x", figure <= 1.3 * floor_)


def execute(ground: Ground) -> Figure:
    """The round trip of ``run("true")``."""
    ours, floors = [], []
    with ground.boot() as floor, aegis.Sandbox() as vm:
        for _ in range(10):
            floors.append(floor.spawn(20) * 1e3)
            for _ in range(10):
                start = time.perf_counter()
                vm.run("true")
                ours.append((time.perf_counter() - start) * 1e3)
    figure, floor_ = statistics.median(ours), statistics.median(floors)
    return Figure('run("true")', "ms", figure, floor_, "+ 2 ms", figure <= floor_ + 2)


def round_trip(ground: Ground) -> Figure:
    """The same against the static init's round trip: a request over the bare port, fork, exec, wait, an answer."""
    ours, floors = [], []
    with ground.boot() as floor, aegis.Sandbox() as vm:
        for _ in range(100):
            floors.append(floor.spawn(1) * 1e3)
            start = time.perf_counter()
            vm.run("true")
            ours.append((time.perf_counter() - start) * 1e3)
    figure, floor_ = statistics.median(ours), statistics.median(floors)
    return Figure('run("true"), bare port', "ms", figure, floor_, "1.3 x", figure <= 1.3 * floor_)


def output(ground: Ground) -> Figure:
    """What a command writes, until Python has it."""
    ours, floors = [], []
    with ground.boot() as floor, aegis.Sandbox() as vm:
        for _ in range(5):
            floors.append(_POURED / floor.pour(_POURED) / 1e6)
            start = time.perf_counter()
            vm.run("dd", "if=/dev/zero", "bs=64k", f"count={_POURED >> 16}", check=True)
            ours.append(_POURED / (time.perf_counter() - start) / 1e6)
    figure, floor_ = statistics.median(ours), statistics.median(floors)
    return Figure("stdout to Python", "MB/s", figure, floor_, "0.6 x", figure >= 0.6 * floor_)


def importing(_ground: Ground) -> Figure:
    """``import aegis_sdk`` in a new interpreter."""
    ours, floors = [], []
    for _ in range(15):
        floors.append(_seconds(sys.executable, "-c", "pass") * 1e3)
        ours.append(_seconds(sys.executable, "-c", "import aegis_sdk") * 1e3)
    figure, floor_ = statistics.median(ours), statistics.median(floors)
    return Figure("import aegis_sdk", "ms", figure, floor_, "+ 45 ms", figure <= floor_ + 45)


def command_line(_ground: Ground) -> Figure:
    """``aegis run -- true`` against the same through the SDK in a running interpreter; the best of each.

    Both contain a boot, which varies by more than what is to be measured: noise only ever adds.
    """
    ours, floors = [], []
    for _ in range(12):
        start = time.perf_counter()
        with aegis.Sandbox() as vm:
            vm.run("true")
        floors.append((time.perf_counter() - start) * 1e3)
        ours.append(_seconds(sys.executable, "-m", "aegis_cli", "run", "--", "true") * 1e3)
    figure, floor_ = min(ours), min(floors)
    return Figure("aegis run -- true", "ms", figure, floor_, "+ 150 ms", figure <= floor_ + 150)


def idle(ground: Ground) -> Figure:
    """What a guest that does nothing keeps resident."""
    ours, floors = [], []
    for _ in range(3):
        with ground.boot() as floor, aegis.Sandbox() as vm:
            time.sleep(2)
            floors.append(_resident(floor.pid))
            ours.append(_resident(vm.info().pid))
    figure, floor_ = statistics.median(ours), statistics.median(floors)
    return Figure("idle guest, resident", "MB", figure, floor_, "+ 8 MB", figure <= floor_ + 8)


def unpack(ground: Ground) -> Figure:
    """Three layers of 100,000 files and 2 GB, gzipped, to a disk; against ``tar -xf`` of the same."""
    return _unpacking(ground)[0]


def unpack_memory(ground: Ground) -> Figure:
    """What that keeps resident at most; against an interpreter that has imported the package."""
    return _unpacking(ground)[1]


@functools.cache
def _unpacking(ground: Ground) -> tuple[Figure, Figure]:
    home = ground.config.home / "layers"
    layers.make(home)
    ours, floors = [], []
    for _ in range(2):
        floors.append(layers.theirs(home, home / "tree"))
        shutil.rmtree(home / "tree")
        ours.append(layers.ours(home, home / "disk"))
    shutil.rmtree(home)
    seconds, memory = (statistics.median(column) for column in zip(*ours, strict=True))
    floor_ = statistics.median(floors)
    least = float(subprocess.run([sys.executable, "-c", _LEAST], check=True, capture_output=True).stdout)
    return (
        Figure("unpack 100,000 files, 2 GB", "s", seconds, floor_, "3 x", seconds <= 3 * floor_),
        Figure("unpack, resident", "MB", memory, least, "200 MB", memory <= 200),
    )


def upload(ground: Ground) -> Figure:
    """A file of a GiB to the guest; against as many bytes over the bare port, into a file, too."""
    figure, floor_ = _large(ground)[0]
    return Figure("upload of 1 GiB", "MB/s", figure, floor_, "0.5 x", figure >= 0.5 * floor_)


def download(ground: Ground) -> Figure:
    """The same file from the guest, to a file here; against as many bytes over the bare port, to nowhere."""
    figure, floor_ = _large(ground)[1]
    return Figure("download of 1 GiB", "MB/s", figure, floor_, "0.6 x", figure >= 0.6 * floor_)


def upload_tree(ground: Ground) -> Figure:
    """20,000 small files to the guest; against tar here, and tar there."""
    figure, floor_ = _tree(ground)[0]
    return Figure("upload of 20,000 files", "s", figure, floor_, "1.3 x", figure <= 1.3 * floor_)


def download_tree(ground: Ground) -> Figure:
    """The same files from the guest; against tar there, and tar here."""
    figure, floor_ = _tree(ground)[1]
    return Figure("download of 20,000 files", "s", figure, floor_, "1.3 x", figure <= 1.3 * floor_)


def daemon_command_line(_ground: Ground) -> Figure:
    """``aegis run -- true`` through the daemon; against the same without one."""
    figure, floor_ = remote.command_line()
    return Figure("aegis run, by the daemon", "ms", figure, floor_, "+ 50 ms", figure <= floor_ + 50)


def daemon_exec(_ground: Ground) -> Figure:
    """The round trip of ``run("true")`` in a sandbox of the daemon's; against one of this process."""
    figure, floor_ = remote.execute()
    return Figure('run("true"), by the daemon', "ms", figure, floor_, "+ 2 ms", figure <= floor_ + 2)


def daemon_tasks(_ground: Ground) -> Figure:
    """Empty tasks a second; against cold boots a second."""
    figure, floor_ = remote.tasks()
    return Figure("empty tasks", "1/s", figure, floor_, "0.8 x", figure >= 0.8 * floor_)


def routing_one(_ground: Ground) -> Figure:
    """Small answers through the router, over one connection; against nginx in its place."""
    return _routing(1)


def routing_some(_ground: Ground) -> Figure:
    """The same over 32 connections."""
    return _routing(32)


def routing_many(_ground: Ground) -> Figure:
    """The same over 256."""
    return _routing(256)


def port(ground: Ground) -> Figure:
    """1 GiB from a port of a guest; against as many bytes over the bare port of the machine."""
    figure, floor_ = apps.transfer(ground)
    return Figure("1 GiB from a port", "MB/s", figure, floor_, "0.3 x", figure >= 0.3 * floor_)


def outgoing_down(ground: Ground) -> Figure:
    """64 MiB into a guest by a connection that it opened; against QEMU's user networking, with a card in the guest."""
    return _outgoing("64 MiB in from outside", "MB/s", outgoing.down(ground), bar=0.5)


def outgoing_up(ground: Ground) -> Figure:
    """As many out of it."""
    return _outgoing("64 MiB out", "MB/s", outgoing.up(ground), bar=0.5)


def outgoing_connections(ground: Ground) -> Figure:
    """Connections that a guest opens one after another; against the same."""
    return _outgoing("connections out", "1/s", outgoing.connections(ground), bar=0.2)


def app_one(_ground: Ground) -> Figure:
    """Small answers of an app's guest through the router, over one connection; against the guest dialled directly."""
    return _app(1)


def app_some(_ground: Ground) -> Figure:
    """The same over 32 connections."""
    return _app(32)


def app_many(_ground: Ground) -> Figure:
    """The same over 256."""
    return _app(256)


def wake_paused(ground: Ground) -> Figure:
    """A request to an app that is paused; against a bare SIGCONT and one word of the guest."""
    figure, floor_ = apps.paused(ground)
    return Figure("answer of a paused app", "ms", figure, floor_, "+ 30 ms", figure <= floor_ + 30)


def wake_stopped(_ground: Ground) -> Figure:
    """A request to an app that is stopped; against a cold boot to the first command's result."""
    figure, floor_ = apps.stopped()
    return Figure("answer of a stopped app", "s", figure, floor_, "1.3 x", figure <= 1.3 * floor_)


def _outgoing(name: str, unit: str, rate: outgoing.Rate, *, bar: float) -> Figure:
    if rate.port:
        print(f"  the bare port {rate.port:8.1f} {unit}", flush=True)
    return Figure(name, unit, rate.ours, rate.card, f"{bar} x", rate.ours >= bar * rate.card)


def _app(connections: int) -> Figure:
    ours, floor_ = apps.loads(connections)
    _print(router=ours, direct=floor_)
    name = f"app's guest, {connections} connections"
    return Figure(name, "1/s", ours.per_second, floor_.per_second, "0.5 x", ours.per_second >= 0.5 * floor_.per_second)


def _routing(connections: int) -> Figure:
    """Requests for each second that the one core of the proxy works: who asks and who answers have the other cores."""
    ours, theirs = router.loads(connections)
    _print(router=ours, nginx=theirs)
    figure, floor_ = ours.per_cpu_second, theirs.per_cpu_second
    return Figure(f"router, {connections} connections", "1/s", figure, floor_, "0.25 x", figure >= 0.25 * floor_)


def _print(**loads: router.Load) -> None:
    for name, load in loads.items():
        print(f"  {name:7} {load.per_second:8.0f} a second  p50 {load.p50:7.3f} ms  p99 {load.p99:7.3f} ms", flush=True)


_large = functools.cache(files.large)
_tree = functools.cache(files.tree)


def _seconds(*command: str) -> float:
    start = time.perf_counter()
    subprocess.run(command, stdin=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def _resident(pid: int | None) -> float:
    words = Path(f"/proc/{pid}/status").read_text().split()
    return int(words[words.index("VmRSS:") + 1]) / 1e3


BENCHMARKS: dict[str, Callable[[Ground], Figure]] = {
    "boot": boot,
    "exec": execute,
    "round-trip": round_trip,
    "output": output,
    "import": importing,
    "cli": command_line,
    "daemon-cli": daemon_command_line,
    "daemon-exec": daemon_exec,
    "daemon-tasks": daemon_tasks,
    "idle": idle,
    "unpack": unpack,
    "unpack-memory": unpack_memory,
    "upload": upload,
    "download": download,
    "upload-tree": upload_tree,
    "download-tree": download_tree,
    "router": routing_one,
    "router-32": routing_some,
    "router-256": routing_many,
    "app": app_one,
    "app-32": app_some,
    "app-256": app_many,
    "port": port,
    "outgoing-down": outgoing_down,
    "outgoing-up": outgoing_up,
    "outgoing-connections": outgoing_connections,
    "wake-paused": wake_paused,
    "wake-stopped": wake_stopped,
}


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("--driver", default="qemu", choices=("qemu", "libkrun"), help="what boots the guests")
    parser.add_argument("--json", type=Path, help="also write the table to this file")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    options = parser.parse_args()
    if unknown := set(options.names) - set(BENCHMARKS):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    with tempfile.TemporaryDirectory(prefix="aegis-benchmarks-") as home:
        os.environ["AEGIS_HOME"] = home
        os.environ["AEGIS_DRIVER"] = options.driver
        ground = Ground.lay(Path(home), driver=options.driver)
        figures = [_report(BENCHMARKS[name](ground)) for name in options.names or BENCHMARKS]
    if options.json:
        options.json.write_text(json.dumps([{**attrs.asdict(f), "ratio": f.ratio} for f in figures], indent=2) + "\n")


def _report(figure: Figure) -> Figure:
    print(
        f"{figure.what:28} {figure.figure:9.2f} {figure.unit:5} floor {figure.floor:9.2f}  ratio {figure.ratio:5.2f}"
        f"  bar {figure.bar:9} {'held' if figure.held else 'MISSED'}",
        flush=True,
    )
    return figure


main()
