"""The guest's kernel is recognized by what its file holds, and refused where it is none that can be booted here."""

from __future__ import annotations

import pytest

import aegis_sdk as aegis
from aegis_sdk.artifacts import Artifacts
from aegis_sdk.config import Config
from aegis_sdk.drivers import kernel, libraries
from aegis_sdk.drivers.kernel import Format

ARMS = b"\x1f\x20\x03\xd5".ljust(0x38, b"\0") + b"ARM\x64" + bytes(100)
ELFS = b"\x7fELF\x02\x01\x01".ljust(16, b"\0") + b"\2\0" + bytes(100)
LIBRARIES = {
    "linux": b"\x7fELF\x02\x01\x01".ljust(16, b"\0") + b"\3\0" + bytes(100),
    "macos": libraries.MACH_O + bytes(100),
}


@pytest.fixture
def file(tmp_path, monkeypatch):
    """Makes a kernel's file of what AEGIS_KERNEL holds, on a machine that boots such."""

    def file(content: bytes, boots: Format) -> bytes:
        (tmp_path / "source").write_bytes(content)
        monkeypatch.setattr(kernel, "FORMAT", boots)
        config = Config(home=tmp_path / "home", kernel=tmp_path / "source")
        return kernel.file(config, Artifacts(config.images)).read_bytes()

    return file


@pytest.mark.parametrize(("content", "own"), [(ARMS, Format.RAW), (ELFS, Format.ELF)])
def test_a_kernel_is_booted_as_it_is(file, content, own):
    """A kernel of this machine's architecture is what is booted; one of another is refused."""
    assert file(content, own) == content
    with pytest.raises(aegis.KernelNotFound, match="another architecture"):
        file(content, Format.ELF if own is Format.RAW else Format.RAW)


@pytest.mark.parametrize("library", LIBRARIES)
def test_arms_kernel_stays_as_it_is(file, monkeypatch, library):
    """What libkrunfw holds for ARM is written to a file byte by byte."""
    monkeypatch.setattr(kernel, "_extract", lambda _: (ARMS, 1 << 31, 1 << 31))
    assert file(LIBRARIES[library], Format.RAW) == ARMS


def test_what_is_no_kernel_for_arm(file, monkeypatch):
    """A libkrunfw whose kernel lacks the magic of ARM's is refused, and no file is left of it."""
    monkeypatch.setattr(kernel, "_extract", lambda _: (ELFS, 1 << 31, 1 << 31))
    for _ in range(2):
        with pytest.raises(aegis.KernelNotFound, match="is not one for ARM"):
            file(LIBRARIES["linux"], Format.RAW)


@pytest.mark.parametrize("content", [b"", b"\x7fELF", b"MZ" + bytes(100), ARMS[:0x3B]])
def test_what_is_neither(file, content):
    """A file that is neither a library nor a kernel is refused."""
    with pytest.raises(aegis.KernelNotFound, match="neither libkrunfw nor a kernel"):
        file(content, Format.ELF)
