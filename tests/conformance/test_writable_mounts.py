"""Directories of the host that a guest can change: what it makes there is the user's, and nothing but files."""

from __future__ import annotations

import ast
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

import aegis_sdk as aegis
from aegis_sdk.drivers import confine, seccomp, share, virtiofs
from tests.conftest import until

pytestmark = pytest.mark.of_qemu


@pytest.fixture
def project(tmp_path):
    directory = tmp_path / "project"
    directory.mkdir()
    return directory


@pytest.fixture
def vm(boot, project):
    return boot(mounts={"/workspace": project})


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_files_of_all_kinds(vm, project):
    """Content, modes, links, times and names are on the host what they are in the guest, and the other way."""
    script = """
        set -e
        cd /workspace
        echo one > program; chmod 751 program; mkdir -p sub/empty; ln -s ../program sub/link; ln -s /etc/passwd out
        ln program hard; mkfifo pipe; touch -d @1234567890 program; mkdir sticky; chmod 1777 sticky; chmod 700 sub
        echo two > 'a name, with $signs'; mv 'a name, with $signs' renamed; echo more >> renamed; truncate -s 9 grown
    """
    vm.shell(script, check=True)
    assert (project / "program").read_text() == "one\n"
    assert (_mode(project / "program"), (project / "program").stat().st_mtime) == (0o751, 1234567890)
    assert (os.readlink(project / "sub/link"), os.readlink(project / "out")) == ("../program", "/etc/passwd")
    assert (project / "hard").samefile(project / "program")
    assert stat.S_ISFIFO((project / "pipe").stat().st_mode)
    assert (_mode(project / "sticky"), _mode(project / "sub")) == (0o1777, 0o700)
    assert (project / "renamed").read_text() == "two\nmore\n"
    assert (project / "grown").read_bytes() == bytes(9)
    (project / "program").write_text("changed\n")
    assert until(lambda: vm.run("cat", "/workspace/program").stdout == "changed\n", 3)


def test_whose_files_they_are(vm, project):
    """Whoever makes a file in the guest, on the host it is whose program this is; giving it away changes nothing."""
    vm.shell("chmod 777 /workspace; echo x > /workspace/by-root; chown 7:7 /workspace/by-root", check=True)
    vm.shell("echo x > /workspace/by-nobody; mkdir /workspace/directory", user="nobody", check=True)
    for name in ("by-root", "by-nobody", "directory"):
        about = (project / name).stat()
        assert (about.st_uid, about.st_gid) == (os.geteuid(), os.getegid())


def test_what_cannot_be_made(vm, project):
    """No device, and nothing that runs as its owner: on the host it could be somebody else who runs it."""
    (project / "file").touch(mode=0o755)
    for remount in ("true", "umount /workspace && mount -t virtiofs aegis0 /workspace"):
        assert vm.shell(remount).ok
        for make in ("chmod 4755 file", "chmod 2755 file", "chmod 6777 .", "mknod n c 1 3", "mknod n b 7 0"):
            done = vm.shell(f"cd /workspace && {make}")
            assert (done.ok, "not permitted" in done.stderr) == (False, True), (make, done.stderr)
    assert [path.name for path in project.iterdir()] == ["file"]
    assert _mode(project / "file") == 0o755


def test_only_the_directory(vm, project, tmp_path):
    """Nothing outside of it is changed by way of links or of what is above."""
    (tmp_path / "outside").write_text("mine")
    (project / "link").symlink_to(tmp_path / "outside")
    vm.shell("cd /workspace; echo x > link; echo x > ../outside; echo x > /workspace/../outside; mv link ../link2")
    assert (tmp_path / "outside").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outside", "project"]


EVIL = """#!{python}
import ctypes, errno, os, stat
def fails(call, *arguments):
    try:
        call(*arguments)
    except OSError as error:
        return error.errno
    return 0
top, outside = {top!r}, {outside!r}
libc = ctypes.CDLL(None, use_errno=True)
def raw(number, *arguments):
    if libc.syscall(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), "")
seen = {{
    "write outside": fails(os.open, outside, os.O_WRONLY),
    "make outside": fails(os.open, outside + ".new", os.O_WRONLY | os.O_CREAT, 0o644),
    "write below": fails(os.open, top + "/below/x", os.O_WRONLY | os.O_CREAT, 0o644),
    "set-user-ID": fails(os.chmod, top + "/file", 0o4755),
    "set-group-ID": fails(os.chmod, top + "/file", 0o2755),
    "made so": fails(os.open, top + "/suid", os.O_WRONLY | os.O_CREAT, 0o4755),
    "mkdir so": fails(os.mkdir, top + "/suid", 0o2755),
    "device": fails(os.mknod, top + "/null", stat.S_IFCHR | 0o666, os.makedev(1, 3)),
    "openat2": fails(raw, 437, -100, b"/", b"", 24),
    "io_uring": fails(raw, 425, 1, b"\\0" * 120),
    "capabilities": fails(os.setxattr, top + "/file", "security.capability", b"x" * 20),
    "chown": fails(os.chown, top + "/file", 7, 7),
    "write": fails(os.open, top + "/new", os.O_WRONLY | os.O_CREAT, 0o644),
}}
os.write(2, repr(seen).encode() + b"\\n")
"""


@pytest.mark.in_process
def test_a_virtiofsd_that_is_taken_over(monkeypatch, project, tmp_path):
    """Whatever its guest made of it, what shares the directory can write nothing else, and make nothing but files."""
    (project / "file").touch()
    (tmp_path / "outside").touch()
    program = tmp_path / "virtiofsd"
    program.write_text(EVIL.format(python=sys.executable, top=str(project), outside=str(tmp_path / "outside")))
    program.chmod(0o755)
    (project / "below").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", project / "below"], check=True)
    try:
        monkeypatch.setattr(virtiofs, "_PROGRAMS", (str(program),))
        with pytest.raises(aegis.BootFailed) as caught:
            aegis.Sandbox(mounts={"/x": project})
    finally:
        subprocess.run(["umount", project / "below"], check=True)
    said = next(line for line in str(caught.value).splitlines() if "write outside" in line)
    seen = ast.literal_eval(said[said.index("{") :])
    denied = {name: os.strerror(number) for name, number in seen.items() if number}
    read_only, forbidden, unknown = "Read-only file system", "Operation not permitted", "Function not implemented"
    assert denied == {
        **dict.fromkeys(("write outside", "make outside", "write below"), read_only),
        **dict.fromkeys(("set-user-ID", "set-group-ID", "made so", "mkdir so", "device", "capabilities"), forbidden),
        **dict.fromkeys(("openat2", "io_uring"), unknown),
    }
    about = (project / "file").stat()
    assert (about.st_uid, stat.S_IMODE(about.st_mode) & 0o7000) == (os.geteuid(), 0)


LOCKS = """
import fcntl, os
for lock in (fcntl.flock, fcntl.lockf):
    first, second = (open("/workspace/lock", "w") for _ in "ab")
    lock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
    if not os.fork():
        try:
            lock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os._exit(0)
        os._exit(1)
    print(os.wait()[1])
"""


def test_locks(boot, images, project):
    """flock and record locks keep the guest's processes from each other."""
    vm = boot(image=images.reference("python"), mounts={"/workspace": project})
    assert vm.run("python3", "-c", LOCKS, check=True).stdout == "0\n0\n"


def _git(directory: Path, *words: str) -> str:
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "core.fileMode=true", *words]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, check=True).stdout


def test_a_repository(vm, project):
    """git sees a guest's changes as they were meant, execute bits and links too, and nothing else."""
    (project / "script").write_text("#!/bin/sh\n")
    (project / "script").chmod(0o755)
    (project / "plain").write_text("text\n")
    (project / "link").symlink_to("plain")
    _git(project, "init", "-q")
    _git(project, "add", ".")
    _git(project, "commit", "-q", "-m", "first")
    untouched = "cp -p script s && mv s script; cat plain > p && mv p plain; rm link; ln -s plain link; chmod 644 plain"
    vm.shell(f"cd /workspace && {untouched}", check=True)
    assert _git(project, "status", "--porcelain") == ""
    vm.shell("cd /workspace && chmod +x plain && ln -sf script link && echo new > new && rm script", check=True)
    assert _git(project, "status", "--porcelain").splitlines() == [" M link", " M plain", " D script", "?? new"]
    assert "old mode 100644\nnew mode 100755" in _git(project, "diff", "plain")
    shutil.rmtree(project / ".git")


def test_a_full_file_system_of_the_host(boot, project):
    """Who fills it is told that it is this machine's, which no limit of the guest's makes larger."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", project], check=True)
    try:
        done = boot(mounts={"/workspace": project}).shell("dd if=/dev/zero of=/workspace/big bs=1M count=2")
    finally:
        subprocess.run(["umount", "-l", project], check=True)
    assert "No space left" in done.stderr
    assert "this machine's file system" in done.hint


def test_many_small_files(vm):
    """Making and removing files takes milliseconds each, not tenths of a second."""
    start = time.monotonic()
    vm.shell("cd /workspace; for i in $(seq 300); do echo $i > $i; done; rm *", check=True)
    assert time.monotonic() - start < 6


def test_one_writable_and_one_not(boot, tmp_path):
    """Each mount of a guest is what it says; the paths of both forms mean the same."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    vm = boot(mounts=[aegis.Mount(tmp_path / "one", "/one", read_only=True), aegis.Mount(tmp_path / "two", "/two")])
    assert vm.run("touch", "/two/x").ok
    done = vm.run("touch", "/one/x")
    assert "Read-only file system" in done.stderr
    assert "read-only" in done.hint


def test_a_relative_source(boot, monkeypatch, project):
    """A source is meant from where the caller is, as a shell's words are."""
    monkeypatch.chdir(project.parent)
    vm = boot(mounts={"/data": "./project"})
    assert vm.run("touch", "/data/x").ok
    assert (project / "x").exists()


def test_what_is_there_when_it_ends(boot, project):
    """What a guest has written is there however it ends: a mount has nothing that waits to be written."""
    for number, end in enumerate((aegis.Sandbox.close, aegis.Sandbox.kill, aegis.Sandbox.stop)):
        vm = boot(mounts={"/workspace": project})
        vm.shell(f"head -c 100000 /dev/zero > /workspace/{number}", check=True)
        end(vm)
        assert (project / str(number)).stat().st_size == 100_000


@pytest.mark.in_process
def test_a_directory_that_is_not_ones_own(monkeypatch, project):
    """One that this user cannot write to is refused with the way out, before anything boots."""
    monkeypatch.setattr("os.access", lambda _, mode: not mode & os.W_OK)
    with pytest.raises(aegis.InvalidValue, match="may not write to the directory") as caught:
        aegis.Sandbox(mounts={"/x": project})
    assert "read_only=True" in caught.value.hint


def test_a_limit_of_files(project):
    """Who limits how large files may be still has guests of any memory, and large files in their mounts."""
    script = f"""
import resource, aegis_sdk as aegis
resource.setrlimit(resource.RLIMIT_FSIZE, (4 << 20, resource.RLIM_INFINITY))
with aegis.Sandbox(mounts={{"/x": {str(project)!r}}}) as vm:
    vm.shell("dd if=/dev/zero of=/x/big bs=1M count=8", check=True)
"""
    subprocess.run([sys.executable, "-c", script], check=True)
    assert (project / "big").stat().st_size == 8 << 20


SHARER = """#!/bin/sh
cd {top}
echo x > made
chown 7:7 made && echo x > {top}/../outside
cat group
touch done
"""


def _share_as(user: int, groups: list[int], *words: str) -> str:
    """What is said when a user of no privileges shares a directory by *words*."""
    here, there = os.pipe()
    if not (child := os.fork()):
        try:
            os.dup2(there, 1)
            os.dup2(there, 2)
            os.setgroups(groups)
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
            share._libc.prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE, as a program that was executed is
            confine.be_bound()
            sys.argv = ["share.py", *words]
            share._UID, share._GID = user, user
            share.main()
        except SystemExit as error:
            os.write(2, str(error).encode())  # as the interpreter does at a program's end
        finally:
            os._exit(1)
    os.close(there)
    with open(here, "rb") as said:
        text = said.read().decode()
    os.waitpid(child, 0)
    return text


def test_for_a_user_of_no_privileges():
    """One who is not root, and in further groups, shares what is theirs, by their own rights; or is told why not."""
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        top = Path(directory, "top")
        top.mkdir()
        program = Path(directory, "virtiofsd")
        program.write_text(SHARER.format(top=top))
        monitor = Path(directory, "monitor")
        monitor.write_text("#!/bin/sh\nuntil test -e ${0%monitor}top/done; do sleep 0.1; done\n")
        (top / "group").write_text("for the group\n")
        os.chown(top / "group", 0, 4321)
        os.chown(top, 1234, 1234)
        for path, mode in ((directory, 0o777), (program, 0o755), (monitor, 0o755), (top / "group", 0o640)):
            os.chmod(path, mode)
        rules = seccomp.for_sharing(read_only=False).hex()
        alive = os.open("/dev/null", os.O_RDONLY)
        try:
            words = (str(program), str(alive), "rw", "x", rules, str(top), "--", str(monitor))
            said = _share_as(1234, [4321], *words)
        finally:
            os.close(alive)
        if "may not make namespaces" in said:
            assert not (top / "made").exists()
            return
        assert "for the group" in said
        assert "Read-only file system" in said
        assert (top / "made").stat().st_uid == 1234
        assert not Path(directory, "outside").exists()
