"""Files that are made once are whole or not there, however this system writes them."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO

import pytest

from aegis_sdk import artifacts
from aegis_sdk.artifacts import Artifacts


@pytest.fixture(params=["without a name", "named"])
def here(request, tmp_path, monkeypatch):
    """A directory, written to in Linux's way, and in everybody's."""
    if request.param == "named":
        monkeypatch.setattr(artifacts, "_write", lambda path, _directory, make: artifacts._write_named(path, make))
    return Artifacts(tmp_path / "data" / "images")


def test_made_once(here):
    """A file is made by one of all who want it, cannot be written to, and nothing else is left beside it."""
    made = []

    def make(out: BinaryIO) -> None:
        made.append(out)
        out.write(b"whole")

    with ThreadPoolExecutor(8) as pool:
        paths = set(pool.map(lambda _: here.get("x", make), range(16)))
    (path,) = paths
    assert len(made) == 1
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"whole", 0o444)
    assert os.listdir(here.directory) == ["x"]


def test_a_making_that_fails(here):
    """A file whose making failed is not there, and the next one makes it."""

    def fail(out: BinaryIO) -> None:
        out.write(b"half")
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        here.get("x", fail)
    assert os.listdir(here.directory) == []
    assert here.get("x", lambda out: out.write(b"whole") and None).read_bytes() == b"whole"
