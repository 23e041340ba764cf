"""A nested guest can run machines of its own; no other can."""

from __future__ import annotations

import pytest

import aegis_sdk as aegis
from aegis_sdk.drivers import nested
from aegis_sdk.drivers.base import BootPlan

pytestmark = pytest.mark.of_qemu

OPENS = "grep -qE '^flags.*(svm|vmx)' /proc/cpuinfo && test -c /dev/kvm && : 3<>/dev/kvm"


@pytest.fixture
def plan(tmp_path):
    return BootPlan(name="x", harness=tmp_path, image=tmp_path, memory=512, cpus=1, nested=True)


def test_a_nested_guest(boot):
    """Its processor can virtualize, and root can open its /dev/kvm."""
    vm = boot(nested=True)
    assert vm.shell(OPENS).ok
    if vm.info().accelerator == "tcg":
        clock = "/sys/devices/system/clocksource/clocksource0/current_clocksource"
        assert vm.run("cat", clock).stdout.startswith("tsc")


def test_any_other_guest(sandbox):
    """Its processor cannot virtualize, and there is no /dev/kvm."""
    assert sandbox.shell("grep -cwE 'svm|vmx' /proc/cpuinfo").stdout == "0\n"
    assert not sandbox.shell("test -e /dev/kvm").ok


def test_on_the_command_line(cli):
    """``aegis run --nested`` is the same."""
    assert cli("run", "--nested", "--", "sh", "-c", OPENS).returncode == 0


@pytest.mark.parametrize("said", ["Y\n", "1\n"])
def test_on_kvm_that_nests(monkeypatch, tmp_path, plan, said):
    """Where the host's KVM nests, the guest gets the host's processor."""
    monkeypatch.setattr(nested, "_MODULES", tmp_path)
    _say(tmp_path, said)
    assert nested.processor(plan, "kvm") == ("-accel", "kvm", "-cpu", "host")


def test_on_kvm_that_does_not_nest(monkeypatch, tmp_path, plan):
    """Where the host's KVM does not nest, the error says how to let it."""
    monkeypatch.setattr(nested, "_MODULES", tmp_path)
    with pytest.raises(aegis.DriverUnavailable, match="does not say"):
        nested.processor(plan, "kvm")
    _say(tmp_path, "N\n")
    with pytest.raises(aegis.DriverUnavailable, match="set not to nest") as caught:
        nested.processor(plan, "kvm")
    assert "options kvm_amd nested=1" in caught.value.hint


def test_the_clock(monkeypatch, tmp_path):
    """A guest in software is told its clock's speed, where the host shows one."""
    shown = tmp_path / "cpuinfo"
    monkeypatch.setattr(nested, "_CPUINFO", shown)
    shown.write_text("processor\t: 0\ncpu MHz\t\t: 2596.130\nflags\t\t: fpu hypervisor svm\n")
    assert nested.kernel_words("tcg") == " tsc_early_khz=2596130 tsc=reliable"
    assert nested.kernel_words("kvm") == ""
    shown.write_text("processor\t: 0\nflags\t\t: fpu hypervisor svm\n")
    assert nested.kernel_words("tcg") == ""
    shown.write_text("processor\t: 0\ncpu MHz\t\t: 800.000\nflags\t\t: fpu svm\n")  # no virtual machine: at rest
    assert nested.kernel_words("tcg") == ""


def _say(modules, said):
    parameters = modules / "kvm_amd" / "parameters"
    parameters.mkdir(parents=True)
    (parameters / "nested").write_text(said)
