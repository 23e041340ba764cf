"""``aegis image`` and ``aegis run --image``, as a user meets them."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import pytest

from tests.conftest import AEGIS
from tests.images_made import FOREIGN, said, skopeo
from tests.images_world import PASSWORD, disks

pytestmark = pytest.mark.timeout(60)  # Python in software emulation, on a busy machine


def _json(cli, *words: str):
    done = cli("image", *words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_run_an_image(cli, registry):
    """A command runs in an image that is fetched for it, its exit code is aegis's, and its output is all there is."""
    done = cli("run", "--image", registry.name("python:1"), "--", "python3", "-c", "print(1+1); exit(3)")
    assert (done.stdout, done.returncode) == (b"2\n", 3)


def test_run_the_images_own_command(cli, registry):
    """Without a command, the image's runs; with one, only that."""
    image = ("run", "--quiet", "--image", registry.name("python:1"))
    assert cli(*image).stdout == b"nothing was asked for\n"
    assert cli(*image, "--", "sh", "-c", "pwd; echo $GREETING").stdout == b"/app/below\nhello from the image\n"
    assert cli(*image, "-e", "GREETING=x", "--cwd", "/srv", "sh", "-c", "pwd; echo $GREETING").stdout == b"/srv\nx\n"


def test_run_with_a_policy(cli, registry, empty_home):
    """An image is fetched when it is missing; --pull never asks nobody, always does, and another word is refused."""
    words = ("run", "--image", registry.name("hello:1"))
    with registry.listening() as heard:
        refused = cli(*words, "--pull", "never")
    assert (refused.returncode, heard) == (125, [])
    assert b"aegis image pull" in refused.stderr
    first = cli(*words)
    assert first.stdout == b"hello from scratch\n"
    assert b"fetched" in first.stderr
    with registry.listening() as heard:
        again = cli(*words, "--pull", "never")
    assert (again.stdout, heard) == (b"hello from scratch\n", [])
    assert b"layer" not in again.stderr
    with registry.listening() as heard:
        assert cli(*words, "--pull", "always").returncode == 0
    assert heard
    assert cli(*words, "--pull", "sometimes").returncode == 125


def test_nothing_to_run(cli):
    """Neither a command nor one of the image's is an error in words."""
    done = cli("run")
    assert done.returncode == 125
    assert b"command" in done.stderr.lower()


def test_pull(cli, registry, images, empty_home):
    """A pull says on one line what is here now, and elsewhere one line for each step of each layer."""
    reference = registry.name("python:1")
    done = cli("image", "pull", reference)
    assert done.returncode == 0, done.stderr
    name, digest, size = done.stdout.decode().strip().split(" ", 2)
    assert (name, digest) == (reference, images.digest("python"))
    assert re.fullmatch(r"\d\d\.\d MB", size)
    lines = done.stderr.decode().splitlines()
    assert len(lines) == 6
    for line in lines:
        assert re.fullmatch(r"layer [123]/3 [0-9a-f]{12} (fetched|unpacked) [\d.]+ k?M?B", line), line
    again = cli("image", "pull", reference)
    assert again.stdout == done.stdout


def test_pull_quietly(cli, registry, empty_home):
    """--quiet shows no progress, and the result all the same."""
    done = cli("image", "pull", "--quiet", registry.name("hello:1"))
    assert done.stderr == b""
    assert done.stdout.startswith(registry.name("hello:1").encode())


def test_pull_on_a_terminal(registry, empty_home):
    """On a terminal there are bars, which are gone at the end; the cursor is left as it was."""
    command = [*AEGIS, "image", "pull", registry.name("python:1")]
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    with (
        _terminal() as (ours, theirs),
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, env=environment) as pulling,
    ):
        theirs.close()
        shown = b"".join(iter(lambda: _read(ours), b""))
        out = pulling.communicate(timeout=20)[0]
    assert out.startswith(registry.name("python:1").encode())
    assert re.search(rb"layer 3/3 [0-9a-f]{12}", shown)
    assert b"MB" in shown
    assert shown.count(b"\x1b[?25l") == shown.count(b"\x1b[?25h")
    assert b"Traceback" not in shown


@contextmanager
def _terminal() -> Iterator[tuple[BinaryIO, BinaryIO]]:
    ours, theirs = pty.openpty()
    with open(ours, "rb", buffering=0) as near, open(theirs, "wb", buffering=0) as far:
        yield near, far


def _read(terminal: BinaryIO) -> bytes:
    try:
        return terminal.read(1 << 16)
    except OSError:  # which is how a terminal says that nobody writes to it any more
        return b""


def test_list(cli, registry, images, empty_home):
    """The list has a line for each image, and as JSON all that is known."""
    assert cli("image", "list").stdout.split() == [b"REFERENCE", b"DIGEST", b"PULLED", b"SIZE"]
    assert _json(cli, "list") == []
    for name in ("python:1", "python:same", "hello:1"):
        cli("image", "pull", "-q", registry.name(name))
    lines = cli("image", "list").stdout.decode().splitlines()
    assert [line.split()[0] for line in lines[1:]] == [registry.name(n) for n in ("hello:1", "python:1", "python:same")]
    assert lines[1].split()[1] == images.digest("hello")[7:19]
    listed = _json(cli, "list")
    assert [image["digest"] for image in listed] == [images.digest(n) for n in ("hello", "python", "python")]
    assert listed[1] == _json(cli, "info", registry.name("python:1"))


def test_info(cli, registry, images, empty_home):
    """What is known of an image, in words and as JSON."""
    cli("image", "pull", "-q", registry.name("python:1"))
    text = cli("image", "info", registry.name("python:1")).stdout.decode()
    for words in (images.digest("python"), "GREETING=hello from the image", "/app/below", '["python3", "-u"]', "MB"):
        assert words in text
    about = _json(cli, "info", registry.name("python:1"))
    assert about["config"]["env"]["GREETING"] == "hello from the image"
    assert about["config"]["entrypoint"] == ["python3", "-u"]
    assert len(about["layers"]) == 3
    assert cli("image", "info", registry.name("hello:1")).returncode == 1


def test_hostile_words_of_an_image(cli, images, empty_home):
    """What an image says of itself can do nothing to a terminal."""
    images.configure("hello", "hostile", "--config.env=A=\x1b]0;title\x07", "--config.workingdir=/\x1b[2J")
    cli("image", "import", images.reference("hostile"), "hostile:1")
    text = cli("image", "info", "hostile:1").stdout
    assert b"\xef\xbf\xbd]0;title\xef\xbf\xbd" in text
    assert not any(byte < 32 and byte != 10 for byte in text)


def test_remove(cli, registry, empty_home):
    """Each image named is removed, whatever is wrong with another one, which is 1 and said."""
    for name in ("python:1", "hello:1"):
        cli("image", "pull", "-q", registry.name(name))
    done = cli("image", "remove", registry.name("hello:1"), registry.name("none:1"), registry.name("python:1"))
    assert done.returncode == 1
    assert done.stdout.decode().splitlines() == [f"removed {registry.name(n)}" for n in ("hello:1", "python:1")]
    assert registry.name("none:1").encode() in done.stderr
    assert _json(cli, "list") == []
    assert not disks(empty_home)


def test_remove_as_json(cli, registry, empty_home):
    """As JSON, removals are what was removed, and what was not and why."""
    cli("image", "pull", "-q", registry.name("hello:1"))
    done = cli("image", "remove", "--json", registry.name("hello:1"), registry.name("hello:1"))
    assert done.returncode == 1
    result = json.loads(done.stdout)
    assert result["removed"] == [registry.name("hello:1")]
    ((failed),) = result["failed"]
    assert (failed["reference"], failed["code"]) == (registry.name("hello:1"), "image-not-found")


def test_prune(cli, registry, empty_home):
    """Prune removes what is old or unused if asked to, and says what that was and how much it gave."""
    cli("image", "pull", "-q", registry.name("python:1"))
    assert cli("image", "prune", "--older-than", "1h").stdout == b"freed 0 B\n"
    assert len(_json(cli, "list")) == 1
    done = cli("image", "prune", "--unused").stdout.decode().splitlines()
    assert done[0] == f"removed {registry.name('python:1')}"
    assert re.fullmatch(r"freed \d\d\.\d MB", done[1])
    cli("image", "pull", "-q", registry.name("python:1"))
    pruned = _json(cli, "prune", "--older-than", "0s")
    assert pruned["images"] == [registry.name("python:1")]
    assert pruned["bytes"] > 10_000_000
    assert _json(cli, "prune") == {"images": [], "bytes": 0}


def test_a_length_of_time_that_is_none(cli):
    """A time that cannot be meant is refused with examples."""
    done = cli("image", "prune", "--older-than", "soon")
    assert done.returncode == 2
    assert b"90s, 30m, 12h, 7d or 2w" in done.stderr


def test_import_by_path(cli, images, tmp_path, empty_home):
    """A bare path is an OCI layout, what docker save wrote, or a directory, by what is there."""
    layout, archive, root = tmp_path / "layout", tmp_path / "saved.tar", tmp_path / "root"
    skopeo(images.reference("hello"), f"oci:{layout}:hello")
    skopeo(images.reference("hello"), f"docker-archive:{archive}:hello:1")
    said("umoci", "raw", "unpack", *(["--rootless"] if os.geteuid() else []), "--image", f"{layout}:hello", root)
    for number, path in enumerate((layout, archive, root)):
        done = cli("image", "import", "-q", str(path), f"imported:{number}")
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"docker.io/library/imported:{number} sha256:".encode())
    command = ("--", "/busybox", "echo", "hello from a directory")
    assert cli("run", "--image", "imported:0").stdout == b"hello from scratch\n"
    assert cli("run", "--image", "imported:2", *command).stdout == b"hello from a directory\n"
    assert len(_json(cli, "list")) == 3


def test_import_of_nothing(cli, tmp_path, empty_home):
    """A path where nothing is, and a name that is taken, are errors in words."""
    done = cli("image", "import", f"{tmp_path}/nothing", "mine:1")
    assert done.returncode == 2
    assert f"there is no {tmp_path}/nothing".encode() in done.stderr
    (tmp_path / "root").mkdir()
    assert cli("image", "import", "-q", f"{tmp_path}/root", "mine:1").returncode == 0
    again = cli("image", "import", "-q", f"{tmp_path}/root", "mine:1")
    assert again.returncode == 1
    assert b"mine:1" in again.stderr
    assert cli("image", "import", "-q", "--replace", f"{tmp_path}/root", "mine:1").returncode == 0


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("none:1", ["none:1", "not"]),
        ("foreign:1", ["no linux/", f"(has: linux/{FOREIGN})"]),
        ("Upper:1", ["Upper"]),
    ],
)
def test_a_pull_that_fails(cli, registry, empty_home, name, words):
    """What cannot be pulled is 1, with words and no trace, and nothing is listed."""
    done = cli("image", "pull", registry.name(name))
    assert done.returncode == 1
    assert done.stdout == b""
    for word in words:
        assert word in done.stderr.decode()
    assert b"Traceback" not in done.stderr
    assert _json(cli, "list") == []


def test_no_registry(cli, empty_home):
    """A registry that is not there is named."""
    done = cli("image", "pull", "127.0.0.1:1/x:1")
    assert done.returncode == 1
    assert b"127.0.0.1:1" in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_password(cli, registry_with_password, empty_home, log_in):
    """Without a password the registry's refusal says what to do, and after a login the pull works."""
    reference = registry_with_password.name("hello:1")
    refused = cli("image", "pull", reference)
    assert refused.returncode == 1
    assert b"login" in refused.stderr
    log_in(registry_with_password, PASSWORD)
    assert cli("image", "pull", "-q", reference).returncode == 0


@pytest.mark.parametrize("group", ["image", "plugins"])
def test_help(cli, group):
    """Every command of the group has help."""
    text = cli(group, "--help").stdout.decode()
    commands = re.findall(r"^  ([a-z]+)  ", text.partition("Commands:")[2], re.MULTILINE)
    assert sorted(commands) == (["import", "info", "list", "prune", "pull", "remove"] if group == "image" else [])
    for command in commands:
        assert cli(group, command, "--help").returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_a_pull(registry, empty_home, number):
    """Ctrl-C and SIGTERM end a pull at once, without a trace, and are in the way of nothing."""
    command = [*AEGIS, "image", "pull", registry.name("python:1")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as pulling:
        assert pulling.stderr.readline()
        pulling.send_signal(number)
        _, rest = pulling.communicate(timeout=20)
    assert pulling.returncode == 128 + number
    assert b"Traceback" not in rest
    again = subprocess.run(command, capture_output=True, check=False, timeout=50)
    assert again.returncode == 0, again.stderr
