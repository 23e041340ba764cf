"""The processor of a QEMU machine: one that can run machines of its own, or one that cannot."""

from __future__ import annotations

import re
from pathlib import Path

from aegis_sdk.drivers.base import BootPlan
from aegis_sdk.errors import DriverUnavailable

_MODULES, _CPUINFO = Path("/sys/module"), Path("/proc/cpuinfo")


def processor(plan: BootPlan, accelerator: str) -> tuple[str, ...]:
    """QEMU's words for *plan*'s processor; DriverUnavailable if it cannot be nested here."""
    if accelerator == "kvm":
        return ("-accel", "kvm", "-cpu", _of_the_host(nested=plan.nested))
    # With a thread for each, one may run the very code that the kernel on another is changing, and guests die of it.
    software = "tcg" if plan.cpus == 1 else "tcg,thread=single"
    if not plan.nested:
        return ("-accel", software, "-cpu", "max,svm=off")
    # A larger cache of translated code makes machines in the machine slower: there is more of it to throw away.
    return ("-accel", f"{software},tb-size=32", "-cpu", "max")


def kernel_words(accelerator: str) -> str:
    """What the kernel is told besides: in software, how fast the processor's clock is.

    The kernel cannot find that out there, least of all on a busy host. Without that clock it has one that advances in
    steps of 4 ms and goes as fast as its ticks happen to: its time of day then leaves the host's, and machines in the
    machine do not come up. The emulated clock is the host's. Only a virtual machine's /proc/cpuinfo says that clock's
    speed; that of any other says how fast the processor runs just now.
    """
    if accelerator == "kvm":
        return ""
    about = _CPUINFO.read_text()
    if not re.search(r"^flags\s*:.*\bhypervisor\b", about, re.MULTILINE):
        return ""
    speed = re.search(r"^cpu MHz\s*:\s*(\d+)\.(\d{3})", about, re.MULTILINE)
    return f" tsc_early_khz={speed[1]}{speed[2]} tsc=reliable" if speed else ""


def _of_the_host(*, nested: bool) -> str:
    if not nested:
        return "host,vmx=off,svm=off"
    for module in ("kvm_intel", "kvm_amd"):
        try:
            allowed = (_MODULES / module / "parameters/nested").read_text().strip()
        except OSError:
            continue
        if allowed in ("1", "Y"):
            return "host"
        raise DriverUnavailable(
            "this host's KVM is set not to nest",
            hint=f"echo options {module} nested=1 | sudo tee /etc/modprobe.d/nested.conf, then restart the host",
        )
    raise DriverUnavailable("this host's KVM does not say whether it can nest", hint="leave out nested")
