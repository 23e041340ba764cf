"""Everything in an image, as a guest sees it, is what umoci makes of the same layers."""

from __future__ import annotations

import json
import os
import runpy
from pathlib import Path

import pytest

from tests.images_made import said

pytestmark = pytest.mark.timeout(120)  # thousands of files, read in software emulation

#: Prints what every name below a directory is, all that the kernel knows of it; a guest has nothing but Python.
LOOK = r"""
import hashlib, json, os, stat, sys


def look(path):
    seen = os.lstat(path)
    kind = stat.S_IFMT(seen.st_mode)
    about = {"mode": oct(seen.st_mode), "owner": [seen.st_uid, seen.st_gid], "mtime": seen.st_mtime_ns}
    about["xattrs"] = {n: os.getxattr(path, n, follow_symlinks=False).hex()
                       for n in os.listxattr(path, follow_symlinks=False)}
    if kind != stat.S_IFDIR:
        about |= {"size": seen.st_size, "links": seen.st_nlink}
    if kind == stat.S_IFREG:
        with open(path, "rb") as file:
            about["content"] = hashlib.file_digest(file, "sha256").hexdigest()
    elif kind == stat.S_IFLNK:
        about["target"] = os.readlink(path)
    elif kind in (stat.S_IFCHR, stat.S_IFBLK):
        about["device"] = [os.major(seen.st_rdev), os.minor(seen.st_rdev)]
    return about

def walk(top, skipped):
    found = {}
    inodes = {}
    pending = [""]
    while pending:
        inside = pending.pop()
        for entry in os.scandir(f"{top}/{inside}"):
            name = f"{inside}/{entry.name}"
            if name in skipped:
                continue
            found[name] = look(entry.path)
            if entry.is_dir(follow_symlinks=False):
                pending.append(name)
            else:
                inodes.setdefault(os.lstat(entry.path).st_ino, []).append(name)
    shared = sorted(sorted(names) for names in inodes.values() if len(names) > 1)
    return {"found": found, "shared": shared}

if __name__ == "__main__":
    print(json.dumps(walk(sys.argv[1], set(sys.argv[2:]))))
"""
#: What the harness puts into every guest.
OURS = (
    "/proc",
    "/sys",
    "/dev",
    "/tmp",
    "/run",
    "/workspace",
    "/var",
    "/etc/hosts",
    "/etc/hostname",
    "/etc/resolv.conf",
)
#: What has changed because of these: made for the working directory, or with files in it.
CHANGED = ("/app", "/app/below", "/etc")


@pytest.mark.skipif(os.geteuid() != 0, reason="only the machine's own root makes devices and gives files away")
def test_every_inode(registry, images, tmp_path, boot):
    """Type, mode, owner, size, links, content, target, device, attributes and time of every name agree."""
    said("umoci", "raw", "unpack", "--image", f"{images.path}:odd", tmp_path / "unpacked")
    (tmp_path / "look.py").write_text(LOOK)
    expected = runpy.run_path(str(tmp_path / "look.py"))["walk"](str(tmp_path / "unpacked"), set(OURS))
    vm = boot(image=registry.name("odd:1"), memory=1024)
    done = vm.run("python3", "-X", "utf8", "-c", LOOK, "/", *OURS, timeout=100, check=True)
    seen = json.loads(done.stdout)
    for name in CHANGED:
        expected["found"].pop(name, None)
        del seen["found"][name]
    assert _odd_names(expected["found"]) >= {
        "/odd/sparse",
        "/odd/disk",
        "/odd/later-link",
        "/odd/replaced-by-umoci/new",
    }
    for name, about in expected["found"].items():
        assert seen["found"].get(name) == about, name
    assert set(seen["found"]) == set(expected["found"])
    assert seen["shared"] == expected["shared"]


def _odd_names(found: dict[str, object]) -> set[str]:
    return {name for name in found if Path(name).is_relative_to("/odd")}
