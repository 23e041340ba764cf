"""``aegisd``: the daemon as a program."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import resource
import sys
from collections.abc import Callable
from typing import NoReturn

import attrs

from aegis_daemon import background, log
from aegis_daemon.listening import listening
from aegis_sdk import __version__
from aegis_sdk.config import Config
from aegis_sdk.errors import AegisError
from aegis_sdk.locks import Taken, alone

_log = logging.getLogger(__name__)
_FAILED, _RUNS_ALREADY = 1, 3
_DESCRIPTORS = 1 << 16


def main() -> NoReturn:
    """Run the daemon, and exit: 0 when it was told to end, 1 when it cannot start, 3 when another one runs."""
    ready = background.begin() if _parser().parse_args().detached else _nothing
    os.umask(0o077)
    sys.exit(_outcome(ready))


def _nothing() -> None:
    pass


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="aegisd", description="Serve the sandboxes and tasks of AEGIS_HOME.")
    parser.add_argument("--version", action="version", version=f"aegisd {__version__}")
    parser.add_argument("--detached", action="store_true", help="run in the background; return when it answers")
    return parser


def _outcome(ready: Callable[[], None]) -> int:
    try:
        config = attrs.evolve(Config.from_environment(), host=None)
        with alone(config.lock):
            log.to(config.logs / "aegisd.log")
            return _logged(config, ready)
    except Taken as taken:
        sys.stderr.write(f"aegisd: it runs already, as process {taken.pid}; `aegis down` ends it\n")
        return _RUNS_ALREADY
    except (AegisError, OSError) as error:
        sys.stderr.write(f"aegisd: {error}\n")
        return _FAILED


def _logged(config: Config, ready: Callable[[], None]) -> int:
    try:
        _serve(config, ready)
    except (AegisError, OSError) as error:
        _log.error("the daemon cannot run: %s", error)
        return _FAILED
    except Exception:  # noqa: BLE001  # the log is to have it whole
        _log.exception("the daemon failed")
        return _FAILED
    _log.info("ended")
    return 0


def _serve(config: Config, ready: Callable[[], None]) -> None:
    from aegis_daemon.server import serve

    _raise_limits()
    with listening(config.socket) as http, listening(config.home / "guests.sock") as guests:
        os.chdir("/")
        asyncio.run(serve(config, http, guests, ready=ready))


def _raise_limits() -> None:
    """Each guest and each client takes some descriptors."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = _DESCRIPTORS if most == resource.RLIM_INFINITY else min(most, _DESCRIPTORS)
    resource.setrlimit(resource.RLIMIT_NOFILE, (enough, most))
