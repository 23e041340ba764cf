"""What a guest wrote is text wherever it is shown."""

from __future__ import annotations

import re
from html import unescape
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

import aegis_sdk as aegis
from aegis_sdk import display
from aegis_sdk.display import Shown
from aegis_sdk.model import Exit

#: Bytes in which escape sequences, markup and broken characters are likely.
HOSTILE = st.lists(
    st.sampled_from(
        (
            *(
                b"\x1b",
                b"[",
                b"\x1b[",
                b"31",
                b";",
                b"?",
                b" ",
                b"m",
                b"J",
                b"\x1b]0;",
                b"\x07",
                b"\r\n",
                b"\x9b",
                b"\xc2",
            ),
            *(b"<script>", b"</pre>", b"&amp;", b'"', b"'", "é€😀".encode(), "\N{RIGHT-TO-LEFT OVERRIDE}".encode()),
        )
    )
    | st.binary(max_size=8),
    max_size=30,
)
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def _shown(*pieces: bytes) -> str:
    shown = Shown()
    return "".join(map(shown.feed, pieces)) + shown.feed(b"", final=True)


def _done(argv: tuple[str, ...] = ("x",), out: bytes = b"", err: bytes = b"", **rest: object) -> aegis.Completed:
    rest = {"exit_code": 0, "duration": 0.5, **rest}
    return aegis.Completed(argv=argv, stdout_bytes=out, stderr_bytes=err, **rest)  # type: ignore[arg-type]


class _Page(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, tuple[tuple[str, str | None], ...]]] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, tuple(attrs)))

    def handle_data(self, data):
        self.text += data


@given(HOSTILE)
def test_what_a_terminal_obeys(pieces):
    """Of all that a terminal obeys, only colours and what moves within a line or to the next are shown."""
    shown = COLOUR.sub("", _shown(b"".join(pieces)))
    assert not [c for c in shown if (c < " " and c not in "\b\t\n\r") or "\x7f" <= c <= "\x9f"]


@given(HOSTILE)
def test_pieces_make_no_difference(pieces):
    """In whatever pieces bytes come, the same is shown."""
    assert _shown(*pieces) == _shown(b"".join(pieces))


@given(st.text())
def test_text_is_shown_as_it_is(text):
    """Text without control characters is shown unchanged."""
    text = re.sub(r"[\0-\x07\x0b\x0c\x0e-\x1f\x7f-\x9f]", "", text)
    assert _shown(text.encode()) == text


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"\x1b[1;31mred\x1b[m", "\x1b[1;31mred\x1b[m"),
        (b"a\x1b[2Jb\x1b[?25lc\x1b[>1md\x1b[1 qe", "abcde"),
        (b"\x1b]0;title\x07", "\ufffd]0;title\ufffd"),
        (b"\x1b[" + b"1" * 65 + b"m", "\ufffd[" + "1" * 65 + "m"),
        (b"50%\r100%\n", "50%\r100%\n"),
        ("\x9b31m".encode(), "\ufffd31m"),
        (b"\x1b", "\ufffd"),
        (b"\xff\xe2\x82", "\ufffd\ufffd"),
    ],
)
def test_sequences(raw, shown):
    """Colours pass, other sequences vanish, and what is none is shown as a character that cannot be shown."""
    assert _shown(raw) == shown


def test_an_unfinished_sequence_is_not_held_for_ever():
    """A guest that begins sequences and never ends them fills no memory."""
    shown = Shown()
    for _ in range(1000):
        shown.feed(b"\x1b[" + b"0" * 1000)
        assert len(shown._held) < 100


@given(HOSTILE, HOSTILE)
def test_hostile_bytes_make_no_markup(out, err):
    """Whatever a command wrote or was called, the page has our tags and no others, and its text is what was written."""
    plain, hostile = _done(out=b"x", err=b"x"), b"".join(out).decode("utf-8", "replace").replace("\0", "")
    made = _Page(display.of_completed(_done(("x", hostile[:50]), b"x" + b"".join(out), b"x" + b"".join(err))))
    assert made.tags == _Page(display.of_completed(plain)).tags
    assert "\x1b" not in made.text


def test_a_command_that_has_ended():
    """A page says what ran, how it ended and what it wrote, down to an empty line at the start."""
    page = display.of_completed(_done(("a", "<b>"), b"\none & two\n\x1b[31mred\x1b[0m", b"oh", exit_code=3))
    assert page.startswith("<div><code>a &lt;b&gt;</code> exit code 3 after 0.500 s<pre ")
    assert ">\n\none &amp; two\nred</pre>" in page
    assert ">\noh</pre></div>" in page


def test_how_it_ended():
    """A signal, a time limit and too little memory are said; streams that are empty are not."""
    page = display.of_completed(_done(exit_code=137, signal="SIGKILL", timed_out=True, out_of_memory=True))
    assert page == "<div><code>x</code> ended by SIGKILL, timed out, out of memory after 0.500 s</div>"


def test_long_output_is_cut():
    """Of a long output both ends are shown, around a note that says how much is not; a long command is cut, too."""
    page = display.of_completed(_done(("y" * 1000,), b"first" + bytes(10_000_000) + b"last"))
    assert len(page) < 25_000
    assert ">\nfirst" in page
    assert "<em>[9,980,009 bytes are not shown]</em>" in page
    assert "last</pre>" in page
    assert "y" * 200 + "...</code>" in page


def test_a_process():
    """A process shows whether it runs, or how it ended."""
    assert display.of_process(("a", "&"), None, None, closed=False) == "<div><code>a &amp;</code> running</div>"
    assert display.of_process(("a",), Exit(code=3), None, closed=True) == "<div><code>a</code> exit code 3</div>"
    assert ">a</code> ended by SIGTERM</" in display.of_process(
        ("a",), Exit(code=143, signal=15), "SIGTERM", closed=True
    )


def test_a_sandbox():
    """A sandbox shows its state and what it is made of, in text alone."""
    info = aegis.SandboxInfo(
        id="i", image="<i>", config=aegis.ImageConfig(), driver="qemu", driver_reason="", accelerator="tcg", memory=99,
        cpus=2, pid=1, kernel="6.1", phases={"a": 1.5, "b": 0.25}, created=0.0,
    )  # fmt: skip
    words = " ".join(unescape(re.sub("<[^>]+>", " ", display.of_sandbox(info, state="running"))).split())
    assert words == "Sandbox i state running image <i> memory 99 MiB processors 2 driver qemu (tcg) boot 1.75 s"


def test_an_image():
    """What an image says of itself is text."""
    info = aegis.ImageInfo(
        reference="r", digest="sha256:0", architecture="amd64", config=aegis.ImageConfig(), created="<script>",
        layers=(), pulled=0, used=0, disk_bytes=12_300_000, layer_bytes=0,
    )  # fmt: skip
    page = display.of_image(info)
    assert "&lt;script&gt;" in page
    assert "<td>12.3 MB</td>" in page


def test_in_a_guest(sandbox):
    """What comes from a real guest shows so, for each face, whether it runs, has ended or was closed."""
    done = sandbox.shell("echo '<b>'; exit 3")
    assert "exit code 3" in done._repr_html_()
    with sandbox.start("sleep", "100") as process:
        assert process._repr_html_() == "<div><code>sleep 100</code> running</div>"
        process.kill()
        process.wait()
        assert "SIGKILL" in process._repr_html_()
        assert aegis.AsyncProcess(process)._repr_html_() == process._repr_html_()
    with sandbox.start("sleep", "100") as process:
        pass
    assert process._repr_html_() == "<div><code>sleep 100</code> closed</div>"
    assert repr(process) == "<Process 'sleep 100' closed>"
    assert "<td>running</td>" in sandbox._repr_html_()
    assert aegis.AsyncSandbox()._repr_html_() is None
    assert f"Image {sandbox.info().image}" in aegis.Image.get("base")._repr_html_()
