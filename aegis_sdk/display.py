"""What may be shown of what a guest wrote: on a terminal text and colours, in a notebook's HTML text alone."""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aegis_sdk.model import Completed, Exit, ImageInfo, SandboxInfo

_SHOWN = 20_000  # bytes of one stream
_TITLE = 200
# A colour; another control sequence as ECMA-48 has it; a character that a terminal might obey.
_OBEYED = re.compile(
    r"(?P<colour>\x1b\[[0-9;]{0,64}m)|(?P<sequence>\x1b\[[0-?]{0,64}[ -/]{0,4}[@-~])"
    r"|[\0-\x07\x0b\x0c\x0e-\x1f\x7f-\x9f]"
)
_BEGUN = re.compile(r"\x1b(\[[0-?]{0,64}[ -/]{0,4})?\Z")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_PRE = "margin: 0; max-height: 30em; overflow: auto"
_STDERR = f"{_PRE}; background: rgba(255, 0, 0, 0.1)"


class Shown:
    """The text of one stream, piece by piece: colours pass, and nothing else that a terminal would obey."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""  # the beginning of a sequence whose end has not come

    def feed(self, piece: bytes, *, final: bool = False) -> str:
        """What can be shown now; *final* is for the last piece."""
        text = self._held + self._decoder.decode(piece, final)
        begun = None if final else _BEGUN.search(text)
        at = begun.start() if begun else len(text)
        self._held = text[at:]
        return _OBEYED.sub(_allowed, text[:at])


def _allowed(match: re.Match[str]) -> str:
    return match["colour"] or ("" if match["sequence"] else "\N{REPLACEMENT CHARACTER}")


def of_completed(completed: Completed) -> str:
    """A command that has ended, with what it wrote."""
    how = _how(completed.exit_code, completed.signal)
    how += ", timed out" * completed.timed_out + ", out of memory" * completed.out_of_memory
    how += ", out of processes" * completed.out_of_processes
    return (
        f"<div>{_title(completed.argv)} {how} after {completed.duration:.3f} s"
        f"{_stream(completed.stdout_bytes, _PRE)}{_stream(completed.stderr_bytes, _STDERR)}</div>"
    )


def of_process(argv: tuple[str, ...], end: Exit | None, signal: str | None, *, closed: bool) -> str:
    """A command that runs, or how it ended."""
    state = _how(end.code, signal) if end else "closed" if closed else "running"
    return f"<div>{_title(argv)} {state}</div>"


def of_sandbox(info: SandboxInfo, *, state: str) -> str:
    """A sandbox, and what it is made of."""
    facts = {
        "state": state,
        "image": info.image,
        "memory": f"{info.memory} MiB",
        "processors": info.cpus,
        "driver": f"{info.driver} ({info.accelerator})",
        "boot": f"{sum(info.phases.values()):.2f} s",
    }
    return _table(f"Sandbox {info.id}", facts)


def of_image(info: ImageInfo) -> str:
    """An image of the cache."""
    facts = {
        "digest": info.digest,
        "architecture": info.architecture,
        "created": info.created,
        "layers": len(info.layers),
        "disk": f"{info.disk_bytes / 1e6:.1f} MB",
    }
    return _table(f"Image {info.reference}", facts)


def _how(code: int, signal: str | None) -> str:
    return f"ended by {escape(signal)}" if signal else f"exit code {code}"


def _title(argv: tuple[str, ...]) -> str:
    command = " ".join(argv)
    return f"<code>{_text(command[:_TITLE])}{'...' * (len(command) > _TITLE)}</code>"


def _stream(data: bytes, style: str) -> str:
    """What a stream carried: all of it, or its two ends around a note."""
    if not data:
        return ""
    if (left_out := len(data) - _SHOWN) <= 0:
        shown = _text(data)
    else:
        note = f"\n<em>[{left_out:,} bytes are not shown]</em>\n"
        shown = _text(data[: _SHOWN // 2]) + note + _text(data[-(_SHOWN // 2) :])
    return f'<pre style="{style}">\n{shown}</pre>'  # HTML drops a newline that comes first


def _table(title: str, facts: Mapping[str, object]) -> str:
    rows = "".join(f"<tr><th>{name}</th><td>{_text(str(fact))}</td></tr>" for name, fact in facts.items())
    return f"<table><caption>{_text(title)}</caption>{rows}</table>"


def _text(said: bytes | str) -> str:
    data = said.encode("utf-8", "replace") if isinstance(said, str) else said
    return escape(_COLOUR.sub("", Shown().feed(data, final=True)))
