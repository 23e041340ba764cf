"""A router, and apps for it to serve."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from aegis_sdk.routing.limits import Limits
from aegis_sdk.routing.router import Router
from aegis_sdk.routing.rule import BuiltInRule
from tests.sdk.routing.apps import World


@pytest.fixture
def world(tmp_path) -> Iterator[World]:
    """Apps that a test adds."""
    world = World(tmp_path)
    yield world
    world.close()


@pytest.fixture
def route(world) -> Iterator[Callable[..., Router]]:
    """Starts routers of the test's apps, which end with the test."""
    started: list[Router] = []

    def route(*, policies=(), names=(), **limits) -> Router:
        rules = (BuiltInRule(), *policies)
        started.append(Router(world, policies=rules, port=0, names=names, limits=Limits(**limits)))
        return started[-1]

    yield route
    for router in started:
        router.close()


@pytest.fixture
def router(route):
    """A router of the test's apps."""
    return route()
