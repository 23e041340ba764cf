"""The root is read-only, says so in words that help, and with writable it is a layer that is thrown away."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

import aegis_sdk as aegis


def test_a_hint(sandbox):
    """A command that could not write says what its user can do about it; its own words stay as they are."""
    done = sandbox.run("touch", "/etc/x")
    assert done.stderr == "touch: /etc/x: Read-only file system\n"
    assert all(word in done.hint for word in ("writable=True", "--writable", "/tmp", "/var", "/workspace"))
    with pytest.raises(aegis.CommandFailed) as caught:
        sandbox.run("touch", "/etc/x", check=True)
    assert caught.value.hint == done.hint
    assert done.hint in str(caught.value)


def test_no_hint(sandbox):
    """A command that went well needs none, whatever it says, and one that failed for another reason neither."""
    assert sandbox.shell("echo Read-only file system >&2").hint == ""
    assert sandbox.run("false").hint == ""
    assert sandbox.run("ls", "/nosuch").hint == ""


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_images_file_stays_as_it_is(boot, home):
    """Whatever a writable guest's root does to its files and disks, the files that it booted from do not change."""
    boot().close()  # by which they are made
    files = [path for path in (home / "data" / "images").rglob("*") if path.suffix == ".erofs" or "disk" in path.name]
    before = {path: (_digest(path), path.stat().st_mtime_ns) for path in files if path.is_file()}
    assert before
    script = """
        rm -rf /usr/share /etc/passwd; echo x > /etc/new; echo x > /bin/busybox.new; chmod 777 /bin
        for disk in /dev/vda /dev/vdb; do dd if=/dev/zero of=$disk bs=4096 count=4 conv=notrunc; done
        mount -o remount,rw /; sync
    """
    vm = boot(writable=True)
    vm.shell(script)
    assert vm.run("cat", "/etc/new").stdout == "x\n"
    vm.stop()
    vm.close()
    assert {path: (_digest(path), path.stat().st_mtime_ns) for path in before} == before
    assert not boot(writable=True).shell("test -e /etc/new").ok


@pytest.mark.timeout(200)
def test_what_is_written_stays_through_pauses(boot):
    """Ten times written, synced, paused and resumed: all of it is there, on the root and beside it."""
    vm = boot(writable=True)
    for number in range(10):
        write = f"echo {number} >> $place/numbers; head -c 50000 /dev/urandom > $place/{number}"
        vm.shell(f"for place in /usr /workspace /var; do {write}; done; sync", check=True)
        vm.pause()
        vm.resume()
    numbers = "".join(f"{number}\n" for number in range(10))
    assert vm.run("cat", "/usr/numbers", "/workspace/numbers", "/var/numbers").stdout == numbers * 3
    assert vm.shell("cat /usr/? /workspace/? /var/? | wc -c").stdout == "1500000\n"
