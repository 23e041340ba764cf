"""What indexes, manifests and configs may say, and what happens when they lie."""

import json

import pytest

from aegis_sdk.errors import AegisError, ArchitectureNotFound
from tests.sdk.image_blobs import DOCKER, INDEX, LAYER, MANIFEST, Shelf, digest, found, index, refused, tar


@pytest.fixture
def shelf():
    return Shelf()


def test_manifest(shelf):
    """A manifest gives its layers in their order with their DiffIDs, and the config's defaults for commands."""
    layers = (tar(a=b"1"), tar(b=b"2"))
    defaults = {
        "Env": ["A=1", "B=2=3", "C=", "nothing", "=unnamed"],
        "WorkingDir": "/w",
        "User": "1:2",
        "Entrypoint": ["/e"],
        "Cmd": ["c", ""],
    }
    config = shelf.config(layers=layers, created="2024-01-02T03:04:05.678Z", config=defaults)
    top = shelf.manifest(layers=layers, config=config)
    image = found(shelf, top)
    assert image.digest == digest(json.dumps(top).encode())
    assert image.diff_ids == tuple(map(digest, layers))
    assert [layer.digest for layer in image.manifest.layers] == list(image.diff_ids)
    assert image.created == "2024-01-02T03:04:05.678Z"
    assert dict(image.config.env) == {"A": "1", "B": "2=3", "C": ""}
    assert (image.config.cwd, image.config.user) == ("/w", "1:2")
    assert (image.config.entrypoint, image.config.command) == (("/e",), ("c", ""))


def test_zero_layers(shelf):
    """An image without any layer is an image."""
    assert found(shelf, shelf.manifest(layers=())).diff_ids == ()
    bare = {"os": "linux", "architecture": "amd64"}
    assert found(shelf, {**shelf.manifest(layers=(), config=bare), "layers": None}).diff_ids == ()


@pytest.mark.parametrize("name", ["manifest", "list"])
def test_docker(shelf, name):
    """Docker's own media types mean the same as OCI's."""
    manifest = shelf.manifest(mediaType=DOCKER + "v2+json")
    manifest["config"]["mediaType"] = "application/vnd.docker.container.image.v1+json"
    manifest["layers"][0]["mediaType"] = "application/vnd.docker.image.rootfs.diff.tar.gzip"
    top, kind = manifest, DOCKER + "v2+json"
    if name == "list":
        entry = shelf.put(manifest, kind, platform={"os": "linux", "architecture": "amd64"})
        kind = DOCKER + "list.v2+json"
        top = index(entry, mediaType=kind)
    assert len(found(shelf, top, kind + "; charset=utf-8").diff_ids) == 1


@pytest.mark.parametrize("said", ["", "application/json", "text/plain"])
def test_a_registry_that_does_not_say_what_it_sends(shelf, said):
    """Where no media type was said, the document's own word counts, and else what it holds."""
    manifest = shelf.manifest()
    assert found(shelf, manifest, said)
    del manifest["mediaType"]
    assert found(shelf, manifest, said)
    assert found(shelf, {"schemaVersion": 2, "manifests": [shelf.image()]}, said)


CHOICES = [
    ("amd64", ["linux/arm64/v8", "linux/amd64", "windows/amd64"], "linux/amd64"),
    ("amd64", ["linux/amd64/v3", "linux/amd64/v1", "linux/amd64/v2"], "linux/amd64/v1"),
    ("amd64", ["linux/amd64/v10", "linux/amd64/v3", "linux/amd64/v4"], "linux/amd64/v3"),
    ("arm64", ["linux/arm/v7", "linux/arm64/v9", "linux/arm64/v8"], "linux/arm64/v8"),
    ("arm64", ["linux/arm64/v9", "linux/arm64"], "linux/arm64"),
]


@pytest.mark.parametrize(("architecture", "offered", "chosen"), CHOICES)
def test_choice(shelf, architecture, offered, chosen):
    """Of an index, the variant that every machine of the architecture runs is taken, whatever the order."""
    entries = [shelf.variant(words, layers=(tar(name=words.encode()),)) for words in offered]
    wanted = entries[offered.index(chosen)]["digest"]
    assert found(shelf, index(*entries), architecture=architecture).digest == wanted
    assert found(shelf, index(*reversed(entries)), architecture=architecture).digest == wanted


def test_entries_without_platform(shelf):
    """Where an index does not say for whom an image is, its config does."""
    entries = [shelf.image("linux/arm64"), shelf.image("linux/amd64", layers=())]
    assert found(shelf, index(*entries)).digest == entries[1]["digest"]
    refused(shelf, index(entries[0]), r"no linux/amd64 variant found in NAME \(has: linux/arm64\)", INDEX, AegisError)


def test_other_architectures(shelf):
    """What an image has instead is listed once each, in order, and nothing of it is fetched."""
    offered = ["linux/s390x", "linux/arm64/v8", "windows/amd64", "linux/s390x", "unknown/unknown"]
    with pytest.raises(ArchitectureNotFound) as caught:
        found(shelf, index(*(shelf.variant(words) for words in offered)))
    assert str(caught.value) == (
        "no linux/amd64 variant found in NAME (has: linux/arm64/v8, linux/s390x, windows/amd64)"
    )
    assert shelf.asked == []


@pytest.mark.parametrize("words", ["linux/arm64", "windows/amd64"])
def test_single_manifest_for_another(shelf, words):
    """An image that is no index is refused by its config, before any layer."""
    manifest = shelf.manifest(words)
    refused(shelf, manifest, rf"variant found in NAME \(has: {words}\)", MANIFEST, ArchitectureNotFound)
    assert shelf.asked == [manifest["config"]["digest"]]


def test_index_and_config_disagree(shelf):
    """A config for another architecture than the index says is refused."""
    entry = {**shelf.image("linux/arm64"), "platform": {"os": "linux", "architecture": "amd64"}}
    refused(shelf, index(entry), "its index says linux/amd64, its config says linux/arm64")


def test_artifacts_beside_images(shelf):
    """Attestations, signatures and charts in an index are passed over."""
    wanted = shelf.variant("linux/amd64")
    chart = {**shelf.manifest(), "config": shelf.put({}, "application/vnd.cncf.helm.config.v1+json")}
    others = [
        {**shelf.image(layers=()), "platform": {"os": "unknown", "architecture": "unknown"}},
        shelf.put(b"?", "application/vnd.example"),
        {**shelf.image(layers=()), "artifactType": "application/vnd.example"},
        {**shelf.image(layers=()), "annotations": {"vnd.docker.reference.type": "attestation-manifest"}},
        shelf.put(chart, MANIFEST),
    ]
    assert found(shelf, index(*others, wanted)).digest == wanted["digest"]
    refused(shelf, index(*others), r"\(has: no image\)", INDEX, ArchitectureNotFound)


def nested(shelf, depth):
    entry = shelf.image()
    for _ in range(depth - 1):
        entry = shelf.put(index(entry), INDEX)
    return index(entry)


def test_nested_indexes(shelf):
    """Indexes may be nested four deep and no deeper."""
    assert found(shelf, nested(shelf, 4)).digest
    refused(shelf, nested(shelf, 5), "nested more than 4 deep")


def test_too_many_documents(shelf):
    """An image that takes reading hundreds of documents is refused after some."""
    entries = [shelf.put(index(annotations={"n": str(n)}), INDEX) for n in range(100)]
    refused(shelf, index(*entries), "more than 64 documents")
    assert len(shelf.asked) == 64


def test_the_same_index_again_and_again(shelf):
    """An index that lists another one many times has it read once."""
    inner = shelf.put(index(shelf.image()), INDEX)
    assert found(shelf, index(*[inner] * 1000))
    assert len(shelf.asked) == 3


def test_confusion(shelf):
    """A document that could be read as an index and as a manifest is refused (CVE-2021-41190)."""
    both = {**shelf.manifest(), **index(shelf.image())}
    refused(shelf, both, "has no 'layers'", INDEX)
    refused(shelf, {**both, "mediaType": MANIFEST}, "has no 'manifests'", MANIFEST)
    refused(shelf, shelf.manifest(), "calls itself", INDEX)
    refused(shelf, index(shelf.image()), "calls itself", MANIFEST)
    inside = shelf.put(shelf.manifest(), DOCKER + "v2+json")
    refused(shelf, index({**inside, "platform": {"os": "linux", "architecture": "amd64"}}), "calls itself")


@pytest.mark.parametrize("kind", ["v1+json", "v1+prettyjws"])
def test_schema_1(shelf, kind):
    """Docker's schema 1 is refused in words."""
    refused(shelf, {"schemaVersion": 1, "fsLayers": []}, "schema 1", DOCKER + kind)
    refused(shelf, {"schemaVersion": 1, "fsLayers": []}, "schema 1")


def test_unknown_media_types(shelf):
    """What is no image of a Linux system is refused by the name of what it is."""
    refused(shelf, shelf.manifest(), "'application/vnd.example'", "application/vnd.example")
    refused(shelf, {"schemaVersion": 2}, "media type ''")
    for name in ("application/vnd.oci.image.layer.v1.tar+encrypted", "application/vnd.in-toto+json", LAYER + "+gzip\n"):
        manifest = shelf.manifest()
        manifest["layers"][0]["mediaType"] = name
        refused(shelf, manifest, "is a layer's media type: this is no image of a Linux system")
    manifest["config"]["mediaType"] = "application/vnd.wasm.config.v0+json"
    refused(shelf, manifest, "wasm.*: this is no image of a Linux system")


@pytest.mark.parametrize("suffix", ["", "+gzip", "+zstd"])
@pytest.mark.parametrize("prefix", [LAYER, LAYER.replace("v1", "nondistributable.v1")])
def test_layer_media_types(shelf, prefix, suffix):
    """Layers are tars, plain or compressed with gzip or zstd."""
    manifest = shelf.manifest()
    manifest["layers"][0]["mediaType"] = prefix + suffix
    assert found(shelf, manifest)


BROKEN: dict[str, list[object]] = {
    "size": [-1, 2**40, 1.5, True, None, "1", 10**400],
    "digest": [
        "sha256:../../../etc/passwd",
        "sha256:" + "A" * 64,
        "md5:" + "0" * 32,
        "",
        None,
        "sha256:" + "0" * 63,
        7,
    ],
    "mediaType": [None, 1, [LAYER]],
    "annotations": [[], {"a": 1}],
    "platform": [[], {"os": "li\nnux"}, {"architecture": "a" * 65}, {"os": 1}],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BROKEN.items() for value in values])
@pytest.mark.parametrize("where", ["layer", "config", "entry"])
def test_broken_descriptors(shelf, where, name, value):
    """A descriptor with a digest that is none, a size that lies or members of the wrong type is refused."""
    manifest, entry = shelf.manifest(), shelf.variant("linux/amd64")
    broken: dict[str, object]
    if where == "entry":
        broken = index({**entry, name: value})
        if name == "mediaType" and value is None:
            return  # an entry that says nothing of itself is passed over
    else:
        broken = manifest
        (manifest["config"] if where == "config" else manifest["layers"][0])[name] = value
    refused(shelf, broken, "is not|is no|media type")


def test_lying_sizes_and_contents(shelf):
    """A config or manifest of another size or content than was said is refused, and one too large never asked for."""
    manifest = shelf.manifest()
    for change, said in [(1, "has .* bytes and should have"), (8 << 20, "larger than 8 MiB")]:
        lying = {**manifest, "config": {**manifest["config"], "size": manifest["config"]["size"] + change}}
        refused(shelf, lying, said)
    shelf.blobs[manifest["config"]["digest"]] = shelf.data(manifest["config"])[:-1] + b" "
    refused(shelf, manifest, "is not what its digest")
    refused(shelf, b" " * (4 << 20) + b"{}", "larger than 4 MiB")


@pytest.mark.parametrize("difference", [-1, 1])
def test_diff_ids(shelf, difference):
    """As many DiffIDs as layers, and each a digest."""
    layer = tar()
    config = shelf.config(layers=[layer] * (2 + difference))
    refused(shelf, shelf.manifest(layers=[layer] * 2, config=config), f"has 2 layers, the config {2 + difference}")
    config = {**shelf.config(), "rootfs": {"diff_ids": ["sha256:../x", "a"]}}
    refused(shelf, shelf.manifest(layers=[layer] * 2, config=config), "is no digest")


def test_too_many_layers(shelf):
    """An image with more than 1024 layers is refused."""
    refused(shelf, shelf.manifest(layers=[tar()] * 1025), "1025 layers")


def test_missing_config(shelf):
    """A manifest without a config is refused."""
    manifest = shelf.manifest()
    del manifest["config"]
    refused(shelf, manifest, "names no config")
