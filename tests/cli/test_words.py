"""How the commands write and read sizes, times and names."""

from __future__ import annotations

import time

import pytest

from aegis_cli import words


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("12h", 43200), ("7d", 604800), ("2w", 1209600), ("0.5h", 1800)]
)
def test_durations(text, seconds):
    """A number with a unit is so many seconds."""
    assert words.duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "7", "d", "-1d", "7 d", "7days", "1e3s", "\N{ARABIC-INDIC DIGIT SEVEN}d", "9" * 10 + "w"]
)
def test_what_is_no_duration(text):
    """Anything else is refused with examples of what would do."""
    with pytest.raises(ValueError, match="write it like 90s, 30m, 12h, 7d or 2w"):
        words.duration(text)


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_951, "1.0 MB"),
        (36_200_000, "36.2 MB"),
        (5 * 10**16, "50000.0 TB"),
    ],
)
def test_sizes(count, said):
    """Bytes are said in the unit that leaves few digits."""
    assert words.size(count) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(-100, "just now"), (59, "just now"), (61, "1 minute ago"), (7300, "2 hours ago"), (86400 * 400, "400 days ago")],
)
def test_how_long_ago(seconds, said):
    """A time is said in the largest unit that fits; one to come, by a clock that was wrong, is now."""
    assert words.ago(time.time() - seconds) == said


def test_names_from_elsewhere():
    """What could move a cursor, start a line or turn the writing's direction is replaced; a tab is spaces."""
    assert words.printable("a\x1b[31m\n\r\u202eb \u00e9") == "a\ufffd[31m\ufffd\ufffd\ufffdb \u00e9"
    assert words.printable("ab\tmain.go:12") == "ab      main.go:12"
