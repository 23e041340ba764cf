"""JSON from images and registries: hostile, so each value's type is checked where it is taken out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NoReturn

import attrs

from aegis_sdk.errors import ImageInvalid

_TEXT_LIMIT = 1 << 20


@attrs.frozen
class Document:
    """A JSON object; *what* it is called in errors. A member that is null counts as one that is not there."""

    _members: Mapping[str, object]
    what: str

    def __contains__(self, name: str) -> bool:
        return self._members.get(name) is not None

    def text(self, name: str) -> str:
        """The text called *name*, empty if there is none; it has no NUL, and UTF-8 can hold it."""
        return self._text(self._members.get(name, ""), name) if name in self else ""

    def whole(self, name: str, *, at_most: int) -> int:
        """The number from 0 to *at_most* called *name*, which must be there."""
        value = self._members.get(name)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= at_most:
            self._refuse(name, f"a whole number from 0 to {at_most}")
        return value

    def below(self, name: str) -> Document:
        """The object called *name*, empty if there is none."""
        value = self._members.get(name) if name in self else {}
        if not isinstance(value, dict):
            self._refuse(name, "an object")
        return Document(value, f"{self.what}, {name}")

    def documents(self, name: str) -> tuple[Document, ...]:
        """The objects in the list called *name*, which is empty if it is not there."""
        return tuple(_object(value, f"{self.what}, {name} {at}") for at, value in enumerate(self._list(name)))

    def texts(self, name: str) -> tuple[str, ...]:
        """The texts in the list called *name*, which is empty if it is not there."""
        return tuple(self._text(value, name) for value in self._list(name))

    def pairs(self, name: str) -> dict[str, str]:
        """The object of texts called *name*, empty if there is none."""
        below = self.below(name)
        return {self._text(key, name): below.text(key) for key in below._members}  # noqa: SLF001  # one of its kind

    def is_text(self, name: str) -> bool:
        """Whether what is called *name* is a text."""
        return isinstance(self._members.get(name), str)

    def _list(self, name: str) -> list[object]:
        value = self._members.get(name) if name in self else []
        if not isinstance(value, list):
            self._refuse(name, "a list")
        return value

    def _text(self, value: object, name: str) -> str:
        if not isinstance(value, str) or "\0" in value or len(value) > _TEXT_LIMIT:
            self._refuse(name, "text of at most 1 MiB without NUL")
        try:
            value.encode()
        except UnicodeEncodeError:  # half of a surrogate pair, which JSON can spell
            self._refuse(name, "text that UTF-8 can hold")
        return value

    def _refuse(self, name: str, expected: str) -> NoReturn:
        raise ImageInvalid(f"{self.what}: {name[:200]!r} is not {expected}")


def parse(data: bytes, what: str) -> Document:
    """The JSON object that *data* is."""
    return _object(_value(data, what), what)


def parse_list(data: bytes, what: str) -> tuple[Document, ...]:
    """The JSON objects in the list that *data* is."""
    return Document({"entries": _value(data, what)}, what).documents("entries")


def _value(data: bytes, what: str) -> object:
    try:
        value: object = json.loads(data.decode(), object_pairs_hook=_unambiguous, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise ImageInvalid(f"{what} is no JSON that can be read: {str(error)[:200]}") from error
    return value


def _object(value: object, what: str) -> Document:
    if not isinstance(value, dict):
        raise ImageInvalid(f"{what} is no JSON object")
    return Document(value, what)


def _unambiguous(pairs: list[tuple[str, object]]) -> dict[str, object]:
    # Two readers that choose differently between equal names would see two images in one digest.
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("a name stands twice in one object")
    return members


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number")
