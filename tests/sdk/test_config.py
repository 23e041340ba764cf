"""What the environment says becomes a value, or an error in words."""

import pytest

from aegis_sdk.config import Config
from aegis_sdk.errors import InvalidValue


def plain(words):
    return Config.from_environment({"AEGIS_HOME": "/h", "AEGIS_PLAIN_HTTP": words}).plain_http


def test_plain_registries():
    """Registries are named by hosts, with or without port; http:// before and / behind do not matter."""
    assert plain("") == frozenset()
    assert plain("a, b:5000 http://c:1/,HTTP://[::1]:5000") == {"a", "b:5000", "c:1", "[::1]:5000"}


@pytest.mark.parametrize("word", ["https://a:1", "ftp://a", "http://", "a/b", "http://a/v2/", "http://u:gr33n@a"])
def test_what_is_no_plain_registry(word):
    """What cannot be meant is refused, and no password in it is shown."""
    with pytest.raises(InvalidValue, match="AEGIS_PLAIN_HTTP") as caught:
        plain(f"b {word}")
    assert "HOST:PORT" in caught.value.hint
    assert "gr33n" not in str(caught.value)
