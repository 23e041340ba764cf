"""The doctor's own part: what proves that a guest boots, where there is no image of this machine's own."""

from __future__ import annotations

from typing import Any

import pytest

import aegis_sdk as aegis


class Engine:
    """One that boots nothing, and says which image it was to boot."""

    def __init__(self, *checks: aegis.Check) -> None:
        self.checks = checks

    def check(self) -> tuple[aegis.Check, ...]:
        return self.checks

    def create(self, spec: Any, **_: object) -> aegis.SandboxInfo:
        raise aegis.BootFailed(f"no {spec.image}")


@pytest.mark.parametrize(("ok", "image"), [(True, "base"), (False, "alpine")])
def test_what_is_booted(ok, image):
    """It is this machine's own image, and another one where there can be none."""
    base = aegis.Check(name="base image", ok=ok, seen="", required=False)
    checks = aegis.diagnose(engine=Engine(base))  # type: ignore[arg-type]
    assert (checks[-1].name, checks[-1].seen) == ("boot", f"no {image}")
    assert aegis.diagnose(engine=Engine(base), quick=True) == (base,)  # type: ignore[arg-type]


def test_what_is_missing_is_not_tried():
    """Where something required is missing, nothing is booted."""
    missing = aegis.Check(name="kernel", ok=False, seen="")
    assert aegis.diagnose(engine=Engine(missing)) == (missing,)  # type: ignore[arg-type]
