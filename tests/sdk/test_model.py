"""The values that cross a seam behave as values."""

from __future__ import annotations

import copy
import json
import pickle

import attrs
import pytest

import aegis_sdk as aegis
from aegis_sdk.model import Command, Fixed, TaskSpec

CONFIG = aegis.ImageConfig(env={"A": "1"}, entrypoint=("/bin/x",))


@pytest.mark.parametrize("value", [CONFIG, Command(argv=("x",), env={"A": "1"})])
def test_values_with_mappings_are_values(value):
    """They can be compared, hashed, copied and stored, as all frozen values can."""
    twins = copy.deepcopy(value), pickle.loads(pickle.dumps(value)), attrs.evolve(value)
    assert {value, *twins} == {value}
    assert json.loads(json.dumps(attrs.asdict(value)))["env"] == {"A": "1"}


@pytest.mark.parametrize(
    "change",
    [
        lambda mapping: mapping.__setitem__("B", "2"),
        lambda mapping: mapping.__delitem__("A"),
        lambda mapping: mapping.update(B="2"),
        lambda mapping: mapping.pop("A"),
        lambda mapping: mapping.setdefault("B", "2"),
        Fixed.clear,
        Fixed.popitem,
    ],
)
def test_their_mappings_do_not_change(change):
    """What a frozen value holds is frozen."""
    with pytest.raises(TypeError, match="cannot be changed"):
        change(CONFIG.env)
    assert CONFIG.env == {"A": "1"}


@pytest.mark.parametrize("older_than", ["7d", [], True, -1, float("nan")])
def test_pruning_by_a_time_that_is_none(older_than):
    """A length of time that makes no sense is refused before anything is removed."""
    with pytest.raises(aegis.InvalidValue, match="number of seconds"):
        aegis.Image.prune(older_than=older_than)


@pytest.mark.parametrize("reference", ["", None, 5, "a\0b", "dir:\ud800"])
def test_references_that_are_none(reference):
    """What cannot be a reference is refused, by whatever takes one."""
    for take in (aegis.Image.pull, aegis.Image.get, aegis.Sandbox):
        with pytest.raises(aegis.InvalidValue, match="reference to an image"):
            take(reference)


def test_progress_must_be_called():
    """A progress that nobody could call is refused before anything is pulled."""
    with pytest.raises(aegis.InvalidValue, match="progress"):
        aegis.Image.pull("base", progress=5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "asked",
    [{"command": ("x" * (1 << 20), "y")}, {"command": ("x",), "env": {"A": "y" * (1 << 20)}}],
    ids=["arguments", "environment"],
)
def test_a_task_that_no_guest_takes(asked):
    """A task whose command no guest could take is refused before it is on record."""
    with pytest.raises(aegis.InvalidValue, match="more than 1048576"):
        TaskSpec(**asked)
    TaskSpec(command=("x" * (1 << 20),))
