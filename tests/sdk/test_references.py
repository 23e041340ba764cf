"""The records of images: what is written can be read, and what can be read is as it says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aegis_sdk.images.references import Record, References
from aegis_sdk.model import ImageConfig, LayerInfo

DIGEST = "sha256:" + 64 * "a"


@pytest.fixture
def record() -> Record:
    """A record that has something of everything."""
    return Record(
        reference="shelf:x",
        pinned="shelf:y",
        digest=DIGEST,
        architecture="amd64",
        config=ImageConfig(env={"A": "a"}, cwd="/tmp", user="me", entrypoint=("sh",), command=("-c", "true")),
        created="2026-01-01T00:00:00Z",
        layers=(LayerInfo(digest=DIGEST, size=1),),
        blobs=(DIGEST,),
        disk=64 * "0",
        pulled=1.5,
    )


def test_a_record_comes_back(tmp_path, record):
    """What was kept of an image is found again by its reference."""
    references = References(tmp_path)
    references.put(record)
    assert references.get("shelf:x") == record
    assert list(references.all()) == [record]


WRONG = {
    "reference": 5,
    "pinned": None,
    "digest": 5,
    "architecture": ["amd64"],
    "created": 0,
    "disk": 5,
    "pulled": "today",
    "blobs": [5],
    "layers": [5],
}
WRONG_CONFIG = {"env": {"A": 5}, "cwd": None, "user": 0, "entrypoint": "sh", "command": [5]}
CASES = [
    *WRONG.items(),
    *(("config", {name: value}) for name, value in WRONG_CONFIG.items()),
    ("config", {"env": [["A", "a"]]}),
    ("layers", [{"digest": 5, "size": 1}]),
    ("layers", [{"digest": DIGEST, "size": "1"}]),
    ("layers", [{"digest": DIGEST, "size": -1}]),
    ("pulled", float("nan")),
]


@pytest.mark.parametrize(("name", "value"), CASES, ids=str)
def test_a_record_of_wrong_types_is_none(tmp_path, record, name, value):
    """A record that holds a value of another type than it should, from wherever, is as good as none."""
    references = References(tmp_path)
    references.put(record)
    (path,) = Path(tmp_path).glob("*.json")
    plain = json.loads(path.read_text())
    plain[name] = {**plain[name], **value} if isinstance(value, dict) else value
    path.write_text(json.dumps(plain))
    assert references.get("shelf:x") is None
    assert list(references.all()) == []
