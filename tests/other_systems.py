"""Makes this machine use what stands in for Linux's own calls on other systems."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from aegis_sdk import artifacts
from aegis_sdk.drivers import child, entitlement, meeting, readiness
from aegis_sdk.guest import channel

# It signs a file by appending the entitlements, and displays what was appended.
CODESIGN = """#!/bin/sh
case "$1 $2 $3 $4" in
    "--force --sign - --entitlements") cat "$5" >> "$6" ;;
    "--display --entitlements - --xml") grep -a -A 9 '^<plist' "$5" ;;
    *) echo "codesign: unknown $*" >&2; exit 2 ;;
esac
"""


def ask_for_entitlement(patch: pytest.MonkeyPatch, directory: Path) -> None:
    """Ask for the hypervisor's entitlement, as macOS does; a program in *directory* is codesign."""
    codesign = directory / "codesign"
    codesign.write_text(CODESIGN)
    codesign.chmod(0o755)
    patch.setattr(entitlement, "NEEDED", True)
    patch.setattr(entitlement, "_CODESIGN", str(codesign))


def use_nothing_of_linux(patch: pytest.MonkeyPatch) -> None:
    """Use no epoll, eventfd, pidfd, O_TMPFILE, path to a descriptor of a socket, or MSG_DONTWAIT."""
    patch.setattr(readiness, "here", readiness.anywhere)
    patch.setattr(artifacts, "_write", lambda path, _directory, make: artifacts._write_named(path, make))
    patch.setattr(channel, "_CAN_SEND_SOME", False)
    patch.setattr(socket, "MSG_DONTWAIT", 0)
    patch.setattr(child, "start", child.PipeChild.start)
    patch.setattr(meeting, "arrange", lambda _directory, _wires, undo: meeting.arrange_with_name(undo))
