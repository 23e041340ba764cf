"""A guest does with what other systems have what it does with Linux's own."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

import aegis_sdk as aegis
from tests.conftest import until
from tests.other_systems import ask_for_entitlement, use_nothing_of_linux

pytestmark = pytest.mark.in_process  # whose system it is that is changed


@pytest.fixture
def vm(boot, monkeypatch, tmp_path):
    use_nothing_of_linux(monkeypatch)
    ask_for_entitlement(monkeypatch, tmp_path)
    aegis.mend()
    return boot()


@pytest.mark.every_driver
@pytest.mark.timeout(60)
def test_a_guest(vm):
    """It boots, runs, takes what is written to it, notices who has gone, and ends by any hand."""
    assert vm.run("cat", input=b"input" * 1000).stdout_bytes == b"input" * 1000
    assert vm.run("head", "-c", "1000000", "/dev/zero").stdout_bytes == bytes(1_000_000)
    assert vm.run("sh", "-c", "exit 3").exit_code == 3
    process = vm.start("sh", "-c", "sleep 60 & echo $!; wait")
    number = next(iter(process.stdout)).strip()
    process.close()  # when nothing is asked of its connection but whether it has gone
    assert until(lambda: not vm.shell(f"kill -0 {number}").ok, 5)
    monitor = vm.info().pid
    os.kill(monitor, signal.SIGKILL)
    with pytest.raises(aegis.GuestDied, match="SIGKILL"):
        vm.run("true")
    vm.close()
    assert not Path(f"/proc/{monitor}").exists()


def test_a_guest_that_switches_itself_off(vm):
    """It is known to have powered off."""
    with pytest.raises(aegis.GuestDied, match="powered off"):
        vm.shell("poweroff -f; sleep 100")
