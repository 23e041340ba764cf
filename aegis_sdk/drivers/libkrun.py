"""The driver that boots a microVM with libkrun, where hardware virtualization works."""

from __future__ import annotations

import mmap
import os
import re
import sys
from contextlib import ExitStack
from pathlib import Path

import attrs

from aegis_sdk import packages
from aegis_sdk.artifacts import Artifacts
from aegis_sdk.config import Config
from aegis_sdk.drivers import entitlement, kernel, libraries, virtualization
from aegis_sdk.drivers.base import BootPlan
from aegis_sdk.drivers.libkrun_line import LibkrunLine
from aegis_sdk.drivers.machine import ProcessMachine, Wires, launch
from aegis_sdk.errors import DriverUnavailable
from aegis_sdk.model import Check

_WORKER = Path(__file__).with_name("libkrun_worker.py")
#: What a library must have. Without krun_add_vsock, TSI cannot be turned off, and the guest would reach all that the
#: host does; without krun_add_disk, its disks would be opened for writing.
NEEDED = (
    "krun_create_ctx",
    "krun_set_log_level",
    "krun_set_vm_config",
    "krun_set_kernel",
    "krun_add_disk",
    "krun_add_vsock",
    "krun_add_vsock_port2",
    "krun_add_virtio_console_default",
    "krun_start_enter",
)
_RENDERER = "libvirglrenderer.so.1"
_NAMES = (
    ("libkrun.dylib", "libkrun.2.dylib", "libkrun.1.dylib")
    if sys.platform == "darwin"
    else ("libkrun.so", "libkrun.so.2", "libkrun.so.1")
)
_PLATFORMS = ("linux x86_64", "linux aarch64", "darwin arm64")
_REBOOT = "" if virtualization.ARM else "k"  # by the keyboard controller, which is what libkrun has on x86
_ERRORS, _EVERYTHING = 1, 4  # levels of krun_set_log_level
_INSTALL = f"{sys.executable} -m pip install smolmachines"


@attrs.define(eq=False)
class Libkrun:
    """Boots machines with the libkrun of this system, or of Python's packages."""

    _config: Config
    _artifacts: Artifacts
    _usable: Library | None = attrs.field(default=None, init=False)  # once found: looking takes as long as a command
    name: str = attrs.field(default="libkrun", init=False)
    accelerator: str = attrs.field(default=virtualization.ACCELERATOR, init=False)

    def why_not(self, *, nested: bool = False, shared: bool = False) -> tuple[str, str]:
        if nested or shared:
            what = "gives its guests no /dev/kvm of their own" if nested else "shares no directories"
            return f"the libkrun driver {what}", "choose the driver qemu, or leave the choice to Aegis"
        found = self._find()
        return ("", "") if isinstance(found, Library) else found

    def check(self) -> tuple[Check, ...]:
        entitled = (entitlement.check(self._config.data),) if entitlement.NEEDED else ()
        return (
            _check_platform(),
            virtualization.check(),
            *_check_library(self._config),
            *entitled,
            kernel.check(self._config),
        )

    def mend(self) -> tuple[str, ...]:
        if not (entitlement.NEEDED and _check_platform().ok) or entitlement.check(self._config.data).ok:
            return ()
        try:
            return (entitlement.make(self._config.data),)
        except OSError as error:
            raise DriverUnavailable(f"the program that may use the hypervisor cannot be made: {error}") from error

    def boot(self, plan: BootPlan) -> ProcessMachine:
        why, fix = self.why_not(nested=plan.nested, shared=bool(plan.shared))
        library = self._find()
        if why or not isinstance(library, Library):
            raise DriverUnavailable(why, hint=fix)
        booted = kernel.file(self._config, self._artifacts)
        with ExitStack() as undo:
            wires = Wires.lay(plan, undo)
            line = LibkrunLine.lay(self._config.data, wires, undo)
            log = _EVERYTHING if self._config.debug else _ERRORS
            command = [str(_WORKER), *words(plan, library, booted, line.meeting.path, wires.theirs, log=log)]
            undo.pop_all()  # from here on they belong to the machine's thread
        python = entitlement.python(self._config.data)
        return launch(
            command,
            wires,
            line,
            name=plan.name,
            aloud=self._config.debug,
            python=python,
            witness=plan.witness,
            outlet=plan.outlet,
        )

    def _find(self) -> Library | tuple[str, str]:
        """The library to use; else why there is none, and what mends it."""
        if self._usable:
            return self._usable
        found = self._look()
        self._usable = found if isinstance(found, Library) else None
        return found

    def _look(self) -> Library | tuple[str, str]:
        if not (platform := _check_platform()).ok:
            return platform.seen, ""
        why, fix = virtualization.why_not()
        if why:
            return why, fix
        found = find(self._config)
        if not isinstance(found, Library):
            return found, _install(self._config)
        if found.why_not:
            return found.why_not, found.fix
        why, fix = entitlement.why_not(self._config.data)
        return (why, fix) if why else found


def words(plan: BootPlan, library: Library, booted: Path, port: str, fds: dict[str, int], *, log: int) -> list[str]:
    """The worker's command line: fixed words, numbers, inherited descriptors, and nothing that is secret."""
    return [
        *(f"name=aegis-{plan.name}", f"library={library.path}", f"renderer={library.renderer or ''}"),
        *(f"kernel={booted}", f"format={int(kernel.FORMAT)}", f"append={kernel.command_line(reboot=_REBOOT)}"),
        *(f"memory={plan.memory}", f"cpus={plan.cpus}", f"port={port}", f"log={log}"),
        *(f"{name}={fd}" for name, fd in fds.items()),
    ]


@attrs.frozen
class Library:
    """A libkrun, and what its file tells without being loaded."""

    path: Path
    lacking: tuple[str, ...]
    renders: bool  # it draws with virglrenderer, and cannot be loaded without
    renderer: Path | None

    @classmethod
    def look(cls, path: Path) -> Library:
        """Find the names of functions in the file: to load it would give this process all that it links to."""
        if not path.stat().st_size:  # which cannot be mapped
            return cls(path, NEEDED, renders=False, renderer=None)
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as held:
            lacking = tuple(name for name in NEEDED if held.find(name.encode() + b"\0") < 0)
            # macOS's say which library they want it from, and where that is: the loader sees to it.
            renders = held[:4] != libraries.MACH_O and held.find(b"virgl_renderer_init\0") >= 0
        return cls(path, lacking, renders, next(libraries.named(_RENDERER), None) if renders else None)

    @property
    def lacks_renderer(self) -> bool:
        return self.renders and not self.renderer

    @property
    def why_not(self) -> str:
        """Why it cannot be used; empty if it can."""
        if self.lacking:
            return f"{self.path} cannot be used: it lacks {', '.join(self.lacking)}"
        return f"{self.path} needs {_RENDERER}, which is not installed" if self.lacks_renderer else ""

    @property
    def fix(self) -> str:
        """What mends it."""
        if self.lacking:
            return _INSTALL
        return packages.to_install("virglrenderer") if self.lacks_renderer else ""

    @property
    def version(self) -> str:
        """Its version, as far as its file's name, or the wheel that it is of, tells."""
        if self.path.parent.name == libraries.CARRIER:
            return libraries.carrier_version()
        version = re.search(r"\.so\.([0-9.]+)$|\.([0-9.]+)\.dylib$", os.path.realpath(self.path))
        return f"version {version[1] or version[2]}" if version else "of a version that its name does not tell"


def find(config: Config) -> Library | str:
    """The libkrun to use: the first that can be used, else the first; words, if there is none."""
    if config.libkrun:
        if not (os.access(config.libkrun, os.R_OK) and config.libkrun.is_file()):
            return f"AEGIS_LIBKRUN names {config.libkrun}, which is not a file that can be read"
        return Library.look(config.libkrun)
    first = None
    for path in libraries.named(*_NAMES):
        found = Library.look(path)
        if not found.why_not:
            return found
        first = first or found
    return first or "libkrun is neither in this system nor in Python's packages"


def _install(config: Config) -> str:
    return "name a libkrun, or leave AEGIS_LIBKRUN out" if config.libkrun else _INSTALL


def _check_library(config: Config) -> tuple[Check, ...]:
    found = find(config)
    if not isinstance(found, Library):
        return (Check(name="libkrun", ok=False, seen=found, fix=_install(config)),)
    if found.lacking:
        return (Check(name="libkrun", ok=False, seen=found.why_not, fix=found.fix),)
    library = Check(name="libkrun", ok=True, seen=f"{found.path}, {found.version}")
    if found.lacks_renderer:
        return (library, Check(name="virglrenderer", ok=False, seen=found.why_not, fix=found.fix))
    return (library,)


def _check_platform() -> Check:
    here = f"{sys.platform} {os.uname().machine}"
    ok = here in _PLATFORMS
    seen = here if ok else f"this is {here}; the libkrun driver boots guests on {', '.join(_PLATFORMS)}"
    return Check(name="platform", ok=ok, seen=seen)
