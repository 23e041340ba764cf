"""The copy of this Python that may use the hypervisor: macOS allows that to programs that are signed for it alone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from aegis_sdk.artifacts import edition, private
from aegis_sdk.errors import DriverUnavailable
from aegis_sdk.model import Check, printable

#: Whether this system asks for it.
NEEDED = sys.platform == "darwin"
_RIGHT = "com.apple.security.hypervisor"
_RIGHTS = f"""<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0"><dict><key>{_RIGHT}</key><true/></dict></plist>
"""
_CODESIGN = "/usr/bin/codesign"
_FIX = "aegis doctor --fix"


def python(data: Path) -> str:
    """The Python that confines a monitor and becomes a libkrun machine; on macOS the copy in *data*."""
    return str(_copy(data)) if NEEDED else sys.executable


def why_not(data: Path) -> tuple[str, str]:
    """Why there is no such Python, as far as can be told fast, and what mends it; both empty if there is."""
    if NEEDED and not _copy(data).exists():
        return f"{_real()} has no copy yet that may use the hypervisor", _FIX
    return "", ""


def check(data: Path) -> Check:
    """Whether the copy is there, is of this Python as it is now, and is signed."""
    name, copy = "entitlement", _copy(data)
    why, fix = why_not(data)
    try:
        if not why and not _is_signed(copy):
            why, fix = f"{copy} is not signed for {_RIGHT}", _FIX
    except DriverUnavailable as error:
        why = error.message
    return Check(name=name, ok=not why, seen=why or f"{copy} may use the hypervisor", fix=fix)


def make(data: Path) -> str:
    """Make the copy, anew if there is one; what was done, in words. DriverUnavailable or OSError if it cannot be."""
    import tempfile  # late: a boot does without

    copy = _copy(data)
    place = copy.parent.parent
    with tempfile.TemporaryDirectory(dir=private(data), prefix=".") as scratch:  # what is there is whole
        made = Path(scratch, place.name)
        _fill(made, copy.name)
        _sign(made / "bin" / copy.name, Path(scratch))
        _try(made / "bin" / copy.name)
        if place.exists():
            place.rename(Path(scratch, "old"))
        made.rename(place)
    return f"made {copy}, a copy of {_real()} that is signed for {_RIGHT}"


def _fill(place: Path, name: str) -> None:
    """A Python that finds its library by where it is: it runs isolated (-I), which heeds no PYTHONHOME.

    A framework's finds it beside the framework, wherever the program is. Any other looks for lib/pythonX.Y in the
    directories above its own, and its dynamic libraries may be in ../lib, as seen from it: a link leads to both.
    """
    import shutil  # as above

    (place / "bin").mkdir(parents=True)
    shutil.copyfile(_real(), place / "bin" / name)
    (place / "bin" / name).chmod(0o755)
    (place / sys.platlibdir).symlink_to(Path(sys.base_prefix, sys.platlibdir))


def _sign(program: Path, scratch: Path) -> None:
    rights = scratch / "entitlements.plist"
    rights.write_text(_RIGHTS)
    done = _run(_CODESIGN, "--force", "--sign", "-", "--entitlements", str(rights), str(program))
    if done.returncode:
        raise DriverUnavailable(f"codesign failed: {_said(done)}")


def _try(program: Path) -> None:
    # Whether it finds what it needs where it is now, and whether the system lets it run, nobody knows better.
    done = _run(str(program), "-I", "-S", "-c", "import ctypes, runpy, threading", env={})
    if done.returncode:
        raise DriverUnavailable(f"a copy of {_real()} does not run (exit code {done.returncode}): {_said(done)}")


def _is_signed(program: Path) -> bool:
    done = _run(_CODESIGN, "--display", "--entitlements", "-", "--xml", str(program))
    return not done.returncode and _RIGHT.encode() in done.stdout


def _said(done: subprocess.CompletedProcess[bytes]) -> str:
    return printable(done.stderr.decode("utf-8", "replace").strip())


def _run(*command: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(command, env=env, capture_output=True, timeout=60, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        raise DriverUnavailable(f"{command[0]} does not run: {error}") from error


def _copy(data: Path) -> Path:
    # Named by the Python that it is of, as that is now: one that has been replaced since has no copy.
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return data / f"python-{edition(_real())}" / "bin" / f"python{version}"


def _real() -> Path:
    """The program of this Python: a framework's bin/python only starts another, which is the one to be signed."""
    framework = Path(sys.base_prefix, "Resources/Python.app/Contents/MacOS/Python")
    return framework if framework.is_file() else Path(sys.executable).resolve()
