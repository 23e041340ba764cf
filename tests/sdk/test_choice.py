"""Which driver boots a guest is chosen by what works here, and said with its reason."""

from __future__ import annotations

import attrs
import pytest

import aegis_sdk as aegis
from aegis_sdk.config import Config
from aegis_sdk.drivers import qemu, virtualization
from aegis_sdk.drivers.base import BootPlan, Machine
from aegis_sdk.drivers.choice import choose
from aegis_sdk.engine.local import LocalEngine
from aegis_sdk.model import Check


@attrs.frozen
class Driver:
    name: str
    why: str = ""
    fix: str = ""
    accelerator: str = "kvm"
    nests: bool = True
    shares: bool = True

    def why_not(self, *, nested: bool = False, shared: bool = False) -> tuple[str, str]:
        if (nested and not self.nests) or (shared and not self.shares):
            return "it cannot boot such a guest", ""
        return self.why, self.fix

    def check(self) -> tuple[Check, ...]:
        return ()

    def mend(self) -> tuple[str, ...]:
        return ()

    def boot(self, plan: BootPlan) -> Machine:
        pytest.fail(f"a choice boots nothing, but {plan} was to be")


def _drivers(*drivers: Driver) -> dict[str, Driver]:
    return {driver.name: driver for driver in drivers}


def test_the_first_that_can_be_used():
    """auto takes the first driver that can be used, and says so."""
    choice = choose("auto", _drivers(Driver("a"), Driver("b")))
    assert choice.driver.name == "a"
    assert "can be used here" in choice.reason


def test_why_not_the_first():
    """What is against the drivers before it is the reason for the one that is taken."""
    choice = choose("auto", _drivers(Driver("a", why="it rains"), Driver("b")))
    assert (choice.driver.name, choice.reason) == ("b", "not a, because it rains")


def test_what_the_guest_needs():
    """auto passes over a driver that cannot boot such a guest, and says so."""
    drivers = _drivers(Driver("a", nests=False, shares=False), Driver("b"))
    assert choose("auto", drivers).driver.name == "a"
    for needs in ({"nested": True}, {"shared": True}):
        choice = choose("auto", drivers, **needs)
        assert (choice.driver.name, choice.reason) == ("b", "not a, because it cannot boot such a guest")


def test_by_name():
    """A driver that is asked for is taken, or refused with what mends it."""
    drivers = _drivers(Driver("a"), Driver("b"), Driver("c", why="it rains", fix="wait"))
    assert choose("b", drivers).driver.name == "b"
    with pytest.raises(aegis.DriverUnavailable, match="it rains") as caught:
        choose("c", drivers)
    assert caught.value.hint == "wait"


def test_none():
    """Where none can be used, each says why, and the last one's fix is shown."""
    with pytest.raises(aegis.DriverUnavailable, match="not a, because it rains; not b, because it snows") as caught:
        choose("auto", _drivers(Driver("a", "it rains", "wait"), Driver("b", "it snows", "shovel")))
    assert caught.value.hint == "shovel"


def test_unknown():
    """A driver that there is not is refused with those that there are."""
    with pytest.raises(aegis.InvalidValue, match="'xen'") as caught:
        choose("xen", _drivers(Driver("a"), Driver("b")))
    assert "auto, a, b" in caught.value.hint


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Makes this machine look like one with that device and those processor flags."""

    def machine(*, device: bool, flags: str) -> None:
        (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: fpu {flags}\nbugs\t\t:\n")
        if device:
            (tmp_path / "kvm").write_text("")
        monkeypatch.setattr(virtualization, "_DEVICE", tmp_path / "kvm")
        monkeypatch.setattr(virtualization, "_PROCESSOR", tmp_path / "cpuinfo")

    return machine


@pytest.mark.parametrize("flag", ["vmx", "svm"])
def test_a_machine_that_virtualizes(machine, flag):
    """A device that opens, and a processor that shows its flag, will do."""
    machine(device=True, flags=flag)
    assert virtualization.why_not_kvm() == ("", "")
    assert virtualization.check().ok


def test_no_device(machine):
    """Without a device, the kernel's module for the processor mends it, if there is one."""
    machine(device=False, flags="svm")
    why, fix = virtualization.why_not_kvm()
    assert why.startswith("there is no")
    assert fix == "sudo modprobe kvm_amd"
    machine(device=False, flags="hypervisor")
    assert virtualization.why_not_kvm()[1] == ""


def test_a_paravirtual_device(machine):
    """A device on a processor without the flag is not trusted."""
    machine(device=True, flags="hypervisor")
    assert "neither vmx nor svm" in virtualization.why_not_kvm()[0]


def test_a_device_on_arm(machine, monkeypatch):
    """On ARM, where processors show no flag, a device that opens will do, and nothing is to be loaded without one."""
    monkeypatch.setattr(virtualization, "ARM", True)
    machine(device=False, flags="")
    assert virtualization.why_not_kvm()[1] == ""
    machine(device=True, flags="")
    assert virtualization.why_not_kvm() == ("", "")


def _mac(monkeypatch, tmp_path, said: str) -> None:
    """Makes this machine look like a Mac whose sysctl says that of kern.hv_support."""
    sysctl = tmp_path / "sysctl"
    sysctl.write_text(f"#!/bin/sh\n[ \"$*\" = '-n kern.hv_support' ] && {said}\n")
    sysctl.chmod(0o755)
    monkeypatch.setattr(virtualization, "ACCELERATOR", "hvf")
    monkeypatch.setattr(virtualization, "_SYSCTL", str(sysctl))


def test_a_mac_that_virtualizes(monkeypatch, tmp_path):
    """On macOS it is the system that says whether it virtualizes."""
    _mac(monkeypatch, tmp_path, "echo 1")
    assert virtualization.why_not() == ("", "")
    assert (virtualization.check().name, virtualization.check().ok) == ("hvf", True)


@pytest.mark.parametrize("said", ["echo 0", "exit 1"])
def test_a_mac_that_does_not(monkeypatch, tmp_path, said):
    """A Mac that says anything else, or nothing, does not virtualize."""
    _mac(monkeypatch, tmp_path, said)
    assert "kern.hv_support is not 1" in virtualization.check().seen


def test_a_mac_without_sysctl(monkeypatch, tmp_path):
    """Without the program that says it, that is the reason."""
    _mac(monkeypatch, tmp_path, "echo 1")
    (tmp_path / "sysctl").unlink()
    assert "does not run" in virtualization.why_not()[0]


def test_a_device_of_others(machine, monkeypatch):
    """A device that does not open has a command that mends that."""
    machine(device=True, flags="vmx")
    for error, said in ((PermissionError(), "this user may not use"), (OSError(6, "No such device"), "does not open")):
        monkeypatch.setattr("os.open", _raiser(error))
        why, fix = virtualization.why_not_kvm()
        assert said in why
        assert fix == ("sudo usermod -aG kvm $USER, then log in again" if "user" in why else "sudo modprobe kvm_intel")


def _raiser(error):
    def fail(*_):
        raise error

    return fail


def test_doctor_names_the_choice(machine, tmp_path):
    """doctor says which driver is taken and why, and requires nothing of the others."""
    machine(device=False, flags="")
    checks = {check.name: check for check in LocalEngine(Config(home=tmp_path / "home")).check()}
    assert checks["driver"].seen.startswith("qemu: not libkrun, because there is no")
    assert not checks["kvm"].ok
    assert not checks["kvm"].required
    assert checks["qemu"].required


def test_doctor_where_none_can_be_used(monkeypatch, tmp_path):
    """Where no driver can be used, what is required is of one for which something can be done."""
    monkeypatch.setattr(qemu, "_check_architecture", lambda: Check(name="platform", ok=False, seen="of another kind"))
    monkeypatch.setattr(virtualization, "why_not_kvm", lambda: ("it is off", "switch it on"))
    checks = LocalEngine(Config(home=tmp_path / "home")).check()
    assert [check.name for check in checks if check.required and not check.ok] == ["driver", "kvm"]
    assert checks[0].fix == "switch it on"


def test_doctor_of_a_driver_that_is_asked_for(machine, tmp_path):
    """What the driver that is asked for needs is required."""
    machine(device=False, flags="")
    checks = {c.name: c for c in LocalEngine(Config(home=tmp_path / "home", driver="libkrun")).check()}
    assert checks["kvm"].required
    assert not checks["qemu"].required
