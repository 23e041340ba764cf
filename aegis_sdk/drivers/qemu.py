"""The driver that boots a QEMU microVM: with hardware virtualization where that works, in software anywhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import attrs

from aegis_sdk import packages
from aegis_sdk.artifacts import Artifacts
from aegis_sdk.config import Config
from aegis_sdk.drivers import kernel, nested, virtiofs
from aegis_sdk.drivers.base import BootPlan
from aegis_sdk.drivers.machine import ProcessMachine, Wires, launch
from aegis_sdk.drivers.qemu_line import PORT, QemuLine, sharer
from aegis_sdk.drivers.virtualization import why_not_kvm
from aegis_sdk.errors import DriverUnavailable
from aegis_sdk.model import Check

_PROGRAM = "qemu-system-x86_64"
_OLDEST = (7, 2)
_SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"


@attrs.frozen
class Qemu:
    """Boots machines with the QEMU of this system."""

    _config: Config
    _artifacts: Artifacts
    name: str = attrs.field(default="qemu", init=False)

    @property
    def accelerator(self) -> str:
        return "tcg" if why_not_kvm()[0] else "kvm"

    def check(self) -> tuple[Check, ...]:
        if not (platform := _check_architecture()).ok:
            return (platform,)  # nothing else would be of use
        return (
            platform,
            _check_program(),
            kernel.check(self._config),
            _check_accelerator(),
            virtiofs.check(),
        )

    def mend(self) -> tuple[str, ...]:
        return ()

    def why_not(self, *, nested: bool = False, shared: bool = False) -> tuple[str, str]:  # noqa: ARG002  # both can be
        if not (platform := _check_architecture()).ok:
            return platform.seen, ""
        if not packages.program(_PROGRAM):
            return f"{_PROGRAM} is not installed", packages.to_install("qemu")
        return "", ""

    def boot(self, plan: BootPlan) -> ProcessMachine:
        program = packages.program(_PROGRAM)
        why, fix = self.why_not()
        if why or not program:
            raise DriverUnavailable(why, hint=fix)
        elf = kernel.file(self._config, self._artifacts)
        with ExitStack() as undo:
            wires = Wires.lay(plan, undo)
            line = QemuLine.lay(wires, plan.shared, undo)
            command = [program, *arguments(plan, elf, self.accelerator, wires.theirs)]
            if plan.shared:
                pipes = [wires.theirs[sharer(number)] for number in range(len(plan.shared))]
                command = virtiofs.command(zip(pipes, plan.shared, strict=True), command)
            undo.pop_all()  # from here on they belong to the machine's thread
        return launch(
            command,
            wires,
            line,
            name=plan.name,
            aloud=self._config.debug,
            python=sys.executable,
            witness=plan.witness,
            outlet=plan.outlet,
        )


def arguments(plan: BootPlan, elf: Path, accelerator: str, fds: dict[str, int]) -> list[str]:
    """QEMU's command line: fixed words, numbers, inherited descriptors, and nothing that is secret."""
    sharing = virtiofs.arguments(plan.memory) if plan.shared else ()
    return [
        *("-name", f"aegis-{plan.name}", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
        *("-machine", "microvm,acpi=off,x-option-roms=off,isa-serial=off", "-sandbox", _SANDBOX),
        *(*nested.processor(plan, accelerator), "-smp", str(plan.cpus), "-m", str(plan.memory)),
        *sharing,
        *("-kernel", str(elf), "-append", kernel.command_line(reboot="t") + nested.kernel_words(accelerator)),
        *("-chardev", f"socket,id=monitor,fd={fds['monitor']}", "-mon", "chardev=monitor,mode=control"),
        *("-device", "virtio-serial-device", "-chardev", f"socket,id=console,fd={fds['console']}"),
        *("-device", "virtconsole,chardev=console"),
        *("-device", "virtio-serial-device", "-chardev", f"socket,id=port,fd={fds['port']}"),
        *("-device", f"virtserialport,chardev=port,id={PORT},name=aegis.0"),
        *_disk("harness", fds["harness"], 1),  # /dev/vda
        *_disk("image", fds["image"], 2),  # /dev/vdb
    ]


def _disk(name: str, fd: int, number: int) -> tuple[str, ...]:
    # By a descriptor that was opened for reading: whatever the guest makes of QEMU, it cannot write there.
    return (
        *("-add-fd", f"set={number},fd={fd}"),
        *("-drive", f"id={name},file=/dev/fdset/{number},format=raw,if=none,readonly=on"),
        *("-device", f"virtio-blk-device,drive={name}"),
    )


def _check_architecture() -> Check:
    here = f"{sys.platform} {os.uname().machine}"
    ok = here == "linux x86_64"
    return Check(
        name="platform",
        ok=ok,
        seen=here if ok else f"this is {here}; the QEMU driver boots guests on Linux x86_64 so far",
    )


def _check_program() -> Check:
    program = packages.program(_PROGRAM)
    if not program:
        return Check(name="qemu", ok=False, seen=f"{_PROGRAM} is not installed", fix=packages.to_install("qemu"))
    try:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        return Check(name="qemu", ok=False, seen=f"{program} does not run: {error}", fix=packages.to_install("qemu"))
    version = re.search(r"version (\d+)\.(\d+)", said)
    if not version or (int(version[1]), int(version[2])) < _OLDEST:
        seen = f"{program} is {said.splitlines()[0] if said else 'of an unknown version'}; Aegis needs 7.2 or later"
        return Check(name="qemu", ok=False, seen=seen, fix=packages.to_install("qemu"))
    return Check(name="qemu", ok=True, seen=f"{program}, version {version[1]}.{version[2]}")


def _check_accelerator() -> Check:
    reason, fix = why_not_kvm()
    if not reason:
        return Check(name="acceleration", ok=True, seen="kvm", required=False)
    return Check(name="acceleration", ok=False, seen=f"tcg (software), because {reason}", fix=fix, required=False)
