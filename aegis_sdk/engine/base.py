"""Everything the system can do."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Protocol

from aegis_sdk.model import Check, Ending, ImageInfo, PluginInfo, Progress, Pruned, SandboxInfo, SandboxSpec

Report = Callable[[Progress], None]


class Engine(Protocol):
    """Makes sandboxes and gives connections to them, wherever they run."""

    def create(self, spec: SandboxSpec, *, report: Report) -> SandboxInfo:
        """Boot a sandbox; it runs when this returns. Unavailable, ImageNotFound or BootFailed say why not.

        *report* hears of its image, as with ``pull_image``.
        """

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
