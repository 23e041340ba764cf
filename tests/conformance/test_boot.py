"""Every step of a boot that can fail says which step, what was seen and what to do."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

import aegis_sdk as aegis
from aegis_sdk.config import Config
from aegis_sdk.engine.local import LocalEngine


@pytest.fixture
def fresh(tmp_path, driver):
    """A home in which nothing has been made yet."""
    return Config(home=tmp_path / "home", driver=driver)


@pytest.mark.in_process
def test_no_qemu(monkeypatch, tmp_path):
    """Without QEMU, the error names it and the command that installs it."""
    for name in ("apt-get", "busybox"):
        (tmp_path / name).symlink_to(f"/usr/bin/{name}")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(aegis.DriverUnavailable, match="qemu-system-x86_64 is not installed") as caught:
        aegis.Sandbox(driver="qemu")
    assert "apt-get install -y qemu-system-x86" in caught.value.hint


@pytest.mark.in_process
def test_no_kernel(monkeypatch):
    """A kernel that is not there is named."""
    monkeypatch.setenv("AEGIS_KERNEL", "/no/such/kernel")
    with pytest.raises(aegis.KernelNotFound, match="/no/such/kernel") as caught:
        aegis.Sandbox()
    assert "leave AEGIS_KERNEL out" in caught.value.hint


@pytest.mark.every_driver
@pytest.mark.in_process
def test_a_kernel_that_is_none(monkeypatch, tmp_path):
    """A file that is no kernel is refused by name before anything boots."""
    (tmp_path / "kernel").write_text("not a kernel")
    monkeypatch.setenv("AEGIS_KERNEL", str(tmp_path / "kernel"))
    with pytest.raises(aegis.KernelNotFound, match="neither libkrunfw nor a kernel"):
        aegis.Sandbox()


@pytest.mark.every_driver
@pytest.mark.in_process
def test_a_kernel_that_does_not_boot(monkeypatch, tmp_path):
    """What the monitor says of a kernel that it cannot enter is in the error."""
    (tmp_path / "kernel").write_bytes(b"\x7fELF\x02\x01\x01" + bytes(9) + b"\2\0" + bytes(4096))
    monkeypatch.setenv("AEGIS_KERNEL", str(tmp_path / "kernel"))
    with pytest.raises(aegis.BootFailed, match="monitor failed"):
        aegis.Sandbox()


def test_no_busybox(monkeypatch, fresh):
    """Without a static busybox, the base image says so and what installs it."""
    monkeypatch.setattr("aegis_sdk.images.local.busybox.is_static", lambda _: False)
    with pytest.raises(aegis.Unavailable, match="static busybox") as caught:
        aegis.Sandbox(engine=LocalEngine(fresh))
    assert "busybox-static" in caught.value.hint


def test_no_harness(monkeypatch, fresh, tmp_path):
    """Without its harness, Aegis says that it is not whole."""
    monkeypatch.setattr("aegis_sdk.images.harness._PROGRAMS", tmp_path)
    with pytest.raises(aegis.HarnessNotFound, match="harness is missing"):
        aegis.Sandbox(engine=LocalEngine(fresh))


@pytest.mark.every_driver
def test_a_harness_that_never_answers(monkeypatch, fresh, tmp_path):
    """A guest whose harness does not answer is given up, with the console, and is gone."""
    monkeypatch.setattr("aegis_sdk.engine.boot._BOOT_TIMEOUT", 4.0)
    monkeypatch.setattr("aegis_sdk.images.harness._PROGRAMS", _other_harness(tmp_path))
    with pytest.raises(aegis.BootTimedOut, match="did not answer within 4 s") as caught:
        aegis.Sandbox(engine=LocalEngine(fresh))
    assert isinstance(caught.value, TimeoutError)


def _other_harness(tmp_path: Path) -> Path:
    """A static program in the harness's place: one that waits for ever, or what comes nearest."""
    program = tmp_path / "programs" / "amd64" / "init"
    program.parent.mkdir(parents=True)
    program.write_bytes(Path("/bin/busybox").read_bytes())
    return program.parent.parent


def test_a_home_that_cannot_be_written(tmp_path):
    """A home that cannot be made is an error with its path and what to do."""
    (tmp_path / "file").write_text("")
    with pytest.raises(aegis.ImageFailed, match="cannot be kept") as caught:
        aegis.Sandbox(engine=LocalEngine(Config(home=tmp_path / "file" / "home")))
    assert "AEGIS_HOME" in caught.value.hint


@pytest.mark.parametrize(
    "options",
    [
        {"memory": 8},
        {"memory": 1 << 30},
        {"memory": "1G"},
        {"cpus": 0},
        {"cpus": 99},
        {"cpus": True},
        {"driver": "xen"},
        {"image": ""},
    ],
)
def test_sandboxes_that_cannot_be_meant(options):
    """Sizes and names that cannot be are refused before anything boots."""
    with pytest.raises(aegis.InvalidValue):
        aegis.Sandbox(**options)


@pytest.mark.every_driver
def test_the_least_memory_is_enough(boot):
    """A guest with the least memory that is allowed boots and runs commands."""
    from aegis_sdk.model import MINIMUM_MEMORY

    vm = boot(memory=MINIMUM_MEMORY)
    assert vm.shell("seq 1000 | wc -l").stdout == "1000\n"


@pytest.mark.every_driver
def test_more_memory_than_the_machine_has(boot):
    """A guest that is larger than what the host can give says so."""
    with pytest.raises(aegis.BootFailed) as caught:
        boot(memory=1 << 24)
    assert "memory" in caught.value.hint


def test_an_image_nobody_knows(registry):
    """An unknown image is named."""
    with pytest.raises(aegis.ImageNotFound, match="nosuch"):
        aegis.Sandbox(registry.name("nosuch"))


@pytest.mark.of_qemu
def test_a_first_boot_says_that_it_is_slow_here(tmp_path, monkeypatch, capfd):
    """Without hardware virtualization one line says so, once for a home."""
    monkeypatch.setattr("aegis_sdk.drivers.qemu.why_not_kvm", lambda: ("it is said so here", ""))
    engine = LocalEngine(Config(home=tmp_path / "home", driver="qemu"))
    for _ in range(2):
        aegis.Sandbox(engine=engine).close()
    err = capfd.readouterr().err
    assert err.count("\n") == 1
    assert "no hardware virtualization" in err


def test_what_is_kept_is_private_and_final(fresh):
    """The disks in a home are read-only and for their owner's eyes."""
    aegis.Sandbox(engine=LocalEngine(fresh)).close()
    kept = {path.name.partition("-")[0] for path in fresh.images.iterdir()}
    assert kept == {"kernel", "harness", "disks", "references"}
    modes = {path: stat.S_IMODE(path.lstat().st_mode) for path in (fresh.images, *fresh.images.rglob("*"))}
    assert {modes[path] for path in modes if path.is_dir()} == {0o700}
    assert {modes[path] for path in modes if path.suffix in (".erofs", ".elf")} == {0o444}
    assert not any(mode & 0o022 for mode in modes.values())


@pytest.mark.in_process
def test_no_more_threads(monkeypatch, driver):
    """Where no thread can be started the boot has failed, and nothing is left open."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    aegis.Sandbox(driver=driver).close()  # what is opened once stays
    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(aegis.BootFailed, match="can't start new thread"):
        aegis.Sandbox(driver=driver)
    assert len(os.listdir("/proc/self/fd")) == before
