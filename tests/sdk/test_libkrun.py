"""libkrun is found, and refused in words, without being loaded by this process."""

from __future__ import annotations

import ctypes
import os
import resource
import socket
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest

import aegis_sdk as aegis
from aegis_sdk.artifacts import Artifacts
from aegis_sdk.config import Config
from aegis_sdk.drivers import entitlement, libkrun, libkrun_worker, libraries, meeting
from aegis_sdk.drivers.base import BootPlan
from aegis_sdk.drivers.libkrun_line import LibkrunLine
from aegis_sdk.drivers.machine import Wires

CONFINE = Path(libkrun.__file__).with_name("confine.py")
LIBC = next(libraries.named("libc.so.6"))


@pytest.fixture
def config(tmp_path) -> Config:
    return Config(home=tmp_path / "home")


@pytest.fixture
def complete(tmp_path: Path) -> Path:
    """A file with the names of all functions, as a library's table of names has them."""
    path = tmp_path / "libkrun.so.1.99.2"
    path.write_bytes(b"\0" + b"\0".join(name.encode() for name in libkrun.NEEDED) + b"\0")
    return path


@pytest.fixture
def works(monkeypatch):
    """A machine that virtualizes."""
    monkeypatch.setattr("aegis_sdk.drivers.virtualization.why_not_kvm", lambda: ("", ""))


def test_the_worker_calls_what_is_looked_for():
    """What a library is looked through for is just what the worker calls."""
    assert sorted(libkrun.NEEDED) == sorted(libkrun_worker.ARGUMENTS)


def test_a_library_that_lacks_what_is_needed(config):
    """A library that cannot turn TSI off, or cannot do something else, is refused by the names of what it lacks."""
    found = libkrun.Library.look(LIBC)
    assert found.lacking == libkrun.NEEDED
    assert "it lacks krun_create_ctx" in found.why_not
    assert "krun_add_vsock" in found.why_not
    assert "pip install" in found.fix


@pytest.mark.parametrize("missing", libkrun.NEEDED)
def test_each_function_is_needed(complete, missing):
    """Each function that is missing is named, and no other."""
    complete.write_bytes(complete.read_bytes().replace(b"\0" + missing.encode() + b"\0", b"\0"))
    assert libkrun.Library.look(complete).lacking == (missing,)


def test_an_empty_file(tmp_path):
    """A file with nothing in it is a library that lacks everything."""
    (tmp_path / "libkrun.so").touch()
    assert libkrun.Library.look(tmp_path / "libkrun.so").lacking == libkrun.NEEDED


def test_a_longer_name_is_not_the_function(complete):
    """krun_add_vsock_port2 does not pass for krun_add_vsock."""
    complete.write_bytes(complete.read_bytes().replace(b"\0krun_add_vsock\0", b"\0krun_add_vsock_port\0"))
    assert libkrun.Library.look(complete).lacking == ("krun_add_vsock",)


def test_aegis_libkrun_chooses(complete, config):
    """AEGIS_LIBKRUN names the library, with the version that its name tells."""
    found = libkrun.find(Config.from_environment({"AEGIS_HOME": "/x", "AEGIS_LIBKRUN": str(complete)}))
    assert isinstance(found, libkrun.Library)
    assert (found.path, found.why_not, found.version) == (complete, "", "version 1.99.2")


def test_aegis_libkrun_that_is_not_there(works):
    """A library that AEGIS_LIBKRUN names and that is not there is said to be not there."""
    config = Config(home=Path("/x"), libkrun=Path("/no/such/libkrun.so"))
    assert "/no/such/libkrun.so" in libkrun.Libkrun(config, Artifacts(config.images)).why_not()[0]


def test_none_anywhere(monkeypatch, config, works):
    """Without a libkrun, the error says so and what installs one."""
    monkeypatch.setattr(libraries, "_candidates", lambda _: iter(()))
    why, fix = libkrun.Libkrun(config, Artifacts(config.images)).why_not()
    assert "neither in this system nor in Python's packages" in why
    assert "pip install smolmachines" in fix


def test_one_that_can_be_used_goes_before_one_that_cannot(monkeypatch, config, complete):
    """A library that lacks something does not keep a later one from being found."""
    monkeypatch.setattr(libraries, "_candidates", lambda _: iter((LIBC, complete)))
    found = libkrun.find(config)
    assert isinstance(found, libkrun.Library)
    assert found.path == complete


def test_without_virglrenderer(monkeypatch, complete, config):
    """A library that draws needs virglrenderer, and says what installs it."""
    complete.write_bytes(complete.read_bytes() + b"virgl_renderer_init\0")
    monkeypatch.setattr(libraries, "_candidates", lambda _: iter(()))
    found = libkrun.Library.look(complete)
    assert "needs libvirglrenderer.so.1, which is not installed" in found.why_not
    assert "virglrenderer" in found.fix


def test_a_library_of_macos_says_itself_what_it_needs(complete):
    """A library for macOS that draws needs nothing of us: it says where its virglrenderer is."""
    complete.write_bytes(libraries.MACH_O + complete.read_bytes() + b"virgl_renderer_init\0")
    assert libkrun.Library.look(complete).why_not == ""


def test_versions_of_macos():
    """A library's version is in its name, on macOS as well."""
    assert libkrun.Library(Path("/x/libkrun.1.17.4.dylib"), (), False, None).version == "version 1.17.4"


def test_without_the_entitlement(monkeypatch, config, complete, works):
    """Where the system asks for an entitlement that no Python has yet, doctor is what mends it, and says so itself."""
    monkeypatch.setattr(entitlement, "NEEDED", True)
    monkeypatch.setattr(libraries, "_candidates", lambda _: iter((complete,)))
    driver = libkrun.Libkrun(config, Artifacts(config.images))
    why, fix = driver.why_not()
    assert "has no copy yet that may use the hypervisor" in why
    assert fix == "aegis doctor --fix"
    assert {check.name: check.ok for check in driver.check()}["entitlement"] is False


def test_the_loaders_cache(monkeypatch, tmp_path):
    """A library that only the system's loader knows is found by it."""
    library = tmp_path / "libodd.so.7"
    library.write_text("")
    cache = tmp_path / "ld.so.cache"
    cache.write_bytes(b"glibc-ld.so.cache1.1\0libodd.so.7\0" + os.fsencode(library) + b"\0")
    monkeypatch.setattr(libraries, "_LOADER_CACHE", cache)
    assert list(libraries.named("libodd.so.7")) == [library]
    assert list(libraries.named("libodd.so")) == []


def _work(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", "-S", str(CONFINE), str(os.getpid()), libkrun_worker.__file__, *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=15, check=False)


def test_the_worker_refuses_in_words():
    """A worker whose library is none says which function it lacks, or what the loader said."""
    done = _work(f"library={LIBC}", "renderer=", "log=1")
    assert (done.returncode, done.stderr) == (1, "libkrun: the library lacks krun_set_log_level\n")
    done = _work("library=/no/such/library", "renderer=")
    assert done.returncode == 1
    assert "/no/such/library cannot be loaded" in done.stderr


def test_error_numbers_in_words(capsys):
    """What a call returns is told as the call's name and the system's words."""
    with pytest.raises(SystemExit, match="libkrun: krun_start_enter: Invalid argument"):
        libkrun_worker._check("krun_start_enter", -22)
    assert libkrun_worker._check("krun_create_ctx", 3) == 3


def _call(place: meeting.Meeting) -> None:
    """Call as libkrun does, by the path, and be heard."""
    with socket.socket(socket.AF_UNIX) as caller:
        caller.connect(place.path)
        place.listener.accept()[0].close()


def test_the_port_has_no_name(tmp_path):
    """Who has the descriptor can call; nothing is left in the file system, of a killed process neither."""
    (tmp_path / meeting._NAME).write_text("left by somebody who was killed")
    with ExitStack() as undo:
        place = meeting.arrange(tmp_path, Wires({}), undo)
        assert os.listdir(tmp_path) == []
        _call(place)
        place.over()


def test_a_port_with_a_name():
    """Where it needs a name, only this user can come to it, and when the call has come nothing is left of it."""
    with ExitStack() as undo:
        place = meeting.arrange_with_name(undo)
        assert Path(place.path).parent.stat().st_mode & 0o777 == 0o700
        _call(place)
        place.over()
        assert os.listdir(tempfile.gettempdir()) == []
        place.over()


def test_a_port_whose_name_is_too_long(tmp_path, monkeypatch):
    """A name that no socket can have is refused, and nothing is left of it."""
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    with ExitStack() as undo, pytest.raises(OSError, match="path too long"):
        meeting.arrange_with_name(undo)
    assert os.listdir(deep) == []


def test_a_home_of_any_length(tmp_path):
    """A home's path may be longer than a socket's."""
    deep = tmp_path / ("d" * 120)
    with ExitStack() as undo:
        _call(meeting.arrange(deep, Wires({}), undo))


def test_a_machine_that_does_not_virtualize(monkeypatch, config):
    """Where there is no virtualization, a guest that is to have libkrun is refused with the reason."""
    monkeypatch.setattr("aegis_sdk.drivers.virtualization.why_not_kvm", lambda: ("it is said so here", "do this"))
    plan = BootPlan(name="x", harness=Path("/x"), image=Path("/x"), memory=128, cpus=1)
    with pytest.raises(aegis.DriverUnavailable, match="it is said so here") as caught:
        libkrun.Libkrun(config, Artifacts(config.images)).boot(plan)
    assert caught.value.hint == "do this"


def test_the_command_line(complete, tmp_path):
    """All words are name=value, and every descriptor that is given is named."""
    (tmp_path / "disk").write_text("")
    plan = BootPlan(name="x", harness=tmp_path / "disk", image=tmp_path / "disk", memory=128, cpus=2)
    with ExitStack() as undo:
        wires = Wires.lay(plan, undo)
        words = libkrun.words(plan, libkrun.Library.look(complete), tmp_path / "elf", "/x=y", wires.theirs, log=1)
        told = dict(word.split("=", 1) for word in words)
        assert {name: int(told[name]) for name in wires.theirs} == wires.theirs
    assert (told["memory"], told["cpus"], told["port"]) == ("128", "2", "/x=y")
    assert told["format"] == {"x86_64": "1", "aarch64": "0"}[os.uname().machine]
    assert ("reboot=k" in told["append"]) == (os.uname().machine == "x86_64")


def test_this_process_loads_no_libkrun(complete):
    """To look at a library does not load it: what cannot be loaded can be looked at."""
    with pytest.raises(OSError, match=r"too short|invalid ELF"):
        ctypes.CDLL(str(complete))
    assert not libkrun.Library.look(complete).why_not


@pytest.mark.parametrize(("needs", "said"), [({"nested": True}, "/dev/kvm"), ({"shared": (Path("/"),)}, "directories")])
def test_what_it_cannot_do(config, tmp_path, needs, said):
    """A guest that it cannot boot is refused by what it lacks, whatever library there is."""
    driver = libkrun.Libkrun(config, Artifacts(config.images))
    plan = BootPlan(name="x", harness=tmp_path, image=tmp_path, memory=128, cpus=1, **needs)
    with pytest.raises(aegis.DriverUnavailable, match=said) as caught:
        driver.boot(plan)
    assert "qemu" in caught.value.hint


def test_no_more_descriptors(tmp_path):
    """However far it comes with what it may open, nothing is left open."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    before = len(os.listdir("/proc/self/fd"))
    failed = 0
    for limit in range(before, before + 12):
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limits[1]))
        try:
            with ExitStack() as undo:
                LibkrunLine.lay(tmp_path, Wires({}), undo)
        except OSError:
            failed += 1
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert len(os.listdir("/proc/self/fd")) == before
    assert failed
