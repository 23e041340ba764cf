"""What the daemon answers, one noun a file."""

from __future__ import annotations

from aegis_daemon.operations import Operation
from aegis_daemon.routes import apps, images, machine, sandboxes, secrets, tasks

OPERATIONS: tuple[Operation, ...] = (
    *machine.operations,
    *sandboxes.operations,
    *tasks.operations,
    *images.operations,
    *apps.operations,
    *secrets.operations,
)
