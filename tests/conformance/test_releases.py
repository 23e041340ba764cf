"""Releases: what is published of an app never changes, and its image stays; and the way to them in Python."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator

import attrs
import pytest

import aegis_sdk as aegis
from aegis_sdk.config import Config
from aegis_sdk.engine.base import Engine
from aegis_sdk.engine.connect import engine_here
from aegis_sdk.engine.local import LocalEngine
from tests.conftest import until

pytestmark = [pytest.mark.both_engines]
HTTPD = ("httpd", "-f", "-p", "127.0.0.1:8000", "-h", "/workspace")


@pytest.fixture
def used(engine: str) -> Iterator[Engine]:
    """The engine of a test, without apps before and after it."""
    made = engine_here() if engine == "remote" else LocalEngine(Config.from_environment())
    assert aegis.App.list(engine=made) == []
    yield made
    for app in aegis.App.list(engine=made):
        app.delete(workspace=True)
    if isinstance(made, LocalEngine):
        made.close()


def test_what_an_app_is_to_be(used):
    """Each option has its place, and an update changes what it names, and nothing else."""
    app = aegis.App.create(
        "web",
        image="dir:image",
        command=HTTPD,
        expose=[8000, "15432:5432/tcp"],
        env={"A": "1"},
        readiness_timeout=5,
        idle=2.5,
        memory=256,
        mounts={"/data": "/tmp"},
        engine=used,
    )
    spec = app.info.spec
    assert (spec.command, spec.env, spec.idle, spec.stop_after) == (HTTPD, {"A": "1"}, 2.5, 1200)
    assert [str(port) for port in spec.expose] == ["8000", "15432:5432/tcp"]
    assert (spec.readiness.timeout, spec.readiness_port, spec.sandbox.memory) == (5, 8000, 256)
    assert spec.sandbox.image.startswith("dir:/")
    updated = app.update(readiness_port=5432, stop_after=None, image="base", env={})
    assert aegis.App.get("web", engine=used) == updated
    readiness = attrs.evolve(spec.readiness, port=5432)
    sandbox = attrs.evolve(spec.sandbox, image="base")
    assert updated.info.spec == attrs.evolve(spec, readiness=readiness, stop_after=None, sandbox=sandbox, env={})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"command": "httpd -f"}, "a list of words"),
        ({"expose": 8000}, "a list of ports"),
        ({"expose": [8000, 8000]}, "exposed twice"),
        ({"expose": ["1:80/tcp", "1:81/tcp"]}, "given to two ports"),
        ({"expose": ["8000/udp"]}, "not a port|http or tcp"),
        ({"env": ["A=1"]}, "must map names"),
        ({"idle": 0}, "must be seconds"),
        ({"readiness_timeout": 4000}, "3600"),
        ({"idle": 10**400}, "must be seconds"),
        ({"readiness_interval": None}, "must be"),
        ({"memory": 1}, "memory"),
        ({"writable": "yes"}, "True or False"),
        ({"driver": 5}, "must be text"),
        ({"mounts": {"/workspace": "/tmp"}}, "workspace"),
        ({"mounts": {f"/{name}": "/tmp" for name in "abcd"}}, "3 other mounts"),
        ({"image": ""}, "reference"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_what_no_app_can_be(used, options, words):
    """What cannot be meant is refused, and nothing is put on record."""
    with pytest.raises(aegis.InvalidValue, match=words):
        aegis.App.create("web", engine=used, **options)
    assert not aegis.App.list(engine=used)


def test_an_option_that_there_is_not(used):
    """A misspelt option is answered with the nearest right one."""
    with pytest.raises(TypeError, match="did you mean 'expose'"):
        aegis.App.create("web", engine=used, exposes=[8000])  # type: ignore[call-arg]


def test_a_release_is_frozen(used):
    """It has its image by digest, and its number; what becomes of the app afterwards is the next one's."""
    app = aegis.App.create("web", command=HTTPD, expose=[8000], env={"A": "1"}, engine=used)
    first = app.publish(label="v1")
    app.update(command=["true"], env={"A": "2"}, expose=[9000])
    second = app.publish()
    assert app.releases() == [first, second]
    assert [(one.number, one.label, one.app) for one in (first, second)] == [(1, "v1", app.id), (2, None, app.id)]
    assert (first.spec.command, first.spec.env) == (HTTPD, {"A": "1"})
    assert (second.spec.command, second.spec.env) == (("true",), {"A": "2"})
    assert first.spec.sandbox.digest == aegis.Image.get("base", engine=used).info.digest
    with pytest.raises(aegis.NameTaken, match="v1"):
        app.publish(label="v1")
    for label in ("", " v1", "a\n", "x" * 129, first.id):
        with pytest.raises(aegis.InvalidValue, match="label"):
            app.publish(label=label)
    for missing in ("v2", "rel_000000000000"):
        with pytest.raises(aegis.ReleaseNotFound):
            app.serve(release=missing)
    assert len(app.releases()) == 2


def test_what_cannot_be_published(used):
    """An app without a command, where its image has none, or without a port, is refused in words that mend it."""
    app = aegis.App.create("web", command=HTTPD, engine=used)
    with pytest.raises(aegis.InvalidValue, match="exposes no port"):
        app.publish()
    app.update(command=[], expose=[8000])
    with pytest.raises(aegis.InvalidValue, match="no command, and its image base has none") as caught:
        app.publish()
    assert caught.value.hint == "aegis app update web -- COMMAND"
    app.update(image="nothing-of-that-name:1", pull="never")
    with pytest.raises(aegis.ImageNotFound):
        app.publish()
    assert app.releases() == []
    with pytest.raises(aegis.ReleaseNotFound, match="no release yet"):
        app.serve()
    with pytest.raises(aegis.NotServed):
        list(app.logs())
    app.stop()
    assert app.instances() == []


@pytest.mark.timeout(60)
def test_an_image_that_moves_on(registry, empty_home, engine):
    """A release boots its own image when the tag means another, and that is gone; its app's end frees what it took."""
    used = engine_here()
    moving = registry.push("hello", f"released:{engine}")
    app = aegis.App.create("web", image=moving, expose=[8000], engine=used)
    release = app.publish()
    with pytest.raises(aegis.ImageInUse, match=f"release {release.id} of app web needs"):
        aegis.Image.get(moving, engine=used).remove()
    registry.push("python", f"released:{engine}")
    newer = aegis.Image.pull(moving, engine=used)
    assert newer.info.digest != release.spec.sandbox.digest
    newer.remove()
    assert aegis.Image.prune(unused=True, older_than=0, engine=used).images == ()
    info = used.create(release.spec.sandbox, report=lambda _: None)
    used.remove(info.id)
    assert info.config.command + info.config.entrypoint == release.spec.command
    app.delete()
    assert not list((empty_home / "data" / "images" / "disks").iterdir())
    with pytest.raises(aegis.ImageNotFound):
        used.create(release.spec.sandbox, report=lambda _: None)


@pytest.mark.timeout(60)
def test_serving_from_python(used):
    """An app is served in a with block: asked by HTTP, looked into, its log read; at the end of the block it stops."""
    app = aegis.App.create("web", command=HTTPD, expose=[8000], engine=used)
    app.workspace.mkdir(parents=True)
    (app.workspace / "index.html").write_text("hello from the workspace")
    release = app.publish(label="v1")
    with app.serve(release=release) as instance:
        assert instance.state is aegis.InstanceState.RUNNING
        assert (instance.app, instance.release, instance.label) == ("web", release.id, "v1")
        with urllib.request.urlopen(instance.url, timeout=30) as answer:
            assert answer.read() == b"hello from the workspace"
        with instance.sandbox as vm:
            assert vm.run("cat", "/workspace/index.html").stdout == "hello from the workspace"
        assert instance.state is aegis.InstanceState.RUNNING
        (found,) = aegis.App.get("web", engine=used).instances()
        assert (found.id, found.url) == (instance.id, instance.url)
        assert any("v1 is ready" in entry.text for entry in instance.logs())
        following = app.logs(follow=True)
        assert next(following).sequence == 1
    assert "stopped" in [entry.text for entry in following][-1]
    assert instance.state is aegis.InstanceState.STOPPED
    with pytest.raises(aegis.NotServed):
        instance.wake()
    assert until(lambda: app.instances() == [], 5)
    app.delete(workspace=True)
    instance.stop()  # as the end of its block does, in which its app may have been deleted
