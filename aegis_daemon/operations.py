"""What the daemon serves over HTTP, as values: a method, a path, a verb, and the shapes of what goes in and out."""

from __future__ import annotations

import enum
import inspect
import types
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, get_args, get_type_hints

import attrs

_PARTS = ("call", "body", "query", "return")
F = TypeVar("F", bound=Callable[..., Any])


class Pace(enum.Enum):
    """How a verb is called, and how its answer is sent."""

    AT_ONCE = "it waits for nothing but a disk"
    SLOW = "it may wait for a guest or a network"
    REPORTS = "it is slow, and says how far it is to who wants lines"
    LINES = "it gives lines, one after another, for as long as it likes"


@attrs.frozen(kw_only=True)
class Operation:
    """One thing that the daemon can be asked for."""

    method: str
    path: str
    verb: Callable[..., Any]
    pace: Pace = Pace.AT_ONCE
    status: int = 200

    @property
    def body(self) -> type[Any] | None:
        """The value that the request's body is, None if it has none."""
        return self._shape("body")

    @property
    def query(self) -> type[Any] | None:
        """The value that the part behind the question mark is, None if there may be none."""
        return self._shape("query")

    @property
    def answer(self) -> Any:
        """The type of the answer, None if it has no body; of one of its lines, if it has lines."""
        shape = get_type_hints(self.verb)["return"]
        if self.pace is Pace.LINES:
            return get_args(shape)[0]
        return None if shape is types.NoneType else shape

    @property
    def places(self) -> tuple[str, ...]:
        """The names of the path's variable parts."""
        return tuple(name for name in inspect.signature(self.verb).parameters if name not in _PARTS)

    @property
    def summary(self) -> str:
        """What it does, in a sentence or two."""
        return inspect.getdoc(self.verb) or ""

    def _shape(self, name: str) -> type[Any] | None:
        return get_type_hints(self.verb).get(name)


@attrs.frozen
class Operations:
    """Those of one noun, in the order in which they are declared."""

    _declared: list[Operation] = attrs.field(factory=list)

    def __iter__(self) -> Iterator[Operation]:
        return iter(self._declared)

    def serve(self, method: str, path: str, *, pace: Pace = Pace.AT_ONCE, status: int = 200) -> Callable[[F], F]:
        """Have the decorated verb answer *method* on *path*; one that returns None answers 204."""

        def declare(verb: F) -> F:
            nothing = get_type_hints(verb)["return"] is types.NoneType
            code = 204 if nothing and status == 200 else status
            self._declared.append(Operation(method=method, path=path, verb=verb, pace=pace, status=code))
            return verb

        return declare
