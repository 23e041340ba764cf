"""The engine behind the daemon's sockets: the same verbs, each one request; connections to guests come as they are."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import attrs

import aegis_sdk
from aegis_sdk import wire
from aegis_sdk.engine.base import Report
from aegis_sdk.engine.exchange import ANSWER, LONGEST_QUESTION, Exchange
from aegis_sdk.engine.guest_socket import GuestSocket
from aegis_sdk.engine.remote_records import RemoteApps, RemoteSecrets, here
from aegis_sdk.engine.remote_tasks import RemoteTasks, entries
from aegis_sdk.errors import DaemonUnavailable, SandboxClosed, SandboxNotFound
from aegis_sdk.model import (
    Check,
    DaemonStatus,
    Ending,
    ImageInfo,
    LogEntry,
    Network,
    NetworkEvent,
    PluginInfo,
    Port,
    Pruned,
    SandboxInfo,
    SandboxSpec,
)

T = TypeVar("T")


@attrs.frozen
class _Ended:
    ending: Ending | None


@attrs.frozen
class _Console:
    text: str


@attrs.frozen
class _Address:
    address: str


class RemoteEngine:
    """The engine of the daemon that listens at *path*; what is made by it, and not kept, ends with this process.

    Any number of threads may use it. DaemonUnavailable comes from each verb if no daemon answers, or one that is of
    another version.
    """

    def __init__(self, path: Path) -> None:
        self._plain = Exchange(path)
        self._guests = GuestSocket(path.with_name("guests.sock"))
        self._hanging: set[str] = set()  # what is ours, and ends with our lease
        self._owner = os.getpid()

    @cached_property
    def tasks(self) -> RemoteTasks:
        return RemoteTasks(self._daemon, self._guests)

    @cached_property
    def apps(self) -> RemoteApps:
        return RemoteApps(self._daemon)

    @cached_property
    def secrets(self) -> RemoteSecrets:
        return RemoteSecrets(self._daemon)

    def status(self) -> DaemonStatus:
        """What the daemon is and does, of whatever version it is."""
        return self._plain.ask("GET", "status", shape=DaemonStatus)

    def close(self) -> None:
        """Let go what hangs on this engine: its sandboxes and attached tasks end, but for those that are kept."""
        self._guests.let_go()

    def create(self, spec: SandboxSpec, *, report: Report) -> SandboxInfo:
        if spec.keep:
            return self._create(spec, None, report)
        lease = self._guests.hang()
        try:
            info = self._create(spec, lease, report)
        except BaseException:
            self._guests.unhang()
            raise
        self._hanging.add(info.id)
        return info

    def start(self, sandbox: str, *, report: Report) -> SandboxInfo:
        return self._daemon.long(*self._at(sandbox), "start", shape=SandboxInfo, report=report)

    def sandboxes(self) -> tuple[SandboxInfo, ...]:
        return self._daemon.ask("GET", "sandboxes", shape=tuple[SandboxInfo, ...])

    def dial(self, sandbox: str) -> socket.socket:
        self._at(sandbox)
        return self._guests.ask(dial=sandbox)

    def ending(self, sandbox: str, *, timeout: float) -> Ending | None:
        deadline = time.monotonic() + timeout
        while True:
            left = max(0.0, deadline - time.monotonic())
            query = {"timeout": min(left, LONGEST_QUESTION)}
            answer = self._daemon.ask("GET", *self._at(sandbox), "ending", query=query, shape=_Ended)
            if answer.ending or left <= LONGEST_QUESTION:
                return answer.ending

    def expose(self, sandbox: str, port: Port) -> str:
        return self._daemon.ask("POST", *self._at(sandbox), "ports", body=wire.to_json(port), shape=_Address).address

    def conceal(self, sandbox: str, port: Port) -> None:
        which: dict[str, str | float] = {"number": port.number, "protocol": port.protocol}
        self._daemon.tell("DELETE", *self._at(sandbox), "ports", query=which)

    def pause(self, sandbox: str) -> None:
        self._daemon.tell("POST", *self._at(sandbox), "pause")

    def resume(self, sandbox: str) -> None:
        self._daemon.tell("POST", *self._at(sandbox), "resume", limit=2 * ANSWER)

    def info(self, sandbox: str) -> SandboxInfo | None:
        try:
            return self._daemon.ask("GET", *self._at(sandbox), shape=SandboxInfo)
        except SandboxNotFound:
            return None

    def logs(self, sandbox: str) -> str | None:
        try:
            return self._daemon.ask("GET", *self._at(sandbox), "console", shape=_Console).text
        except SandboxNotFound:
            return None

    def stop(self, sandbox: str, *, grace: float) -> None:
        self._daemon.tell("POST", *self._at(sandbox), "stop", body={"grace": grace}, limit=grace + ANSWER)

    def remove(self, sandbox: str) -> Ending | None:
        try:
            return self._daemon.ask("DELETE", "sandboxes", sandbox, shape=_Ended).ending
        finally:
            with suppress(KeyError):
                self._hanging.remove(sandbox)
                self._guests.unhang()

    def network_events(self, sandbox: str) -> tuple[NetworkEvent, ...]:
        return self._daemon.ask("GET", *self._at(sandbox), "network", "events", shape=tuple[NetworkEvent, ...])

    def update_network(self, sandbox: str, network: Network) -> SandboxInfo:
        body = wire.to_json(network)
        return self._daemon.ask("PUT", *self._at(sandbox), "network", body=body, shape=SandboxInfo)

    def sandbox_logs(
        self, sandbox: str, *, follow: bool = False, since: int = 0, tail: int | None = None
    ) -> Iterator[LogEntry]:
        return entries(self._daemon, "sandboxes", sandbox, follow=follow, since=since, tail=tail)

    def pull_image(self, reference: str, *, pull: str, report: Report) -> ImageInfo:
        body = {"reference": reference, "pull": pull}
        return self._daemon.long("images", "pull", body=body, shape=ImageInfo, report=report)

    def import_image(self, reference: str, *, name: str, replace: bool, report: Report) -> ImageInfo:
        body = {"reference": reference, "name": name, "replace": replace}
        return self._daemon.long("images", "import", body=body, shape=ImageInfo, report=report)

    def image(self, reference: str) -> ImageInfo:
        return self._daemon.ask("GET", "images", "info", query={"reference": reference}, shape=ImageInfo)

    def images(self) -> tuple[ImageInfo, ...]:
        return self._daemon.ask("GET", "images", shape=tuple[ImageInfo, ...])

    def remove_image(self, reference: str, *, digest: str) -> None:
        self._daemon.tell("DELETE", "images", query={"reference": reference, "digest": digest}, limit=None)

    def prune_images(self, *, older_than: float | None, unused: bool) -> Pruned:
        body = {"older_than": older_than, "unused": unused}
        return self._daemon.ask("POST", "images", "prune", body=body, shape=Pruned, limit=None)

    def plugins(self) -> tuple[PluginInfo, ...]:
        return self._daemon.ask("GET", "plugins", shape=tuple[PluginInfo, ...])

    def check(self) -> tuple[Check, ...]:
        return self._daemon.ask("GET", "checks", shape=tuple[Check, ...], limit=None)

    def mend(self) -> tuple[str, ...]:
        return self._daemon.ask("POST", "mend", shape=tuple[str, ...], limit=None)

    @cached_property
    def _daemon(self) -> Exchange:
        """Requests to a daemon that is known to be of our own version."""
        found, ours = self.status().version, aegis_sdk.__version__
        if found != ours:
            raise DaemonUnavailable(
                f"the daemon at {self._plain.path} is Aegis {found}, and this is Aegis {ours}",
                hint="restart it: `aegis down`, then `aegis up`",
            )
        return self._plain

    def _at(self, sandbox: str) -> tuple[str, str]:
        """The place of a sandbox; as in process, a forked child does not have its parent's."""
        if sandbox in self._hanging and os.getpid() != self._owner:
            raise SandboxClosed(f"sandbox {sandbox} belongs to the process that made it, not to its forked child")
        return "sandboxes", sandbox

    def _create(self, spec: SandboxSpec, lease: str | None, report: Report) -> SandboxInfo:
        body = {**wire.to_json(here(spec)), "lease": lease}
        return self._daemon.long("sandboxes", body=body, shape=SandboxInfo, report=report)
