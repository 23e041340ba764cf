"""Layers that are tars: parsed as they stream, and checked against the digest of all their bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, BinaryIO

import attrs

from aegis_sdk.errors import ImageFailed, ImageInvalid
from aegis_sdk.images import digests
from aegis_sdk.images.base import Entry, Kind
from aegis_sdk.images.holes import HOLE
from aegis_sdk.images.layers import tar_headers
from aegis_sdk.images.layers.compression import decompressed
from aegis_sdk.images.layers.tar_headers import BLOCK, EXTENSION_MAX, ZEROS, Block, Records
from aegis_sdk.images.tree import Metadata

if TYPE_CHECKING:
    from hashlib import _Hash

#: Beyond both of these a layer is taken for a decompression bomb. Deflate reaches 1,000:1 and zstd far more, on nothing
#: but zeros; what people put into images stays below 20:1, but for small layers with a large empty file.
BOMB_SIZE = 1 << 30
BOMB_RATIO = 200

_FILES = b"\0", b"0", b"7", b"S"
_KINDS = {
    **dict.fromkeys(_FILES, Kind.FILE),
    b"1": Kind.HARDLINK,
    b"2": Kind.SYMLINK,
    b"3": Kind.CHARACTER_DEVICE,
    b"4": Kind.BLOCK_DEVICE,
    b"5": Kind.DIRECTORY,
    b"6": Kind.FIFO,
}
_XATTR = b"SCHILY.xattr."
# What a global header may set. Each costs something at every entry, and names or attributes for all make no sense.
_GLOBAL = frozenset({b"mtime", b"uid", b"gid"})
_NUMBER_MAX = 64
_EMPTY: Mapping[bytes, bytes] = {}
_NOTHING: tuple[int, Iterable[bytes]] = 0, ()

Report = Callable[[int], None]
Pairs = list[tuple[int, int]]


def _is_here(_report: Report) -> None:
    pass


@attrs.frozen(kw_only=True, eq=False)
class TarLayer:
    """A layer made of a tar, plain or compressed with gzip or zstd: its first bytes tell, whatever its name says.

    *digest* is the OCI DiffID, of the tar itself, and *size* that of the bytes, compressed or not, that *open* gives a
    fresh stream of. *fetch* has them here first, if they are not.
    """

    digest: str
    size: int
    open: Callable[[], BinaryIO]
    _fetch: Callable[[Report], None] = _is_here

    def fetch(self, report: Report) -> None:
        """Have the bytes here."""
        self._fetch(report)
        report(self.size)

    def entries(self) -> Iterator[Entry]:
        """What the tar says; ImageInvalid if it is broken, a bomb, or not what *digest* names."""
        hashed = digests.hasher(digests.valid(self.digest))
        try:
            stream = self.open()
        except OSError as error:
            raise _unreadable(error) from error
        with stream:
            tape = _Tape(stream, compressed=self.size, hashed=hashed)
            yield from _entries(tape)
            tape.drain()
        if hashed.hexdigest() != self.digest.partition(":")[2]:
            raise ImageInvalid(f"its content is not what its digest {self.digest} names")


def _unreadable(error: OSError) -> ImageFailed:
    return ImageFailed(f"a layer cannot be read: {error}")


class _Tape:
    """The bytes of a tar, forwards only, hashed as they come; *left* are those of the current entry."""

    def __init__(self, stream: BinaryIO, *, compressed: int, hashed: _Hash) -> None:
        self._stream = stream
        self._compressed = compressed
        self._hash = hashed
        self._pieces = decompressed(self._read)
        self._piece = b""
        self._at = 0
        self._seen = 0
        self._given = 0
        self.left = 0
        self._padding = 0

    def _read(self, size: int) -> bytes:
        try:
            data = self._stream.read(size)
        except OSError as error:
            raise _unreadable(error) from error
        self._seen += len(data)
        return data

    def _turn(self) -> bool:
        """Whether there is a further piece, which then is the current one."""
        self._piece, self._at = next(self._pieces, b""), 0
        self._hash.update(self._piece)
        self.count(len(self._piece))
        return bool(self._piece)

    def count(self, size: int) -> None:
        """Take *size* more bytes as having come out of the layer, or ImageInvalid if that is too good to be true."""
        self._given += size
        if self._given > max(BOMB_SIZE, BOMB_RATIO * max(self._seen, self._compressed)):
            raise ImageInvalid(
                f"it is a decompression bomb: over {BOMB_SIZE >> 20} MiB, and over {BOMB_RATIO} times its size"
            )

    def take(self, size: int) -> bytes:
        """The next *size* bytes, and fewer only at the end."""
        data = self._piece[self._at : self._at + size]
        self._at += len(data)
        while len(data) < size and self._turn():
            more = self._piece[: size - len(data)]
            self._at = len(more)
            data += more
        return data

    def extension(self, size: int) -> bytes:
        """The next *size* bytes, which belong to a header, without what fills their last block."""
        padded = _padded(size)
        data = self.take(padded)
        if len(data) < padded:
            raise _cut()
        return data[:size]

    def begin(self, size: int) -> None:
        """Begin an entry of *size* bytes."""
        self.left = _padded(size)
        self._padding = self.left - size

    def flow(self, size: int) -> Iterator[bytes]:
        """The next *size* bytes of the current entry, as they come."""
        while size:
            if self._at == len(self._piece) and not self._turn():
                raise _cut()
            data = self._piece[self._at : self._at + size]
            self._at += len(data)
            self.left -= len(data)
            size -= len(data)
            yield data

    def skip(self) -> None:
        """Go to the end of the current entry, the last of which may lack what fills its block: umoci writes it so."""
        for _ in self.flow(max(0, self.left - self._padding)):
            pass
        self.left -= len(self.take(self.left))

    def drain(self) -> None:
        """Go to the end."""
        while self._turn():
            pass


def _cut() -> ImageInvalid:
    return ImageInvalid("its tar ends in the middle of an entry")


def _padded(size: int) -> int:
    return size + -size % BLOCK


@attrs.frozen(kw_only=True)
class _Header:
    """What all headers of one entry say together."""

    block: Block
    pax: Mapping[bytes, bytes]
    records: Records
    name: bytes
    link: bytes


def _entries(tape: _Tape) -> Iterator[Entry]:
    for header in _headers(tape):
        yield _entry(tape, header)
        tape.skip()


def _headers(tape: _Tape) -> Iterator[_Header]:
    defaults: dict[bytes, bytes] = {}
    while header := _header(tape, defaults):
        yield header


def _header(tape: _Tape, defaults: dict[bytes, bytes]) -> _Header | None:
    """The next entry's headers, None at the end; global ones go into *defaults*."""
    records: Records = []
    names: dict[bytes, bytes] = {}
    room = EXTENSION_MAX
    while block := _block(tape):
        if block.type not in b"xXgKL":
            return _joined(block, records, names, defaults)
        room -= BLOCK + block.size
        if room < 0:
            raise ImageInvalid(f"an entry's headers in its tar take more than {EXTENSION_MAX >> 20} MiB")
        data = tape.extension(block.size)
        if block.type in b"KL":
            names[block.type] = tar_headers.text(data)
        elif block.type == b"g":
            _set_defaults(defaults, data)
        else:
            records += tar_headers.records(data)
    if records or names:
        raise _cut()
    return None


def _block(tape: _Tape) -> Block | None:
    """The next header block, None at the end: at two blocks of zeros, or where the layer ends."""
    raw = tape.take(BLOCK)
    if raw == ZEROS:
        if tape.take(BLOCK).strip(b"\0"):
            raise ImageInvalid("its tar is broken: there is a lone block of zeros in it")
        return None
    if raw and len(raw) < BLOCK:
        raise _cut()
    return Block.parse(raw) if raw else None


def _set_defaults(defaults: dict[bytes, bytes], data: bytes) -> None:
    for key, value in tar_headers.records(data):
        if key in _GLOBAL:
            if len(value) > _NUMBER_MAX:
                raise ImageInvalid(f"a global header in its tar has a number of {len(value)} digits")
            defaults[key] = value


def _joined(block: Block, records: Records, names: dict[bytes, bytes], defaults: dict[bytes, bytes]) -> _Header:
    pax = {**defaults, **dict(records)} if records or defaults else _EMPTY
    return _Header(
        block=block,
        pax=pax,
        records=records,
        name=pax.get(b"GNU.sparse.name") or pax.get(b"path") or names.get(b"L") or block.name,
        link=pax.get(b"linkpath") or names.get(b"K") or block.link,
    )


def _entry(tape: _Tape, header: _Header) -> Entry:
    kind = _KINDS.get(header.block.type)
    if not kind:
        raise ImageInvalid(f"{_shown(header.name)} is of a type that no image may have: {header.block.type!r}")
    size, content = _content(tape, header) if kind is Kind.FILE else _NOTHING
    if header.block.type == b"\0" and header.name.endswith(b"/"):  # as tars said it before there was a type for it
        kind = Kind.DIRECTORY
    return Entry(
        path=header.name,
        kind=kind,
        metadata=_metadata(header),
        content=content,
        size=size,
        target=header.link if kind in (Kind.SYMLINK, Kind.HARDLINK) else b"",
        device=_device(header.block) if kind in (Kind.CHARACTER_DEVICE, Kind.BLOCK_DEVICE) else (0, 0),
    )


def _metadata(header: _Header) -> Metadata:
    block, pax = header.block, header.pax
    return Metadata(
        permissions=block.field("mode") & 0o7777,
        uid=tar_headers.number(pax, "uid", block),
        gid=tar_headers.number(pax, "gid", block),
        mtime_ns=tar_headers.mtime_ns(pax, block),
        xattrs={key.removeprefix(_XATTR): pax[key] for key in pax if key.startswith(_XATTR)} if pax else _EMPTY,
    )


def _device(block: Block) -> tuple[int, int]:
    return block.field("devmajor"), block.field("devminor")


def _shown(name: bytes) -> str:
    return repr(name[:200].decode("utf-8", "backslashreplace"))


def _content(tape: _Tape, header: _Header) -> tuple[int, Iterable[bytes]]:
    """A file's size and bytes; the tape's entry begins with them."""
    pax, block = header.pax, header.block
    packed = tar_headers.parse(pax[b"size"], "size") if pax.get(b"size") else block.size
    pairs = _old_map(tape, block) if block.type == b"S" else tar_headers.pax_sparse_map(pax, header.records)
    tape.begin(tar_headers.whole(packed, "size"))
    if pairs is None and pax.get(b"GNU.sparse.major") == b"1":
        before = tape.left
        pairs = _leading_map(tape)
        packed -= before - tape.left
    if pairs is None:
        return packed, tape.flow(packed)
    size = _real_size(header)
    _check_map(pairs, packed=packed, size=size)
    tape.count(size - packed)
    return size, _expanded(tape, pairs, size)


def _real_size(header: _Header) -> int:
    for name in (b"GNU.sparse.realsize", b"GNU.sparse.size"):
        if value := header.pax.get(name):
            return tar_headers.parse(value, "the size of a sparse file")
    return header.block.field("realsize")


def _old_map(tape: _Tape, block: Block) -> Pairs:
    more, extended = b"", block.raw[482]
    while extended:
        more += tape.extension(BLOCK)
        extended = more[-8]
        if len(more) > EXTENSION_MAX:
            raise _too_sparse()
    return tar_headers.sparse_map(block, more)


def _leading_map(tape: _Tape) -> Pairs:
    """The map that stands before the data in GNU's format 1.0: lines of numbers, the first says how many pairs."""
    blocks = [_map_block(tape)]
    numbers = tar_headers.parse(blocks[0].partition(b"\n")[0], "a sparse map") * 2
    lines = blocks[0].count(b"\n")
    while lines < numbers + 1:
        blocks.append(_map_block(tape))
        lines += blocks[-1].count(b"\n")
        if len(blocks) * BLOCK > EXTENSION_MAX:
            raise _too_sparse()
    return tar_headers.pairs(b"".join(blocks).split(b"\n")[1 : numbers + 1])


def _map_block(tape: _Tape) -> bytes:
    if tape.left < BLOCK:
        raise ImageInvalid("its tar is broken: a sparse map is longer than its file")
    return b"".join(tape.flow(BLOCK))


def _too_sparse() -> ImageInvalid:
    return ImageInvalid(f"a sparse file's map in its tar takes more than {EXTENSION_MAX >> 20} MiB")


def _check_map(pairs: Pairs, *, packed: int, size: int) -> None:
    end = 0
    for offset, length in pairs:
        if offset < end or length < 0:
            raise ImageInvalid("its tar is broken: the parts of a sparse file overlap")
        end = offset + length
    if end > size or sum(length for _, length in pairs) != packed:
        raise ImageInvalid("its tar is broken: the parts of a sparse file are not as long as it says")


def _expanded(tape: _Tape, pairs: Pairs, size: int) -> Iterator[bytes]:
    at = 0
    for offset, length in [*pairs, (size, 0)]:
        yield from _zeros(offset - at)
        yield from tape.flow(length)
        at = offset + length


def _zeros(size: int) -> Iterator[bytes]:
    for _ in range(size // len(HOLE)):
        yield HOLE
    yield bytes(size % len(HOLE))
