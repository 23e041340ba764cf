"""The image ``base``: a small Linux made of this system's static busybox."""

from __future__ import annotations

import subprocess
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO

import attrs

from aegis_sdk import packages
from aegis_sdk.artifacts import Artifacts, edition
from aegis_sdk.errors import Unavailable
from aegis_sdk.images.tree import Directory, File, Metadata, Symlink
from aegis_sdk.model import Check

if TYPE_CHECKING:
    from aegis_sdk.images.erofs import ErofsWriter

_LAYOUT = 1  # to be raised when what is written here changes
_PT_INTERP = 3
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

    _artifacts: Artifacts

    def claims(self, reference: str) -> bool:
        return reference == "base"

    def disk(self, reference: str) -> Path:  # noqa: ARG002  # there is but one
        busybox = find()
        name = f"base-{_LAYOUT}-{edition(busybox)}.erofs"
        return self._artifacts.get(name, lambda out: write(out, busybox.read_bytes(), applets(busybox)))

    def check(self) -> tuple[Check, ...]:
        try:
            return (Check(name="base image", ok=True, seen=f"made of {find()}"),)
        except Unavailable as error:
            return (Check(name="base image", ok=False, seen=error.message, fix=error.hint),)


def find() -> Path:
    """The statically linked busybox of this system."""
    found = packages.program("busybox")
    for path in (Path("/bin/busybox"), Path("/usr/sbin/busybox"), Path(found or "/usr/bin/busybox")):
        if path.is_file() and is_static(path):
            return path
    seen = f"{found} is not statically linked" if found else "there is no busybox"
    raise Unavailable(f"the image 'base' is made of a static busybox: {seen}", hint=packages.to_install("busybox"))


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


def write(out: BinaryIO, busybox: bytes, commands: list[str]) -> None:
    """Write the image's disk."""
    from aegis_sdk.images.erofs import ErofsWriter

    writer = ErofsWriter(out)
    writer.finish(tree(writer, busybox, commands))


def tree(writer: ErofsWriter, busybox: bytes, commands: list[str]) -> Directory:
    """The image's tree, its files stored by *writer*."""
    root = Directory({}, Metadata())
    for path, permissions in _DIRECTORIES.items():
        _put(root, path, Directory({}, Metadata(permissions=permissions)))
    for path, text in _FILES.items():
        _put(root, path, File(writer.add([text.encode()]), Metadata(permissions=0o644)))
    _put(root, "bin/busybox", File(writer.add([busybox]), Metadata()))
    for path in commands:
        if path != "bin/busybox":
            _put(root, path, Symlink(b"/bin/busybox", Metadata(permissions=0o777)))
    return root


def _put(root: Directory, path: str, node: Directory | File | Symlink) -> None:
    *parents, name = PurePosixPath(path).parts
    directory = root
    for parent in parents:
        below = directory.entries.setdefault(parent.encode(), Directory({}, Metadata()))
        if not isinstance(below, Directory):
            raise TypeError(f"{path} lies below something that is no directory")
        directory = below
    directory.entries[name.encode()] = node
