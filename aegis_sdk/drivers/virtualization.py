"""Whether this machine can run guests in hardware."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from aegis_sdk.model import Check

#: What does it on this system.
ACCELERATOR = "hvf" if sys.platform == "darwin" else "kvm"
#: Whether this machine's processors, and so its guests', are ARM's: aarch64 to Linux, arm64 to macOS.
ARM = os.uname().machine in ("aarch64", "arm64")
_DEVICE, _PROCESSOR, _SYSCTL = Path("/dev/kvm"), Path("/proc/cpuinfo"), "/usr/sbin/sysctl"
_MODULES = {"vmx": "kvm_intel", "svm": "kvm_amd"}


def why_not() -> tuple[str, str]:
    """Why hardware virtualization cannot be used here, and what mends it; both empty if it can."""
    return why_not_hvf() if ACCELERATOR == "hvf" else why_not_kvm()


def why_not_kvm() -> tuple[str, str]:
    """As ``why_not``, of Linux's KVM.

    On x86 a /dev/kvm that opens is no proof: there are hosts with a paravirtual one on which ordinary kernels die, and
    their processors do not show the flag. On ARM it is one: no processor has such a flag, and the kernel makes the
    device only if it was started in the mode that virtualizes (EL2).
    """
    module = _module()
    if not _DEVICE.exists():
        return f"there is no {_DEVICE}", f"sudo modprobe {module}" if module else ""
    try:
        os.close(os.open(_DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except PermissionError:
        return f"this user may not use {_DEVICE}", "sudo usermod -aG kvm $USER, then log in again"
    except OSError as error:  # a name that was made without its module
        return f"{_DEVICE} does not open: {error.strerror}", f"sudo modprobe {module}" if module else ""
    if not module and not ARM:
        return f"there is a {_DEVICE}, but the processor shows neither vmx nor svm: guest kernels die on such a one", ""
    return "", ""


def why_not_hvf() -> tuple[str, str]:
    """As ``why_not``, of macOS's Hypervisor.framework."""
    try:
        done = subprocess.run([_SYSCTL, "-n", "kern.hv_support"], capture_output=True, timeout=20, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        return f"{_SYSCTL} does not run: {error}", ""
    if done.stdout.strip() != b"1":
        return "this machine does not virtualize (sysctl kern.hv_support is not 1)", ""
    return "", ""


def _module() -> str:
    """The kernel's module for this processor; empty if it does not virtualize, or needs none."""
    about = _PROCESSOR.read_text() if _PROCESSOR.exists() else ""  # only Linux has it
    flags = re.search(r"^flags\s*:(.*)$", about, re.MULTILINE)
    shown = set(flags[1].split()) if flags else set()
    return next((module for flag, module in _MODULES.items() if flag in shown), "")


def check() -> Check:
    """Whether hardware runs the guests here."""
    reason, fix = why_not()
    seen = "Hypervisor.framework works" if ACCELERATOR == "hvf" else f"{_DEVICE} works"
    return Check(name=ACCELERATOR, ok=not reason, seen=reason or seen, fix=fix)
