"""The only converter between values and JSON; what it reads may come from anybody.

An object has a value's fields by their names, and no others. Types are strict: ``"5"`` is no number, ``true`` is none
either. An enum is written by its member's name, bytes as text, or as base64 under ``NAME_base64`` where they are not
UTF-8. An error has its code, message and hint, and the fields of its own kind.
"""

from __future__ import annotations

import base64
import binascii
import difflib
import enum
import json
import math
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import PurePosixPath
from typing import Any, NoReturn, TypeVar, get_args, get_origin

import attrs
import cattrs
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn

from aegis_sdk import errors
from aegis_sdk.errors import AegisError, CommandFailed, FileFailed, InvalidValue
from aegis_sdk.model import Completed
from aegis_sdk.mount import Mount

T = TypeVar("T")
_Json = Any  # what json makes of a text: nothing is known of it yet
_BASE64 = "_base64"
_KINDS = {
    dict: "an object",
    list: "a list",
    str: "text",
    bool: "true or false",
    int: "a number",
    float: "a number",
    type(None): "null",
}


def to_json(value: object) -> _Json:
    """*value* as dictionaries, lists, text, numbers and None."""
    return error_to_json(value) if isinstance(value, AegisError) else _converter().unstructure(value)


def from_json(data: object, shape: type[T]) -> T:
    """The value of type *shape* that *data*, which came out of JSON, says; InvalidValue names the field at fault."""
    try:
        return _converter().structure(data, shape)
    except Exception as error:  # noqa: BLE001  # whatever a value's own checks raise, it is about what was given
        raise _explained(error) from None


def dumps(value: object) -> bytes:
    """*value* as JSON, on one line, in ASCII: text that is not Unicode, as file names may be, survives."""
    return json.dumps(to_json(value), separators=(",", ":"), allow_nan=False).encode()


def loads(text: bytes | str, shape: type[T]) -> T:
    """The value of type *shape* that is written there as JSON; InvalidValue says what is wrong with it."""
    return from_json(parse(text), shape)


def parse(text: bytes | str) -> _Json:
    """What is written there as JSON, whatever it is; InvalidValue if it is none."""
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidValue(f"this is not JSON: {error}") from None


def error_to_json(error: AegisError) -> dict[str, _Json]:
    """An error as an object: its code, message and hint, and what its kind has besides."""
    said: dict[str, _Json] = {"code": error.code, "message": error.message, "hint": error.hint}
    if isinstance(error, FileFailed):
        return said | {"errno": error.errno, "filename": error.filename}
    if isinstance(error, CommandFailed):
        return said | {"result": to_json(error.result)}
    return said


def error_from_json(data: object) -> AegisError:
    """The error that such an object says, of its own class; an AegisError if its code is none that is known here."""
    said = from_json(data, _Error)
    kind = _kinds().get(said.code, AegisError)
    if issubclass(kind, FileFailed):
        return kind(said.message, hint=said.hint, number=said.errno, path=said.filename)
    if issubclass(kind, CommandFailed):
        if said.result is None:
            return AegisError(said.message, hint=said.hint)
        return kind(said.message, hint=said.hint, result=said.result)
    return kind(said.message, hint=said.hint)


@attrs.frozen(kw_only=True)
class _Error:
    code: str
    message: str
    hint: str = ""
    errno: int | None = None
    filename: str = ""
    result: Completed | None = None


@cache
def _kinds() -> dict[str, type[AegisError]]:
    found = (value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, AegisError))
    return {kind.code: kind for kind in found}


class _Base64(str):
    """Text that stands for bytes."""

    __slots__ = ()


class _Wrong(ValueError):
    """What is wrong with something, and where in it."""

    def __init__(self, message: str, *, hint: str = "", path: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.message, self.hint, self.path = message, hint, path

    def within(self, name: object) -> _Wrong:
        return _Wrong(self.message, hint=self.hint, path=(str(name), *self.path))


@cache
def _converter() -> cattrs.Converter:
    made = cattrs.Converter(forbid_extra_keys=True, detailed_validation=True)
    for shape, hook in {bool: _flag, int: _whole, float: _number, str: _text, bytes: _bytes}.items():
        made.register_structure_hook(shape, hook)
    made.register_structure_hook_func(_is_tuple, lambda data, shape: _tuple(made, data, shape))
    made.register_structure_hook_func(_is_mapping, lambda data, shape: _mapping(made, data, shape))
    made.register_structure_hook(enum.Enum, _member)
    made.register_unstructure_hook(enum.Enum, lambda member: member.name)
    made.register_structure_hook_factory(attrs.has, lambda shape: _maker(made, shape))
    made.register_unstructure_hook_factory(attrs.has, lambda shape: _writer(made, shape))
    return made


def _flag(data: _Json, _: object) -> bool:
    return data if isinstance(data, bool) else _refuse(data, "true or false")


def _whole(data: _Json, _: object) -> int:
    if isinstance(data, float):
        raise _Wrong("must be a whole number")
    return data if isinstance(data, int) and not isinstance(data, bool) else _refuse(data, "a whole number")


def _number(data: _Json, _: object) -> float:
    if isinstance(data, bool) or not isinstance(data, int | float):
        _refuse(data, "a number")
    try:
        if math.isfinite(number := float(data)):
            return number
    except OverflowError:
        pass
    raise _Wrong("is too large a number")


def _text(data: _Json, shape: type) -> str:
    if issubclass(shape, enum.Enum):  # which may be text, too
        return _member(data, shape)  # type: ignore[return-value]
    return data if isinstance(data, str) else _refuse(data, "text")


def _bytes(data: _Json, _: object) -> bytes:
    if not isinstance(data, str):
        _refuse(data, "text")
    try:
        return base64.b64decode(data, validate=True) if isinstance(data, _Base64) else data.encode()
    except (binascii.Error, UnicodeEncodeError, ValueError):
        raise _Wrong("is not base64" if isinstance(data, _Base64) else "is not text that UTF-8 can hold") from None


def _member(data: _Json, shape: type[enum.Enum]) -> enum.Enum:
    names = shape.__members__
    if not isinstance(data, str) or data not in names:
        raise _Wrong(f"must be one of {', '.join(names)}")
    return names[data]


def _is_tuple(shape: Any) -> bool:
    return get_origin(shape) is tuple


def _tuple(converter: cattrs.Converter, data: _Json, shape: Any) -> tuple[object, ...]:
    if not isinstance(data, list):
        _refuse(data, "a list")
    element = get_args(shape)[0]
    return tuple(_part(converter, item, element, at) for at, item in enumerate(data))


def _is_mapping(shape: Any) -> bool:
    return isinstance(origin := get_origin(shape), type) and issubclass(origin, Mapping)


def _mapping(converter: cattrs.Converter, data: _Json, shape: Any) -> dict[str, object]:
    if not isinstance(data, dict):
        _refuse(data, "an object")
    element = get_args(shape)[1]
    return {name: _part(converter, item, element, name) for name, item in data.items()}


def _part(converter: cattrs.Converter, data: _Json, shape: Any, name: object) -> object:
    try:
        return converter.structure(data, shape)
    except Exception as error:  # noqa: BLE001  # as from_json
        raise _first(error).within(name) from None


def _maker(converter: cattrs.Converter, shape: type[Any]) -> Callable[[_Json, Any], Any]:
    """What makes values of the class *shape*."""
    attrs.resolve_types(shape)
    make = make_dict_structure_fn(shape, converter, _cattrs_forbid_extra_keys=True, _cattrs_detailed_validation=True)
    of_bytes = _bytes_fields(shape)

    def structure(data: _Json, _: object) -> Any:
        if not isinstance(data, dict):
            _refuse(data, "an object")
        if shape is Mount:
            _check_source(data)
        for name in of_bytes:
            data = _bytes_found(data, name)
        return make(data, shape)

    return structure


def _bytes_fields(shape: type[Any]) -> list[str]:
    return [field.name for field in attrs.fields(shape) if field.type is bytes]


def _bytes_found(data: dict[str, _Json], name: str) -> dict[str, _Json]:
    if (encoded := name + _BASE64) not in data:
        return data
    if name in data:
        raise _Wrong(f"is given twice: also as {name}", path=(encoded,))
    if not isinstance(data[encoded], str):
        raise _Wrong("must be text", path=(encoded,))
    rest = {key: value for key, value in data.items() if key != encoded}
    return rest | {name: _Base64(data[encoded])}


def _check_source(data: dict[str, _Json]) -> None:
    # A relative one would be taken to start where the reader happens to run.
    if isinstance(source := data.get("source"), str) and not PurePosixPath(source).is_absolute():
        raise _Wrong(f"must be an absolute path, not {source!r}", path=("source",))


def _writer(converter: cattrs.Converter, shape: type[Any]) -> Callable[[Any], dict[str, _Json]]:
    """What makes objects of values of the class *shape*."""
    attrs.resolve_types(shape)
    write = make_dict_unstructure_fn(shape, converter)
    of_bytes = _bytes_fields(shape)

    def unstructure(value: Any) -> dict[str, _Json]:
        said = write(value)
        for name in of_bytes:
            data = said.pop(name)
            try:
                said[name] = data.decode()
            except UnicodeDecodeError:
                said[name + _BASE64] = base64.b64encode(data).decode()
        return said

    return unstructure


def _explained(error: Exception) -> InvalidValue:
    wrong = _first(error)
    where = f"{'.'.join(wrong.path)}: " if wrong.path else ""
    return InvalidValue(where + wrong.message, hint=wrong.hint)


def _first(error: Exception) -> _Wrong:
    """The first thing that is wrong, out of all that the converter found."""
    if isinstance(error, cattrs.BaseValidationError):
        inner = error.exceptions[0]
        note = next((note for note in getattr(inner, "__notes__", ()) if hasattr(note, "name")), None)
        return _first(inner).within(note.name) if note else _first(inner)
    if isinstance(error, _Wrong):
        return error
    if isinstance(error, cattrs.ForbiddenExtraKeysError):
        return _unknown(error)
    if isinstance(error, KeyError):
        return _Wrong("is missing")
    if isinstance(error, AegisError):
        return _Wrong(error.message, hint=error.hint)
    return _Wrong(f"cannot be meant: {error}")


def _unknown(error: cattrs.ForbiddenExtraKeysError) -> _Wrong:
    name = min(error.extra_fields)
    fields = attrs.fields(error.cl)
    near = difflib.get_close_matches(name, [field.name for field in fields], n=1)
    inner = [field.name for field in fields if attrs.has(field.type) and name in attrs.fields_dict(field.type)]
    hint = f"did you mean {near[0]}?" if near else f'it belongs in {inner[0]}: {{"{name}": ...}}' if inner else ""
    return _Wrong("there is no such field", hint=hint, path=(name,))


def _refuse(data: _Json, wanted: str) -> NoReturn:
    # What it is, and never what it says: that may be a secret.
    raise _Wrong(f"must be {wanted}, not {_KINDS[type(data)]}")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")
