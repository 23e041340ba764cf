"""What the EROFS writer writes is what a guest's kernel reads."""

from __future__ import annotations

import hashlib
import os
import stat
from collections import Counter
from pathlib import Path

import attrs
import pytest
from hypothesis import HealthCheck, Phase, given, settings

import aegis_sdk as aegis
from aegis_sdk.config import Config
from aegis_sdk.engine.images import LocalImages
from aegis_sdk.engine.local import LocalEngine
from aegis_sdk.images.base import FoundImage
from aegis_sdk.images.cache import OpenImage
from aegis_sdk.images.disks import Disk
from aegis_sdk.images.erofs import ErofsWriter
from aegis_sdk.images.layers.merge import Merge
from aegis_sdk.images.local.busybox import BusyboxLayer, find
from aegis_sdk.images.references import Record
from aegis_sdk.images.tree import Directory, Special, Symlink
from tests.sdk.erofs_trees import Blob, kind_and_permissions, link_count, paths, store, trees

# Every inode's mode, owner, group, links, device, time and size, each with its name, and all contents and targets in
# the same order. Not through the root: there, overlayfs would take a device 0:0 for a deleted file.
WALK = """
mount -t erofs -o ro /dev/vdb /workspace && cd /workspace/t || exit 1
find . -print0 | sort -z | xargs -0 -n 1 sh -c 'stat -c "%f %u %g %h %t %T %Y %s" "$0"; printf "%s\\0" "$0"'
find . -type f -print0 | sort -z | xargs -0 -r cat | sha256sum >&2
find . -type l -print0 | sort -z | xargs -0 -r -n 1 readlink -n | sha256sum >&2
"""


class OneDisk:
    """In place of the cache of images: whatever is asked for, it is this disk."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def open(self, reference: str, **_: object) -> OpenImage:
        about = FoundImage(reference=reference, digest="", architecture="", config=aegis.ImageConfig(), layers=())
        record = Record.of(about, reference=reference, disk="", pulled=0)
        return OpenImage(record, Disk(self._path, os.open(self._path, os.O_RDONLY)))


def _without_acls(root: Directory) -> Directory:
    """Random bytes are no access control list: the kernel refuses to look into a directory that has them for one."""
    for _, node in paths(root):
        for name in [name for name in node.metadata.xattrs if name.startswith(b"system.")]:
            del node.metadata.xattrs[name]
    return root


def _make(path: Path, root: Directory) -> None:
    with path.open("wb") as out:
        writer = ErofsWriter(out)
        merge = Merge(writer.add)
        merge.apply(BusyboxLayer.of(find()).entries())
        merge.root.entries[b"t"] = store(writer, root)
        writer.finish(merge.root)


def _expected(root: Directory) -> tuple[dict[bytes, str], list[bytes]]:
    names = Counter(node for _, node in paths(root))
    about = {}
    for name, node in paths(root):
        metadata, size = node.metadata, 0
        if isinstance(node, Blob):
            size = len(node.content)
        elif isinstance(node, Symlink):
            size = len(node.target)
        device = isinstance(node, Special) and node.kind in (stat.S_IFCHR, stat.S_IFBLK)
        major, minor = (node.major, node.minor) if device else (0, 0)
        about[b"." + name] = (
            f"{kind_and_permissions(node):x} {metadata.uid} {metadata.gid} {link_count(node, names)}"
            f" {major:x} {minor:x} {metadata.mtime_ns // 10**9} {'-' if isinstance(node, Directory) else size}"
        )
    ordered = sorted((b"." + name, node) for name, node in paths(root) if not isinstance(node, (Directory, Special)))
    contents = b"".join(node.content for _, node in ordered if isinstance(node, Blob))
    links = b"".join(node.target for _, node in ordered if isinstance(node, Symlink))
    return about, [hashlib.sha256(data).hexdigest().encode() for data in (contents, links)]


def _found(output: bytes) -> dict[bytes, str]:
    found = {}
    for record in output.split(b"\0")[:-1]:
        line, _, name = record.partition(b"\n")
        *words, size = line.decode().split()
        found[name] = " ".join([*words, "-" if stat.S_ISDIR(int(words[0], 16)) else size])
    return found


@pytest.mark.timeout(100)
@settings(
    max_examples=4,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(trees().map(_without_acls))
def test_a_guest_reads_any_tree(tmp_path, home, root):
    """Whatever tree is written, a guest's kernel shows each inode of it as it was meant."""
    image = tmp_path / "image.erofs"
    _make(image, root)
    config = Config(home=Path(os.environ["AEGIS_HOME"]))
    engine = LocalEngine(config)
    images = LocalImages(OneDisk(image), config)  # type: ignore[arg-type]
    engine._booting = attrs.evolve(engine._booting, images=images)
    with aegis.Sandbox("any", engine=engine) as vm:
        done = vm.shell(WALK, timeout=60, check=True)
    about, digests = _expected(root)
    assert _found(done.stdout_bytes) == about
    assert [line.split()[0] for line in done.stderr_bytes.splitlines()[-2:]] == digests
