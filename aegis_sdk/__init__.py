"""A computer of its own for any script, notebook or agent: a microVM that runs what it is told, and no more.

    import aegis_sdk as aegis

    with aegis.Sandbox() as vm:
        print(vm.run("uname", "-a").stdout)

How it is built, from what users hold down to the guest:

- ``sandbox``, ``process``, ``output``, ``image``, ``app``, ``secret``, ``daemon``, ``doctor``; ``aio``, the same for
  asyncio: the face, a noun a file;
- ``notebook``: the face in IPython and Jupyter;
- ``engine``: everything the system can do, as a dozen verbs; ``engine.local`` does it in this process;
- ``drivers``: what boots a microVM and gives back connections to it; ``images``: what fills its disks;
- ``routing``: the one way in, to the ports of apps; ``network``: the one way out, judged by the guest's policy;
- ``hookspecs``, ``plugins``, ``guarded``: what others can add, how it is found, and kept from breaking the rest;
- ``guest``: talking to the harness, PID 1 of every guest, over one connection a call;
- ``model``, ``mount``, ``arguments``, ``hints``, ``errors``, ``config``, ``artifacts``, ``packages``, ``display``,
  ``sockets``, ``locks``: the ground that all of it stands on.

An import points down this list, never up. docs/architecture.md is the map.
"""

from __future__ import annotations

import importlib

TYPE_CHECKING = False  # type checkers take it for true; the one in typing costs half of this import
if TYPE_CHECKING:
    from aegis_sdk.aio import AsyncGuestNetwork, AsyncOutput, AsyncProcess, AsyncSandbox
    from aegis_sdk.aio_files import AsyncFile, AsyncFiles, AsyncWatch
    from aegis_sdk.app import App, AppSecrets
    from aegis_sdk.app_options import AppOptions
    from aegis_sdk.daemon import Daemon
    from aegis_sdk.doctor import diagnose, list_plugins, mend
    from aegis_sdk.engine.base import Engine
    from aegis_sdk.engine.connect import connect, engine_of_home
    from aegis_sdk.entries import Change, FileInfo, Transferred
    from aegis_sdk.errors import (
        AegisError,
        AppNotFound,
        ArchitectureNotFound,
        BootFailed,
        BootTimedOut,
        CommandFailed,
        CommandTimedOut,
        DaemonUnavailable,
        DirectoryNotEmpty,
        DriverUnavailable,
        FileDenied,
        FileExists,
        FileFailed,
        FileMissing,
        GuestDied,
        GuestNotResponding,
        HarnessNotFound,
        ImageFailed,
        ImageInUse,
        ImageInvalid,
        ImageNotFound,
        InputClosed,
        InvalidValue,
        IsDirectory,
        KernelNotFound,
        LimitExceeded,
        NameTaken,
        NoSpace,
        NotDirectory,
        NotFound,
        NotServed,
        OutputNotRead,
        PortTaken,
        ProtocolViolation,
        ReadOnlyFiles,
        RegistryDenied,
        RegistryFailed,
        ReleaseNotFound,
        SandboxClosed,
        SandboxNotFound,
        SecretNotFound,
        SecretUnreadable,
        ServerFailed,
        StoreFailed,
        TaskFailed,
        TaskNotFound,
        Unavailable,
    )
    from aegis_sdk.files import Files, Watch
    from aegis_sdk.guest_network import GuestNetwork
    from aegis_sdk.hookspecs import hookimpl
    from aegis_sdk.image import Image
    from aegis_sdk.images.base import Entry, FoundImage, ImageSource, Kind, Layer
    from aegis_sdk.images.layers.tar import TarLayer
    from aegis_sdk.images.tree import Metadata
    from aegis_sdk.instance import Instance
    from aegis_sdk.model import (
        AppInfo,
        AppSpec,
        Cause,
        Check,
        Completed,
        DaemonStatus,
        Ending,
        ImageConfig,
        ImageInfo,
        InstanceInfo,
        InstanceState,
        LayerInfo,
        LogEntry,
        Network,
        NetworkEvent,
        PluginInfo,
        Port,
        Progress,
        Pruned,
        Readiness,
        ReleaseInfo,
        SandboxInfo,
        SecretInfo,
        State,
        TaskInfo,
        TaskState,
    )
    from aegis_sdk.mount import Mount
    from aegis_sdk.output import Output
    from aegis_sdk.process import Process
    from aegis_sdk.routing.base import Redirect, RoutingPolicy, Serve, ServedApp, ServedInstance
    from aegis_sdk.routing.heads import RequestHead
    from aegis_sdk.routing.refusals import Refuse
    from aegis_sdk.sandbox import Sandbox
    from aegis_sdk.secret import Secret
    from aegis_sdk.task import Task

__version__ = "0.1.0"

__all__ = [
    "AegisError",
    "App",
    "AppInfo",
    "AppNotFound",
    "AppOptions",
    "AppSecrets",
    "AppSpec",
    "ArchitectureNotFound",
    "AsyncFile",
    "AsyncFiles",
    "AsyncGuestNetwork",
    "AsyncOutput",
    "AsyncProcess",
    "AsyncSandbox",
    "AsyncWatch",
    "BootFailed",
    "BootTimedOut",
    "Cause",
    "Change",
    "Check",
    "CommandFailed",
    "CommandTimedOut",
    "Completed",
    "Daemon",
    "DaemonStatus",
    "DaemonUnavailable",
    "DirectoryNotEmpty",
    "DriverUnavailable",
    "Ending",
    "Engine",
    "Entry",
    "FileDenied",
    "FileExists",
    "FileFailed",
    "FileInfo",
    "FileMissing",
    "Files",
    "FoundImage",
    "GuestDied",
    "GuestNetwork",
    "GuestNotResponding",
    "HarnessNotFound",
    "Image",
    "ImageConfig",
    "ImageFailed",
    "ImageInUse",
    "ImageInfo",
    "ImageInvalid",
    "ImageNotFound",
    "ImageSource",
    "InputClosed",
    "Instance",
    "InstanceInfo",
    "InstanceState",
    "InvalidValue",
    "IsDirectory",
    "KernelNotFound",
    "Kind",
    "Layer",
    "LayerInfo",
    "LimitExceeded",
    "LogEntry",
    "Metadata",
    "Mount",
    "NameTaken",
    "Network",
    "NetworkEvent",
    "NoSpace",
    "NotDirectory",
    "NotFound",
    "NotServed",
    "Output",
    "OutputNotRead",
    "PluginInfo",
    "Port",
    "PortTaken",
    "Process",
    "Progress",
    "ProtocolViolation",
    "Pruned",
    "ReadOnlyFiles",
    "Readiness",
    "Redirect",
    "Refuse",
    "RegistryDenied",
    "RegistryFailed",
    "ReleaseInfo",
    "ReleaseNotFound",
    "RequestHead",
    "RoutingPolicy",
    "Sandbox",
    "SandboxClosed",
    "SandboxInfo",
    "SandboxNotFound",
    "Secret",
    "SecretInfo",
    "SecretNotFound",
    "SecretUnreadable",
    "Serve",
    "ServedApp",
    "ServedInstance",
    "ServerFailed",
    "State",
    "StoreFailed",
    "TarLayer",
    "Task",
    "TaskFailed",
    "TaskInfo",
    "TaskNotFound",
    "TaskState",
    "Transferred",
    "Unavailable",
    "Watch",
    "connect",
    "diagnose",
    "engine_of_home",
    "hookimpl",
    "list_plugins",
    "mend",
]

_HOMES = {
    "aio": ("AsyncGuestNetwork", "AsyncOutput", "AsyncProcess", "AsyncSandbox"),
    "aio_files": ("AsyncFile", "AsyncFiles", "AsyncWatch"),
    "app": ("App", "AppSecrets"),
    "app_options": ("AppOptions",),
    "daemon": ("Daemon",),
    "doctor": ("diagnose", "list_plugins", "mend"),
    "engine.base": ("Engine",),
    "engine.connect": ("connect", "engine_of_home"),
    "entries": ("Change", "FileInfo", "Transferred"),
    "files": ("Files", "Watch"),
    "guest_network": ("GuestNetwork",),
    "hookspecs": ("hookimpl",),
    "image": ("Image",),
    "instance": ("Instance",),
    "images.base": ("Entry", "FoundImage", "ImageSource", "Kind", "Layer"),
    "images.layers.tar": ("TarLayer",),
    "images.tree": ("Metadata",),
    "model": (
        "AppInfo",
        "AppSpec",
        "Cause",
        "Check",
        "Completed",
        "DaemonStatus",
        "Ending",
        "ImageConfig",
        "ImageInfo",
        "InstanceInfo",
        "InstanceState",
        "LayerInfo",
        "LogEntry",
        "Network",
        "NetworkEvent",
        "PluginInfo",
        "Port",
        "Progress",
        "Pruned",
        "Readiness",
        "ReleaseInfo",
        "SandboxInfo",
        "SecretInfo",
        "State",
        "TaskInfo",
        "TaskState",
    ),
    "mount": ("Mount",),
    "output": ("Output",),
    "process": ("Process",),
    "routing.base": ("Redirect", "RoutingPolicy", "Serve", "ServedApp", "ServedInstance"),
    "routing.heads": ("RequestHead",),
    "routing.refusals": ("Refuse",),
    "sandbox": ("Sandbox",),
    "task": ("Task",),
    "secret": ("Secret",),
}
_MODULES = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    # On first use, so that importing the package costs next to nothing.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULES.get(name, 'errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
