"""What ``aegis run`` says about the guest: its limits, and directories of this machine in it."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.of_qemu

HINT = b"aegis: the guest's root is read-only"


def test_a_volume(cli, tmp_path):
    """-v shows the guest a directory, which it can change unless ``:ro`` says otherwise; paths are meant from here."""
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "in").write_text("in\n")
    script = "cat in; echo out > out"
    done = cli("run", "-v", "./project:/workspace", "--cwd", "/workspace", "--", "sh", "-c", script, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, b"in\n"), done.stderr
    assert (tmp_path / "project" / "out").read_text() == "out\n"
    volumes = ("-v", "./project:/a:ro", "--volume", f"{tmp_path}:/b:rw")
    done = cli("run", *volumes, "--", "sh", "-c", "echo x > /b/new && echo x > /a/new", cwd=tmp_path)
    assert done.returncode == 1
    assert b"Read-only file system" in done.stderr
    assert (tmp_path / "new").exists()
    assert not (tmp_path / "project" / "new").exists()


def test_the_disk(cli):
    """--disk is what files may take; who reaches it is told."""
    done = cli("run", "--disk", "20", "--", "dd", "if=/dev/zero", "of=/tmp/x", "bs=1M", "count=30")
    assert done.returncode == 1
    assert b"No space left" in done.stderr
    assert (
        done.stderr.count(b"\naegis: there is no room for more files: boot it with more disk= (aegis run --disk)") == 1
    )


def test_processes(cli):
    """--processes is how many may run; who reaches it is told."""
    script = "i=0; while [ $i -lt 40 ]; do sleep 30 & i=$((i + 1)); done"
    done = cli("run", "--processes", "20", "--", "sh", "-c", script)
    assert done.returncode == 2
    assert b"aegis: the guest reached its limit of processes" in done.stderr


def test_memory(cli):
    """A command that is killed because there is no more memory is told what gives it more."""
    done = cli("run", "--memory", "128", "--", "tail", "/dev/zero")
    assert done.returncode == 137
    assert b"--memory" in done.stderr


def test_a_read_only_root(cli):
    """The hint comes once, behind the command's own words, which nothing is added to; with --writable there is none."""
    done = cli("run", "--", "sh", "-c", "echo out; touch /etc/x; touch /etc/y; exit 7")
    assert (done.returncode, done.stdout) == (7, b"out\n")
    words, hint, rest = done.stderr.partition(HINT)
    assert words == b"touch: /etc/x: Read-only file system\ntouch: /etc/y: Read-only file system\n"
    assert hint
    assert rest.count(b"\n") == 1
    done = cli("run", "--", "sh", "-c", "touch /etc/x; true")
    assert HINT not in done.stderr
    assert cli("run", "--writable", "--", "touch", "/etc/x").stderr == b""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-v", "/tmp"), b"SOURCE:TARGET"),
        (("-v", "/tmp:x"), b"SOURCE:TARGET"),
        (("-v", ":/x"), b"SOURCE:TARGET"),
        (("-v", "/tmp:/x:wo"), b"SOURCE:TARGET"),
        (("-v", "/no/such:/x"), b"no directory"),
        (("-v", "/tmp:/x", "-v", "/tmp:/x"), b"same target"),
        (("-v", "/tmp:/proc/x"), b"cannot be the target"),
        (("--disk", "0"), b"disk must be from 1"),
        (("--disk", "1g"), b"--disk"),
        (("--processes", "3"), b"processes must be from 16"),
    ],
)
def test_words_that_cannot_be_meant(cli, words, said):
    """What cannot be a volume or a limit is refused in words, as Aegis's own failure."""
    done = cli("run", *words, "--", "true")
    assert done.returncode == 125
    assert said in done.stderr
    assert b"Traceback" not in done.stderr
