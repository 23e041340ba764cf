"""How layers may be compressed, and what is refused of what is compressed badly, or too well."""

import bz2
import gzip
import hashlib
import io
import lzma
import os
import struct
import sys

import attrs
import pytest

from aegis_sdk.errors import ImageInvalid
from aegis_sdk.images.base import Kind
from aegis_sdk.images.layers import compression, tar
from aegis_sdk.images.layers.compression import PIECE
from aegis_sdk.images.layers.tar import TarLayer
from tests.sdk.tars import END, layer, member, read

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


COMPRESSIONS = {
    "plain": bytes,
    "gzip": gzip.compress,
    "gzip of two members": lambda data: gzip.compress(data[:700]) + gzip.compress(data[700:]),
    "gzip padded with zeros": lambda data: gzip.compress(data) + bytes(70_000),
    "zstd": zstd.compress,
    "zstd of two frames": lambda data: zstd.compress(data[:700]) + zstd.compress(data[700:]),
    "zstd with a frame to be skipped": lambda data: struct.pack("<II", 0x184D2A50, 3) + b"abc" + zstd.compress(data),
}


def only(*members, **options):
    """The only entry of a layer, with its content."""
    ((entry, content),) = read(layer(*members, **options))
    return entry, content


@pytest.mark.parametrize("compress", COMPRESSIONS.values(), ids=COMPRESSIONS.keys())
def test_kind_of_compression_does_not_matter(compress):
    """A layer is what its tar says, plain or compressed in any of the ways that tools do it."""
    entry, content = only(member(b"file", data=b"x" * 3000), compress=compress)
    assert (entry.path, entry.kind, entry.size, content) == (b"file", Kind.FILE, 3000, b"x" * 3000)


class Crumbs(io.BytesIO):
    """A stream that gives one byte at a time."""

    def read(self, size=-1):
        return super().read(min(size, 1))


@pytest.mark.parametrize("compress", COMPRESSIONS.values(), ids=COMPRESSIONS.keys())
def test_size_of_reads_does_not_matter(compress):
    """However few bytes a stream gives at once, the layer is the same."""
    whole = layer(member(b"file", data=b"x" * 3000), compress=compress)
    crumbs = attrs.evolve(whole, open=lambda: Crumbs(whole.open().read()))
    assert [content for _, content in read(crumbs)] == [b"x" * 3000]


@pytest.mark.parametrize("compress", [gzip.compress, zstd.compress, bytes], ids=["gzip", "zstd", "plain"])
@pytest.mark.parametrize("part", [0.2, 0.8])
def test_truncated_layer_is_refused(compress, part):
    """A layer that ends in the middle is broken, wherever that is."""
    data = member(b"file", data=os.urandom(5000)) + END[:512]
    whole = compress(data)
    cut = TarLayer(
        digest=f"sha256:{hashlib.sha256(data).hexdigest()}",
        size=len(whole),
        open=lambda: io.BytesIO(whole[: int(len(whole) * part)]),
    )
    with pytest.raises(ImageInvalid, match="in the middle"):
        read(cut)


def test_broken_compression_is_refused():
    """Damage inside of compressed data, and anything behind it, is named."""
    data = member(b"file", data=os.urandom(5000)) + END
    for compress, word in [(gzip.compress, "gzip"), (zstd.compress, "zstd")]:
        for broken in (lambda b: b[:3000] + bytes(100) + b[3100:], lambda b: b + b"garbage"):
            with pytest.raises(ImageInvalid, match=word + r" data (is broken|ends)|not what its digest"):
                read(layer(data, compress=lambda b, c=compress, d=broken: d(c(b))))


@pytest.mark.parametrize(("compress", "name"), [(bz2.compress, "bzip2"), (lzma.compress, "xz")])
def test_other_compressions_are_refused_by_name(compress, name):
    """What OCI does not allow is refused with its name."""
    with pytest.raises(ImageInvalid, match=f"compressed with {name}"):
        read(layer(member(b"file"), compress=compress))


def test_window_beyond_the_limit_is_refused():
    """A zstd frame that wants gigabytes to be read is refused before it gets them."""
    options = {int(zstd.CompressionParameter.window_log): 30}

    def compress(data):
        compressor = zstd.ZstdCompressor(options=options)
        return compressor.compress(data) + compressor.flush()

    with pytest.raises(ImageInvalid, match="too large a window"):
        read(layer(member(b"file"), compress=compress))


SKIPPED = struct.pack("<II", 0x184D2A50, 0)


@pytest.mark.parametrize(
    ("compress", "empty"),
    [(gzip.compress, gzip.compress(b"")), (zstd.compress, zstd.compress(b"")), (zstd.compress, SKIPPED)],
    ids=["gzip", "zstd", "skipped"],
)
def test_endless_parts_are_refused(compress, empty, monkeypatch):
    """A layer of more members or frames than files could need is refused: they cost time, though they hold nothing."""
    monkeypatch.setattr(compression, "PARTS_MAX", 1000)
    assert only(member(b"file"), compress=lambda data: compress(data) + empty * 999)
    with pytest.raises(ImageInvalid, match="more than 1,000 parts"):
        read(layer(member(b"file"), compress=lambda data: empty * 1000 + compress(data)))


@pytest.mark.parametrize("compress", [gzip.compress, zstd.compress], ids=["gzip", "zstd"])
def test_decompression_bombs_are_refused(compress, monkeypatch):
    """Little that becomes much, a thousand times as much, is refused when the limit is reached and not at its end."""
    monkeypatch.setattr(tar, "BOMB_SIZE", 128 << 20)
    data = compress(member(b"zeros", size=64 << 30)) + compress(bytes(1 << 20)) * 512
    bomb = TarLayer(digest="sha256:" + "0" * 64, size=len(data), open=lambda: io.BytesIO(data))
    sizes: list[int] = []

    def pour():
        for entry in bomb.entries():
            sizes.extend(map(len, entry.content))

    with pytest.raises(ImageInvalid, match="decompression bomb"):
        pour()
    assert tar.BOMB_SIZE - PIECE <= sum(sizes) <= tar.BOMB_SIZE
