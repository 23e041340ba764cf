"""Plugins: the example is installed and used as a user would, and broken ones break nothing."""

from __future__ import annotations

import gzip
import inspect
import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import aegis_sdk as aegis
from tests.conftest import ROOT
from tests.images_made import said

EXAMPLE = ROOT / "examples" / "aegis-tar-image"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A directory into which pip has installed the example."""
    work = tmp_path_factory.mktemp("plugin")
    source = shutil.copytree(EXAMPLE, work / "source", ignore=shutil.ignore_patterns("__pycache__"))
    target = work / "installed"
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    said(*pip, "--no-deps", "--no-index", "--no-build-isolation", "--target", target, source)
    return target


@pytest.fixture
def with_example(installed, monkeypatch):
    """Programs that are started find the example, as if it were installed beside Aegis."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(installed), str(ROOT)]))


@pytest.fixture
def broken(tmp_path, monkeypatch) -> Callable[..., None]:
    """Installs a plugin of that name whose module holds that text; *points* are its entry points."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(ROOT)]))

    def broken(name: str, text: str, points: str = "") -> None:
        module = name.replace("-", "_")
        (tmp_path / f"{module}.py").write_text(text)
        about = tmp_path / f"{module}-2.5.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 2.5\n")
        (about / "entry_points.txt").write_text(f"[aegis]\n{points or f'{name} = {module}'}\n")

    return broken


@pytest.fixture
def root_tar(images, tmp_path) -> Path:
    """The tar of a root file system: the only layer of the image ``hello``."""
    (layer,) = images.manifest("hello")["layers"]
    path: Path = tmp_path / "rootfs.tar"
    path.write_bytes(gzip.decompress(images.blob(layer["digest"]).read_bytes()))
    return path


def _listed(cli) -> dict[str, dict[str, Any]]:
    done = cli("plugins", "--json")
    assert done.returncode == 0, done.stderr
    return {plugin["name"]: plugin for plugin in json.loads(done.stdout)}


@pytest.mark.parametrize("compress", [False, True])
def test_the_example_boots_a_tar(cli, with_example, root_tar, compress):
    """With the example installed, a guest boots from a root file system's tar, plain or compressed."""
    if compress:
        root_tar.write_bytes(gzip.compress(root_tar.read_bytes()))
    done = cli("run", "--quiet", "--image", f"tar:{root_tar}", "--", "/busybox", "sh", "-c", "pwd; /busybox ls /")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"/root\n")
    assert b"busybox" in done.stdout


def test_the_example_says_what_is_missing(cli, with_example, tmp_path):
    """A file that is not there is an error in words, which is the plugin's own."""
    done = cli("run", "--image", f"tar:{tmp_path}/none.tar", "--", "true")
    assert done.returncode == 125
    assert f"there is no file {tmp_path}/none.tar".encode() in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_file_that_is_no_tar(cli, with_example, tmp_path):
    """What a plugin takes for a tar and is none is refused by Aegis."""
    (tmp_path / "noise").write_bytes(os.urandom(100_000))
    done = cli("run", "--image", f"tar:{tmp_path}/noise", "--", "true")
    assert done.returncode == 125
    assert b"Traceback" not in done.stderr


def test_the_example_is_listed(cli, with_example):
    """aegis plugins names the example, its version, what it gives and where it is from, beside what is built in."""
    plugins = _listed(cli)
    assert {"local", "registry", "tar-image"} <= set(plugins)
    example = plugins["tar-image"]
    assert example["version"] == "1.0"
    assert example["provides"] == ["image source tar"]
    assert example["origin"] == "aegis-tar-image (aegis_tar_image)"
    assert example["error"] == ""
    text = cli("plugins").stdout.decode()
    assert re.search(r"ok +tar-image 1\.0 +from aegis-tar-image", text)
    assert "image source tar" in text


def test_without_a_plugin(cli, root_tar):
    """Without the plugin, nobody knows its references."""
    done = cli("run", "--image", f"tar:{root_tar}", "--", "true")
    assert done.returncode == 125
    assert b"Traceback" not in done.stderr


HOOK = "import aegis_sdk as aegis\n@aegis.hookimpl\n"
BROKEN = {
    "no-syntax": ("def", "SyntaxError"),
    "no-import": ("import there_is_no_such_module", "there_is_no_such_module"),
    "raises": (HOOK + "def aegis_image_sources(): raise KeyError('a key')", "a key"),
    "exits": ("import sys; sys.exit('gone')", "gone"),
    "nonsense": (HOOK + "def aegis_image_sources(): return (5,)", "no image source"),
    "nothing": (HOOK + "def aegis_image_sources(): return 7", "int"),
    "unknown-hook": (HOOK + "def aegis_no_such_hook(): return ()", "aegis_no_such_hook"),
    "unknown-argument": (HOOK + "def aegis_image_sources(house): return ()", "house"),
    "no-mark": ("def aegis_image_sources(): return ()", "it implements no hook (is @aegis.hookimpl missing?)"),
    "no-answer": (HOOK + "def aegis_image_sources(): pass", "None"),
    "source-class": (HOOK + "def aegis_image_sources(): return (Mine,)\nclass Mine: pass", "Mine is a class"),
    "terminal": ("raise RuntimeError('\\x1b[2J')", "RuntimeError"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_plugin(cli, broken, registry, name):
    """A plugin that cannot be used is listed with the reason, and everything else works."""
    text, reason = BROKEN[name]
    broken(name, text)
    plugins = _listed(cli)
    assert reason in plugins[name]["error"]
    assert plugins[name]["version"] == "2.5"
    assert not plugins[name]["provides"]
    assert {plugin for plugin, about in plugins.items() if about["error"]} == {name}
    shown = cli("plugins")
    assert shown.returncode == 0
    assert re.search(rf"failed +{name} 2\.5".encode(), shown.stdout)
    assert b"\x1b[2J" not in shown.stdout
    assert cli("image", "pull", "--quiet", registry.name("hello:1")).returncode == 0


CLASS = "import aegis_sdk as aegis\nclass Mine:\n    @aegis.hookimpl\n    def aegis_image_sources(self): return ()"


def test_a_class_for_a_plugin(cli, broken):
    """An entry point that names a class is told that it should name an instance."""
    broken("mine", CLASS, "mine = mine:Mine")
    assert "mine:Mine is a class" in _listed(cli)["mine"]["error"]


@pytest.mark.parametrize("name", ["registry", "local"])
def test_a_plugin_of_a_built_in_name(cli, broken, registry, name):
    """A plugin that is called as a built-in part is takes nothing away from it."""
    broken("mine", SOURCE, f"{name} = mine")
    done = cli("plugins", "--json")
    assert done.returncode == 0, done.stderr
    found = [(plugin["name"], plugin["origin"]) for plugin in json.loads(done.stdout)]
    assert [each for each in found if each[0] != "routing"] == [
        ("local", "built in"),
        (name, "mine (mine)"),
        ("registry", "built in"),
    ]
    assert b'"error": ""' in done.stdout
    assert cli("image", "pull", "--quiet", registry.name("hello:1")).returncode == 0


def test_two_plugins_of_one_name(cli, broken):
    """Two packages may give their entry points one name, and both work."""
    broken("first", SOURCE, "tar = first")
    broken("second", SOURCE, "tar = second")
    found = [plugin for plugin in json.loads(cli("plugins", "--json").stdout) if plugin["name"] == "tar"]
    assert sorted(plugin["origin"] for plugin in found) == ["first (first)", "second (second)"]
    assert not any(plugin["error"] for plugin in found)


def test_one_module_by_two_entry_points(cli, broken):
    """A module that is named twice is used once, and the second entry point says why it is not."""
    broken("mine", SOURCE, "one = mine\ntwo = mine")
    plugins = _listed(cli)
    assert plugins["one"]["provides"] == ["image source mine"]
    assert plugins["two"]["error"] == "it is loaded already, as one of mine (mine): one entry point for it is enough"


SOURCE = (
    HOOK
    + """
def aegis_image_sources():
    return (Source(),)

class Source:
    name = "mine"
    remembers = False
    def claims(self, reference):
        if reference == "claims:x": raise KeyError("in claims")
        return reference.startswith("mine:")
    def canonical(self, reference): return reference
    def check(self): raise KeyError("in check")
    def find(self, reference, *, architecture):
        if reference == "mine:nothing": return None
        if reference == "mine:layer":
            image = dict(reference=reference, digest="sha256:" + 64 * "0", architecture=architecture)
            return aegis.FoundImage(**image, config=aegis.ImageConfig(), layers=(Layer(),))
        if reference == "mine:wrong":
            return aegis.FoundImage(reference=reference, digest=5, architecture=architecture, config=None, layers=())
        if reference == "mine:exit": raise SystemExit("in exit")
        raise KeyError("in find")

class Layer:
    digest = "sha256:" + 64 * "1"
    size = 1
    def fetch(self, report): raise KeyError("in fetch")
    def entries(self): return iter(())
"""
)


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        ("mine:x", "in find"),
        ("mine:nothing", "None"),
        ("mine:layer", "in fetch"),
        ("mine:wrong", "FoundImage.digest"),
        ("mine:exit", "in exit"),
    ],
)
def test_a_source_that_fails(cli, broken, reference, reason):
    """A plugin whose image source fails is named by the error, and fails for its own images only."""
    broken("failing", SOURCE)
    done = cli("image", "pull", reference)
    assert done.returncode == 1
    assert b"failing" in done.stderr
    assert reason.encode() in done.stderr
    assert b"Traceback" not in done.stderr
    assert reference not in cli("image", "list").stdout.decode()


def test_what_is_built_in_loads_no_plugin(cli, broken, tmp_path):
    """Who uses an image of this machine does not even import what is installed."""
    broken("marks", f"open({str(tmp_path / 'imported')!r}, 'w').close()")
    assert cli("run", "--", "echo", "works").stdout == b"works\n"
    assert not (tmp_path / "imported").exists()
    cli("plugins")
    assert (tmp_path / "imported").exists()


def test_a_source_that_fails_where_all_are_asked(cli, broken, registry):
    """A plugin that fails while looking at a reference, or in its check, stops neither other images nor the doctor."""
    broken("failing", SOURCE.replace('reference == "claims:x"', "True"))
    done = cli("image", "pull", "--quiet", registry.name("hello:1"))
    assert done.returncode == 0, done.stderr
    doctor = cli("doctor", "--quick")
    assert doctor.returncode == 0
    assert re.search(rb"warning +mine +the plugin failing failed: .*in check", doctor.stdout)


def test_the_doctor_and_what_plugins_say(cli, broken):
    """A plugin that lacks something, or was not loaded, is shown with a warning, as plain text; guests boot without."""
    check = 'aegis.Check(name="server", ok=False, seen="none\\x1b[2J", fix="start\\x1b[2J it")'
    broken("lacking", SOURCE.replace('raise KeyError("in check")', f"return ({check},)"))
    broken("gone", "import there_is_no_such_module")
    doctor = cli("doctor", "--quick")
    assert doctor.returncode == 0
    assert re.search(rb"warning +server +none", doctor.stdout)
    assert re.search(rb"mend it with: start", doctor.stdout)
    assert re.search(rb"warning +plugin +gone", doctor.stdout)
    assert b"\x1b" not in doctor.stdout


def test_builtin_parts_are_listed():
    """In Python, too: what is built in comes as plugins do, without errors."""
    plugins = {plugin.name: plugin for plugin in aegis.list_plugins()}
    assert plugins["local"].provides == tuple(
        f"image source {name}" for name in ("base", "oci", "docker-archive", "dir")
    )
    assert plugins["routing"].provides == ("routing policy built in",)
    assert plugins["registry"].origin == "built in"
    assert not any(plugin.error for plugin in plugins.values())


def test_the_page_names_every_hook():
    """docs/plugins.md has a heading for each hook, with its arguments, and for no other."""
    from aegis_sdk import hookspecs

    specs = {name: value for name, value in vars(hookspecs).items() if hasattr(value, "aegis_spec")}
    assert specs
    page = (ROOT / "docs" / "plugins.md").read_text()
    signatures = {f"{name}({', '.join(inspect.signature(spec).parameters)})" for name, spec in specs.items()}
    assert set(re.findall(r"^### `(.*)`$", page, re.MULTILINE)) == signatures


@pytest.mark.parametrize(("kind", "least"), [(aegis.ImageSource, 6), (aegis.RoutingPolicy, 2)])
def test_the_page_names_every_member(kind, least):
    """docs/plugins.md says of each member of an image source, and of a routing policy, what it is for."""
    page = (ROOT / "docs" / "plugins.md").read_text()
    members = [name for name in vars(kind) if not name.startswith("_")]
    assert len(members) >= least
    for name in members:
        assert re.search(rf"^\| `{name}[`(]", page, re.MULTILINE), name
