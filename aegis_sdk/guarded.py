"""A plugin's image sources and routing policies under guard: whatever they do wrong is an error that names the plugin.

What they give is checked before anybody else sees it: a wrong value that gets into the cache would come to light in
another process, when the plugin may have gone.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NoReturn, Self, TypeVar

import attrs

from aegis_sdk.errors import AegisError, ImageFailed, ImageInvalid
from aegis_sdk.images import digests
from aegis_sdk.images.base import Entry, FoundImage, ImageSource, Kind, Layer
from aegis_sdk.images.tree import Metadata
from aegis_sdk.model import Check, ImageConfig, printable
from aegis_sdk.routing.base import Apps, Decision, Redirect, RoutingPolicy, Serve
from aegis_sdk.routing.heads import RequestHead
from aegis_sdk.routing.refusals import Refuse

_SOURCE_MEMBERS = ("name", "remembers", "claims", "canonical", "find", "check")
_POLICY_MEMBERS = ("name", "route")
_LAYER_MEMBERS = ("digest", "size", "fetch", "entries")
T = TypeVar("T")


class WrongError(Exception):
    """A plugin is, or gives, what it may not; the message says what."""


def words(error: BaseException) -> str:
    """What *error*, which a plugin has raised or caused, says."""
    if isinstance(error, WrongError):
        return str(error)
    said = " ".join(str(error).split())
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


@attrs.frozen(kw_only=True)
class GuardedSource:
    """A plugin's image source, whose failures of any kind become errors that name the plugin."""

    name: str
    remembers: bool
    _source: ImageSource
    _plugin: str

    @classmethod
    def of(cls, source: ImageSource, *, plugin: str) -> Self:
        """*source*, which comes from *plugin*; WrongError if it is no image source."""
        _need_named(source, _SOURCE_MEMBERS, "image source")
        return cls(name=source.name, remembers=bool(source.remembers), source=source, plugin=plugin)

    def claims(self, reference: str) -> bool:
        try:
            return bool(self._source.claims(reference))
        except (Exception, SystemExit) as error:  # noqa: BLE001  # who boots another image must not suffer from it
            warnings.warn(printable(_failed(self._plugin, error)), RuntimeWarning, stacklevel=2)
            return False

    def canonical(self, reference: str) -> str:
        with _named(self._plugin):
            full = self._source.canonical(reference)
            if not full or not _is_text(full):
                raise WrongError(f"canonical({reference!r}) must be text, not {_seen(full)}")
            return full

    def find(self, reference: str, *, architecture: str) -> FoundImage:
        with _named(self._plugin):
            found = _checked(self._source.find(reference, architecture=architecture), FoundImage)
            _checked(found.config, ImageConfig)
            layers = tuple(_GuardedLayer.of(layer, plugin=self._plugin) for layer in found.layers)
            for digest in (found.digest, *found.blobs):
                _check_digest(digest)
        if found.architecture != architecture:
            _refuse_architecture(found, architecture)
        return attrs.evolve(found, layers=layers)

    def check(self) -> tuple[Check, ...]:
        """What it needs; nothing of it is required, because Aegis does without."""
        try:
            return tuple(attrs.evolve(_checked(check, Check), required=False) for check in self._source.check())
        except (Exception, SystemExit) as error:  # noqa: BLE001  # as above
            return (Check(name=self.name, ok=False, seen=_failed(self._plugin, error), required=False),)


@attrs.frozen(kw_only=True)
class GuardedPolicy:
    """A plugin's routing policy: a request that it fails for is refused: maybe it would have been anyway."""

    name: str
    _policy: RoutingPolicy
    _plugin: str

    @classmethod
    def of(cls, policy: RoutingPolicy, *, plugin: str) -> Self:
        """*policy*, which comes from *plugin*; WrongError if it is no routing policy."""
        _need_named(policy, _POLICY_MEMBERS, "routing policy")
        return cls(name=policy.name, policy=policy, plugin=plugin)

    def route(self, request: RequestHead, apps: Apps, so_far: Decision) -> Decision:
        try:
            decision = self._policy.route(request, apps, so_far)
            return decision if decision is so_far else _checked_decision(decision, request)
        except (Exception, SystemExit) as error:  # noqa: BLE001  # the router serves others, too
            return Refuse(500, _failed(self._plugin, error))


def _checked_decision(decision: object, request: RequestHead) -> Decision:
    for kind in (Serve, Redirect, Refuse):
        if isinstance(decision, kind):
            _checked(decision, kind)
            if isinstance(decision, Serve) and not request.target.startswith(decision.prefix):
                raise WrongError(f"Serve.prefix must begin the target, which {_seen(decision.prefix)} does not")
            return decision
    raise WrongError(f"route must give a Serve, a Redirect or a Refuse, not {_seen(decision)}")


@attrs.frozen(kw_only=True)
class _GuardedLayer:
    digest: str
    size: int
    _layer: Layer
    _plugin: str

    @classmethod
    def of(cls, layer: Layer, *, plugin: str) -> Self:
        _need(layer, _LAYER_MEMBERS, "layer")
        return _checked(cls(digest=layer.digest, size=layer.size, layer=layer, plugin=plugin), cls, called="Layer")

    def fetch(self, report: Callable[[int], None]) -> None:
        raised: list[BaseException] = []

        def tell(done: int) -> None:
            if not _is_count(done):
                raise WrongError(f"fetch must report a number of bytes, not {_seen(done)}")
            try:
                report(done)
            except BaseException as error:
                raised.append(error)
                raise

        with _named(self._plugin, but=raised):
            self._layer.fetch(tell)

    def entries(self) -> Iterator[Entry]:
        with _named(self._plugin):
            for entry in self._layer.entries():
                _checked(_checked(entry, Entry).metadata, Metadata)
                yield attrs.evolve(entry, content=self._content(entry)) if entry.kind is Kind.FILE else entry

    def _content(self, entry: Entry) -> Iterator[bytes]:
        left = entry.size
        with _named(self._plugin):
            for piece in entry.content:
                if not isinstance(piece, bytes):
                    raise WrongError(f"the content of {_seen(entry.path)} must be bytes, not {_seen(piece)}")
                left -= len(piece)
                if left < 0:
                    break
                yield piece
            if left:
                seen = "more" if left < 0 else f"{entry.size - left}"
                raise WrongError(f"{_seen(entry.path)} has a size of {entry.size} bytes, but {seen} of content")


@contextmanager
def _named(plugin: str, *, but: Sequence[BaseException] = ()) -> Iterator[None]:
    """Make what is raised an error of *plugin*'s; *but* are errors of its caller, which only pass through it."""
    try:
        yield
    except WrongError as error:
        raise ImageInvalid(_failed(plugin, error)) from error
    except AegisError:
        raise
    except (Exception, SystemExit) as error:
        if any(error is other for other in but):
            raise
        raise ImageFailed(_failed(plugin, error)) from error


def _failed(plugin: str, error: BaseException) -> str:
    return f"the plugin {plugin} failed: {words(error)}"


def _seen(value: object) -> str:
    return f"{value!r:.100}"


def _need_named(value: ImageSource | RoutingPolicy, members: Iterable[str], what: str) -> None:
    if isinstance(value, type):
        raise WrongError(f"{value.__name__} is a class, and each {what} is an instance of one")
    _need(value, members, what)
    if not isinstance(value.name, str):
        raise WrongError(f"{_seen(value)} is no {what}: its name is {_seen(value.name)}")


def _need(value: object, members: Iterable[str], what: str) -> None:
    if lacking := [name for name in members if not hasattr(value, name)]:
        raise WrongError(f"{_seen(value)} is no {what}: it lacks {', '.join(lacking)}")


def _check_digest(digest: str) -> None:
    try:
        digests.valid(digest)
    except ImageInvalid as error:
        raise WrongError(error.message) from error


def _refuse_architecture(found: FoundImage, architecture: str) -> NoReturn:
    from aegis_sdk.images.manifest import Platform, not_found  # not needed where all is well

    raise not_found(found.reference, [Platform("linux", found.architecture)], architecture=architecture)


@attrs.frozen
class _Type:
    """What a member must be, in words, and whether it is."""

    words: str
    fits: Callable[[object], bool]


def _is_text(value: object) -> bool:
    """Whether it is text that a path or a command can hold."""
    try:
        return isinstance(value, str) and b"\0" not in value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63


def _is_path(value: str) -> bool:
    return value.startswith("/") and value.isascii() and value.isprintable() and " " not in value


def _is(kind: type) -> Callable[[object], bool]:
    return lambda value: isinstance(value, kind)


def _are(fits: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, tuple) and all(map(fits, value))


def _map(fits: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, Mapping) and all(fits(each) for pair in value.items() for each in pair)


_TEXT = _Type("text", _is_text)
_TEXTS = _Type("a tuple of texts", _are(_is_text))
_COUNT = _Type("a whole number from 0", _is_count)
_NUMBER = _Type("a whole number", _is(int))
_BYTES = _Type("bytes", _is(bytes))
# Names of layers are joined by newlines to make the name of a disk.
_NAME = _Type("a printable name", lambda value: isinstance(value, str) and value != "" and value.isprintable())
_DEVICE = _Type("two whole numbers", lambda value: _are(_is(int))(value) and len(value) == 2)  # type: ignore[arg-type]  # it is a tuple by then
_MEMBERS: Mapping[type, Mapping[str, _Type]] = {
    FoundImage: {
        **dict.fromkeys(("reference", "digest", "architecture", "created", "pinned"), _TEXT),
        "config": _Type("an ImageConfig", _is(ImageConfig)),
        "layers": _Type("a tuple of layers", _is(tuple)),
        "blobs": _TEXTS,
    },
    ImageConfig: {
        "env": _Type("a mapping of texts", _map(_is_text)),
        **dict.fromkeys(("cwd", "user"), _TEXT),
        **dict.fromkeys(("entrypoint", "command"), _TEXTS),
    },
    _GuardedLayer: {"digest": _NAME, "size": _COUNT},
    Entry: {
        "path": _BYTES,
        "kind": _Type("a Kind", _is(Kind)),
        "metadata": _Type("a Metadata", _is(Metadata)),
        "size": _COUNT,
        "target": _BYTES,
        "device": _DEVICE,
    },
    Metadata: {
        **dict.fromkeys(("permissions", "uid", "gid", "mtime_ns"), _NUMBER),
        "xattrs": _Type("a mapping of bytes", _map(_is(bytes))),
    },
    Serve: {
        **dict.fromkeys(("app", "prefix"), _TEXT),
        "port": _Type("a port", lambda value: _is_count(value) and 0 < value < 1 << 16),  # type: ignore[operator]  # a count
        "release": _Type("text or None", lambda value: value is None or _is_text(value)),
        "wait": _Type("seconds", lambda value: isinstance(value, int | float) and 0 <= value <= 3600),
    },
    # They become lines of an answer's head.
    Redirect: {"location": _Type("a path in ASCII", lambda value: isinstance(value, str) and _is_path(value))},
    Refuse: {
        "status": _Type("a status from 400 to 599", lambda value: _is_count(value) and 400 <= value < 600),  # type: ignore[operator]  # a count
        "text": _TEXT,
        "retry_after": _Type("seconds or None", lambda value: value is None or _is_count(value)),
    },
    Check: {"name": _TEXT, "ok": _Type("True or False", _is(bool)), "seen": _TEXT, "fix": _TEXT},
}


def _checked(value: object, kind: type[T], *, called: str = "") -> T:
    """*value*, if it is a *kind* with members of the types that it says; WrongError tells which is not."""
    called = called or kind.__name__
    if not isinstance(value, kind):
        raise WrongError(f"it gave {_seen(value)} in place of a value of {called}")
    for name, wanted in _MEMBERS[kind].items():
        member = getattr(value, name)
        if not wanted.fits(member):
            raise WrongError(f"{called}.{name} must be {wanted.words}, not {_seen(member)}")
    return value
