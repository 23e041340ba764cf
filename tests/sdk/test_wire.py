"""Values as JSON and back: each comes back as itself, and nothing that is wrong gets through."""

from __future__ import annotations

import enum
import json
import types
import typing
from collections.abc import Mapping

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import aegis_sdk as aegis
from aegis_sdk import entries, errors, model, wire
from aegis_sdk.model import TaskSpec, TerminalSize
from aegis_sdk.model.sandbox import SandboxSpec

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
FILE_NAMES = st.binary(max_size=9).map(lambda name: name.replace(b"\0", b"").decode("utf-8", "surrogateescape"))
ENVIRONMENT = st.dictionaries(st.from_regex(r"[A-Z_]{1,9}", fullmatch=True), TEXT, max_size=3)


def _of(shape: typing.Any) -> st.SearchStrategy[typing.Any]:
    """Any value of that type, by its fields' types."""
    if shape in SPECIAL:
        return SPECIAL[shape]
    if isinstance(shape, type) and not typing.get_origin(shape):
        return st.sampled_from(shape) if issubclass(shape, enum.Enum) else _made(shape)
    arguments = typing.get_args(shape)
    kinds: dict[typing.Any, typing.Callable[[], st.SearchStrategy[typing.Any]]] = {
        types.UnionType: lambda: st.one_of(*map(_of, arguments)),
        tuple: lambda: st.lists(_of(arguments[0]), max_size=3).map(tuple),
        Mapping: lambda: st.dictionaries(TEXT, _of(arguments[1]), max_size=3),
        typing.Literal: lambda: st.sampled_from(arguments),
    }
    return kinds[typing.get_origin(shape)]()


def _made(shape: type, **given: st.SearchStrategy[typing.Any]) -> st.SearchStrategy[typing.Any]:
    attrs.resolve_types(shape)
    return st.builds(shape, **{**{field.name: _of(field.type) for field in attrs.fields(shape)}, **given})


def _mounts() -> st.SearchStrategy[typing.Any]:
    names = st.sampled_from(["/data", "/workspace", "/a/b", "/a"])
    mount = st.builds(aegis.Mount, st.sampled_from(["/", "/tmp/x", "/\udc80"]), names, st.booleans())
    return st.lists(mount, max_size=4, unique_by=lambda mount: mount.target).map(tuple)


SPECIAL: dict[typing.Any, st.SearchStrategy[typing.Any]] = {
    str: TEXT | FILE_NAMES,
    int: st.integers(),
    float: NUMBERS,
    bool: st.booleans(),
    bytes: st.binary(),
    types.NoneType: st.none(),
    TerminalSize: st.builds(TerminalSize, st.integers(1, 65535), st.integers(1, 65535)),
    aegis.Mount: _mounts().filter(bool).map(lambda mounts: mounts[0]),
}
SPECIAL[model.Command] = _made(
    model.Command, argv=st.lists(TEXT.filter(bool), min_size=1, max_size=3).map(tuple), env=ENVIRONMENT
)
SPECIAL[model.Network] = st.sampled_from(
    [
        *map(model.Network.of, ("public", "none", "full")),
        model.Network(allow=["*.example.net:443"], deny=["10.0.0.0/8"], allow_host={"db": "127.0.0.1:5432"}),
    ]
)
_GUEST = {
    "image": TEXT.filter(bool),
    "memory": st.integers(96, 9999),
    "cpus": st.integers(1, 16),
    "disk": st.none() | st.integers(1, 96),
    "processes": st.none() | st.integers(16, 32000),
    "pull": st.sampled_from(["always", "missing", "never"]),
    "mounts": _mounts(),
    "name": st.none() | st.from_regex(r"[a-z]{1,9}", fullmatch=True),
}
SPECIAL[SandboxSpec] = _made(SandboxSpec, **_GUEST)
SPECIAL[model.Port] = st.builds(model.Port, st.integers(1, 65535), st.just("http")) | st.builds(
    model.Port, st.integers(1, 65535), st.just("tcp"), st.none() | st.integers(1, 65535)
)
_PORTS = st.lists(
    SPECIAL[model.Port], max_size=3, unique_by=(lambda port: port.number, lambda port: port.local or port)
).map(tuple)
SPECIAL[TaskSpec] = _made(
    TaskSpec,
    command=st.lists(TEXT.filter(bool), max_size=3).map(tuple),
    sandbox=_made(SandboxSpec, **{**_GUEST, "name": st.none(), "keep": st.just(False)}),
    env=ENVIRONMENT,
    timeout=st.none() | st.floats(0.001, 1e9),
    attached=st.just(True),
    expose=_PORTS,
)
_SECONDS = st.none() | st.floats(0.001, 1e9)
SPECIAL[model.Readiness] = _made(
    model.Readiness,
    port=st.none() | st.integers(1, 65535),
    interval=st.floats(0.001, 3600),
    timeout=st.floats(0.001, 3600),
)
SPECIAL[model.AppSpec] = _made(
    model.AppSpec,
    command=st.lists(TEXT.filter(bool), max_size=3).map(tuple),
    sandbox=_made(SandboxSpec, **{**_GUEST, "name": st.none(), "keep": st.just(False), "mounts": st.just(())}),
    env=ENVIRONMENT,
    expose=_PORTS,
    idle=_SECONDS,
    stop_after=_SECONDS,
)

VALUES = sorted(
    {value for module in (model, entries) for value in vars(module).values() if attrs.has(value)} | {aegis.Mount},
    key=lambda shape: shape.__name__,
)


@pytest.mark.parametrize("shape", VALUES, ids=lambda shape: shape.__name__)
@settings(max_examples=40)
@given(data=st.data())
def test_every_value_comes_back_as_itself(shape, data):
    """What is written and read again is equal, also where it holds bytes, odd file names, or nothing."""
    value = data.draw(_of(shape))
    assert wire.loads(wire.dumps(value), shape) == value
    assert wire.dumps(value).isascii()
    assert b"\n" not in wire.dumps(value)


def _errors() -> list[aegis.AegisError]:
    result = model.Completed(argv=("x",), exit_code=3, stdout_bytes=b"out", stderr_bytes=b"\xff", duration=0.5)
    made: list[aegis.AegisError] = []
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, aegis.FileFailed):
            made.append(kind("gone", hint="look", number=2, path="/etc/\udcff"))
        elif isinstance(kind, type) and issubclass(kind, aegis.CommandFailed):
            made.append(kind("failed", hint="look", result=result))
        elif isinstance(kind, type) and issubclass(kind, aegis.AegisError):
            made.append(kind("wrong", hint="look"))
    return made


@pytest.mark.parametrize("error", _errors(), ids=lambda error: error.code)
def test_every_error_comes_back_as_itself(error):
    """An error that is sent over the wire has its class, code, message, hint and fields at the other end."""
    back = wire.error_from_json(wire.parse(wire.dumps(error)))
    assert type(back) is type(error)
    assert vars(back) == vars(error)
    assert str(back) == str(error)
    if isinstance(error, aegis.FileFailed):
        assert isinstance(back, aegis.FileFailed)
        assert (back.errno, back.filename, back.strerror) == (error.errno, error.filename, error.strerror)


def test_an_error_of_another_version():
    """A code that this Aegis does not know is an AegisError with the message and the hint."""
    back = wire.error_from_json({"code": "of-tomorrow", "message": "what", "hint": "that"})
    assert (type(back), back.message, back.hint) == (aegis.AegisError, "what", "that")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"sandbox": {"memory": "5"}}, "sandbox.memory: must be a whole number, not text"),
        ({"sandbox": {"memory": True}}, "sandbox.memory: must be a whole number, not true or false"),
        ({"sandbox": {"memory": 512.0}}, "sandbox.memory: must be a whole number"),
        ({"sandbox": {"memory": 5}}, "sandbox: memory must be from 96"),
        ({"sandbox": {"mounts": [{"source": "a", "target": "/a"}]}}, "sandbox.mounts.0.source: must be an absolute"),
        ({"sandbox": {"mounts": [{"target": "/a"}]}}, "sandbox.mounts.0.source: is missing"),
        ({"sandbox": {"mounts": {}}}, "sandbox.mounts: must be a list, not an object"),
        ({"sandbox": None}, "sandbox: must be an object, not null"),
        ({"sandbox": "base"}, "sandbox: must be an object, not text"),
        ({"command": "true"}, "command: must be a list, not text"),
        ({"command": ["a", 5]}, "command.1: must be text, not a number"),
        ({"env": {"A": 5}}, "env.A: must be text, not a number"),
        ({"env": ["A"]}, "env: must be an object, not a list"),
        ({"attached": 1}, "attached: must be true or false, not a number"),
        ({"timeout": "5"}, "timeout: must be a number, not text"),
        ({"timeout": 10**400}, "timeout: is too large"),
        ({"timeout": -1}, "timeout must be seconds"),
        ({"tty": {"rows": 0, "cols": 1}, "attached": True}, "tty: rows must be from 1"),
        ({"comand": ["true"]}, "comand: there is no such field\ndid you mean command?"),
        ({"image": "alpine"}, 'image: there is no such field\nit belongs in sandbox: {"image": ...}'),
        ([], "must be an object, not a list"),
    ],
)
def test_what_is_wrong_is_refused_by_its_name(given, said):
    """A value that cannot be meant is an InvalidValue that names the field, wherever it is."""
    with pytest.raises(aegis.InvalidValue) as caught:
        wire.loads(json.dumps(given), TaskSpec)
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize("text", ["", "{", "\xff", "NaN", '{"a": Infinity}', "[" * 100_000, "9" * 10_000])
def test_what_is_not_json_is_refused(text):
    """Text that is no JSON, or of a kind that eats memory or stack, is an InvalidValue."""
    with pytest.raises(aegis.InvalidValue):
        wire.parse(text.encode("latin-1"))


@pytest.mark.parametrize(
    "given",
    [
        {"data": 5},
        {"data": None},
        {"data_base64": "?"},
        {"data_base64": 5},
        {"data": "a", "data_base64": "YQ=="},
        {"data": "\ud800"},
        {},
    ],
)
def test_bytes_that_are_none(given):
    """Bytes are text or base64, one of both; the error names the field, and never says what was in it."""
    with pytest.raises(aegis.InvalidValue, match=r"^data"):
        wire.from_json({"sequence": 1, "time": 0.5, "source": "boot", **given}, aegis.LogEntry)


def test_enums_go_by_name():
    """Why a guest ended travels by its name; a name that there is not is refused with those that there are."""
    assert wire.to_json(aegis.Ending(cause=aegis.Cause.KILLED))["cause"] == "KILLED"
    with pytest.raises(aegis.InvalidValue, match="cause: must be one of CLOSED, STOPPED"):
        wire.from_json({"cause": "it was stopped by its owner"}, aegis.Ending)
