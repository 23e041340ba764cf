"""Programs of this system, and the command that installs one, to be shown to its user."""

from __future__ import annotations

import os
from pathlib import Path

_NAMES = {
    "apt-get": {
        "qemu": "qemu-system-x86",
        "busybox": "busybox-static",
        "virglrenderer": "libvirglrenderer1",
        "virtiofsd": "virtiofsd",
    },
    "dnf": {
        "qemu": "qemu-system-x86",
        "busybox": "busybox",
        "virglrenderer": "virglrenderer",
        "virtiofsd": "virtiofsd",
    },
    "pacman": {
        "qemu": "qemu-system-x86",
        "busybox": "busybox",
        "virglrenderer": "virglrenderer",
        "virtiofsd": "virtiofsd",
    },
    "apk": {
        "qemu": "qemu-system-x86_64",
        "busybox": "busybox-static",
        "virglrenderer": "virglrenderer",
        "virtiofsd": "virtiofsd",
    },
    "brew": {"qemu": "qemu"},
}
_VERBS = {"apt-get": "install -y", "dnf": "install -y", "pacman": "-S --noconfirm", "apk": "add", "brew": "install"}


def program(name: str) -> str | None:
    """Where the program *name* is in PATH; None if it is nowhere."""
    # shutil.which would cost every boot 8 ms of import.
    for directory in os.get_exec_path():
        path = Path(directory, name).absolute()
        # access first: is_file raises where a directory may not be searched
        if os.access(path, os.X_OK) and path.is_file():
            return str(path)
    return None


def to_install(thing: str) -> str:
    """The command that installs *thing*, one of the names above, here; words, if no package manager is known."""
    for manager, names in _NAMES.items():
        if thing in names and program(manager):
            sudo = "" if manager == "brew" or os.geteuid() == 0 else "sudo "
            return f"{sudo}{manager} {_VERBS[manager]} {names[thing]}"
    return f"install {thing} with this system's package manager"
