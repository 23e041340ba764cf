"""Everything the system can do."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Protocol

from aegis_sdk.model import (
    AppInfo,
    Check,
    Ending,
    ImageInfo,
    LogEntry,
    PluginInfo,
    Progress,
    Pruned,
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
    """Apps, each of which is named by its ID or its name."""

    def create(self, name: str) -> AppInfo:
        """A new app; NameTaken."""

    def get(self, app: str) -> AppInfo:
        """An app; AppNotFound."""

    def list(self) -> tuple[AppInfo, ...]:
        """All apps, in the order of their names."""

    def delete(self, app: str, *, workspace: bool) -> None:
        """Delete an app with its secrets, and its workspace only if that is asked for; AppNotFound."""


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
