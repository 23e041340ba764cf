"""What is kept of what guests say."""

from __future__ import annotations

import attrs


@attrs.frozen(kw_only=True)
class LogEntry:
    """A line, or a piece of a long one, and where it came from.

    *sequence* counts the entries of one log from 1; *time* is in seconds since 1970. *source* is ``stdout`` or
    ``stderr`` of a task's command, ``boot`` for the console, ``exec`` for commands run in a sandbox by the daemon,
    ``network`` for what the guest tried to reach, a ``NetworkEvent`` as JSON, and ``system`` for what Aegis itself has
    to say.
    """

    sequence: int
    time: float
    source: str
    data: bytes

    @property
    def text(self) -> str:
        """The data as text; bytes that are not UTF-8 become U+FFFD."""
        return self.data.decode("utf-8", "replace")
