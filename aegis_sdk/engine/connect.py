"""The engine that is used when none is named."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from aegis_sdk import sockets
from aegis_sdk.config import Config
from aegis_sdk.engine.base import Engine

_GLANCE = 2.0  # seconds; a daemon whose queue of calls is full for so long is a matter for words


def engine_here() -> Engine:
    """The engine behind AEGIS_HOST, if that is set; else one in this process, as the environment configures it."""
    config = Config.from_environment()
    return _remote(config.host) if config.host else _local(config)


def engine_of_tasks() -> Engine:
    """As ``engine_here``, but always the same one in this process: there, tasks wait for each other's end."""
    config = Config.from_environment()
    return _remote(config.host) if config.host else _local_of(config, os.getpid())


def engine_of_apps() -> Engine:
    """As ``engine_of_tasks``: what serves an app in this process is found again by whoever asks for that app."""
    return engine_of_tasks()


def connect(host: str | os.PathLike[str] | None = None) -> Engine:
    """The engine of the daemon that listens at *host*, by default at AEGIS_HOST, or else in AEGIS_HOME.

    What is made with it (``Sandbox(engine=...)``, ``Image.pull(..., engine=...)``) does what it does in this process;
    sandboxes end with this process, unless they are kept. DaemonUnavailable if no daemon answers there.
    """
    config = Config.from_environment()
    named = Path(os.fspath(host).removeprefix("unix://")).absolute() if host else config.host
    engine = _remote(named or config.socket)
    engine.sandboxes()
    return engine


def engine_of_home() -> Engine:
    """The engine of AEGIS_HOST, or of the daemon of AEGIS_HOME if one is up; else one in this process."""
    config = Config.from_environment()
    if config.host:
        return connect()
    return _remote(config.socket) if _listens(config.socket) else _local(config)


def _listens(path: Path) -> bool:
    try:
        sockets.connect(path, timeout=_GLANCE).close()
    except (FileNotFoundError, ConnectionRefusedError):
        return False
    except OSError:
        pass  # there is something, and its engine says what is wrong
    return True


@cache
def _local_of(config: Config, process: int) -> Engine:  # noqa: ARG001  # a forked child has one of its own
    return _local(config)


def _local(config: Config) -> Engine:
    from aegis_sdk.engine.local import LocalEngine

    return LocalEngine(config)


def _remote(path: Path) -> Engine:
    # Late: what speaks HTTP and JSON is for who has a daemon.
    from aegis_sdk.engine.remote import RemoteEngine

    return RemoteEngine(path)
