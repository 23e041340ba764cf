"""Tars for the tests of layers, written byte by byte, so that they can say what no tool would."""

import hashlib
import io

from aegis_sdk.images.layers import disk
from aegis_sdk.images.layers.tar import TarLayer

BLOCK = 512
END = bytes(2 * BLOCK)
USTAR, GNU = b"ustar\x0000", b"ustar  \0"


def padded(data):
    return data + bytes(-len(data) % BLOCK)


def number(value, width):
    """An octal field, or one of base 256 for what octal cannot hold."""
    if 0 <= value < 8 ** (width - 1):
        return b"%0*o\0" % (width - 1, value)
    first = b"\x80" if value >= 0 else b"\xff"
    return first + (value % 256 ** (width - 1)).to_bytes(width - 1, "big")


def sealed(header):
    """The header block with its checksum."""
    total = sum(header[:148]) + 8 * ord(" ") + sum(header[156:])
    return header[:148] + b"%06o\0 " % total + header[156:]


def member(name, kind=b"0", data=b"", *, size=None, mode=0o644, owner=(0, 0), mtime=0, link=b"", dev=(0, 0), **rest):
    """An entry: its header and its data, whatever they say of each other."""
    fields = [name.ljust(100, b"\0"), number(mode, 8), number(owner[0], 8), number(owner[1], 8)]
    fields += [number(len(data) if size is None else size, 12), number(mtime, 12), bytes(8), kind]
    fields += [link.ljust(100, b"\0"), rest.get("magic", USTAR), bytes(64), number(dev[0], 8), number(dev[1], 8)]
    header = b"".join(fields) + rest.get("prefix", b"").ljust(155, b"\0")
    header = header.ljust(BLOCK, b"\0")
    for at, field in rest.get("patch", {}).items():
        header = header[:at] + field + header[at + len(field) :]
    return sealed(header) + padded(data)


def folder(name, **fields):
    return member(name, b"5", **{"mode": 0o755, **fields})


def symlink(name, target, **fields):
    return member(name, b"2", link=target, **{"mode": 0o777, **fields})


def hardlink(name, target, **fields):
    return member(name, b"1", link=target, **fields)


def record(key, value):
    length = len(key) + len(value) + 3
    while length != len(key) + len(value) + 3 + len(str(length)):
        length = len(key) + len(value) + 3 + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)


def pax(*pairs, kind=b"x"):
    """A header of keywords and values for the entry that follows, or with ``g`` for all."""
    return member(b"pax", kind, b"".join(record(key, value) for key, value in pairs))


def layer(*members, compress=bytes, digest=None, end=END):
    """A layer of these members."""
    data = b"".join(members) + end
    stored = compress(data)
    return TarLayer(
        digest=digest or f"sha256:{hashlib.sha256(data).hexdigest()}",
        size=len(stored),
        open=lambda: io.BytesIO(stored),
    )


def read(found):
    """Every entry of a layer, with its content."""
    return [(entry, b"".join(entry.content)) for entry in found.entries()]


def silent(_progress):
    pass


def written(*layers, progress=silent):
    """The disk that these layers make."""
    out = io.BytesIO()
    disk.write(out, layers, progress)
    return out.getvalue()
