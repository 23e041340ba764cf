"""What a Mac would see, as far as another system can tell: the SDK in a program that takes its machine for one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from aegis_sdk.drivers import libkrun, libraries
from tests.conftest import ROOT

# What is imported first is the standard library's, which has to know where it really is.
PROGRAM = """
import ctypes, json, mmap, os, pathlib, runpy, shutil, socket, subprocess, sys, tempfile, threading, tty, types

machine, place = os.uname(), pathlib.Path(sys.argv[1])
os.uname = lambda: types.SimpleNamespace(sysname="Darwin", machine="arm64", release=machine.release)
sys.platform = "darwin"

import aegis_sdk as aegis
from aegis_sdk.drivers import entitlement, libkrun, virtualization
from aegis_sdk.drivers.base import BootPlan
from aegis_sdk.engine.connect import engine_here
from tests.other_systems import CODESIGN

for name, script in (("codesign", CODESIGN), ("sysctl", "#!/bin/sh\\necho 1\\n")):
    (place / name).write_text(script)
    (place / name).chmod(0o755)
entitlement._CODESIGN, virtualization._SYSCTL = str(place / "codesign"), str(place / "sysctl")

said = {"before": {check.name: check.ok for check in aegis.diagnose(quick=True)}, "mended": aegis.mend()}
said["after"] = {check.name: check.ok for check in aegis.diagnose(quick=True)}
driver = engine_here()._drivers["libkrun"]
disk = place / "disk"
disk.write_bytes(bytes(512))
launch = libkrun.launch

def launched(command, *things, python, **options):
    said["words"] = [python, *command]
    return launch(command, *things, python=python, **options)

libkrun.launch = launched
ending = driver.boot(BootPlan(name="x", harness=disk, image=disk, memory=128, cpus=1)).wait(20)
print(json.dumps(said | {"accelerator": driver.accelerator, "ending": str(ending), "last words": ending.last_words()}))
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What a program says that takes its machine for a Mac, with a library for one that no other system can load."""
    place = tmp_path_factory.mktemp("mac")
    names = b"\0_".join(name.encode() for name in (*libkrun.NEEDED, "virgl_renderer_init"))
    (place / "libkrun.1.99.0.dylib").write_bytes(libraries.MACH_O + b"\0_" + names + b"\0")
    (place / "Image").write_bytes(bytes(0x38) + b"ARM\x64")
    settings = {"AEGIS_HOME": place / "home", "AEGIS_LIBKRUN": place / "libkrun.1.99.0.dylib"}
    environ = os.environ | {name: str(value) for name, value in settings.items()} | {"PYTHONPATH": str(ROOT)}
    environ |= {"AEGIS_KERNEL": str(place / "Image"), "AEGIS_DRIVER": "auto"}
    command = [sys.executable, "-c", PROGRAM, str(place)]
    done = subprocess.run(command, env=environ, stdout=subprocess.PIPE, check=True, timeout=60, text=True)
    return json.loads(done.stdout)


def test_what_the_doctor_sees(said):
    """Nothing but the entitlement keeps a Mac that has all else from booting, and to mend makes it."""
    wanted = ["driver", "platform", "hvf", "libkrun", "entitlement", "guest kernel"]
    assert [name for name in said["before"] if name in wanted] == wanted
    assert [name for name in wanted if not said["before"][name]] == ["driver", "entitlement"]
    assert len(said["mended"]) == 1
    assert [name for name in wanted if not said["after"][name]] == []


def test_how_a_guest_is_started(said):
    """The signed copy becomes the machine: with an ARM kernel, and a socket that has a short name."""
    python, *_ = said["words"]
    told = dict(word.split("=", 1) for word in said["words"] if "=" in word)
    assert "/home/data/python-" in python
    assert (said["accelerator"], told["format"], told["renderer"]) == ("hvf", "0", "")
    assert "reboot=" not in told["append"]
    assert Path(told["port"]).name == "port"
    assert not Path(told["port"]).parent.exists()  # any more


def test_how_it_ends(said):
    """That the library cannot be loaded is heard over what other systems have."""
    assert "libkrun.1.99.0.dylib cannot be loaded" in said["ending"] + said["last words"]
