"""The built-in parts and the installed plugins behind the hooks: a broken plugin is listed, and breaks nothing else."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import TypeVar

import attrs
import pluggy

from aegis_sdk import hookspecs
from aegis_sdk.config import Config
from aegis_sdk.errors import AegisError, ImageFailed
from aegis_sdk.hookspecs import hookimpl
from aegis_sdk.images import builtin
from aegis_sdk.images.base import Entry, FoundImage, ImageSource, Layer
from aegis_sdk.model import Check, PluginInfo

_GROUP = "aegis"
_SOURCE_VERBS = ("claims", "canonical", "find", "check")
T = TypeVar("T")


@attrs.frozen
class Local:
    """The built-in plugin of the images that are on this machine."""

    _config: Config

    @hookimpl
    def aegis_image_sources(self) -> Iterable[ImageSource]:
        return tuple(builtin.local(scheme, self._config) for scheme in builtin.SCHEMES)


@attrs.frozen
class Registry:
    """The built-in plugin of registries, which claim whatever nobody else does."""

    _config: Config

    @hookimpl
    def aegis_image_sources(self) -> Iterable[ImageSource]:
        return (builtin.registry(self._config),)


@attrs.frozen
class Plugins:
    """What is loaded, in the order in which it is asked."""

    infos: tuple[PluginInfo, ...]
    image_sources: tuple[ImageSource, ...]

    @classmethod
    def load(cls, config: Config) -> Plugins:
        """Everything built in and installed; what fails to load says so in its info."""
        loading = _Loading(config.home)
        loading.add("local", Local(config))
        for point in sorted(metadata.entry_points(group=_GROUP), key=lambda point: point.name):
            loading.add_entry_point(point)
        loading.add("registry", Registry(config))
        return cls(tuple(loading.infos), tuple(loading.sources))


class _Loading:
    def __init__(self, home: Path) -> None:
        self._home = home
        self._manager = pluggy.PluginManager(_GROUP)
        self._manager.add_hookspecs(hookspecs)
        self.infos: list[PluginInfo] = []
        self.sources: list[ImageSource] = []

    def add(self, name: str, plugin: object) -> None:
        sources = self._register(name, plugin)
        self.sources += sources
        self.infos.append(PluginInfo(name=name, version="", origin="built in", provides=_provided(sources)))

    def add_entry_point(self, point: metadata.EntryPoint) -> None:
        about = PluginInfo(
            name=point.name,
            version=point.dist.version if point.dist else "",
            origin=f"{point.dist.name} ({point.value})" if point.dist else point.value,
        )
        try:
            sources = [_Guarded(source, point.name) for source in self._register(point.name, point.load())]
            about = attrs.evolve(about, provides=_provided(sources))
        except (Exception, SystemExit) as error:  # noqa: BLE001  # what a plugin does must not break who does not use it
            about = attrs.evolve(about, error=_words(error))
            sources = []
        self.sources += sources
        self.infos.append(about)

    def _register(self, name: str, plugin: object) -> list[ImageSource]:
        self._manager.register(plugin, name)
        try:
            self._refuse_unknown_hooks(plugin)
            others = [other for other in self._manager.get_plugins() if other is not plugin]
            call = self._manager.subset_hook_caller("aegis_image_sources", others)
            return [_checked(source) for answer in call(home=self._home) for source in answer]
        except Exception:
            self._manager.unregister(plugin)
            raise

    def _refuse_unknown_hooks(self, plugin: object) -> None:
        for caller in self._manager.get_hookcallers(plugin) or ():
            if not caller.has_spec():
                raise TypeError(f"it implements {caller.name}, which is no hook of this version")


def _provided(sources: Iterable[ImageSource]) -> tuple[str, ...]:
    return tuple(f"image source {source.name}" for source in sources)


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _checked(source: ImageSource) -> ImageSource:
    missing = [verb for verb in _SOURCE_VERBS if not callable(getattr(source, verb, None))]
    if missing or not isinstance(getattr(source, "name", None), str) or not hasattr(source, "remembers"):
        raise TypeError(f"{source!r} is no image source: it lacks {', '.join(missing) or 'name or remembers'}")
    return source


@attrs.frozen
class _Guarded:
    """A plugin's image source, whose failures of any kind become errors that name the plugin."""

    _source: ImageSource
    _plugin: str

    @property
    def name(self) -> str:
        return self._source.name

    @property
    def remembers(self) -> bool:
        return bool(self._source.remembers)

    def claims(self, reference: str) -> bool:
        try:
            return bool(self._source.claims(reference))
        except Exception as error:  # noqa: BLE001  # who boots another image must not suffer from it
            warnings.warn(f"the plugin {self._plugin} failed: {_words(error)}", RuntimeWarning, stacklevel=2)
            return False

    def canonical(self, reference: str) -> str:
        return str(self._call(lambda: self._source.canonical(reference)))

    def find(self, reference: str, *, architecture: str) -> FoundImage:
        found = self._call(lambda: self._source.find(reference, architecture=architecture))
        if not isinstance(found, FoundImage):
            raise ImageFailed(f"the plugin {self._plugin} gave {found!r} in place of an image")
        return attrs.evolve(found, layers=tuple(_GuardedLayer(layer, self._plugin) for layer in found.layers))

    def check(self) -> tuple[Check, ...]:
        try:
            return tuple(self._source.check())
        except Exception as error:  # noqa: BLE001  # as above
            return (Check(name=self.name, ok=False, seen=_words(error), required=False),)

    def _call(self, call: Callable[[], T]) -> T:
        with _named(self._plugin):
            return call()


@attrs.frozen
class _GuardedLayer:
    _layer: Layer
    _plugin: str

    @property
    def digest(self) -> str:
        return self._layer.digest

    @property
    def size(self) -> int:
        return self._layer.size

    def fetch(self, report: Callable[[int], None]) -> None:
        with _named(self._plugin):
            self._layer.fetch(report)

    def entries(self) -> Iterator[Entry]:
        with _named(self._plugin):
            yield from self._layer.entries()


@contextmanager
def _named(plugin: str) -> Iterator[None]:
    try:
        yield
    except (AegisError, OSError):
        raise
    except Exception as error:
        raise ImageFailed(f"the plugin {plugin} failed: {_words(error)}") from error
