"""How the commands write and read what people say: sizes, times, and names that come from elsewhere."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterable

import click

_UNITS = ("B", "kB", "MB", "GB", "TB")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)([smhdw])", re.ASCII)


def say(text: str) -> None:
    """*text* on standard error, if that is still there: a terminal may be gone before us."""
    try:
        click.echo(text, err=True)
    except OSError:
        # What is left in its buffer would be tried once more at our end, and change the exit code.
        sys.stderr = None  # as it is where a program has none


def printable(text: str) -> str:
    """*text* on one line, without what could do something to a terminal but print; its tabs are spaces."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text.expandtabs())


def size(count: int) -> str:
    """A number of bytes as people say it: ``36.2 MB``."""
    amount, unit = float(count), 0
    while amount >= 999.95 and unit < len(_UNITS) - 1:  # which would be written as 1000.0
        amount, unit = amount / 1000, unit + 1
    return f"{amount:.1f} {_UNITS[unit]}" if unit else f"{count} B"


def ago(moment: float) -> str:
    """How long ago *moment* (epoch seconds) was: ``3 days ago``."""
    seconds = max(0.0, time.time() - moment)
    for name, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if (count := int(seconds // length)) > 0:
            return f"{count} {name}{'s' if count > 1 else ''} ago"
    return "just now"


def duration(text: str) -> float:
    """The seconds that ``7d``, ``12h``, ``30m``, ``90s`` or ``2w`` stand for; ValueError if it is none of these."""
    if not (match := _DURATION.fullmatch(text.strip())):
        raise ValueError(f"{text!r} is no length of time: write it like 90s, 30m, 12h, 7d or 2w")
    return float(match[1]) * _SECONDS[match[2]]


def table(titles: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    """Print *rows* below *titles*, in columns."""
    lines = [titles, *(tuple(map(printable, row)) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        click.echo("  ".join(f"{word:{width}}" for word, width in zip(line, widths, strict=True)).rstrip())
