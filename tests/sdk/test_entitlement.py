"""The copy of Python that macOS lets use the hypervisor is made whole, told from none, and runs as the original does.

That it is signed is said here by a program in codesign's place: this machine has none.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import aegis_sdk as aegis
from aegis_sdk.config import Config
from aegis_sdk.drivers import confine, entitlement, libkrun_worker
from aegis_sdk.engine.local import LocalEngine
from tests.other_systems import ask_for_entitlement


@pytest.fixture
def asking(tmp_path, monkeypatch):
    """An engine that asks for the entitlement."""
    ask_for_entitlement(monkeypatch, tmp_path)
    return LocalEngine(Config(home=tmp_path / "home"))


@pytest.fixture
def data(asking, tmp_path):
    return tmp_path / "home" / "data"


def _works(engine: LocalEngine) -> bool:
    return next(check.ok for check in engine.check() if check.name == "entitlement")


def test_mending(asking, data):
    """To mend makes the copy, says so, and does nothing when there is one."""
    assert not _works(asking)
    (done,) = aegis.mend(engine=asking)
    assert done.startswith(f"made {data}/python-")
    assert _works(asking)
    assert entitlement.why_not(data) == ("", "")
    assert aegis.mend(engine=asking) == ()
    assert len(os.listdir(data)) == 1  # nothing but the copy


def test_the_copy_is_a_whole_python(asking, data):
    """The copy finds its standard library, isolated and with none of the environment."""
    aegis.mend(engine=asking)
    copy = Path(entitlement.python(data))
    script = "import ctypes, os, sys; print(sys.prefix, os.path.realpath(os.__file__), sys.version)"
    done = subprocess.run([copy, "-I", "-S", "-c", script], env={}, capture_output=True, text=True, check=True)
    assert done.stdout == f"{copy.parent.parent} {os.path.realpath(os.__file__)} {sys.version}\n"
    assert done.stderr == ""


def test_the_copy_becomes_a_worker(asking, data):
    """The copy runs what confines a monitor and becomes one."""
    aegis.mend(engine=asking)
    worker = [confine.__file__, str(os.getpid()), libkrun_worker.__file__, "library=/no/such/library", "renderer="]
    command = [entitlement.python(data), "-I", "-S", *worker]
    done = subprocess.run(command, env={}, capture_output=True, text=True, check=False, timeout=15)
    assert done.returncode == 1
    assert done.stderr.startswith("libkrun: /no/such/library cannot be loaded")


def test_a_copy_that_is_not_signed(asking, data, tmp_path):
    """A copy that is not signed is told from one that is, and made anew."""
    aegis.mend(engine=asking)
    copy = Path(entitlement.python(data))
    signed = copy.read_bytes()
    copy.write_bytes(signed.partition(b"<?xml")[0])
    assert not _works(asking)
    assert len(aegis.mend(engine=asking)) == 1
    assert copy.read_bytes() == signed
    assert _works(asking)
    (tmp_path / "codesign").unlink()
    assert not _works(asking)  # nor can it be told any more


def test_a_python_that_has_been_replaced(asking, data, monkeypatch, tmp_path):
    """A Python that is another than when its copy was made has none."""
    aegis.mend(engine=asking)
    other = tmp_path / "python"
    other.write_bytes(Path(sys.executable).resolve().read_bytes())
    monkeypatch.setattr(entitlement, "_real", lambda: other)
    assert not _works(asking)
    assert "no copy yet" in entitlement.why_not(data)[0]


def test_a_framework(monkeypatch, tmp_path):
    """Of a framework's Python, it is the program in its bundle that is copied, not the one that only starts it."""
    program = tmp_path / "Resources/Python.app/Contents/MacOS/Python"
    program.parent.mkdir(parents=True)
    program.write_text("")
    monkeypatch.setattr(sys, "base_prefix", str(tmp_path))
    assert entitlement._real() == program


def test_codesign_that_fails(asking, data, tmp_path):
    """What codesign says when it fails is the error, and no copy is left that is not signed."""
    (tmp_path / "codesign").write_text("#!/bin/sh\necho it is broken >&2; exit 1\n")
    with pytest.raises(aegis.DriverUnavailable, match="codesign failed: it is broken"):
        aegis.mend(engine=asking)
    assert os.listdir(data) == []
    (tmp_path / "codesign").unlink()
    assert not _works(asking)
    with pytest.raises(aegis.DriverUnavailable, match="does not run"):
        aegis.mend(engine=asking)


def test_a_copy_that_does_not_run(asking, data, monkeypatch, tmp_path):
    """A copy that lacks something where it is now is told by what it says, and is not kept."""
    (tmp_path / "python").write_text("#!/bin/sh\necho library not loaded >&2; exit 9\n")
    monkeypatch.setattr(entitlement, "_real", lambda: tmp_path / "python")
    with pytest.raises(aegis.DriverUnavailable, match=r"does not run \(exit code 9\): library not loaded"):
        aegis.mend(engine=asking)
    assert os.listdir(data) == []


def test_linux_needs_none(tmp_path):
    """Where the system asks for no entitlement there is nothing to mend, and this Python is the one that is used."""
    engine = LocalEngine(Config(home=tmp_path / "home"))
    assert aegis.mend(engine=engine) == ()
    assert not [check for check in engine.check() if check.name == "entitlement"]
    assert entitlement.python(tmp_path) == sys.executable
