"""The built-in parts and the installed plugins behind the hooks: a broken plugin is listed, and breaks nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any  # what a plugin gives is anything, until it has been looked at

import attrs
import pluggy

from aegis_sdk import hookspecs
from aegis_sdk.config import Config
from aegis_sdk.guarded import GuardedPolicy, GuardedSource, WrongError, words
from aegis_sdk.hookspecs import hookimpl
from aegis_sdk.images import builtin
from aegis_sdk.images.base import ImageSource
from aegis_sdk.model import PluginInfo
from aegis_sdk.routing.base import RoutingPolicy
from aegis_sdk.routing.rule import BuiltInRule

_GROUP = "aegis"


@attrs.frozen
class Local:
    """The built-in plugin of the images that are on this machine."""

    _config: Config

    @hookimpl
    def aegis_image_sources(self) -> Iterable[ImageSource]:
        return tuple(builtin.local(scheme, self._config) for scheme in builtin.SCHEMES)


@attrs.frozen
class Routing:
    """The built-in plugin of the rule by which requests find their app."""

    @hookimpl
    def aegis_routing_policies(self) -> Iterable[RoutingPolicy]:
        return (BuiltInRule(),)


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
    routing_policies: tuple[RoutingPolicy, ...]

    @classmethod
    def load(cls, config: Config) -> Plugins:
        """Everything built in and installed; what fails to load says so in its info."""
        loading = _Loading(config.home)
        loading.add("local", Local(config))
        loading.add("routing", Routing())
        for point in sorted(metadata.entry_points(group=_GROUP), key=lambda point: point.name):
            loading.add_entry_point(point)
        loading.add("registry", Registry(config))
        return cls(tuple(loading.infos), tuple(loading.sources), tuple(loading.policies))


@attrs.frozen
class _Provided:
    """What a plugin gives."""

    sources: Sequence[ImageSource] = ()
    policies: Sequence[RoutingPolicy] = ()

    def guarded(self, plugin: str) -> _Provided:
        return _Provided(
            [GuardedSource.of(source, plugin=plugin) for source in self.sources],
            [GuardedPolicy.of(policy, plugin=plugin) for policy in self.policies],
        )


class _Loading:
    def __init__(self, home: Path) -> None:
        self._home = home
        self._loaded: list[tuple[object, str]] = []
        self.infos: list[PluginInfo] = []
        self.sources: list[ImageSource] = []
        self.policies: list[RoutingPolicy] = []

    def add(self, name: str, plugin: object) -> None:
        self._note(PluginInfo(name=name, version="", origin="built in"), self._provided_by(plugin))

    def add_entry_point(self, point: metadata.EntryPoint) -> None:
        about = PluginInfo(
            name=point.name,
            version=(point.dist and point.dist.version) or "",
            origin=f"{point.dist.name} ({point.value})" if point.dist else point.value,
        )
        try:
            provided = self._provided_by(self._load(point, about)).guarded(point.name)
        except (Exception, SystemExit) as error:  # noqa: BLE001  # what a plugin does must not break who does not use it
            about, provided = attrs.evolve(about, error=words(error)), _Provided()
        self._note(about, provided)

    def _note(self, about: PluginInfo, provided: _Provided) -> None:
        self.sources += provided.sources
        self.policies += provided.policies
        sources = (f"image source {source.name}" for source in provided.sources)
        policies = (f"routing policy {policy.name}" for policy in provided.policies)
        self.infos.append(attrs.evolve(about, provides=(*sources, *policies)))

    def _load(self, point: metadata.EntryPoint, about: PluginInfo) -> object:
        plugin = point.load()
        for other, name in self._loaded:
            if other is plugin:
                raise WrongError(f"it is loaded already, as {name}: one entry point for it is enough")
        if isinstance(plugin, type):
            raise WrongError(f"{point.value} is a class: an entry point names a module, or an instance of a class")
        self._loaded.append((plugin, f"{about.name} of {about.origin}"))
        return plugin

    def _provided_by(self, plugin: object) -> _Provided:
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
        names = {caller.name for caller in implemented}
        return _Provided(
            self._answers(manager, "aegis_image_sources", "image sources", names=names),
            self._answers(manager, "aegis_routing_policies", "routing policies", names=names),
        )

    def _answers(self, manager: pluggy.PluginManager, name: str, what: str, *, names: set[str]) -> list[Any]:
        """What the hook *name* gives, if it is implemented, as *names* are."""
        if name not in names:
            return []
        answers = getattr(manager.hook, name)(home=self._home)
        if not answers:
            raise WrongError(f"its {name} returns None, not {what}")
        return [each for answer in answers for each in answer]
