"""Apps and secrets, as users hold them, whichever engine has them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import aegis_sdk as aegis

pytestmark = pytest.mark.both_engines


def shortened(name: object) -> str:
    return ascii(name)[:20]


@pytest.fixture(autouse=True)
def nothing_on_record(engine: str) -> Iterator[None]:
    """No app and no secret is there before a test, or after it."""
    assert aegis.App.list() == aegis.Secret.list() == []
    yield
    for app in aegis.App.list():
        app.delete(workspace=True)
    for secret in aegis.Secret.list():
        secret.delete()


def test_an_app_has_a_name_and_an_id():
    """An app is found by its name and by its ID, and lists in the order of names."""
    web = aegis.App.create("web")
    assert aegis.App.get("web") == aegis.App.get(web.id) == web
    assert (web.name, web.workspace.name, web.workspace.parent.name) == ("web", web.id, "workspaces")
    api = aegis.App.create("api")
    assert aegis.App.list() == [api, web]
    assert api.id != web.id


def test_a_name_is_one_apps_alone():
    """A second app of a name is refused, until the first is deleted; then it is another app."""
    first = aegis.App.create("web")
    with pytest.raises(aegis.NameTaken, match="web"):
        aegis.App.create("web")
    first.delete()
    assert aegis.App.create("web").id != first.id
    with pytest.raises(aegis.AppNotFound):
        first.delete()


@pytest.mark.parametrize(
    "name", ["", "Web", "-a", "a-", "a_b", "a.b", "a/b", "..", "a" * 64, "ä", "a\n", "a\0", None, 1], ids=ascii
)
def test_names_that_cannot_be(name):
    """A name is a label of a host name."""
    with pytest.raises(aegis.InvalidValue, match="cannot be a name"):
        aegis.App.create(name)


@pytest.mark.parametrize(
    "name", ["", "none", "app_000000000000", "../web", "' OR 1=1", "\udcff", "a\0", "x" * 10**6, None], ids=shortened
)
def test_apps_that_are_not_there(name):
    """What is no app's name or ID is no app, and the error is short, whatever was asked for."""
    aegis.App.create("web")
    with pytest.raises(aegis.AppNotFound) as caught:
        aegis.App.get(name)
    assert len(str(caught.value)) < 200
    assert "".join(str(caught.value).splitlines()).isprintable()


def test_no_name_is_an_id():
    """No app can be given a name that is another one's ID."""
    with pytest.raises(aegis.InvalidValue):
        aegis.App.create(aegis.App.create("web").id)


def test_an_apps_secrets_as_a_mapping():
    """They are set, deleted, counted, looked for and iterated over by name; none can be read."""
    app = aegis.App.create("web")
    app.secrets["KEY"] = "s3cr3t"
    app.secrets["BYTES"] = b"more"
    assert (list(app.secrets), len(app.secrets)) == (["BYTES", "KEY"], 2)
    assert "KEY" in app.secrets
    assert "NO" not in app.secrets
    with pytest.raises(TypeError, match="read back"):
        app.secrets["KEY"]
    assert "s3cr3t" not in repr(app) + repr(app.secrets)
    del app.secrets["KEY"]
    assert list(app.secrets) == ["BYTES"]
    with pytest.raises(aegis.SecretNotFound):
        del app.secrets["KEY"]


def test_secrets_of_an_app_and_of_all():
    """A secret is set, found, listed and deleted in its scope alone, and shows no value."""
    app = aegis.App.create("web")
    mine = aegis.Secret.set("KEY", "mine", app="web")
    shared = aegis.Secret.set("KEY", b"shared")
    assert (mine.name, mine.app, shared.app) == ("KEY", app.id, None)
    assert aegis.Secret.list(app=app.id) == [aegis.Secret.get("KEY", app="web")] == [mine]
    assert aegis.Secret.list() == [shared]
    assert "mine" not in repr(mine)
    again = aegis.Secret.set("KEY", "again", app="web")
    assert again.info.created == mine.info.created < again.info.updated
    assert aegis.Secret.rotate_key() == 2
    shared.delete()
    assert aegis.Secret.list(app="web") == [again]
    with pytest.raises(aegis.SecretNotFound):
        aegis.Secret.get("KEY")
    for call in (aegis.Secret.list, lambda **scope: aegis.Secret.set("KEY", "", **scope)):
        with pytest.raises(aegis.AppNotFound):
            call(app="none")


@pytest.mark.parametrize(
    "value", ["s3cr3t\0", b"s3cr3t\xff", "s3cr3t" * 20_000, ["s3cr3t"]], ids=["nul", "bytes", "long", "list"]
)
def test_values_that_cannot_be(value):
    """What no environment variable can hold is refused, and not shown."""
    app = aegis.App.create("web")
    with pytest.raises(aegis.InvalidValue, match="a secret's value") as caught:
        app.secrets["KEY"] = value
    assert "s3cr3t" not in str(caught.value)
    assert list(app.secrets) == []
