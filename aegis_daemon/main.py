"""``aegisd``: the daemon as a program."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import resource
import sys
from typing import NoReturn

import attrs

from aegis_daemon import log
from aegis_daemon.listening import listening
from aegis_daemon.lock import alone
from aegis_sdk import __version__
from aegis_sdk.config import Config
from aegis_sdk.errors import AegisError

_log = logging.getLogger(__name__)
_RUNS_ALREADY = 3


def main() -> NoReturn:
    """Run the daemon, and exit: 0 when it was told to end, 1 when it cannot start."""
    options = _parser().parse_args()
    os.umask(0o077)
    try:
        config = attrs.evolve(Config.from_environment(), host=None)
        with alone(config.lock):
            log.to(config.logs / "aegisd.log")
            sys.exit(_outcome(config, detached=options.detached))
    except (AegisError, OSError) as error:
        sys.stderr.write(f"aegisd: {error}\n")
        sys.exit(1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="aegisd", description="Serve sandboxes and tasks from AEGIS_HOME.")
    parser.add_argument("--version", action="version", version=f"aegisd {__version__}")
    parser.add_argument(
        "--detached", action="store_true", help="close standard error when it answers, as `aegis up` wants it"
    )
    return parser


def _outcome(config: Config, *, detached: bool) -> int:
    try:
        _serve(config, detached=detached)
    except AegisError as error:
        _log.error("the daemon cannot start: %s", error)
        return 1
    except Exception:  # noqa: BLE001  # the log is to have it whole
        _log.exception("the daemon failed")
        return 1
    _log.info("ended")
    return 0


def _serve(config: Config, *, detached: bool) -> None:
    from aegis_daemon.server import serve

    _raise_limits()
    with listening(config.socket) as http, listening(config.home / "guests.sock") as guests:
        os.chdir("/")
        asyncio.run(serve(config, http, guests, ready=_leave_terminal if detached else lambda: None))


def _raise_limits() -> None:
    """Each guest and each client takes some descriptors."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = 1 << 16 if most == resource.RLIM_INFINITY else min(most, 1 << 16)
    resource.setrlimit(resource.RLIMIT_NOFILE, (enough, most))


def _leave_terminal() -> None:
    """Let whoever started this process see the end of its standard error: all is well from here on."""
    for handler in logging.getLogger().handlers[:]:
        if type(handler) is logging.StreamHandler:
            logging.getLogger().removeHandler(handler)
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (1, 2):
        os.dup2(nothing, descriptor)
    os.close(nothing)
