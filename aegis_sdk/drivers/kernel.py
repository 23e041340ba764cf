"""The guest kernel: found inside libkrunfw, and made a file that monitors boot.

libkrunfw exports ``krunfw_get_kernel``, which gives the kernel's loadable part and where it belongs. On x86-64 it is
wrapped as an ELF file, which QEMU enters through a PVH note (https://xenbits.xen.org/docs/unstable/misc/pvh.html); the
kernel carries that note in its own image, named "Xen", type 18 (XEN_ELFNOTE_PHYS32_ENTRY). On ARM it is what Linux
calls an Image, with a header of its own (https://docs.kernel.org/arch/arm64/booting.html), and stays as it is.
"""

from __future__ import annotations

import enum
import os
import struct
import sys
from pathlib import Path
from typing import BinaryIO

from aegis_sdk.artifacts import Artifacts, edition
from aegis_sdk.config import Config
from aegis_sdk.drivers import libraries
from aegis_sdk.drivers.virtualization import ARM
from aegis_sdk.errors import KernelNotFound
from aegis_sdk.model import Check

_LIBRARY = "libkrunfw.5.dylib" if sys.platform == "darwin" else "libkrunfw.so.5"
# Without numdummies the kernel makes an interface dummy0, and the guest is to have none but the loopback.
_COMMAND_LINE = "console=hvc0 quiet panic=-1 root=/dev/vda rootfstype=erofs ro init=/init dummy.numdummies=0"
_NOTE = struct.Struct("<III4s")
_PVH = _NOTE.pack(4, 8, 18, b"Xen\0")
_ET_EXEC, _ET_DYN = 2, 3
_PAGE = 4096
_NAMED = "name a libkrunfw or a kernel, or leave AEGIS_KERNEL out"
_ARM_MAGIC, _ARM_MAGIC_AT = b"ARM\x64", 0x38


class Format(enum.IntEnum):
    """What a kernel's file is, by krun_set_kernel's numbers."""

    RAW = 0
    ELF = 1


#: What monitors take on this machine.
FORMAT = Format.RAW if ARM else Format.ELF


def check(config: Config) -> Check:
    """Whether there is a guest kernel, and where."""
    try:
        return Check(name="guest kernel", ok=True, seen=str(find(config)))
    except KernelNotFound as error:
        return Check(name="guest kernel", ok=False, seen=error.message, fix=error.hint)


def find(config: Config) -> Path:
    """The libkrunfw, or the kernel that AEGIS_KERNEL names, to boot from."""
    if config.kernel:
        if os.access(config.kernel, os.R_OK) and config.kernel.is_file():
            return config.kernel
        raise KernelNotFound(f"AEGIS_KERNEL names {config.kernel}, which is not a file that can be read", hint=_NAMED)
    if library := next(libraries.named(_LIBRARY), None):
        return library
    raise KernelNotFound(
        f"no guest kernel: {_LIBRARY} is neither in this system nor in Python's packages", hint=_hint()
    )


def file(config: Config, artifacts: Artifacts) -> Path:
    """A file of the kernel, in the format that is FORMAT; made once from each libkrunfw."""
    source = find(config)
    if (own := _format(source)) is FORMAT:
        return source
    if own is not None:
        raise KernelNotFound(f"{source} is a kernel of another architecture than this machine's", hint=_hint())

    def make(out: BinaryIO) -> None:
        image, load, entry = _extract(source)
        out.write(wrap(image, load, entry) if FORMAT is Format.ELF else _checked(image, source))

    return artifacts.get(f"kernel-{edition(source)}.{FORMAT.name.lower()}", make)


def command_line(*, reboot: str = "") -> str:
    """What every guest's kernel is told; *reboot* is how it restarts, and that is how it ends its monitor.

    Without it, it does so as its processors' architecture has it: on ARM by PSCI, which needs no word.
    """
    return f"{_COMMAND_LINE} reboot={reboot}" if reboot else _COMMAND_LINE


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


def _format(path: Path) -> Format | None:
    """What kernel the file *path* is; None if it is a library."""
    with path.open("rb") as source:
        head = source.read(64)
    kind = int.from_bytes(head[16:18], "little") if head[:4] == b"\x7fELF" else 0
    if kind == _ET_EXEC:
        return Format.ELF
    if _is_arms(head):
        return Format.RAW
    if kind == _ET_DYN or head[:4] == libraries.MACH_O:
        return None
    raise KernelNotFound(f"{path} is neither libkrunfw nor a kernel", hint=_hint())


def _is_arms(image: bytes) -> bool:
    return image[_ARM_MAGIC_AT : _ARM_MAGIC_AT + 4] == _ARM_MAGIC


def _checked(image: bytes, library: Path) -> bytes:
    if not _is_arms(image):
        raise KernelNotFound(f"the kernel in {library} is not one for ARM", hint=_hint())
    return image


def _hint() -> str:
    return f"install one with: {sys.executable} -m pip install smolmachines"
