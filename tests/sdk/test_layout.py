"""Images in OCI layouts, made by other tools or by somebody who means harm."""

import json
import os
import subprocess

import pytest

from aegis_sdk.errors import ArchitectureNotFound, ImageFailed, ImageInvalid, ImageNotFound, InvalidValue
from aegis_sdk.images.local.layout import OciLayout
from tests.sdk.image_blobs import EMPTY, INDEX, MANIFEST, Shelf, digest, index, tagged, tar, unprivileged

SOURCE = OciLayout()


@pytest.fixture
def shelf():
    return Shelf()


@pytest.fixture
def place(tmp_path):
    return tmp_path / "layout"


def found(reference, architecture="amd64"):
    return SOURCE.find(str(reference), architecture=architecture)


def read(image):
    """Fetch and read all layers; the names of what is in each."""
    for layer in image.layers:
        seen: list[int] = []
        layer.fetch(seen.append)
        assert seen[-1] == layer.size
    return [[entry.path for entry in layer.entries()] for layer in image.layers]


def test_real_layout(place, tmp_path):
    """A layout made by umoci is found by its tags, and read with its defaults and layers."""
    (tmp_path / "layer.tar").write_bytes(tar(hello=b"hello"))
    for command in (
        ["init", "--layout", str(place)],
        ["new", "--image", f"{place}:one"],
        ["raw", "add-layer", "--image", f"{place}:one", "--tag", "two", str(tmp_path / "layer.tar")],
        ["config", "--image", f"{place}:two", "--config.env", "A=1", "--config.cmd", "/hello", "--config.user", "7"],
    ):
        subprocess.run(["umoci", *command], check=True, capture_output=True, timeout=15)
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
    assert found(f"oci:{place}:one", architecture).layers == ()
    image = found(f"oci:{place}:two", architecture)
    assert read(image) == [[b"hello"]]
    assert (dict(image.config.env), image.config.command, image.config.user) == ({"A": "1"}, ("/hello",), "7")
    assert image.created
    with pytest.raises(ImageNotFound, match=r"there are 2 images to choose from in .*tags: 'one', 'two'"):
        found(f"oci:{place}", architecture)


def test_reference(place, shelf, monkeypatch):
    """A reference becomes absolute, and what it pins stays the same image when the tag moves on."""
    assert SOURCE.claims("oci:x")
    assert not SOURCE.claims("ocix")
    first = shelf.image()
    shelf.layout(place, tagged(first, "v1"))
    monkeypatch.chdir(place.parent)
    assert SOURCE.canonical("oci:layout/:v1") == f"oci:{place}:v1"
    assert SOURCE.canonical("oci:./layout") == f"oci:{place}"
    assert SOURCE.canonical("oci:gone:v1") == f"oci:{place.parent}/gone:v1"
    image = found("oci:layout")
    assert image.pinned == f"oci:{place}@{first['digest']}"
    assert (image.reference, image.digest) == (f"oci:{place}", first["digest"])
    (place / "index.json").write_text(json.dumps(index()))
    assert SOURCE.canonical(image.pinned) == image.pinned
    assert found(image.pinned).digest == first["digest"]
    with pytest.raises(ImageNotFound, match="there is no sha256:0000"):
        found(f"oci:{place}@sha256:{'0' * 64}")


@pytest.mark.parametrize("reference", ["oci:", "oci:a\0b"])
def test_no_path(reference):
    """A reference without a path is refused."""
    with pytest.raises(InvalidValue, match="names no path"):
        SOURCE.canonical(reference)


def test_colons_in_the_path(place, shelf, tmp_path):
    """Colons may be part of the directory; the longest directory that is there is meant."""
    shelf.layout(tmp_path / "a:b", tagged(shelf.image(), "c:d"))
    assert found(f"oci:{tmp_path}/a:b:c:d").layers
    (tmp_path / "a:b:c").mkdir()
    with pytest.raises(ImageNotFound, match=r"no OCI layout at .*a:b:c"):
        found(f"oci:{tmp_path}/a:b:c:d")


def test_what_is_not_there(place, shelf):
    """A directory, layout, tag or architecture that is not there is said to be missing, with what is there instead."""
    with pytest.raises(ImageNotFound, match="no OCI layout at"):
        found(f"oci:{place}")
    shelf.layout(place, tagged(shelf.image("linux/arm64"), "v1"))
    with pytest.raises(ImageNotFound, match=r"no image with the tag 'v2' .*\(tags: 'v1'\)"):
        found(f"oci:{place}:v2")
    with pytest.raises(ArchitectureNotFound, match=r"no linux/amd64 variant found in oci:.*:v1 \(has: linux/arm64\)"):
        found(f"oci:{place}:v1")
    (place / "index.json").write_text(json.dumps(index()))
    with pytest.raises(ImageNotFound, match="0 images"):
        found(f"oci:{place}")


def test_one_tag_for_several_platforms(place, shelf):
    """Images of one tag are its variants, whether an index of their own holds them or not."""
    entries = [shelf.variant("linux/arm64"), shelf.variant("linux/amd64")]
    inner = shelf.put(index(*entries), INDEX)
    shelf.layout(place, *(tagged(entry, "flat") for entry in entries), tagged(inner, "nested"))
    for tag in ("flat", "nested"):
        assert found(f"oci:{place}:{tag}").digest == entries[1]["digest"]
        assert found(f"oci:{place}:{tag}", "arm64").digest == entries[0]["digest"]


def test_layers_that_lie(place, shelf):
    """A layer that is not what its digest, size or DiffID say is refused, when it is fetched or when it is read."""
    layer = tar(name=b"content")
    manifest = shelf.manifest(layers=(layer,), config=shelf.config(layers=(tar(),)))
    short = json.loads(json.dumps(manifest))
    short["layers"][0]["size"] -= 1
    shelf.layout(place, tagged(shelf.put(manifest, MANIFEST), "id"), tagged(shelf.put(short, MANIFEST), "size"))
    with pytest.raises(ImageInvalid, match="is not what its digest and size"):
        read(found(f"oci:{place}:size"))
    image = found(f"oci:{place}:id")
    with pytest.raises(ImageInvalid, match="is not what its digest"):
        read(image)
    (place / "blobs/sha256" / digest(layer)[7:]).write_bytes(tar(name=b"CONTENT"))
    with pytest.raises(ImageInvalid, match="is not what its digest and size"):
        read(image)


@pytest.mark.parametrize(
    "version", ['{"imageLayoutVersion": "2.0.0"}', "{}", "[]", "x" * 5000, '{"imageLayoutVersion": 1}']
)
def test_version(place, shelf, version):
    """A layout of another version, or whose version cannot be read, is refused."""
    shelf.layout(place, shelf.image())
    (place / "oci-layout").write_text(version)
    with pytest.raises(ImageInvalid, match=r"oci-layout|version"):
        found(f"oci:{place}")


@pytest.mark.parametrize("at", ["oci-layout", "index.json", "manifest", "config", "layer", "blobs/sha256", "blobs"])
@pytest.mark.parametrize("kind", ["link", "fifo", "gone", "directory"])
def test_nothing_but_regular_files(place, shelf, at, kind):
    """Links out of a layout are not followed, fifos not waited for, whatever they stand in place of."""
    layer = tar(secret=b"secret")
    manifest = shelf.manifest(layers=(layer,))
    shelf.layout(place, shelf.put(manifest, MANIFEST))
    blobs = {"manifest": digest(json.dumps(manifest).encode()), "config": manifest["config"]["digest"]}
    blobs["layer"] = digest(layer)
    path = place / (f"blobs/{blobs[at].replace(':', '/')}" if at in blobs else at)
    moved = path.rename(place.parent / "outside")
    if kind == "link":
        path.symlink_to(moved)
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    with pytest.raises((ImageInvalid, ImageNotFound)):
        read(found(f"oci:{place}"))


@pytest.mark.parametrize("name", ["sha256:../../../outside", "sha256:" + "../" * 21 + "x", "../outside:" + "0" * 64])
def test_digest_as_path(place, shelf, name):
    """A digest that would lead out of the layout is none."""
    (place.parent / "outside").write_bytes(EMPTY)
    manifest = shelf.manifest()
    manifest["layers"][0]["digest"] = name
    shelf.layout(place, shelf.put(manifest, MANIFEST))
    with pytest.raises(ImageInvalid, match="is no digest"):
        found(f"oci:{place}")


def test_huge_documents(place, shelf):
    """An index too large to be one is refused before it is read whole."""
    shelf.layout(place, shelf.image())
    with (place / "index.json").open("r+b") as file:
        file.truncate(1 << 40)
    with pytest.raises(ImageInvalid, match="larger than"):
        found(f"oci:{place}")


def test_layer_that_grows(place, shelf):
    """A layer's file that is larger than was said is refused, and no byte beyond that is counted on."""
    layer = tar(name=b"content")
    shelf.layout(place, shelf.image(layers=(layer,)))
    with (place / "blobs/sha256" / digest(layer)[7:]).open("ab") as file:
        file.write(bytes(1024))
    with pytest.raises(ImageInvalid, match="is not what its digest and size"):
        read(found(f"oci:{place}"))


def test_unreadable_blob(place, shelf):
    """A file that this user may not read is no broken image, but one to be made readable."""
    shelf.layout(place, shelf.image())
    (place / "index.json").chmod(0)
    with unprivileged(place), pytest.raises(ImageFailed, match="cannot be read: Permission denied") as caught:
        found(f"oci:{place}")
    assert "readable" in caught.value.hint
