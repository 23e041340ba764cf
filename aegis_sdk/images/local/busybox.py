"""The image ``base``: a small Linux made of this system's static busybox."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs

from aegis_sdk import packages
from aegis_sdk.artifacts import edition
from aegis_sdk.errors import ArchitectureNotFound, ImageFailed, Unavailable
from aegis_sdk.images import digests
from aegis_sdk.images.base import Entry, FoundImage, Kind
from aegis_sdk.images.tree import Metadata
from aegis_sdk.model import Check, ImageConfig

_CAN_BE_MADE = sys.platform == "linux"
_LAYOUT = 1  # to be raised when what is written here changes
_PT_INTERP = 3
_MACHINES = {62: "amd64", 183: "arm64"}
_DIRECTORIES = {
    "bin": 0o755, "dev": 0o755, "etc": 0o755, "home": 0o755, "mnt": 0o755, "opt": 0o755, "proc": 0o555,
    "root": 0o700, "run": 0o755, "sbin": 0o755, "srv": 0o755, "sys": 0o555, "tmp": 0o1777, "usr": 0o755,
    "usr/bin": 0o755, "usr/sbin": 0o755, "usr/local": 0o755, "usr/local/bin": 0o755, "var": 0o755,
    "var/log": 0o755, "var/tmp": 0o1777, "workspace": 0o755,
}  # fmt: skip
_FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    "etc/group": "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n",
    "etc/shells": "/bin/sh\n",
    "etc/os-release": 'ID=aegis-base\nNAME="Aegis base"\nPRETTY_NAME="Aegis base (busybox)"\n',
}


@attrs.frozen
class BaseImage:
    """The image source of ``base``."""

    name = "base"
    remembers = False

    def claims(self, reference: str) -> bool:
        return reference == "base"

    def canonical(self, reference: str) -> str:
        return reference

    def find(self, reference: str, *, architecture: str) -> FoundImage:
        layer = BusyboxLayer.of(find())
        if (own := _architecture(layer.busybox)) != architecture:
            raise ArchitectureNotFound(f"no linux/{architecture} variant found in base (has: linux/{own})")
        return FoundImage(
            reference=reference,
            digest=digests.of(layer.digest.encode()),
            architecture=architecture,
            config=ImageConfig(),
            layers=(layer,),
        )

    def check(self) -> tuple[Check, ...]:
        try:
            return (Check(name="base image", ok=True, seen=f"made of {find()}"),)
        except Unavailable as error:
            seen, fix = error.message, error.hint
            return (Check(name="base image", ok=False, seen=seen, fix=fix, required=_CAN_BE_MADE),)


@attrs.frozen(kw_only=True)
class BusyboxLayer:
    """All of the image: a *busybox*, links to it for its commands, and what a small Linux needs besides."""

    busybox: Path
    digest: str
    size: int

    @classmethod
    def of(cls, busybox: Path) -> BusyboxLayer:
        """The layer made of *busybox* as it is now."""
        return cls(busybox=busybox, digest=f"busybox:{_LAYOUT}:{edition(busybox)}", size=busybox.stat().st_size)

    def fetch(self, report: Callable[[int], None]) -> None:
        """Nothing has to come from elsewhere."""
        report(self.size)

    def entries(self) -> Iterator[Entry]:
        """The image's tree."""
        for path, permissions in _DIRECTORIES.items():
            yield Entry(path=path.encode(), kind=Kind.DIRECTORY, metadata=Metadata(permissions=permissions))
        for path, text in _FILES.items():
            yield _file(path, text.encode(), Metadata(permissions=0o644))
        yield _file("bin/busybox", self.busybox.read_bytes(), Metadata())
        link = Metadata(permissions=0o777)
        for path in applets(self.busybox):
            if path != "bin/busybox":
                yield Entry(path=path.encode(), kind=Kind.SYMLINK, target=b"/bin/busybox", metadata=link)
        if self != self.of(self.busybox):
            raise ImageFailed(f"{self.busybox} was changed while it was read", hint="try again")


def _file(path: str, content: bytes, metadata: Metadata) -> Entry:
    return Entry(path=path.encode(), kind=Kind.FILE, content=(content,), size=len(content), metadata=metadata)


def find() -> Path:
    """The statically linked busybox of this system."""
    if not _CAN_BE_MADE:
        raise Unavailable("the image 'base' is made of Linux's busybox", hint="name another image, such as alpine")
    found = packages.program("busybox")
    for path in (Path("/bin/busybox"), Path("/usr/sbin/busybox"), Path(found or "/usr/bin/busybox")):
        if path.is_file() and is_static(path):
            return path
    seen = f"{found} is not statically linked" if found else "there is no busybox"
    raise Unavailable(f"the image 'base' is made of a static busybox: {seen}", hint=packages.to_install("busybox"))


def _architecture(program: Path) -> str:
    with program.open("rb") as file:
        machine = int.from_bytes(file.read(20)[18:], "little")
    return _MACHINES.get(machine, f"ELF machine {machine}")


def is_static(path: Path) -> bool:
    """Whether *path* is a 64-bit ELF program that needs no dynamic linker."""
    with path.open("rb") as file:
        head = file.read(64)
        if head[:5] != b"\x7fELF\x02":
            return False
        start, size, count = (int.from_bytes(head[a:b], "little") for a, b in ((32, 40), (54, 56), (56, 58)))
        file.seek(start)
        table = file.read(size * count)
    kinds = [int.from_bytes(table[at : at + 4], "little") for at in range(0, len(table), size)]
    return _PT_INTERP not in kinds


def applets(busybox: Path) -> list[str]:
    """Where *busybox* wants its commands, such as ``bin/sh``."""
    try:
        said = subprocess.run([busybox, "--list-full"], capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise Unavailable(f"{busybox} does not run: {error}", hint=packages.to_install("busybox")) from error
    return said.split()
