"""The image ``base``, made of this machine's busybox."""

import os

import pytest

from aegis_sdk.errors import ArchitectureNotFound, ImageFailed, Unavailable
from aegis_sdk.images.base import Kind
from aegis_sdk.images.local import busybox
from aegis_sdk.images.local.busybox import BaseImage

OWN = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]


def test_base_image():
    """It is one layer of directories, files and a link for each of busybox's commands."""
    source = BaseImage()
    assert source.claims("base")
    assert not source.claims("base:latest")
    assert source.canonical("base") == "base"
    image = source.find("base", architecture=OWN)
    (layer,) = image.layers
    entries = {entry.path: entry for entry in layer.entries()}
    assert entries[b"tmp"].metadata.permissions == 0o1777
    assert b"".join(entries[b"bin/busybox"].content) == busybox.find().read_bytes()
    assert (entries[b"bin/sh"].kind, entries[b"bin/sh"].target) == (Kind.SYMLINK, b"/bin/busybox")
    assert len([entry for entry in entries.values() if entry.kind is Kind.SYMLINK]) > 200
    assert source.find("base", architecture=OWN) == image
    assert source.check()[0].ok


def test_another_busybox(monkeypatch, tmp_path):
    """Another busybox makes another layer."""
    before = BaseImage().find("base", architecture=OWN)
    program = tmp_path / "busybox"
    program.write_bytes(busybox.find().read_bytes())
    program.chmod(0o755)
    monkeypatch.setattr(busybox, "find", lambda: program)
    (layer,) = BaseImage().find("base", architecture=OWN).layers
    assert layer.digest != before.layers[0].digest
    program.write_bytes(busybox.find().read_bytes() + b"\0")
    with pytest.raises(ImageFailed, match="was changed while it was read"):
        list(layer.entries())


def test_another_architecture():
    """There is no base image for guests that this machine's busybox does not run on."""
    with pytest.raises(ArchitectureNotFound, match=rf"no linux/s390x variant found in base \(has: linux/{OWN}\)"):
        BaseImage().find("base", architecture="s390x")


def test_a_system_that_has_none(monkeypatch):
    """Where base cannot be made at all it is not required, and another image is what helps."""
    monkeypatch.setattr(busybox, "_CAN_BE_MADE", False)
    (check,) = BaseImage().check()
    assert (check.ok, check.required) == (False, False)
    with pytest.raises(Unavailable) as caught:
        BaseImage().find("base", architecture=OWN)
    assert caught.value.hint == check.fix == "name another image, such as alpine"
