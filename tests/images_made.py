"""Images that nobody here made: by tar and umoci, of Debian's packages."""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import subprocess
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs

from aegis_sdk.images.local.busybox import find

GUEST = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
FOREIGN = "arm64" if GUEST == "amd64" else "amd64"
_INDEX = "application/vnd.oci.image.index.v1+json"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_TIME = 1_600_000_000


def said(*words: str | Path) -> str:
    """What a command says; an error that shows it if the command fails."""
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, f"{words}: {done.stderr}"
    return done.stdout


def skopeo(source: str, target: str, *options: str) -> None:
    """Copy an image as a user of skopeo does."""
    said("skopeo", "--insecure-policy", "copy", "--quiet", *options, source, target)


@attrs.frozen
class Layout:
    """An OCI layout that umoci fills; its tags are the names of the images."""

    path: Path

    def reference(self, tag: str) -> str:
        return f"oci:{self.path}:{tag}"

    def digest(self, tag: str) -> str:
        (found,) = (entry["digest"] for entry in self._index()["manifests"] if _name(entry) == tag)
        return str(found)

    def manifest(self, tag: str) -> dict[str, Any]:
        return self.json(self.digest(tag))

    def json(self, digest: str) -> dict[str, Any]:
        return dict(json.loads(self.blob(digest).read_bytes()))

    def blob(self, digest: str) -> Path:
        return self.path / "blobs" / digest.replace(":", "/")

    def new(self, tag: str) -> None:
        said("umoci", "new", "--image", f"{self.path}:{tag}")
        said("umoci", "config", "--image", f"{self.path}:{tag}", "--architecture", GUEST, "--os", "linux")

    def add(self, tag: str, tar: Path) -> None:
        said("umoci", "raw", "add-layer", "--image", f"{self.path}:{tag}", tar)

    def insert(self, tag: str, *words: str | Path) -> None:
        rootless = ["--rootless"] if os.geteuid() else []
        said("umoci", "insert", *rootless, "--image", f"{self.path}:{tag}", *words)

    def configure(self, tag: str, new: str, *options: str) -> None:
        """Make *new* of *tag*, with other settings."""
        said("umoci", "config", "--image", f"{self.path}:{tag}", "--tag", new, *options)

    def add_index(self, tag: str, manifests: Iterable[Mapping[str, Any]]) -> None:
        """An image for several platforms, which umoci does not make."""
        described = self.store({"schemaVersion": 2, "mediaType": _INDEX, "manifests": list(manifests)})
        index = self._index()
        names = {"org.opencontainers.image.ref.name": tag}
        index["manifests"].append({"mediaType": _INDEX, **described, "annotations": names})
        (self.path / "index.json").write_text(json.dumps(index))

    def entry(self, tag: str, architecture: str) -> dict[str, Any]:
        """What an index says of the image *tag*."""
        digest = self.digest(tag)
        target = {"mediaType": _MANIFEST, "digest": digest, "size": self.blob(digest).stat().st_size}
        return {**target, "platform": {"os": "linux", "architecture": architecture}}

    def store(self, value: object) -> dict[str, Any]:
        data = json.dumps(value).encode()
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.blob(digest).write_bytes(data)
        return {"digest": digest, "size": len(data)}

    def _index(self) -> dict[str, Any]:
        return dict(json.loads((self.path / "index.json").read_bytes()))


def _name(entry: Mapping[str, Any]) -> str:
    return str(entry.get("annotations", {}).get("org.opencontainers.image.ref.name", ""))


def make(work: Path) -> Layout:
    """All images in one layout."""
    layout = Layout(work / "layout")
    said("umoci", "init", "--layout", layout.path)
    _make_hello(layout, work)
    _make_python(layout, work)
    _make_odd(layout, work)
    _make_indexes(layout)
    return layout


def _make_hello(layout: Layout, work: Path) -> None:
    """``hello``: one static program and nothing else."""
    root = work / "hello"
    root.mkdir()
    (root / "busybox").write_bytes(find().read_bytes())
    (root / "busybox").chmod(0o755)
    layout.new("hello")
    layout.add("hello", _tar(root))
    words = ("/busybox", "echo", "hello from scratch")
    layout.configure("hello", "hello", *(f"--config.entrypoint={word}" for word in words))
    layout.configure("hello", "foreign", "--architecture", FOREIGN)


def _make_python(layout: Layout, work: Path) -> None:
    """``python``: a small Debian with Python in three layers; ``python-user``: the same for another user."""
    layout.new("python")
    for tar in (_system(work / "system"), _interpreter(work / "interpreter"), _program(work / "program")):
        layout.add("python", tar)
    settings = {
        "env": ["PATH=/usr/bin:/srv", "GREETING=hello from the image", "EMPTY="],
        "workingdir": ["/app/below"],
        "entrypoint": ["python3", "-u"],
        "cmd": ["-c", "print('nothing was asked for')"],
    }
    options = [f"--config.{name}={value}" for name, values in settings.items() for value in values]
    layout.configure("python", "python", *options)
    layout.configure("python", "python-user", "--config.user=app")


def _system(root: Path) -> Path:
    for name in ("bin", "lib", "lib64", "sbin"):
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    _copy_packages(root, "libc6", "libexpat1", "libffi8", "zlib1g")
    (root / "usr/bin/busybox").write_bytes(find().read_bytes())
    (root / "usr/bin/busybox").chmod(0o755)
    for name in ("sh", "ls", "cat", "id"):
        (root / "usr/bin" / name).symlink_to("busybox")
    (root / "etc").mkdir(exist_ok=True)
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\napp:x:1234:2345::/home/app:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\napp:x:2345:\n")
    return _tar(root)


def _interpreter(root: Path) -> Path:
    version = Path("/usr/bin/python3").readlink().name
    _copy_packages(root, "python3-minimal", f"{version}-minimal", f"lib{version}-minimal", f"lib{version}-stdlib")
    return _tar(root)


def _program(root: Path) -> Path:
    (root / "srv").mkdir(parents=True)
    (root / "srv/greet").write_text("#!/usr/bin/python3\nimport os\nprint(os.environ['GREETING'])\n")
    (root / "srv/greet").chmod(0o755)
    (root / "srv/python").symlink_to("/usr/bin/python3")
    return _tar(root)


def _copy_packages(root: Path, *names: str) -> None:
    """What Debian's packages have put on this system, where usr-merged it truly is."""
    for line in said("dpkg", "-L", *names).splitlines():
        path = Path(line)
        if not os.path.lexists(path) or (path.is_dir() and not path.is_symlink()) or "/usr/share/" in line:
            continue
        target = root / (path.parent.resolve() / path.name).relative_to("/")
        if os.path.lexists(target):  # libc6's /lib64/ld-linux is also below /lib
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.is_symlink():
            target.symlink_to(path.readlink())
        else:
            target.write_bytes(path.read_bytes())
            target.chmod(path.stat().st_mode & 0o777)


def _make_odd(layout: Layout, work: Path) -> None:
    """``odd``: Python's image under all that a layer can say: every kind, owner, time, attribute, and what removes."""
    layout.configure("python", "odd", "--created", "2020-09-13T12:26:40Z")
    layout.add("odd", _write_kinds(work / "kinds.tar"))
    layout.add("odd", _write_sparse(work / "sparse"))
    layout.add("odd", _write_changes(work / "changes.tar"))
    layout.insert("odd", "--whiteout", "/odd/removed-by-umoci")
    (work / "instead").mkdir()
    (work / "instead/new").write_text("the only one left\n")
    layout.insert("odd", "--opaque", work / "instead", "/odd/replaced-by-umoci")


def _write_kinds(path: Path) -> Path:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        _put(tar, "odd/", uid=7, gid=8)
        _put(tar, "odd/setuid", b"#!/bin/sh\n", mode=0o6755, mtime=1.25)
        _put(tar, "odd/sticky/", mode=0o1777)
        _put(tar, "odd/large-owner", b"x", uid=2**31, gid=2**32 - 2)
        _put(tar, "odd/before-1970", b"x", mtime=-1.5)
        _put(tar, "odd/after-2106", b"x", mtime=2.0**33 + 0.5)
        _put(tar, "odd/empty", b"", mode=0)
        _put(tar, "odd/large", bytes(range(256)) * 5000)
        _put(tar, "odd/hard-link", kind=tarfile.LNKTYPE, linkname="odd/large")
        _put(tar, "odd/symlink", kind=tarfile.SYMTYPE, linkname="../../no/such", uid=3, mode=0o777)
        _put(tar, "odd/long-" + "n" * 240, b"long name")
        _put(tar, "odd/long-link", kind=tarfile.SYMTYPE, linkname="t/" * 1000, mode=0o777)
        _put(tar, "odd/na\u00efve \N{SNOWMAN}", b"not ASCII")
        _put(tar, "odd/pipe", kind=tarfile.FIFOTYPE)
        _put(tar, "odd/null", kind=tarfile.CHRTYPE, device=(1, 3))
        _put(tar, "odd/disk", kind=tarfile.BLKTYPE, device=(259, 70000), mode=0o660)
        capability = "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
        _put(tar, "odd/attributes", b"x", xattrs={"user.note": "value", "security.capability": capability})
        for name in ("removed", "removed-by-umoci", "replaced", "replaced-by-umoci", "hidden"):
            _put(tar, f"odd/{name}/")
            _put(tar, f"odd/{name}/old", b"old")
        _put(tar, "odd/becomes-directory", b"a file")
        _put(tar, "odd/becomes-file/")
        _put(tar, "odd/becomes-file/old", b"old")
        _put(tar, "odd/file-removed", b"old")
    return path


def _write_sparse(root: Path) -> Path:
    (root / "odd").mkdir(parents=True)
    with (root / "odd/sparse").open("wb") as file:
        for at in (0, 3 << 20, 20 << 20):
            file.seek(at)
            file.write(b"island")
        file.truncate(30 << 20)
    os.utime(root / "odd/sparse", (_TIME, _TIME))
    tar = root.with_suffix(".tar")
    said("tar", "--format=posix", "--sparse", "--owner=5", "--group=6", "-cf", tar, "-C", root, "odd/sparse")
    return tar


def _write_changes(path: Path) -> Path:
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        _put(tar, "odd/.wh.removed", b"")
        _put(tar, "odd/.wh.file-removed", b"")
        _put(tar, "odd/hidden/", uid=9)
        _put(tar, "odd/hidden/.wh..wh..opq", b"")
        _put(tar, "odd/hidden/new", b"new")
        _put(tar, "odd/becomes-directory/")
        _put(tar, "odd/becomes-directory/new", b"new")
        _put(tar, "odd/becomes-file", b"a file now")
        _put(tar, "odd/later-link", kind=tarfile.LNKTYPE, linkname="odd/attributes")
    return path


def _put(
    tar: tarfile.TarFile,
    name: str,
    content: bytes | None = None,
    *,
    kind: bytes = tarfile.REGTYPE,
    mode: int | None = None,
    uid: int = 0,
    gid: int = 0,
    mtime: float = _TIME,
    linkname: str = "",
    device: tuple[int, int] = (0, 0),
    xattrs: Mapping[str, str] | None = None,
) -> None:
    entry = tarfile.TarInfo(name)
    entry.type = tarfile.DIRTYPE if name.endswith("/") else kind
    entry.mode = mode if mode is not None else 0o755 if name.endswith("/") else 0o644
    entry.uid, entry.gid, entry.mtime, entry.linkname = uid, gid, mtime, linkname
    entry.devmajor, entry.devminor = device
    entry.size = len(content or b"")
    entry.pax_headers = {f"SCHILY.xattr.{key}": value for key, value in (xattrs or {}).items()}
    tar.addfile(entry, io.BytesIO(content or b""))


def _make_indexes(layout: Layout) -> None:
    """``multi``: for two architectures and with an attestation; ``foreign-index``: for another one only."""
    here, there = layout.entry("hello", GUEST), layout.entry("foreign", FOREIGN)
    statement = {"mediaType": "application/vnd.in-toto+json", **layout.store({"_type": "a statement"})}
    config = {"mediaType": "application/vnd.oci.image.config.v1+json", **layout.store(_attestation_config())}
    described = {"schemaVersion": 2, "mediaType": _MANIFEST, "config": config, "layers": [statement]}
    attestation = {
        "mediaType": _MANIFEST,
        **layout.store(described),
        "platform": {"os": "unknown", "architecture": "unknown"},
        "annotations": {
            "vnd.docker.reference.type": "attestation-manifest",
            "vnd.docker.reference.digest": here["digest"],
        },
    }
    layout.add_index("multi", [attestation, there, here])
    layout.add_index("foreign-index", [there, attestation])


def _attestation_config() -> dict[str, Any]:
    return {"architecture": "unknown", "os": "unknown", "config": {}, "rootfs": {"type": "layers", "diff_ids": []}}


def _tar(root: Path) -> Path:
    """All of *root* as GNU tar packs it, root's own and of one time."""
    tar = root.with_suffix(".tar")
    same = ("--sort=name", "--owner=0", "--group=0", f"--mtime=@{_TIME}")
    said("tar", *same, "-cf", tar, "-C", root, *sorted(os.listdir(root)))
    return tar
