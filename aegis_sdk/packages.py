"""The command that installs something on this system, to be shown to its user."""

from __future__ import annotations

import os
import shutil

_NAMES = {
    "apt-get": {"qemu": "qemu-system-x86", "busybox": "busybox-static"},
    "dnf": {"qemu": "qemu-system-x86", "busybox": "busybox"},
    "pacman": {"qemu": "qemu-system-x86", "busybox": "busybox"},
    "apk": {"qemu": "qemu-system-x86_64", "busybox": "busybox-static"},
    "brew": {"qemu": "qemu"},
}
_VERBS = {"apt-get": "install -y", "dnf": "install -y", "pacman": "-S --noconfirm", "apk": "add", "brew": "install"}


def to_install(thing: str) -> str:
    """The command that installs *thing* (``qemu`` or ``busybox``) here; words, if no package manager is known."""
    for manager, names in _NAMES.items():
        if thing in names and shutil.which(manager):
            sudo = "" if manager == "brew" or os.geteuid() == 0 else "sudo "
            return f"{sudo}{manager} {_VERBS[manager]} {names[thing]}"
    return f"install {thing} with this system's package manager"
