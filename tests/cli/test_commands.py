"""The rest of the command line."""

from __future__ import annotations

import json

import aegis_sdk as aegis


def test_version(cli):
    """The version, by command and by flag."""
    for words in (["version"], ["--version"]):
        assert cli(*words).stdout.decode() == f"aegis {aegis.__version__}\n"


def test_help(cli):
    """Help names every command, and every command has help."""
    text = cli("--help").stdout.decode()
    for command in ("doctor", "run", "shell", "version"):
        assert command in text
        assert cli(command, "--help").returncode == 0


def test_a_misspelt_command(cli):
    """The nearest right command is named."""
    done = cli("doktor")
    assert done.returncode == 2
    assert b"Did you mean 'doctor'?" in done.stderr


def test_doctor_proves_that_a_guest_boots(cli):
    """doctor checks each thing, boots a guest, and exits with 0."""
    done = cli("doctor")
    assert done.returncode == 0
    for thing in (b"qemu", b"guest kernel", b"guest harness", b"base image", b"acceleration", b"home", b"boot"):
        assert thing in done.stdout


def test_doctor_quick(cli):
    """doctor --quick boots nothing."""
    done = cli("doctor", "--quick")
    assert done.returncode == 0
    assert b"guest kernel" in done.stdout
    assert b"boot" not in done.stdout


def test_doctor_says_what_is_missing(cli, monkeypatch):
    """What is missing is named with the command that mends it, in words and in JSON, and the exit code is 1."""
    monkeypatch.setenv("AEGIS_KERNEL", "/no/such/kernel")
    done = cli("doctor")
    assert done.returncode == 1
    assert b"/no/such/kernel" in done.stdout
    assert b"leave AEGIS_KERNEL out" in done.stdout
    said = json.loads(cli("doctor", "--json").stdout)
    assert said["healthy"] is False
    assert {"guest kernel": False}.items() <= {check["name"]: check["ok"] for check in said["checks"]}.items()


def test_doctor_mends(cli):
    """doctor --fix says what it did, which is nothing where there is nothing of the kind, and checks as ever."""
    done = cli("doctor", "--fix", "--quick")
    assert done.returncode == 0
    assert done.stdout.startswith(b"there is nothing here that Aegis could mend by itself\n")
    assert b"guest kernel" in done.stdout
    assert json.loads(cli("doctor", "--fix", "--quick", "--json").stdout)["healthy"] is True


def test_doctor_without_qemu(cli, monkeypatch, tmp_path):
    """Without QEMU, doctor names the package of this system."""
    (tmp_path / "apt-get").symlink_to("/usr/bin/apt-get")
    monkeypatch.setenv("PATH", str(tmp_path))
    done = cli("doctor")
    assert done.returncode == 1
    assert b"apt-get install -y qemu-system-x86" in done.stdout
