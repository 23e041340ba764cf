"""The guard around a plugin's image sources: nothing wrong gets past it, and what is wrong names the plugin."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest

import aegis_sdk as aegis
from aegis_sdk.guarded import GuardedSource, WrongError

DIGEST = "sha256:" + 64 * "a"
FILE = aegis.Entry(path=b"f", kind=aegis.Kind.FILE, content=[b"a", b"bc"], size=3)


def _raise(error: BaseException) -> Any:
    raise error


@attrs.frozen(kw_only=True)
class Sheet:
    """A layer of one entry, unless it is told otherwise."""

    digest: Any = DIGEST
    size: Any = 3
    entry: Any = FILE
    on_fetch: Callable[[Callable[[Any], None]], None] = attrs.field(default=lambda report: report(3))

    def fetch(self, report):
        self.on_fetch(report)

    def entries(self):
        yield self.entry


@attrs.frozen(kw_only=True)
class Shelf:
    """An image source that gives, and does, what it is told."""

    on_find: Callable[[], Any]
    name: str = "shelf"
    remembers: bool = False
    on_claims: Callable[[], Any] = lambda: True
    on_canonical: Callable[[], Any] = lambda: "shelf:x"
    on_check: Callable[[], Any] = tuple

    def claims(self, _reference):
        return self.on_claims()

    def canonical(self, _reference):
        return self.on_canonical()

    def find(self, _reference, *, architecture):  # noqa: ARG002  # it is what it was told to be
        return self.on_find()

    def check(self):
        return self.on_check()


def _image(**members: Any) -> aegis.FoundImage:
    plain = {"reference": "shelf:x", "digest": DIGEST, "architecture": "amd64", "config": aegis.ImageConfig()}
    return aegis.FoundImage(**{**plain, "layers": (Sheet(),), **members})


def _guarded(give: object = None, **members: Any) -> GuardedSource:
    return GuardedSource.of(Shelf(on_find=lambda: give, **members), plugin="mine")


def _made(give: object, report: Callable[[int], None] = lambda _: None) -> list[bytes]:
    """What the files of the image hold, after all that is done with an image."""
    found = _guarded(give).find("shelf:x", architecture="amd64")
    held = []
    for layer in found.layers:
        layer.fetch(report)
        held += [b"".join(entry.content) for entry in layer.entries()]
    return held


def test_what_is_right_passes():
    """An image that is as it should be comes through the guard as it is."""
    found = _guarded(_image(pinned="shelf:y", blobs=(DIGEST,))).find("shelf:x", architecture="amd64")
    assert attrs.evolve(found, layers=()) == _image(pinned="shelf:y", blobs=(DIGEST,), layers=())
    assert [(layer.digest, layer.size) for layer in found.layers] == [(DIGEST, 3)]
    assert _made(_image()) == [b"abc"]


def _config(**members: Any) -> aegis.FoundImage:
    return _image(config=aegis.ImageConfig(**members))


def _layer(**members: Any) -> aegis.FoundImage:
    return _image(layers=(Sheet(**members),))


def _entry(**members: Any) -> aegis.FoundImage:
    return _layer(entry=attrs.evolve(FILE, **members))


WRONG = {
    "no image": (None, "None"),
    "digest": (_image(digest=5), "FoundImage.digest"),
    "form of digest": (_image(digest="latest"), "latest"),
    "reference": (_image(reference=None), "FoundImage.reference"),
    "architecture": (_image(architecture=None), "FoundImage.architecture"),
    "created": (_image(created=5), "FoundImage.created"),
    "pinned": (_image(pinned=b"shelf:x"), "FoundImage.pinned"),
    "NUL": (_image(pinned="shelf:\0"), "FoundImage.pinned"),
    "surrogate": (_image(pinned="shelf:\ud800"), "FoundImage.pinned"),
    "blobs": (_image(blobs=("../x",)), "../x"),
    "config": (_image(config=None), "FoundImage.config"),
    "cwd": (_config(cwd=None), "ImageConfig.cwd"),
    "user": (_config(user=0), "ImageConfig.user"),
    "env": (_config(env={"A": 5}), "ImageConfig.env"),
    "names in env": (_config(env={5: "A"}), "ImageConfig.env"),
    "entrypoint": (_config(entrypoint="sh"), "ImageConfig.entrypoint"),
    "command": (_config(command=("sh", 5)), "ImageConfig.command"),
    "layers": (_image(layers=None), "FoundImage.layers"),
    "no layer": (_image(layers=("a",)), "'a' is no layer: it lacks digest"),
    "layer's digest": (_layer(digest=5), "Layer.digest"),
    "layer's digest of two lines": (_layer(digest="a\nb"), "Layer.digest"),
    "layer's size": (_layer(size=-1), "Layer.size"),
    "layer's size is text": (_layer(size="3"), "Layer.size"),
    "fetch": (_layer(on_fetch=lambda report: report("all")), "'all'"),
    "no entry": (_layer(entry=5), "5"),
    "path": (_entry(path="f"), "Entry.path"),
    "kind": (_entry(kind="file"), "Entry.kind"),
    "target": (_entry(target="f"), "Entry.target"),
    "size": (_entry(size=None), "Entry.size"),
    "device": (_entry(device=5), "Entry.device"),
    "device of three": (_entry(device=(1, 2, 3)), "Entry.device"),
    "metadata": (_entry(metadata=None), "Entry.metadata"),
    "owner": (_entry(metadata=aegis.Metadata(uid="root")), "Metadata.uid"),  # type: ignore[arg-type]
    "attributes": (_entry(metadata=aegis.Metadata(xattrs={b"user.a": "a"})), "Metadata.xattrs"),  # type: ignore[dict-item]
    "content": (_entry(content=["abc"]), "b'f' must be bytes"),
    "more content": (_entry(size=2), "b'f' has a size of 2 bytes, but more of content"),
    "less content": (_entry(size=10), "b'f' has a size of 10 bytes, but 3 of content"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_value(what):
    """A value of a wrong type or size is refused when it is given, with the plugin's name and what it should be."""
    give, seen = WRONG[what]
    with pytest.raises(aegis.ImageInvalid, match=f"the plugin mine failed: .*{re.escape(seen)}"):
        _made(give)


def _failing(error: BaseException) -> Iterator[bytes]:
    yield b"a"
    raise error


@pytest.mark.parametrize("error", [KeyError("boo"), OSError(28, "boo"), SystemExit("boo")])
def test_whatever_is_raised(error):
    """An exception of any kind, in any of its functions, becomes the error that the plugin failed."""
    failing = [
        lambda: _guarded(on_canonical=lambda: _raise(error)).canonical("shelf:x"),
        lambda: GuardedSource.of(Shelf(on_find=lambda: _raise(error)), plugin="mine").find("x", architecture="amd64"),
        lambda: _made(_layer(on_fetch=lambda _: _raise(error))),
        lambda: _made(_entry(content=_failing(error))),
        lambda: _made(_entry(content=map(_raise, [error]))),
    ]
    for call in failing:
        with pytest.raises(aegis.ImageFailed, match=r"the plugin mine failed: .*boo") as caught:
            call()
        assert caught.value.__cause__ is error
    with pytest.warns(RuntimeWarning, match="the plugin mine failed: .*boo"):
        assert not _guarded(on_claims=lambda: _raise(error)).claims("shelf:x")


def test_its_own_errors_stay():
    """An error of Aegis that a plugin raises is what its caller gets."""
    error = aegis.ImageNotFound("there is none")
    with pytest.raises(aegis.ImageNotFound, match=r"^there is none$"):
        GuardedSource.of(Shelf(on_find=lambda: _raise(error)), plugin="mine").find("x", architecture="amd64")


class Cancelled(BaseException):
    pass


@pytest.mark.parametrize("error", [OSError("no terminal"), SystemExit(3), KeyError("theirs"), Cancelled()])
def test_what_its_caller_raises_passes(error):
    """What the caller's own progress raises goes through the plugin, and is not taken for its failure."""
    with pytest.raises(type(error)) as caught:
        _made(_image(), lambda _: _raise(error))
    assert caught.value is error


@pytest.mark.parametrize("full", [None, 5, "", "a\0b"])
def test_a_wrong_canonical_reference(full):
    """What is no text that can be kept is no reference."""
    with pytest.raises(aegis.ImageInvalid, match="the plugin mine failed: canonical"):
        _guarded(on_canonical=lambda: full).canonical("shelf:x")


def test_another_architecture():
    """An image for other machines is refused before anything is made of it, in the words that all sources use."""
    with pytest.raises(aegis.ArchitectureNotFound) as caught:
        _made(_image(architecture="arm64"))
    assert str(caught.value) == "no linux/amd64 variant found in shelf:x (has: linux/arm64)"


@pytest.mark.parametrize("checks", [5, [None], [aegis.Check(name="x", ok=True, seen=5)], [("x", True, "")]])  # type: ignore[arg-type]
def test_checks_that_are_none(checks):
    """What a plugin says of this machine, and is no check, is itself a failed check, of something not required."""
    (check,) = _guarded(on_check=lambda: checks).check()
    assert (check.name, check.ok, check.required) == ("shelf", False, False)
    assert check.seen.startswith("the plugin mine failed: ")


def test_a_check_that_exits():
    """Nor does a plugin that wants to end the process end the doctor."""
    (check,) = _guarded(on_check=lambda: sys.exit(3)).check()
    assert check.seen == "the plugin mine failed: SystemExit: 3"


def test_a_plugins_checks_are_not_required():
    """What a plugin needs is not needed to boot a guest."""
    given = aegis.Check(name="server", ok=False, seen="none", fix="start it")
    assert _guarded(on_check=lambda: [given]).check() == (attrs.evolve(given, required=False),)


@pytest.mark.parametrize(
    ("source", "seen"),
    [
        (Shelf, "Shelf is a class"),
        (5, "5 is no image source: it lacks name, remembers, claims"),
        (Shelf(on_find=tuple, name=5), "its name is 5"),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_source(source, seen):
    """What cannot be an image source is refused in words that say why."""
    with pytest.raises(WrongError, match=seen):
        GuardedSource.of(source, plugin="mine")
