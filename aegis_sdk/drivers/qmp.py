"""The few words of QEMU's monitor protocol (QMP) that Aegis reads and says.

https://www.qemu.org/docs/master/interop/qmp-spec.html
"""

from __future__ import annotations

import json

from aegis_sdk.errors import ProtocolViolation

#: To be sent first; QEMU tells of events only after it.
GREETING = b'{"execute": "qmp_capabilities"}\n'
_LIMIT = 1 << 20


class Monitor:
    """What QEMU says of its guest, gathered from the bytes of its monitor."""

    def __init__(self, port: str) -> None:
        self._port = port
        self._rest = b""
        #: Why the guest ended, in QEMU's words (``guest-reset``, ``guest-panic`` ...); empty while it runs.
        self.shutdown = ""
        #: Whether the harness had the port open and lost it: its kernel has switched its devices off.
        self.port_lost = False

    def feed(self, data: bytes) -> None:
        """Take the next bytes; ProtocolViolation if they cannot be QMP."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _LIMIT:
            raise ProtocolViolation("QEMU's monitor sent a line without end")
        for line in lines:
            self._line(line)

    def _line(self, line: bytes) -> None:
        try:
            message = json.loads(line)
            event, data = message.get("event"), message.get("data", {})
        except (ValueError, AttributeError, RecursionError) as error:
            raise ProtocolViolation(f"QEMU's monitor sent {line[:80]!r}") from error
        if event == "SHUTDOWN":
            self.shutdown = str(data.get("reason", "unknown"))
        elif event == "VSERPORT_CHANGE" and data.get("id") == self._port:
            self.port_lost = data.get("open") is False
