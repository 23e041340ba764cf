"""Makes the layers of a large image, and unpacks them: ``python -m benchmarks.layers DIRECTORY OUT``."""

from __future__ import annotations

import hashlib
import io
import json
import random
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any, BinaryIO

import attrs

#: Files and bytes of each layer: together 100,000 and 2 GB.
_LAYERS = ((30_000, 800 << 20), (60_000, 1000 << 20), (10_000, 200 << 20))
_FILES_A_DIRECTORY = 20


@attrs.define
class _Hashing:
    """Writes to *out* and hashes what it writes."""

    out: IO[bytes]
    hash: Any = attrs.field(factory=hashlib.sha256)

    def write(self, data: bytes) -> int:
        self.hash.update(data)
        return self.out.write(data)


def make(directory: Path) -> None:
    """Write the layers, gzipped, and the digests of their tars."""
    directory.mkdir()
    chance = random.Random(1)
    words = [bytes(chance.choices(b"abcdefghijklmnopqrstuvwxyz_ ()\n", k=chance.randint(3, 12))) for _ in range(4000)]
    pool = b" ".join(chance.choices(words, k=400_000)) + chance.randbytes(1 << 20)
    for number, (files, total) in enumerate(_LAYERS):
        with (directory / f"{number}.tar.gz").open("wb") as out:
            gzip = subprocess.Popen(["gzip", "-5"], stdin=subprocess.PIPE, stdout=out)
            assert gzip.stdin
            with gzip, tarfile.open(fileobj=_Hashing(gzip.stdin), mode="w|") as tar:  # type: ignore[call-overload]
                hashed = tar.fileobj.fileobj.hash
                for info, content in _files(number, files, total, partial(_content, chance, pool), chance):
                    tar.addfile(info, content)
        (directory / f"{number}.digest").write_text(f"sha256:{hashed.hexdigest()}")


def _files(
    layer: int, count: int, total: int, content: Callable[[int], bytes], chance: random.Random
) -> Iterator[tuple[tarfile.TarInfo, io.BytesIO | None]]:
    shares = [chance.lognormvariate(8, 2) for _ in range(count)]
    unit = total / sum(shares)
    for number, share in enumerate(shares):
        folder = f"usr/lib/layer{layer}/{number // 400}/{number // _FILES_A_DIRECTORY}"
        if number % _FILES_A_DIRECTORY == 0:
            yield _info(folder, type=tarfile.DIRTYPE, mode=0o755), None
        data = content(int(share * unit))
        yield _info(f"{folder}/module-{number}.py", size=len(data), mtime=1_700_000_000.5 + number), io.BytesIO(data)


def _info(name: str, **fields: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for key, value in fields.items():
        setattr(info, key, value)
    return info


def _content(chance: random.Random, pool: bytes, size: int) -> bytes:
    pieces = []
    while size:
        at = chance.randrange(len(pool))
        pieces.append(pool[at : at + min(size, chance.randint(1000, 60_000))])
        size -= len(pieces[-1])
    return b"".join(pieces)


def ours(directory: Path, out: Path) -> tuple[float, float]:
    """Seconds that the layers take to become a disk, and the megabytes that were resident at most, in a new process."""
    command = [sys.executable, "-m", "benchmarks.layers", str(directory), str(out)]
    seconds, memory = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return seconds, memory


def theirs(directory: Path, out: Path) -> float:
    """Seconds that tar takes to unpack the same layers."""
    out.mkdir()
    start = time.perf_counter()
    for number in range(len(_LAYERS)):
        subprocess.run(["tar", "-C", out, "-xf", directory / f"{number}.tar.gz"], check=True)
    return time.perf_counter() - start


def _unpack(directory: Path, path: Path) -> tuple[float, float]:
    from aegis_sdk.images.layers import disk
    from aegis_sdk.images.layers.tar import TarLayer

    stored = [directory / f"{number}.tar.gz" for number in range(len(_LAYERS))]
    digests = [(directory / f"{number}.digest").read_text() for number in range(len(_LAYERS))]
    layers = [
        TarLayer(digest=digest, size=tar.stat().st_size, open=partial(_open, tar))
        for digest, tar in zip(digests, stored, strict=True)
    ]
    start = time.perf_counter()
    with path.open("w+b") as out:
        disk.write(out, layers, lambda _: None)
    return time.perf_counter() - start, peak()


def peak() -> float:
    """The megabytes that this process had resident at most; its ru_maxrss would begin with its parent's."""
    words = Path("/proc/self/status").read_text().split()
    return int(words[words.index("VmHWM:") + 1]) / 1e3


def _open(path: Path) -> BinaryIO:
    return path.open("rb")


if __name__ == "__main__":
    print(json.dumps(_unpack(*map(Path, sys.argv[1:]))))
