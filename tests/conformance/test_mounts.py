"""Directories of the host in a guest: it sees them as they are, and of one that is read-only it can change nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

import aegis_sdk as aegis
from aegis_sdk.drivers import virtiofs
from aegis_sdk.mount import MAXIMUM_MOUNTS
from tests.conftest import until

pytestmark = pytest.mark.of_qemu

CHANGES = (
    *("> file", ">> file", "> new", "rm file", "mkdir d", "mv file f", "ln file f", "ln -s file f"),
    *("chmod 777 file", "chown 1 file", "touch file", "mknod n c 1 3"),
)


@pytest.fixture
def shared_directory(tmp_path):
    """One with a name that options could be confused by."""
    directory = tmp_path / "a, b\\c"
    (directory / "sub").mkdir(parents=True)
    (directory / "file").write_text("hello\n")
    (directory / "program").write_text("#!/bin/sh\necho runs\n")
    (directory / "program").chmod(0o751)
    (directory / "link").symlink_to("sub/../file")
    (directory / "out").symlink_to("/etc/passwd")
    return directory


@pytest.fixture
def mounted(boot, shared_directory):
    return boot(mounts=[aegis.Mount(shared_directory, "/srv/host", read_only=True)])


def _sharers(monitor: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{monitor}/task/{monitor}/children").read_text().split()]


def _lives(process: int) -> bool:
    """Whether it runs: who has ended and waits for its parent to take note does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_what_a_guest_sees(mounted, shared_directory):
    """Files, modes, owners and links are those of the host; a link that leads out leads into the guest's own tree."""
    assert mounted.run("cat", "/srv/host/link").stdout == "hello\n"
    assert mounted.run("/srv/host/program").stdout == "runs\n"
    for name in ("file", "program", "sub"):
        about = (shared_directory / name).stat()
        want = f"{about.st_mode:x} {about.st_uid} {about.st_gid} {int(about.st_mtime)}\n"
        assert mounted.run("stat", "-c", "%f %u %g %Y", f"/srv/host/{name}").stdout == want
    assert mounted.run("cat", "/srv/host/out").stdout == mounted.run("cat", "/etc/passwd").stdout


def test_the_disks_stay_where_they_are(mounted):
    """A shared directory moves neither the harness's disk nor the image's."""
    mounts = mounted.run("cat", "/proc/mounts").stdout
    assert "aegis0 /srv/host virtiofs ro,nodev" in mounts
    assert mounted.shell("cd /sys/block && echo vd*").stdout == "vda vdb\n"


def test_changes_of_the_host(mounted, shared_directory):
    """What the host changes is seen, at the latest when a second has passed."""
    mounted.run("cat", "/srv/host/file")
    (shared_directory / "file").write_text("changed\n")
    (shared_directory / "sub" / "new").write_text("new\n")
    assert until(lambda: mounted.run("cat", "/srv/host/file").stdout == "changed\n", 3)
    assert until(lambda: mounted.run("cat", "/srv/host/sub/new").stdout == "new\n", 3)


def test_nothing_can_be_written(mounted, shared_directory):
    """Root of the guest can write nothing, whatever it makes of the mount."""
    before = {path: path.lstat() for path in shared_directory.rglob("*")}
    for make_writable in (
        "true",
        "mount -o remount,rw /srv/host",
        "umount /srv/host; mount -t virtiofs aegis0 /srv/host",
    ):
        assert mounted.shell(make_writable).ok
        for change in CHANGES:
            done = mounted.shell(f"cd /srv/host && {change}")
            assert (done.ok, "Read-only file system" in done.stderr) == (False, True), (make_writable, change)
    after = {path: path.lstat() for path in shared_directory.rglob("*")}
    assert {path: about[:-3] + about[-2:] for path, about in before.items()} == {
        path: about[:-3] + about[-2:] for path, about in after.items()
    }


def test_nothing_else_is_reached(mounted, shared_directory):
    """No file of the host outside the directory is in the guest's reach: its top has nothing above it."""
    assert mounted.shell("umount /srv/host; mount -t virtiofs aegis0 /workspace; cd /workspace/..; ls -d srv").ok
    assert mounted.shell("stat -c %i /workspace").stdout != f"{shared_directory.parent.stat().st_ino}\n"


def test_what_is_moved_out(mounted, shared_directory, tmp_path):
    """From a directory that is moved out of the shared one while the guest holds it, no way leads on."""
    (sharer,) = _sharers(mounted.info().pid)
    with ExitStack() as undo:
        top = os.open(f"/proc/{sharer}/root", os.O_PATH)
        undo.callback(os.close, top)
        held = os.open("sub", os.O_PATH, dir_fd=top)
        undo.callback(os.close, held)
        (shared_directory / "sub").rename(tmp_path / "sub")
        with pytest.raises(FileNotFoundError):
            undo.callback(os.close, os.open("..", os.O_PATH, dir_fd=held))


def test_several(boot, tmp_path):
    """As many as there can be: each is its own; one in another is not hidden; the guest's own tmpfs can hold one."""
    for name in ("one", "two"):
        (tmp_path / name / "inner").mkdir(parents=True)
        (tmp_path / name / "which").write_text(name)
    one, two = tmp_path / "one", tmp_path / "two"
    targets = ("/a/inner", "/a", "/tmp/b", "/var/c/d")
    vm = boot(
        mounts=[aegis.Mount(source, target) for source, target in zip((two, one, one, two), targets, strict=True)]
    )
    assert vm.shell("cat /a/which /a/inner/which /tmp/b/which /var/c/d/which").stdout == "onetwoonetwo"
    assert len(targets) == MAXIMUM_MOUNTS


def test_in_asyncio(driver, shared_directory):
    """AsyncSandbox takes the same."""

    async def read() -> str:
        mounts = [aegis.Mount(shared_directory, "/x")]
        async with aegis.AsyncSandbox(driver=driver, nested=True, mounts=mounts) as vm:
            return (await vm.shell("cat /x/file; ls /dev/kvm")).stdout

    assert asyncio.run(read()) == "hello\n/dev/kvm\n"


def test_a_mount_that_fails(boot, tmp_path):
    """A mount that cannot be made fails the boot, with its name."""
    mounts = [aegis.Mount(tmp_path, "/etc/passwd")]
    with pytest.raises(aegis.BootFailed, match="shared: /etc/passwd: "):
        boot(mounts=mounts)


def test_what_is_mounted_below(boot):
    """What is mounted in the directory on the host is seen, and read-only too; processes are not the host's."""
    vm = boot(mounts=[aegis.Mount("/", "/host", read_only=True)])
    assert vm.shell("ls /host/proc | grep '^[0-9]'").stdout == "1\n"
    assert vm.run("mount", "-o", "remount,rw", "/host").ok  # so that it is the host that refuses
    for write in ("touch /host/dev/shm/x", "echo 1 > /host/proc/sys/kernel/panic"):
        done = vm.shell(write)
        assert (done.ok, "Read-only file system" in done.stderr) == (False, True), done.stderr


@pytest.mark.parametrize(
    ("source", "target", "said"),
    [
        ("/no/such/directory", "/x", "no directory '/no/such/directory'"),
        ("/etc/passwd", "/x", "no directory"),
        ("/" + "x" * 300, "/x", "no directory .*: File name too long"),
        ("", "/x", "is empty"),
        ("/tmp\0", "/x", "NUL"),
        (5, "/x", "path of a directory"),
        ("/tmp", "x", "cannot be the target"),
        ("/tmp", "", "cannot be the target"),
        ("/tmp", "/", "cannot be the target"),
        ("/tmp", "/a/../b", "cannot be the target"),
        ("/tmp", "/a//b", "cannot be the target"),
        ("/tmp", "/proc/x", "cannot be the target"),
        ("/tmp", "/dev", "cannot be the target"),
        ("/tmp", "/x\0", "NUL"),
        ("/tmp", 5, "must be text"),
    ],
)
def test_mounts_that_cannot_be_meant(source, target, said):
    """A source that is no directory and a target that is no place are refused before anything boots."""
    with pytest.raises(aegis.InvalidValue, match=said):
        aegis.Sandbox(mounts=[aegis.Mount(source, target)])


def test_sets_of_mounts_that_cannot_be_meant():
    """So are two mounts in one place, too many, something else, and what is neither read-only nor not."""
    with pytest.raises(aegis.InvalidValue, match="same target"):
        aegis.Sandbox(mounts=[aegis.Mount("/tmp", "/x"), aegis.Mount("/usr", "/x")])
    with pytest.raises(aegis.InvalidValue, match="too many"):
        aegis.Sandbox(mounts=[aegis.Mount("/tmp", f"/{number}") for number in range(5)])
    with pytest.raises(aegis.InvalidValue, match="'/tmp' is not a mount"):
        aegis.Sandbox(mounts=["/tmp"])  # type: ignore[list-item]
    with pytest.raises(aegis.InvalidValue, match="'x' is not a mount"):
        aegis.Sandbox(mounts="x")  # type: ignore[arg-type]
    with pytest.raises(aegis.InvalidValue, match="5 is not a mount"):
        aegis.Sandbox(mounts=5)  # type: ignore[arg-type]
    with pytest.raises(aegis.InvalidValue, match="cannot be the target"):
        aegis.Sandbox(mounts={"x": "/tmp"})
    with pytest.raises(aegis.InvalidValue, match="must be True or False"):
        aegis.Mount("/tmp", "/x", read_only="no")  # type: ignore[arg-type]


def test_a_source_without_a_slash(monkeypatch, tmp_path):
    """A relative source is meant from where the caller is."""
    monkeypatch.chdir(tmp_path)
    assert aegis.Mount("x/../y", "/y").source == str(tmp_path / "y")


def test_a_source_that_each_process_has(boot, monkeypatch, shared_directory):
    """/proc/self in a source is this process, not the one that shares it."""
    monkeypatch.chdir(shared_directory)
    assert boot(mounts=[aegis.Mount("/proc/self/cwd", "/x")]).run("cat", "/x/file").stdout == "hello\n"


@pytest.mark.in_process
def test_no_virtiofsd(monkeypatch):
    """Where nothing shares directories, the error and the doctor say what to install."""
    monkeypatch.setattr(virtiofs, "_PROGRAMS", ())
    monkeypatch.setenv("PATH", "/bin:/usr/bin")
    with pytest.raises(aegis.DriverUnavailable, match="virtiofsd") as caught:
        aegis.Sandbox(mounts=[aegis.Mount("/tmp", "/x")])
    assert "install" in caught.value.hint
    assert (virtiofs.check().ok, virtiofs.check().required, virtiofs.check().fix) == (False, False, caught.value.hint)


@pytest.mark.in_process
def test_a_virtiofsd_that_fails(monkeypatch, tmp_path):
    """What it says when it fails is in the error."""
    program = tmp_path / "virtiofsd"
    program.write_text("#!/bin/sh\necho it is broken >&2\n")
    program.chmod(0o755)
    monkeypatch.setattr(virtiofs, "_PROGRAMS", (str(program),))
    with pytest.raises(aegis.BootFailed, match="it is broken"):
        aegis.Sandbox(mounts=[aegis.Mount("/tmp", "/x")])


def test_confinement(mounted):
    """It gains no privileges, has those that reading takes, its own namespaces, and nothing of the monitor's."""
    monitor = mounted.info().pid
    (sharer,) = _sharers(monitor)
    lines = Path(f"/proc/{sharer}/status").read_text().splitlines()
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    assert (status["NoNewPrivs"], status["Seccomp"], status["NSpid"].split()[-1]) == ("1", "2", "1")
    assert int(status["CapEff"], 16) in (0, 1 << 1)  # CAP_DAC_OVERRIDE
    for space in ("mnt", "net", "pid"):
        assert os.readlink(f"/proc/{sharer}/ns/{space}") != os.readlink(f"/proc/self/ns/{space}")
    environment = Path(f"/proc/{sharer}/environ").read_bytes()
    assert {word.partition(b"=")[0] for word in environment.split(b"\0") if word} == {b"PATH", b"LANG"}
    opened = [os.readlink(fd) for fd in Path(f"/proc/{sharer}/fd").iterdir()]
    assert not [path for path in opened if path.endswith(".erofs")]
    assert sum(path.startswith("socket:") for path in opened) <= 2


def test_nothing_is_left(boot, shared_directory):
    """With the guest, however it ends, goes what shared the directory."""
    mounts = Path("/proc/self/mountinfo").read_text()
    for end in (aegis.Sandbox.close, lambda vm: os.kill(vm.info().pid, signal.SIGKILL)):
        vm = boot(mounts=[aegis.Mount(shared_directory, "/x"), aegis.Mount("/usr", "/y")])
        sharers = _sharers(vm.info().pid)
        assert [_lives(sharer) for sharer in sharers] == [True, True]
        end(vm)
        assert until(lambda: not any(map(_lives, sharers)), 2)  # noqa: B023  # it is called at once
    assert Path("/proc/self/mountinfo").read_text() == mounts


@pytest.mark.timeout(60)
def test_sigkill_leaves_nothing(shared_directory):
    """SIGKILL of the program leaves neither the monitor nor what shares the directory."""
    script = f"""
import aegis_sdk as aegis
with aegis.Sandbox(mounts=[aegis.Mount({str(shared_directory)!r}, "/x")]) as vm:
    print(vm.info().pid, flush=True)
    vm.run("sleep", "100")
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as program:
        monitor = int(program.stdout.readline())
        processes = [monitor, *_sharers(monitor)]
        program.kill()
    assert len(processes) == 2
    assert until(lambda: not any(map(_lives, processes)), 2)


def test_a_sharer_that_dies(mounted):
    """A guest whose directory is gone ends, and whoever waits for it is told why."""
    (sharer,) = _sharers(mounted.info().pid)
    with mounted.start("sleep", "100") as process:
        os.kill(sharer, signal.SIGKILL)
        with pytest.raises(aegis.GuestDied, match="virtiofsd, which shared"):
            process.wait(timeout=3)
    assert until(lambda: not _lives(sharer), 2)
