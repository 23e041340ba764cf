"""Images made by hand, whole or broken: a shelf of blobs and the documents that name them."""

import hashlib
import io
import json
import os
import tarfile
from contextlib import contextmanager

import pytest

from aegis_sdk.errors import ImageInvalid
from aegis_sdk.images.manifest import Content, find

OCI = "application/vnd.oci.image."
INDEX = OCI + "index.v1+json"
MANIFEST = OCI + "manifest.v1+json"
CONFIG = OCI + "config.v1+json"
LAYER = OCI + "layer.v1.tar"
DOCKER = "application/vnd.docker.distribution.manifest."


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def tar(**files):
    """A tar of files, by their names."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


EMPTY = tar()


def platform(words):
    """What an index says of ``linux/arm64/v8``."""
    return dict(zip(("os", "architecture", "variant"), words.split("/"), strict=False))


class Shelf:
    """Blobs by their digests; *asked* are those that somebody wanted."""

    def __init__(self):
        self.blobs = {}
        self.asked = []

    def put(self, content, media_type, **more):
        """The descriptor of a blob that is on the shelf from now on."""
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.blobs[digest(data)] = data
        return {"mediaType": media_type, "digest": digest(data), "size": len(data), **more}

    def get(self, descriptor):
        self.asked.append(descriptor.digest)
        return self.blobs[descriptor.digest]

    def data(self, descriptor):
        return self.blobs[descriptor["digest"]]

    def config(self, words="linux/amd64", *, layers=(), **more):
        """The content of a config for layers of these bytes."""
        diff_ids = [digest(layer) for layer in layers]
        return {**platform(words), "rootfs": {"type": "layers", "diff_ids": diff_ids}, **more}

    def manifest(self, words="linux/amd64", *, layers=(EMPTY,), config=None, **more):
        """The content of a manifest."""
        content = self.config(words, layers=layers) if config is None else config
        return {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self.put(content, CONFIG),
            "layers": [self.put(layer, LAYER) for layer in layers],
            **more,
        }

    def image(self, words="linux/amd64", **more):
        """The descriptor of an image's manifest, without a platform."""
        return self.put(self.manifest(words, **more), MANIFEST)

    def variant(self, words, **more):
        """The descriptor of an image's manifest, with its platform."""
        return {**self.image(words, **more), "platform": platform(words)}

    def layout(self, path, *entries):
        """Write a layout of all that is on the shelf to *path*."""
        (path / "blobs/sha256").mkdir(parents=True)
        (path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        (path / "index.json").write_text(json.dumps(index(*entries)))
        for name, data in self.blobs.items():
            (path / "blobs" / name.replace(":", "/")).write_bytes(data)


def index(*entries, **more):
    """The content of an index."""
    return {"schemaVersion": 2, "mediaType": INDEX, "manifests": list(entries), **more}


def tagged(descriptor, name):
    """*descriptor* as a layout's index names it."""
    return {**descriptor, "annotations": {"org.opencontainers.image.ref.name": name}}


def found(shelf, top, media_type="", architecture="amd64"):
    """The image that *top* and the blobs on *shelf* make up."""
    data = top if isinstance(top, bytes) else json.dumps(top).encode()
    return find("NAME", Content(data, media_type), shelf.get, architecture=architecture)


def refused(shelf, top, said, media_type="", error=ImageInvalid):
    """It is none, for a reason in which *said* is found."""
    with pytest.raises(error, match=said):
        found(shelf, top, media_type)


@contextmanager
def unprivileged(path):
    """Without root's rights, as which tests may run, and which permissions do not stop; *path* can be reached."""
    user = os.geteuid()
    if user == 0:
        for parent in path.parents:
            parent.chmod(parent.stat().st_mode | 0o011)
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)
