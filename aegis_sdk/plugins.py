"""The built-in parts and the installed plugins behind the hooks: a broken plugin is listed, and breaks nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path

import attrs
import pluggy

from aegis_sdk import hookspecs
from aegis_sdk.config import Config
from aegis_sdk.guarded import GuardedSource, WrongError, words
from aegis_sdk.hookspecs import hookimpl
from aegis_sdk.images import builtin
from aegis_sdk.images.base import ImageSource
from aegis_sdk.model import PluginInfo

_GROUP = "aegis"


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
        self._loaded: list[tuple[object, str]] = []
        self.infos: list[PluginInfo] = []
        self.sources: list[ImageSource] = []

    def add(self, name: str, plugin: object) -> None:
        sources = self._sources_of(plugin)
        self._note(PluginInfo(name=name, version="", origin="built in"), sources)

    def add_entry_point(self, point: metadata.EntryPoint) -> None:
        about = PluginInfo(
            name=point.name,
            version=(point.dist and point.dist.version) or "",
            origin=f"{point.dist.name} ({point.value})" if point.dist else point.value,
        )
        try:
            found = self._sources_of(self._load(point, about))
            sources = [GuardedSource.of(source, plugin=point.name) for source in found]
        except (Exception, SystemExit) as error:  # noqa: BLE001  # what a plugin does must not break who does not use it
            about, sources = attrs.evolve(about, error=words(error)), []
        self._note(about, sources)

    def _note(self, about: PluginInfo, sources: Sequence[ImageSource]) -> None:
        self.sources += sources
        provided = tuple(f"image source {source.name}" for source in sources)
        self.infos.append(attrs.evolve(about, provides=provided))

    def _load(self, point: metadata.EntryPoint, about: PluginInfo) -> object:
        plugin = point.load()
        for other, name in self._loaded:
            if other is plugin:
                raise WrongError(f"it is loaded already, as {name}: one entry point for it is enough")
        if isinstance(plugin, type):
            raise WrongError(f"{point.value} is a class: an entry point names a module, or an instance of a class")
        self._loaded.append((plugin, f"{about.name} of {about.origin}"))
        return plugin

    def _sources_of(self, plugin: object) -> list[ImageSource]:
        # Each has a manager of its own: they would share their names, and what one is would break calls of another.
        manager = pluggy.PluginManager(_GROUP)
        manager.add_hookspecs(hookspecs)
        manager.register(plugin)
        implemented = manager.get_hookcallers(plugin)
        if not implemented:
            raise WrongError("it implements no hook (is @aegis.hookimpl missing?)")
        for caller in implemented:
            if not caller.has_spec():
                raise WrongError(f"it implements {caller.name}, which is no hook of this version")
        answers = manager.hook.aegis_image_sources(home=self._home)
        if not answers:
            raise WrongError("its aegis_image_sources returns None, not image sources")
        return [source for answer in answers for source in answer]
