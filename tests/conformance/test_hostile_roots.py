"""Images whose roots are not what a guest's root should be boot all the same, and have all that every guest has."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest

import aegis_sdk as aegis
from aegis_sdk.images.local.busybox import find
from tests.images_made import GUEST
from tests.sdk.image_blobs import Shelf

PLACES = ("etc", "var", "proc", "sys", "dev", "tmp", "run", "workspace")
#: Says "whole" in a guest that has all that every guest has, and in which nothing of the harness's shows.
WHOLE = r"""
every() { test=$1; shift; for place; do eval "$test" || { echo "$place: $test"; exit 1; }; done; }
every '[ -d "$place" ]' /proc/1 /sys/fs/cgroup/aegis /dev/pts /dev/mqueue
every '[ -c "$place" ]' /dev/null /dev/pts/ptmx
every 'echo x > "$place/file" && [ "$(cat "$place/file")" = x ]' /tmp /run /dev/shm /workspace /var
every '[ ! -e "$place" ]' /.aegis* /var/disk /var/upper /etc/disk /etc/upper /../mnt/disk /../init
every 'grep -q "^127.0.1.1.aegis$" "$place"' /etc/hosts
every 'grep -q "^aegis$" "$place"' /etc/hostname
every 'grep -q "^nameserver 127" "$place"' /etc/resolv.conf
"""
SEALED = WHOLE + "every '! touch \"$place/new\" 2> /dev/null' / /bin; echo whole"
OPEN = WHOLE + "every 'touch \"$place/new\"' / /bin; echo whole"


@attrs.frozen
class Root:
    """What is in an image, beside a busybox."""

    directories: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    special: tuple[tuple[str, bytes], ...] = ()

    def tar(self) -> bytes:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for name in ("bin", *self.directories):
                _put(tar, name, kind=tarfile.DIRTYPE)
            _put(tar, "bin/busybox", find().read_bytes())
            for name in ("sh", "ls", "cat", "grep", "touch", "mkdir"):
                _put(tar, f"bin/{name}", kind=tarfile.SYMTYPE, linkname="busybox")
            for name in self.files:
                _put(tar, name, b"of the image\n")
            for name, target in self.links:
                _put(tar, name, kind=tarfile.SYMTYPE, linkname=target)
            for name, kind in self.special:
                _put(tar, name, kind=kind, devmajor=1, devminor=3)
        return out.getvalue()


def _put(
    tar: tarfile.TarFile, name: str, data: bytes = b"", *, kind: bytes = tarfile.REGTYPE, **fields: object
) -> None:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.size = kind, 0o755, len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    tar.addfile(info, io.BytesIO(data))


@pytest.fixture
def of(boot: Callable[..., aegis.Sandbox], empty_home: Path, tmp_path: Path) -> Callable[..., aegis.Sandbox]:
    """Boots a guest of an image with that root."""

    def of(root: Root, *, writable: bool = False, **config: object) -> aegis.Sandbox:
        shelf = Shelf()
        layers = (root.tar(),)
        content = shelf.config(f"linux/{GUEST}", layers=layers, config=config)
        shelf.layout(tmp_path / "layout", shelf.variant(f"linux/{GUEST}", layers=layers, config=content))
        return boot(image=f"oci:{tmp_path / 'layout'}", writable=writable)

    return of


ODD = {
    "files": Root(files=PLACES),
    "devices and pipes": Root(special=tuple(zip(PLACES, (tarfile.CHRTYPE, tarfile.FIFOTYPE) * 4, strict=True))),
    "links to themselves": Root(links=tuple((name, name) for name in PLACES)),
    "links to nothing": Root(links=tuple((name, f"/data/{name}") for name in PLACES)),
    "links to a file": Root(files=("data",), links=tuple((name, "/data") for name in PLACES)),
    "links to the root": Root(links=tuple((name, "../..") for name in PLACES)),
    "links to /mnt": Root(directories=("mnt", "mnt/upper"), links=tuple((name, "../mnt/upper") for name in PLACES)),
    "links to /proc": Root(directories=("proc",), links=(("etc", "/proc"), ("var", "/proc"))),
    "links to /dev": Root(directories=("dev", "dev/below"), links=(("etc", "/dev/below"), ("var", "/dev"))),
    "links to /workspace": Root(directories=("workspace",), links=(("etc", "/workspace"), ("var", "workspace"))),
    "links through links": Root(
        directories=("dev",), links=(("etc", "/var/below"), ("var", "a/b"), ("a", "c"), ("c", "dev/.."), ("b", "/dev"))
    ),
    "one that hangs on the other": Root(directories=("data",), links=(("var", "../.."), ("etc", "var/data"))),
    "one that hangs on the other, reversed": Root(
        directories=("data", "proc/self/data"), links=(("etc", "proc/self"), ("var", "etc/data"))
    ),
    "our descriptors": Root(
        directories=tuple(f"proc/self/fd/{number}" for number in range(3, 12)),
        links=(("etc", "/proc/self/fd/7"), ("var", "/proc/self/fd/7")),
    ),
    "names of files that are directories": Root(
        directories=("etc", "etc/hosts", "etc/hostname", "etc/resolv.conf"), files=("etc/hosts/a", "etc/hosts/b")
    ),
    "names of files that are links": Root(
        directories=("etc",),
        links=(("etc/hosts", "../../../init"), ("etc/hostname", "/proc/1/mem"), ("etc/resolv.conf", "/run/x")),
    ),
}


@pytest.mark.parametrize("name", ODD)
def test_it_is_whole(of, name):
    """Whatever is in the place of a guest's own directories and files, the guest has them, and no layer shows."""
    done = of(ODD[name]).run("sh", "-c", SEALED, cwd="/")
    assert (done.stdout, done.exit_code) == ("whole\n", 0), done.stderr


@pytest.mark.parametrize("name", ["files", "links to /mnt"])
def test_a_writable_one_is_whole(of, name):
    """The same holds for a sandbox with a writable root."""
    done = of(ODD[name], writable=True).run("sh", "-c", OPEN)
    assert (done.stdout, done.exit_code) == ("whole\n", 0), done.stderr


@pytest.mark.parametrize(
    "target",
    ["../../data/x/../var", "data/link", "data/a:b,upperdir=c", "d" * 255],
)
def test_a_var_elsewhere(of, target):
    """Where /var leads to a directory, above the root too, its files are there and it can be written."""
    real = "data/var" if target.endswith(("var", "link")) else target
    root = Root(
        directories=("data", "data/x", real),
        files=(f"{real}/file",),
        links=(("data/link", "../../../data/var"), ("var", target)),
    )
    done = of(root).run("sh", "-c", "cat /var/file; echo new > /var/file; cat /var/file; ls /var; touch /data/new")
    assert done.stdout == "of the image\nnew\nfile\n"
    assert "Read-only" in done.stderr


@pytest.mark.parametrize("target", ["/var/etc", "../../var/../usr/etc"])
def test_an_etc_elsewhere(of, target):
    """Where /etc leads to a directory, above the root too, its files are there beside the guest's."""
    root = Root(
        directories=("usr", "usr/etc", "var", "var/etc"),
        files=("usr/etc/file", "var/etc/file"),
        links=(("etc", target),),
    )
    done = of(root).run("sh", "-c", "cat /etc/file; ls /etc; " + SEALED)
    assert done.stdout == "of the image\nfile\nhostname\nhosts\nresolv.conf\nwhole\n"


@pytest.mark.parametrize(
    ("directory", "made"),
    [
        ("app/below", "/app/below"),
        ("/workspace/../../../app", "/app"),
        ("/to-nothing", "/data/app"),
        ("/to-nothing/below", "/data/app/below"),
    ],
)
def test_a_working_directory(of, directory, made):
    """A working directory that the image lacks is made where it leads to, one that is not absolute from the root."""
    root = Root(directories=("data",), links=(("to-nothing", "../data/app"),))
    vm = of(root, WorkingDir=directory)
    assert vm.run("busybox", "pwd", "-P").stdout == f"{made}\n"
    assert vm.run("ls", made, cwd="/").ok


@pytest.mark.parametrize("directory", ["/loop/x", "/bin/sh", "/" + "n" * 300, "/proc/1/fd/7/upper"])
def test_a_working_directory_that_cannot_be(of, directory):
    """One that cannot be made is the command's failure; the guest boots."""
    vm = of(Root(links=(("loop", "loop"),)), WorkingDir=directory)
    assert vm.run("sh", "-c", "pwd").exit_code == 125
    assert vm.run("sh", "-c", SEALED, cwd="/").stdout == "whole\n"


@pytest.mark.timeout(120)  # the disk of so many files takes its time
def test_a_directory_too_large_to_remove(of):
    """A directory of 20,000 files in the place of /etc/hosts does not hold up the boot; its files are not lost."""
    names = tuple(f"etc/hosts/{number}" for number in range(20_000))
    done = of(Root(directories=("etc", "etc/hosts"), files=names)).run(
        "sh", "-c", SEALED + "; ls /etc/hosts.image-*/19999"
    )
    assert done.stdout.startswith("whole\n/etc/hosts.image-")
