"""What images say of their commands, as docker means it, and what no command can have."""

import json

import pytest

from aegis_sdk.errors import ImageInvalid
from aegis_sdk.images.manifest import configuration
from tests.sdk.image_blobs import Shelf, found, refused


@pytest.fixture
def shelf():
    return Shelf()


@pytest.mark.parametrize(
    ("said", "meant"),
    [("", ""), ("/", "/"), ("/new/../c/", "/c"), ("rel/x", "/rel/x"), ("//a//b/.", "/a/b"), ("../../e", "/e")],
)
def test_working_directories(said, meant):
    """A directory is absolute and without dots, as docker makes it."""
    assert configuration(json.dumps({"config": {"WorkingDir": said}}).encode(), "WHAT").config.cwd == meant


@pytest.mark.parametrize(("said", "meant"), [("", ""), ("u", "u"), (":2345", "0:2345"), ("1:", "1:"), ("u:g", "u:g")])
def test_users(said, meant):
    """A group without a user is one of root's, as for docker."""
    assert configuration(json.dumps({"config": {"User": said}}).encode(), "WHAT").config.user == meant


def test_old_images(shelf):
    """A line for the shell, nulls, a broken time and no word of a system are what old images have."""
    config = shelf.config(config={"Cmd": "exec sh", "Entrypoint": None, "Env": None}, created="yesterday")
    del config["os"]
    image = found(shelf, shelf.manifest(layers=(), config=config))
    assert image.config.command == ("/bin/sh", "-c", "exec sh")
    assert (image.config.entrypoint, dict(image.config.env), image.created) == ((), {}, "")


DEFAULTS = [
    {"Env": ["A=\0"]},
    {"Env": "A=1"},
    {"Env": [1]},
    {"Env": {"A": "1"}},
    {"WorkingDir": 1},
    {"WorkingDir": "/a\0b"},
    {"User": ["root"]},
    {"Cmd": [["a"]]},
    {"Cmd": {"a": "b"}},
    {"Entrypoint": [None]},
    {"Entrypoint": "a\0"},
    {"User": "\ud800"},
    [],
]


@pytest.mark.parametrize("defaults", DEFAULTS)
def test_broken_defaults(shelf, defaults):
    """Defaults for commands that no command can have are refused."""
    refused(shelf, shelf.manifest(layers=(), config=shelf.config(config=defaults)), "the config")


DEFAULTS_TOO_LONG = {
    "environment": {"Env": [f"A{n}=" + "x" * 60_000 for n in range(9)]},
    "environment that is long when spelled": {"Env": [f"A{n}=" + "\x01" * 30_000 for n in range(4)]},
    "command": {"Entrypoint": ["x" * 100_000] * 3, "Cmd": ["x" * 100_000] * 3},
    "one variable": {"Env": ["A=" + "x" * (128 << 10)]},
    "one word": {"Cmd": ["\u00e9" * (65 << 10)]},
    "directory": {"WorkingDir": "x" * 4096},
    "user": {"User": "x" * 1025},
}


@pytest.mark.parametrize("defaults", DEFAULTS_TOO_LONG.values(), ids=DEFAULTS_TOO_LONG.keys())
def test_defaults_that_no_command_could_have(shelf, defaults):
    """What an image says of its commands is refused if none could be run with it, in few words."""
    config = json.dumps(shelf.config(config=defaults)).encode()
    with pytest.raises(ImageInvalid, match=r"is longer than \d+ bytes|take more than 512 KiB") as caught:
        configuration(config, "WHAT")
    assert len(str(caught.value)) < 200


def test_long_defaults(shelf):
    """What commands can have is kept, however long."""
    defaults = {"Env": [f"A{n}=" + "x" * 120_000 for n in range(4)], "WorkingDir": "/" + "x" * 4000, "User": "x" * 1024}
    said = configuration(json.dumps(shelf.config(config=defaults)).encode(), "WHAT").config
    assert (len(said.env), len(said.cwd), len(said.user)) == (4, 4001, 1024)
