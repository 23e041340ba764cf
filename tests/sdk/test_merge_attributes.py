"""Extended attributes and access control lists of layers: which a disk gets, and which it does not."""

import struct

import pytest

from aegis_sdk.errors import ImageInvalid
from aegis_sdk.images.erofs import XATTRS_MAX
from tests.sdk.layer_entries import folder, kept, merged, new, put


def test_xattrs_that_no_disk_should_hold():
    """What is an overlay's own or has no place in EROFS is left out; the rest is kept."""
    good = {b"user.a": b"1", b"security.capability": b"2", b"trusted.x": b"3"}
    bad = {b"trusted.overlay.opaque": b"y", b"lustre.lov": b"", b"user.": b"", b"nothing": b"", b"system.other": b""}
    found = kept(merged([put(b"a", xattrs=good | bad), folder(b"b", xattrs=bad)]))
    assert found[b"a",].metadata.xattrs == good
    assert found[b"b",].metadata.xattrs == {}


OWNER, GROUP, OTHERS, MASK = (1, 7, 2**32 - 1), (4, 5, 2**32 - 1), (32, 4, 2**32 - 1), (16, 7, 2**32 - 1)
USER = (2, 5, 1000)


def acl(*entries, version=2):
    return struct.pack("<I", version) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


GOOD_ACLS = [
    acl(OWNER, GROUP, OTHERS),
    acl(OWNER, GROUP, MASK, OTHERS),
    acl(OWNER, USER, USER, GROUP, (8, 1, 5), MASK, OTHERS),
]
BAD_ACLS = {
    "nothing": b"",
    "half a header": b"\2\0",
    "no entries": acl(),
    "another version": acl(OWNER, GROUP, OTHERS, version=1),
    "half an entry": acl(OWNER, GROUP, OTHERS)[:-4],
    "no others": acl(OWNER, GROUP),
    "no mask": acl(OWNER, USER, GROUP, OTHERS),
    "disorder": acl(GROUP, OWNER, OTHERS),
    "an unknown tag": acl(OWNER, GROUP, OTHERS, (64, 7, 0)),
    "a large tag": acl((257, 7, 0), GROUP, OTHERS),
    "rights that are none": acl((1, 8, 0), GROUP, OTHERS),
    "nobody": acl(OWNER, (2, 5, 2**32 - 1), GROUP, MASK, OTHERS),
}


@pytest.mark.parametrize("name", [b"system.posix_acl_access", b"system.posix_acl_default"])
def test_acls(name):
    """An access control list that Linux can read is kept; one that would make its file unusable is left out."""
    for path in (b"a", b"/"):
        for value in GOOD_ACLS:
            assert kept(merged([folder(path, xattrs={name: value})])).popitem()[1].metadata.xattrs == {name: value}
        for why, value in BAD_ACLS.items():
            assert kept(merged([folder(path, xattrs={name: value})])).popitem()[1].metadata.xattrs == {}, why


def test_too_many_attributes_of_one_file():
    """A file with more attributes than a disk can hold is refused by its name, before anything that comes after it."""

    def layer():
        yield put(b"much", xattrs={b"user.%d" % n: b"x" * 60_000 for n in range(XATTRS_MAX // 60_000 + 1)})
        raise AssertionError("it went on")

    with pytest.raises(ImageInvalid, match="'much': the extended attributes take more than"):
        new().apply(layer())
