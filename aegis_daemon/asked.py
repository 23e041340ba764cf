"""What a request says, checked before anything is done for it."""

from __future__ import annotations

import types
from typing import Any, get_args
from urllib.parse import parse_qsl

import attrs
from starlette.requests import ClientDisconnect, Request

from aegis_daemon.calls import ClientGone
from aegis_daemon.refusals import TooLarge
from aegis_sdk import wire
from aegis_sdk.errors import InvalidValue

BODY_LIMIT = 4 << 20
_FLAGS = {"true": True, "false": False}


async def body(request: Request) -> bytes:
    """The body; TooLarge as soon as it is known to be."""
    read = bytearray()
    try:
        async for piece in request.stream():
            read += piece
            if len(read) > BODY_LIMIT:
                raise TooLarge(f"a request may have {BODY_LIMIT >> 20} MiB at most")
    except ClientDisconnect:
        raise ClientGone("the client has left") from None
    return bytes(read)


def value(text: bytes, shape: type[Any] | None) -> Any:
    """The value of that *shape* which a body is; None where none may be."""
    if shape is None:
        if text:
            raise InvalidValue("this takes no body")
        return None
    if not text and all_optional(shape):
        return shape()
    return wire.loads(text, shape)


def query(text: bytes, shape: type[Any] | None) -> Any:
    """The value of that *shape* which a query string says; None where none may be."""
    try:
        pairs = parse_qsl(text.decode("ascii"), keep_blank_values=True, strict_parsing=bool(text), errors="strict")
    except ValueError:
        raise InvalidValue("what follows the question mark is not NAME=VALUE, joined by &") from None
    said = dict(pairs)
    if len(said) < len(pairs):
        raise InvalidValue("a parameter is given twice")
    if shape is None:
        if said:
            raise InvalidValue(f"{min(said)}: there is no such parameter")
        return None
    kinds = {field.name: _kind(field.type) for field in attrs.fields(attrs.resolve_types(shape))}
    return wire.from_json({name: _read(name, word, kinds.get(name, str)) for name, word in said.items()}, shape)


def all_optional(shape: type[Any]) -> bool:
    """Whether a value of that *shape* can be made of nothing."""
    return all(field.default is not attrs.NOTHING for field in attrs.fields(shape))


def _kind(shape: Any) -> Any:
    """What a parameter is if it is given: it cannot be null."""
    return next((kind for kind in get_args(shape) if kind is not types.NoneType), shape)


def _read(name: str, word: str, kind: Any) -> object:
    if kind is bool:
        if word not in _FLAGS:
            raise InvalidValue(f"{name}: must be true or false")
        return _FLAGS[word]
    if kind in (int, float):
        try:
            return int(word) if word.isascii() and word.lstrip("-").isdigit() else kind(word)
        except (ValueError, OverflowError):
            raise InvalidValue(f"{name}: must be a number") from None
    return word
