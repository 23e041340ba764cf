"""Everything the system can do."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Protocol

from aegis_sdk.model import (
    AppInfo,
    AppSpec,
    Check,
    Ending,
    ImageInfo,
    InstanceInfo,
    LogEntry,
    Network,
    NetworkEvent,
    PluginInfo,
    Port,
    Progress,
    Pruned,
    ReleaseInfo,
    SandboxInfo,
    SandboxSpec,
    SecretInfo,
    TaskInfo,
    TaskSpec,
)

Report = Callable[[Progress], None]


class Tasks(Protocol):
    """Commands that have a guest, a time limit and a terminal state each, and are on record."""

    def submit(self, spec: TaskSpec) -> TaskInfo:
        """Have a task run, when its turn comes; it is on record when this returns. AppNotFound."""

    def attach(self, task: str) -> socket.socket:
        """The connection of an attached task's command, as that of a process to a guest: frames both ways. Once only.

        They begin when the command runs. An end without an exit means that the task has ended otherwise. Closing it
        cancels the task.
        """

    def get(self, task: str) -> TaskInfo:
        """A task; TaskNotFound."""

    def list(self) -> tuple[TaskInfo, ...]:
        """All tasks on record, in the order in which they were submitted."""

    def wait(self, task: str, *, timeout: float) -> TaskInfo:
        """A task, when it is in a terminal state, or after *timeout* seconds as it is then; TaskNotFound."""

    def cancel(self, task: str) -> TaskInfo:
        """Have a task end, its command by SIGTERM first; does not wait, fine if it has ended. TaskNotFound."""

    def logs(self, task: str, *, follow: bool = False, since: int = 0, tail: int | None = None) -> Iterator[LogEntry]:
        """A task's log: the entries after number *since*, and of these the last *tail*; TaskNotFound.

        With *follow* it ends when the task has ended, and else with what is there now.
        """


class Apps(Protocol):
    """Apps, each of which is named by its ID or its name, and its releases by their labels or IDs.

    AppNotFound and ReleaseNotFound may come from all that name one.
    """

    def create(self, name: str, spec: AppSpec) -> AppInfo:
        """A new app; NameTaken."""

    def update(self, app: str, spec: AppSpec) -> AppInfo:
        """Have the next release of an app be as *spec* says; those that there are, and what is served, stay."""

    def get(self, app: str) -> AppInfo:
        """An app."""

    def list(self) -> tuple[AppInfo, ...]:
        """All apps, in the order of their names."""

    def delete(self, app: str, *, workspace: bool) -> None:
        """Stop an app, and delete it with its releases, logs and secrets; its workspace only if that is asked for."""

    def publish(self, app: str, *, label: str | None, report: Report) -> ReleaseInfo:
        """Freeze an app as it is now, its image by digest, which is kept. NameTaken if it has a release *label*.

        *report* hears of the image, which is asked for as the app's pull policy says; as with ``pull_image``.
        """

    def releases(self, app: str) -> tuple[ReleaseInfo, ...]:
        """An app's releases, the newest last."""

    def serve(self, app: str, *, release: str | None, beside: bool, report: Report) -> InstanceInfo:
        """Have an app served by *release*, by default its newest, and wait until that is ready.

        If it is served by that release, it stays so, by the same instance, booted anew only if it has ended or its
        secrets may have changed since. If it is served by another, requests go there until this one is ready, and the
        other is then stopped when it has answered what it had begun to; unless this one is to serve *beside* it, for
        routing policies that choose between them. ServerFailed with what was seen, and the other serves on; PortTaken.
        """

    def stop(self, app: str, *, release: str | None = None) -> None:
        """Have an app, or only its *release*, served no more; fine if it is not. Its guests end."""

    def wake(self, app: str, *, release: str | None = None) -> InstanceInfo:
        """An instance, by default that which serves requests, when it runs; NotServed, or why it could not be woken."""

    def instances(self, app: str | None = None) -> tuple[InstanceInfo, ...]:
        """What serves, of one app or of all; of an app the one that serves requests by default is the first."""

    def logs(
        self,
        app: str,
        *,
        release: str | None = None,
        follow: bool = False,
        since: int = 0,
        tail: int | None = None,
    ) -> Iterator[LogEntry]:
        """What the instance of *release* says and has said, by default that which serves now or did so last.

        As with ``Tasks.logs``. With *follow* it goes on until the app is served by it no more. NotServed if
        it never was.
        """


class Secrets(Protocol):
    """Secrets of an app, or, where *app* is None, of all apps; AppNotFound if there is no such app."""

    def set(self, name: str, value: bytes, *, app: str | None) -> SecretInfo:
        """Keep a secret, encrypted, in the place of one of that name."""

    def list(self, *, app: str | None) -> tuple[SecretInfo, ...]:
        """They, without values, in the order of their names."""

    def delete(self, name: str, *, app: str | None) -> None:
        """Delete a secret; SecretNotFound."""

    def rotate_key(self) -> int:
        """Encrypt all secrets with a new key; how many there are. SecretUnreadable, and nothing has changed."""


class Engine(Protocol):
    """Makes sandboxes and gives connections to them, wherever they run.

    A sandbox is named by its ID or, where it has one, its name. StoreFailed may come from all that is kept on disk, and
    DaemonUnavailable from an engine behind the daemon's socket.
    """

    @property
    def tasks(self) -> Tasks:
        """Its tasks."""

    @property
    def apps(self) -> Apps:
        """Its apps."""

    @property
    def secrets(self) -> Secrets:
        """Its secrets."""

    def create(self, spec: SandboxSpec, *, report: Report) -> SandboxInfo:
        """Boot a sandbox; it runs when this returns. Unavailable, ImageNotFound or BootFailed say why not.

        NameTaken if another one has its name. *report* hears of its image, as with ``pull_image``.
        """

    def start(self, sandbox: str, *, report: Report) -> SandboxInfo:
        """Boot a kept sandbox again that has ended, as it was asked for at first; fine if it runs.

        What was in its memory is gone, its files included. SandboxNotFound; otherwise as ``create``.
        """

    def sandboxes(self) -> tuple[SandboxInfo, ...]:
        """The sandboxes of this engine, in the order in which they were made."""

    def dial(self, sandbox: str) -> socket.socket:
        """A new connection to the sandbox's harness; at its end at once if the sandbox has ended."""

    def ending(self, sandbox: str, *, timeout: float) -> Ending | None:
        """How the sandbox ended; None if it has not within *timeout* seconds."""

    def expose(self, sandbox: str, port: Port) -> str:
        """Have a port of the sandbox be reached from this machine until it ends; where: a URL, or ``127.0.0.1:N``.

        Fine if it is exposed: a local port that is named takes the place of the one before. PortTaken; SandboxClosed.
        """

    def conceal(self, sandbox: str, port: Port) -> None:
        """Have a port of the sandbox be reached no more; connections that are open stay. Fine if it is not."""

    def pause(self, sandbox: str) -> None:
        """Stop the sandbox's processors; what it is sent waits. Fine if it stands still or has ended."""

    def resume(self, sandbox: str) -> None:
        """Let the sandbox go on, its clock right. Fine if it runs or has ended."""

    def info(self, sandbox: str) -> SandboxInfo | None:
        """What the sandbox is now, also when it has ended; None if it was removed."""

    def logs(self, sandbox: str) -> str | None:
        """The end of what its console has said, safe to show, at most 64 KiB of it; None if it was removed."""

    def stop(self, sandbox: str, *, grace: float) -> None:
        """End the sandbox: SIGTERM for all its commands, then it powers off; after *grace* seconds it is killed.

        Fine if it has ended or is unknown. What it was stays known until it is removed.
        """

    def remove(self, sandbox: str) -> Ending | None:
        """End the sandbox at once, and give back all that it used; how it ended, None if it is unknown."""

    def sandbox_logs(
        self, sandbox: str, *, follow: bool = False, since: int = 0, tail: int | None = None
    ) -> Iterator[LogEntry]:
        """What a sandbox's log holds, as ``task_logs``; SandboxNotFound."""

    def network_events(self, sandbox: str) -> tuple[NetworkEvent, ...]:
        """What the sandbox has tried to reach, also when it has ended: of what is over, the last thousand, in order.

        SandboxNotFound.
        """

    def update_network(self, sandbox: str, network: Network) -> SandboxInfo:
        """Have *network* decide what the sandbox may reach, from here on and after its next boots. SandboxNotFound."""

    def pull_image(self, reference: str, *, pull: str, report: Report) -> ImageInfo:
        """Have an image in the cache, asking its source ``always``, only if it is ``missing``, or ``never``.

        *report* is called from several threads, one call at a time; what it raises ends the pull. ImageNotFound,
        ImageFailed and their kinds say why there is no image.
        """

    def import_image(self, reference: str, *, name: str, replace: bool, report: Report) -> ImageInfo:
        """Keep an image of this machine under *name*, as if it had been pulled by it."""

    def image(self, reference: str) -> ImageInfo:
        """An image of the cache; ImageNotFound if it is not there."""

    def images(self) -> tuple[ImageInfo, ...]:
        """The images of the cache, in the order of their references."""

    def remove_image(self, reference: str, *, digest: str) -> None:
        """Remove an image from the cache, with what no other needs; ImageInUse if a sandbox uses it."""

    def prune_images(self, *, older_than: float | None, unused: bool) -> Pruned:
        """Remove what no image needs; also images *unused* now, or not used for *older_than* seconds."""

    def plugins(self) -> tuple[PluginInfo, ...]:
        """What is built in and installed, in the order in which it is asked."""

    def check(self) -> tuple[Check, ...]:
        """What Aegis needs on the machine that the engine uses, each thing with what was found."""

    def mend(self) -> tuple[str, ...]:
        """Mend there what needs no hand of the user's; what was done, each thing in words."""
