"""Images in files of docker save, made by other tools or by somebody who means harm."""

import gzip
import io
import json
import os
import subprocess
import sys
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aegis_sdk.errors import AegisError, ArchitectureNotFound, ImageFailed, ImageInvalid, ImageNotFound
from aegis_sdk.images.local import archive
from aegis_sdk.images.local.archive import DockerArchive
from aegis_sdk.images.manifest import configuration
from tests.sdk.image_blobs import Shelf, digest, tagged, tar, unprivileged

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

LAYERS = (tar(a=b"1"), tar(b=b"2" * 100_000))


@pytest.fixture
def source(tmp_path):
    return DockerArchive(tmp_path / "work")


@pytest.fixture
def place(tmp_path):
    return tmp_path / "image.tar"


def config(words="linux/amd64", layers=LAYERS, **more):
    return json.dumps(Shelf().config(words, layers=layers, **more)).encode()


def manifest(*images):
    """The content of manifest.json."""
    names = ("Config", "RepoTags", "Layers")
    return json.dumps([dict(zip(names, image, strict=True)) for image in images]).encode()


def saved(*, content=None, names=("app:latest",), layers=LAYERS):
    """The members of an archive of one image, as Docker 25 and later write it."""
    data = config(layers=layers) if content is None else content
    blobs = {f"blobs/sha256/{digest(blob)[7:]}": blob for blob in (data, *layers)}
    first, *others = blobs
    return {**blobs, "manifest.json": manifest((first, names, others))}


def found(source, place, name="", architecture="amd64"):
    return source.find(f"docker-archive:{place}" + (f":{name}" if name else ""), architecture=architecture)


def read(image):
    return [[(entry.path, b"".join(entry.content)) for entry in layer.entries()] for layer in image.layers]


CONTENT = [[(b"a", b"1")], [(b"b", b"2" * 100_000)]]


def test_archive(source, place):
    """An archive gives its config's words, its layers in their order, and the config's digest as its own."""
    content = config(config={"Env": ["A=1"]}, created="2024-01-02T03:04:05Z")
    place.write_bytes(tar(**saved(content=content)))
    image = found(source, place)
    assert read(image) == read(image) == CONTENT
    assert (image.digest, dict(image.config.env)) == (digest(content), {"A": "1"})
    assert (image.reference, image.created) == (f"docker-archive:{place}", "2024-01-02T03:04:05Z")
    assert [layer.digest for layer in image.layers] == list(map(digest, LAYERS))
    assert not source._directory.exists()


def test_real_archive(source, place, tmp_path):
    """What skopeo writes is read, by its name in any spelling."""
    shelf = Shelf()
    shelf.layout(tmp_path / "layout", tagged(shelf.image(layers=LAYERS), "v1"))
    command = ["skopeo", "copy", "--insecure-policy", "--override-arch=amd64", "-q", f"oci:{tmp_path}/layout:v1"]
    subprocess.run([*command, f"docker-archive:{place}:app:v1"], check=True, capture_output=True, timeout=15)
    for name in ("", "app:v1", "docker.io/app:v1", "library/app:v1", "docker.io/library/app:v1"):
        assert read(found(source, place, name)) == CONTENT
    with pytest.raises(ImageNotFound, match=r"no image called 'app' .*names: .*app:v1"):
        found(source, place, "app")


@pytest.mark.parametrize("how", ["gzip", "zstd"])
def test_compressed(source, place, how):
    """A compressed archive is unpacked once, into a file without a name that goes with the last use of the image."""
    data = tar(**saved())
    if how == "gzip":
        place.write_bytes(gzip.compress(data))
    else:
        place.write_bytes(zstd.compress(data))
    image = found(source, place)
    place.unlink()
    assert os.listdir(source._directory) == []
    assert read(image) == CONTENT


def test_compressed_layers(source, place):
    """Layers may be compressed, as those of containerd's store are; DiffIDs are of what is inside."""
    members = saved(content=config(), layers=tuple(map(gzip.compress, LAYERS)))
    place.write_bytes(tar(**members))
    assert read(found(source, place)) == CONTENT


def linked(name, target, kind=tarfile.SYMTYPE):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def with_links(links, **files):
    """An archive of links and files."""
    out = io.BytesIO(tar(**files))
    with tarfile.open(fileobj=out, mode="a") as archive:
        for link in links:
            archive.addfile(link)
    return out.getvalue()


def old_archive(*links, layers=("1/layer.tar", "2/layer.tar")):
    files = {"c.json": config(layers=LAYERS[:1] * len(layers)), "1/layer.tar": LAYERS[0]}
    return with_links(links, **files, **{"manifest.json": manifest(("c.json", None, layers))})


def test_old_archive(source, place):
    """A layer that stands as a link to another, as Docker before 1.10 wrote it, is that one."""
    links = [linked("2/layer.tar", "../1/layer.tar"), linked("./3/layer.tar", "1/layer.tar", tarfile.LNKTYPE)]
    place.write_bytes(old_archive(*links, layers=("1/layer.tar", "2/layer.tar", "3/layer.tar")))
    assert read(found(source, place)) == CONTENT[:1] * 3


@pytest.mark.parametrize("target", ["../../outside", "/etc/passwd", "layer.tar", "../2/layer.tar", "../3", ""])
def test_links_lead_nowhere_else(source, place, target):
    """A link out of the archive, or in a circle, leads to nothing."""
    (place.parent / "outside").write_bytes(LAYERS[0])
    place.write_bytes(old_archive(linked("2/layer.tar", target), linked("3", "2/layer.tar")))
    with pytest.raises(ImageInvalid, match=r"'2/layer\.tar' is not in it"):
        found(source, place)


def test_choice(source, place):
    """Of several images, the one that is named is taken; if none is, they are listed."""
    first, second = config(), config(layers=LAYERS[:1])
    files = {"1.json": first, "2.json": second, "a": LAYERS[0], "b": LAYERS[1]}
    images = [("1.json", ["one:1", "docker.io/library/both"], ["a", "b"]), ("2.json", ["localhost:5000/two"], ["a"])]
    place.write_bytes(tar(**files, **{"manifest.json": manifest(*images)}))
    assert found(source, place, "one:1").digest == found(source, place, "both").digest == digest(first)
    assert found(source, place, "localhost:5000/two:latest").digest == digest(second)
    with pytest.raises(ImageNotFound, match=r"there are 2 images to choose from in .*'one:1'") as caught:
        found(source, place)
    assert f"docker-archive:{place}:NAME" in caught.value.hint


def test_reference(source, place, monkeypatch):
    """A reference becomes absolute; colons may be part of the path, and the longest file that is there is meant."""
    monkeypatch.chdir(place.parent)
    assert source.canonical("docker-archive:gone:app") == f"docker-archive:{place.parent}/gone:app"
    for name in ("a", "a:b"):
        (place.parent / name).write_bytes(tar(**saved(names=[name + ":x"])))
    assert source.canonical("docker-archive:./a:b:a:b:x") == f"docker-archive:{place.parent}/a:b:a:b:x"
    assert found(source, "a:b", "a:b:x").layers
    assert found(source, "a", "a:x").layers


def test_other_architecture(source, place):
    """An image for another architecture is refused, with which it is for."""
    place.write_bytes(tar(**saved(content=config("linux/arm64/v8"))))
    with pytest.raises(ArchitectureNotFound, match=r"no linux/amd64 variant .* \(has: linux/arm64/v8\)"):
        found(source, place)
    assert found(source, place, architecture="arm64").layers


def test_variants_of_one_name(source, place):
    """Images of one name are its variants."""
    files = {"1.json": config("linux/arm64"), "2.json": config(), "a": LAYERS[0], "b": LAYERS[1]}
    both = manifest(("1.json", ["app"], ["a", "b"]), ("2.json", ["app"], ["a", "b"]))
    place.write_bytes(tar(**files, **{"manifest.json": both}))
    assert found(source, place, "app").digest == digest(files["2.json"])


def test_many_images_of_one_config(source, place, monkeypatch):
    """However many images share a config, it is read once."""
    calls = list[str]()

    def counted(data, what):
        calls.append(what)
        return configuration(data, what)

    monkeypatch.setattr(archive, "configuration", counted)
    images: list[tuple[str, list[str], list[str]]] = [(n, ["app"], []) for n in ("c", "./c", "x/../c") * 100]
    place.write_bytes(tar(**{"c": config("linux/arm64"), "manifest.json": manifest(*images)}))
    with pytest.raises(ArchitectureNotFound):
        found(source, place, "app")
    assert len(calls) == 1


def test_many_images_of_one_name(source, place):
    """More images of one name than it can have variants are refused before any of them is read."""
    images: list[tuple[str, list[str], list[str]]] = [(f"c{n}", ["app"], []) for n in range(17)]
    place.write_bytes(tar(**{f"c{n}": b"{" for n in range(17)}, **{"manifest.json": manifest(*images)}))
    with pytest.raises(ImageInvalid, match="more than 16 images"):
        found(source, place, "app")


def test_what_is_not_there(source, place):
    """A file that is not there, is none or may not be read is said so."""
    with pytest.raises(ImageNotFound, match="there is no file"):
        found(source, place)
    os.mkfifo(place)
    with pytest.raises(ImageInvalid, match="no regular file"):
        found(source, place)
    place.unlink()
    place.write_bytes(tar(**saved()))
    place.chmod(0)
    with unprivileged(place), pytest.raises(ImageFailed, match="cannot be read: Permission denied"):
        found(source, place)


def with_size(size):
    """An archive whose one member says that it is of that size."""
    info = tarfile.TarInfo("manifest.json")
    info.size = size
    return info.tobuf(tarfile.GNU_FORMAT)


def extended(size, data=b""):
    info = tarfile.TarInfo("x")
    info.size, info.type = size, tarfile.XHDTYPE
    return info.tobuf() + data


BROKEN = {
    b"": "no docker archive: there is no manifest.json",
    bytes(10240): "no docker archive: there is no manifest.json",
    b"x" * 1000: "is no docker archive: it is no tar",
    with_size(100): "ends in the middle",
    with_size(1 << 70): "size",
    with_size(-512): "size",
    extended(2 << 20): "takes more than 1 MiB",
    extended(9, b"99 path=x\n".ljust(512, b"\0")): "pax header",
    gzip.compress(tar(**saved()))[:-30]: "ends in the middle",
    b"BZh91AY&SY" + bytes(100): r"image\.tar: it is compressed with bzip2",
    tar(**{"oci-layout": b"{}"}): "no manifest.json",
    tar(**{"manifest.json": b"{}"}): "manifest.json'",
    tar(**{"manifest.json": b"[1]"}): "manifest.json'",
    tar(**{"manifest.json": b" " * (4 << 20) + b"[]"}): "larger than 4 MiB",
    tar(**{"manifest.json": manifest(("gone.json", [], []))}): "'gone.json' is not in it",
    tar(**{"manifest.json": manifest(("../../etc/passwd", [], []))}): "is not in it",
    tar(**{"manifest.json": manifest((1, [], []))}): "'Config' is not text",
    tar(**{"manifest.json": manifest(("c", "app", []))}): "'RepoTags' is not a list",
    tar(**{"manifest.json": manifest(("c", [], [["a"]])), "c": config()}): "'Layers' is not text",
    tar(**{"manifest.json": manifest(("c", [], ["a"])), "c": config(), "a": b""}): "1 layers, its config 2",
    tar(**{"manifest.json": manifest(("c", [], [])), "c": b"[]"}): "is no JSON object",
    tar(**{"manifest.json": manifest(("./" * 50_000 + "c", [], [])), "c": b"[]"}): r"image.tar: '[./]{200}' is no JSON",
    tar(**{"manifest.json": manifest(("./" * 50_000 + "c", [], [])), "c": b" " * (9 << 20)}): r"tar: '[./]{200}' is la",
}


@pytest.mark.parametrize("data", BROKEN, ids=range(len(BROKEN)))
def test_broken_archives(source, place, data):
    """An archive that is none, or is broken, is refused for what is wrong with it."""
    place.write_bytes(data)
    with pytest.raises(ImageInvalid, match=BROKEN[data]):
        found(source, place)


def test_wrong_layer(source, place):
    """A layer that is not what the config says is noticed when it is read."""
    place.write_bytes(tar(**saved(content=config(layers=LAYERS[::-1]))))
    with pytest.raises(ImageInvalid, match="is not what its digest"):
        read(found(source, place))


def test_too_many_members(source, place):
    """An archive of endless headers is refused after some."""
    place.write_bytes(tarfile.TarInfo("x").tobuf() * 40_000)
    with pytest.raises(ImageInvalid, match="more than 32768 headers"):
        found(source, place)


def test_bomb(source, place, monkeypatch):
    """An archive that unpacks to far more than it is, is refused before the disk is full."""
    monkeypatch.setattr(archive, "BOMB_SIZE", 1 << 20)
    place.write_bytes(gzip.compress(bytes(30 << 20)))
    with pytest.raises(ImageInvalid, match="bomb"):
        found(source, place)


def test_no_room(source, place, monkeypatch):
    """An archive for whose content there is no room is refused, with what to do."""
    monkeypatch.setattr(archive, "_RESERVE", 1 << 60)
    place.write_bytes(gzip.compress(tar(**saved())))
    with pytest.raises(ImageFailed, match="No space left") as caught:
        found(source, place)
    assert "free some space" in caught.value.hint


WHOLE = tar(**saved(layers=LAYERS[:1]))


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), min_size=1), st.integers(0, len(WHOLE)))
def test_any_damage(tmp_path_factory, changes, length):
    """Whatever is changed in an archive, or cut off, it is read as it was or refused."""
    data = bytearray(WHOLE)
    for at, byte in changes:
        data[at] = byte
    place = tmp_path_factory.getbasetemp() / "damaged.tar"
    place.write_bytes(data[: length or None])
    try:
        content = read(found(DockerArchive(place.parent), place))
    except AegisError:
        return
    assert content == CONTENT[:1]
