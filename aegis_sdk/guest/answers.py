"""What a harness answers, checked for its form before it becomes a value: it comes from a hostile place."""

from __future__ import annotations

import json

from aegis_sdk.errors import ProtocolViolation
from aegis_sdk.model import Exit, printable

_TEXT_LIMIT = 4096
_MOST_SECONDS = 1e6


def parsed(line: bytes, what: str) -> dict[str, object]:
    """What *line* says; ProtocolViolation, which calls it *what*, if it is no JSON object."""
    try:
        return fields(json.loads(line), what)
    except (ValueError, RecursionError) as error:
        raise ProtocolViolation(f"the guest sent {what} that is not JSON: {line[:80]!r}") from error


def fields(value: object, what: str) -> dict[str, object]:
    """*value*, if it is a JSON object."""
    if not isinstance(value, dict):
        raise ProtocolViolation(f"the guest sent {str(value)[:80]!r} where {what} belongs")
    return value


def text(words: dict[str, object], name: str) -> str:
    """A text, safe to show and not too long."""
    value = words.get(name)
    if not isinstance(value, str):
        raise ProtocolViolation(f"the guest sent {str(value)[:80]!r} as {name}")
    return printable(value[:_TEXT_LIMIT])


def integer(words: dict[str, object], name: str) -> int:
    """A number that is not negative, and fits 31 bits."""
    value = words.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 31:
        raise ProtocolViolation(f"the guest sent {str(value)[:80]!r} as {name}")
    return value


def seconds(words: dict[str, object], name: str, *, most: float = _MOST_SECONDS) -> float:
    """A time that is not negative, and less than *most*."""
    value = words.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < most:
        raise ProtocolViolation(f"the guest sent {str(value)[:80]!r} as the time of {name}")
    return float(value)


def code(words: dict[str, object]) -> int:
    """An exit code."""
    if (number := integer(words, "code")) > 255:
        raise ProtocolViolation(f"the guest sent {number} as an exit code")
    return number


def ending(words: dict[str, object]) -> Exit:
    """How a command ended."""
    return Exit(
        code=code(words),
        signal=None if words.get("signal") is None else integer(words, "signal"),
        out_of_memory=words.get("oom") is True,
        out_of_processes=words.get("full") is True,
    )
