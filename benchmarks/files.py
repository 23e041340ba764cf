"""Files to a guest and back: one of a GiB, and a tree of 20,000 small ones, each equal byte for byte afterwards."""

from __future__ import annotations

import filecmp
import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import aegis_sdk as aegis
from benchmarks.floor import Ground

SIZE = 1 << 30
COUNT = 20_000
_PIECE = 1 << 20
_MEMORY = 2560  # MiB; two thirds of it is what /tmp can hold


def large(ground: Ground) -> tuple[tuple[float, float], tuple[float, float]]:
    """MB/s of one large file up, and down, each with what the bare port does."""
    here, back = ground.config.home / "large", ground.config.home / "back"
    with here.open("wb") as out:
        out.writelines(random.randbytes(_PIECE) for _ in range(SIZE // _PIECE))
    with ground.boot(memory=_MEMORY) as floor:
        floors = floor.take(SIZE), floor.pour(SIZE)
    with aegis.Sandbox(memory=_MEMORY) as vm:
        up = _seconds(lambda: vm.files.upload(here, "/tmp/large"))
        down = _seconds(lambda: vm.files.download("/tmp/large", back))
    if not filecmp.cmp(here, back, shallow=False):
        raise SystemExit("the large file came back with other bytes")
    here.unlink()
    back.unlink()
    return (SIZE / up / 1e6, SIZE / floors[0] / 1e6), (SIZE / down / 1e6, SIZE / floors[1] / 1e6)


def tree(ground: Ground) -> tuple[tuple[float, float], tuple[float, float]]:
    """Seconds for a tree of small files up, and down, each with what tar needs, at both ends of a command."""
    here, back = ground.config.home / "tree", ground.config.home / "back"
    _plant(here)
    with aegis.Sandbox(memory=_MEMORY) as vm:
        vm.shell("mkdir /tmp/theirs", check=True)
        floors = _seconds(lambda: _pack(vm, here)), _seconds(lambda: _unpack(vm, ground.config.home / "theirs"))
        up = _seconds(lambda: vm.files.upload(here, "/tmp/ours"))
        down = _seconds(lambda: vm.files.download("/tmp/ours", back))
    if subprocess.run(["diff", "-r", here, back], check=False).returncode:
        raise SystemExit("the tree came back with other files")
    for directory in (here, back, ground.config.home / "theirs"):
        shutil.rmtree(directory)
    return (up, floors[0]), (down, floors[1])


def _plant(root: Path) -> None:
    for number in range(COUNT):
        path = root / str(number % 200) / str(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(number % 4096))


def _pack(vm: aegis.Sandbox, tree: Path) -> None:
    archive = subprocess.run(["tar", "-cC", tree, "."], check=True, capture_output=True).stdout
    vm.run("tar", "-x", "-C", "/tmp/theirs", input=archive, check=True)


def _unpack(vm: aegis.Sandbox, tree: Path) -> None:
    archive = vm.run("tar", "-c", "-C", "/tmp/theirs", ".", check=True).stdout_bytes
    tree.mkdir()
    subprocess.run(["tar", "-xC", tree], input=archive, check=True)


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
