"""The command that installs something is the right one for the system."""

from __future__ import annotations

import pytest

from aegis_sdk import packages


@pytest.fixture
def system(tmp_path, monkeypatch):
    """Makes a system that has just the given programs."""

    def system(*programs: str) -> None:
        for name in programs:
            (tmp_path / name).touch(mode=0o755)
        monkeypatch.setenv("PATH", str(tmp_path))

    return system


@pytest.mark.parametrize(
    ("manager", "thing", "command"),
    [
        ("apt-get", "qemu", "apt-get install -y qemu-system-x86"),
        ("apt-get", "busybox", "apt-get install -y busybox-static"),
        ("dnf", "qemu", "dnf install -y qemu-system-x86"),
        ("pacman", "busybox", "pacman -S --noconfirm busybox"),
        ("apt-get", "virtiofsd", "apt-get install -y virtiofsd"),
        ("apk", "qemu", "apk add qemu-system-x86_64"),
        ("brew", "qemu", "brew install qemu"),
    ],
)
def test_commands(system, monkeypatch, manager, thing, command):
    """Each package manager has its own words; who is not root is told to use sudo, but not with brew."""
    system(manager)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert packages.to_install(thing) == command
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert packages.to_install(thing) == (command if manager == "brew" else f"sudo {command}")


def test_an_unknown_system(system):
    """Where no package manager is known, words say what to do."""
    system()
    assert "install qemu" in packages.to_install("qemu")


def test_programs(system, tmp_path):
    """A program is found in PATH if it can be executed."""
    system("here")
    (tmp_path / "not").touch(mode=0o644)
    assert packages.program("here") == str(tmp_path / "here")
    assert packages.program("not") is None
    assert packages.program("nowhere") is None
