"""JSON that is none, and JSON that may be anything: the documents of an image, or one of Aegis's errors."""

import json
import sys
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aegis_sdk.errors import AegisError, ImageInvalid
from aegis_sdk.images.documents import parse
from aegis_sdk.images.manifest import Content, Descriptor, configuration, find
from tests.sdk.image_blobs import CONFIG, EMPTY, INDEX, LAYER, MANIFEST, Shelf, digest, index, platform


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"null",
        b"\xff\xfe{}",
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": 1, "a": 2}',
        b'{"a": ' + b"9" * 5000 + b"}",
        b"[" * 1_000_000,
        b'{"a":' * 100_000,
        b'{"a": 1} x',
        b"\xef\xbb\xbf{}",
    ],
    ids=lambda data: repr(data[:20]),
)
def test_broken_json(data):
    """JSON that is none, is nested without end or says a thing twice is refused."""
    with pytest.raises(ImageInvalid, match="WHAT is no JSON"):
        parse(data, "WHAT")


def test_deep_json_in_a_deep_stack():
    """Where the stack is nearly used up, a document is refused, and the caller survives."""

    def dive(depth):
        return dive(depth - 1) if depth else parse(b'{"a":' * 900 + b"1" + b"}" * 900, "WHAT")

    with pytest.raises((ImageInvalid, RecursionError)):
        dive(sys.getrecursionlimit() // 2)


WORDS = ["schemaVersion", "mediaType", "manifests", "layers", "config", "digest", "size", "platform", "rootfs", "os"]
WORDS += ["diff_ids", "architecture", "variant", "annotations", "artifactType", "Env", "Cmd", "created", "fsLayers"]
VALUES = st.sampled_from([2, INDEX, MANIFEST, CONFIG, LAYER, "linux", "amd64", digest(b""), 0, None, [], {}])
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | VALUES,
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(WORDS) | st.text(), inner),
    max_leaves=12,
)
OBJECTS = st.dictionaries(st.sampled_from(WORDS), ANY, min_size=1, max_size=6)


def attempt(call):
    """What *call* gives, None where it raises one of Aegis's errors, whose message is for a terminal."""
    refusals = []
    with suppress(AegisError):
        try:
            return call()
        except AegisError as error:
            refusals.append(error.message)
            raise
    assert all(message.isprintable() for message in refusals)
    return None


def test_long_names_in_messages():
    """A name that goes on and on is cut where it is told."""
    with pytest.raises(ImageInvalid) as caught:
        parse(json.dumps({"annotations": {"x" * 100_000: 1}}).encode(), "WHAT").pairs("annotations")
    assert len(str(caught.value)) < 300


@settings(deadline=None, max_examples=100)
@given(OBJECTS, OBJECTS, st.sampled_from(["", INDEX, MANIFEST, "text/html"]))
def test_any_document(top, below, media_type):
    """Whatever JSON an image consists of, it is an image or one of Aegis's errors."""
    data = json.dumps(below).encode()

    def get(descriptor: Descriptor) -> bytes:
        return data

    attempt(lambda: find("NAME", Content(json.dumps(top).encode(), media_type), get, architecture="amd64"))


def places(value):
    """Every object and list in *value*, with each of its keys."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from places(value[key])


@settings(deadline=None, max_examples=200)
@given(st.sampled_from(["config", "manifest", "index"]), st.integers(0), ANY)
def test_any_change(which, number, value):
    """Whatever stands in one place of an image's documents, it is an image or one of Aegis's errors."""
    shelf = Shelf()
    defaults = {"Env": ["A=1"], "Cmd": ["a"], "Entrypoint": ["b"], "User": "c", "WorkingDir": "d"}
    documents = {"config": shelf.config(layers=[EMPTY], created="x", config=defaults)}

    def change(name):
        if name == which:
            found = list(places(documents[name]))
            container, key = found[number % len(found)]
            container[key] = value
        return documents[name]

    documents["manifest"] = shelf.manifest(config=change("config"))
    documents["index"] = index({**shelf.put(change("manifest"), MANIFEST), "platform": platform("linux/amd64")})
    top = json.dumps(change("index")).encode()
    attempt(lambda: find("NAME", Content(top), lambda asked: shelf.blobs.get(asked.digest, b""), architecture="amd64"))


@settings(deadline=None, max_examples=100)
@given(OBJECTS)
def test_any_config(content):
    """Whatever JSON a config is, it is a config or one of Aegis's errors."""
    said = attempt(lambda: configuration(json.dumps(content).encode(), "WHAT"))
    assert said is None or all("=" not in name and name for name in said.config.env)


@settings(deadline=None, max_examples=100)
@given(st.binary() | st.text().map(str.encode) | ANY.map(lambda value: json.dumps(value).encode()))
def test_any_bytes(data):
    """Whatever bytes a document is, it is an object or one of Aegis's errors."""
    attempt(lambda: parse(data, "WHAT"))
