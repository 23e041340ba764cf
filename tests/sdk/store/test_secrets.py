"""Secrets: who gets them, what they may be, and what happens when their key is not the right one."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType

import pytest

import aegis_sdk as aegis
from tests.sdk.store.homes import change, engine_at

VALUE = "s3cr3t-" * 9


@pytest.fixture
def web(local) -> str:
    """An app with a secret of its own, beside one of all apps."""
    made: aegis.AppInfo = local.apps.create("web", aegis.AppSpec())
    local.secrets.set("KEY", VALUE.encode(), app="web")
    local.secrets.set("SHARED", b"for all", app=None)
    return made.id


def test_who_gets_which(local, web):
    """An app's guests get what is for all apps, and over it what is the app's own; others get nothing of it."""
    local.apps.create("other", aegis.AppSpec())
    local.secrets.set("KEY", b"of all", app=None)
    assert local.secrets.environment("web") == local.secrets.environment(web) == {"KEY": VALUE, "SHARED": "for all"}
    assert local.secrets.environment("other") == {"KEY": "of all", "SHARED": "for all"}
    assert local.secrets.environment(None) == {}
    with pytest.raises(aegis.AppNotFound):
        local.secrets.environment("none")


def test_replace_and_delete(local, web):
    """A secret that is set again is the same one with a new value; a deleted one is gone, and only it."""
    (before,) = local.secrets.list(app="web")
    after = local.secrets.set("KEY", b"new", app=web)
    assert (after.name, after.app, after.created) == ("KEY", web, before.created)
    assert after.updated > before.updated
    assert local.secrets.environment("web")["KEY"] == "new"
    local.secrets.delete("KEY", app="web")
    assert local.secrets.environment("web") == {"SHARED": "for all"}
    for app in ("web", None):
        with pytest.raises(aegis.SecretNotFound, match="KEY"):
            local.secrets.delete("KEY", app=app)


def test_an_apps_secrets_go_with_it(local, web):
    """Deleting an app deletes its secrets, and a new app of that name has none of them."""
    local.apps.delete("web", workspace=False)
    local.apps.create("web", aegis.AppSpec())
    assert local.secrets.list(app="web") == ()
    assert local.secrets.environment("web") == {"SHARED": "for all"}


@pytest.mark.parametrize("value", ["", "ä\n\t'\"$(x)", "\U0001f511", "x" * (64 << 10)], ids=len)
def test_values(local, web, value):
    """A value is any text that an environment variable holds, up to 64 KiB of it."""
    local.secrets.set("KEY", value.encode(), app="web")
    assert local.secrets.environment("web")["KEY"] == value


REFUSED = [f"{VALUE}\0", f"{VALUE}\udcff", VALUE.encode() + b"\xff", VALUE * 2000, [VALUE]]


@pytest.mark.parametrize("value", REFUSED, ids=["nul", "surrogate", "bytes", "long", "list"])
def test_values_that_cannot_be(local, web, value):
    """What no variable can hold is refused, and neither the error nor what our code knew of it shows the value."""
    for call in (lambda: aegis.Secret.set("KEY", value, app="web", engine=local), lambda: assign(local, value)):
        with pytest.raises(aegis.InvalidValue) as caught:
            call()
        shown_by(caught.value, caught.tb)
    assert local.secrets.environment("web")["KEY"] == VALUE


def assign(local, value):
    aegis.App.get("web", engine=local).secrets["KEY"] = value


def shown_by(error: BaseException, tb: TracebackType | None) -> None:
    """Nothing of the value is in the error, in those that led to it, or in what our frames hold.

    But for the first: it was called with the value, by one that has it, too.
    """
    assert VALUE not in repr(error) + str(error) + repr(error.__context__)
    frames = [frame for frame, _ in traceback.walk_tb(tb) if "aegis_sdk" in frame.f_code.co_filename]
    assert len(frames) > 1
    assert not [frame for frame in frames[1:] if VALUE in repr(frame.f_locals)]


def test_a_failed_write_shows_no_value(local, web, empty):
    """Where a secret cannot be written, nothing that our frames hold shows it either."""
    change(empty, "PRAGMA user_version = 99")
    with pytest.raises(aegis.StoreFailed) as caught:
        aegis.Secret.set("KEY", VALUE, app="web", engine=local)
    shown_by(caught.value, caught.tb)


@pytest.mark.parametrize("name", ["", "A-B", "1A", "A=B", "A\n", "Ä", "A" * 129, None])
def test_names_that_cannot_be(local, name):
    """A name is an environment variable's."""
    with pytest.raises(aegis.InvalidValue, match="name of a secret"):
        local.secrets.set(name, b"", app=None)


def test_the_key_file_is_for_its_user_alone(local, web, empty):
    """The key is made on first use, with mode 0600 whatever the umask, and stays the same."""
    other = empty.parent / "other"
    before = os.umask(0)
    try:
        engine_at(other).secrets.set("KEY", b"", app=None)
    finally:
        os.umask(before)
    assert stat.S_IMODE((other / "master.key").stat().st_mode) == 0o600
    key = (empty / "master.key").read_bytes()
    engine_at(empty).secrets.set("MORE", b"", app=None)
    assert (empty / "master.key").read_bytes() == key != (other / "master.key").read_bytes()


@pytest.mark.timeout(60)
def test_many_make_the_first_key(local, empty):
    """Of several processes that set the first secrets at once, all use one key."""
    script = (
        "import sys\n"
        "from tests.sdk.store.homes import engine_at\n"
        "import cryptography.hazmat.primitives.ciphers.aead\n"
        "print(flush=True); sys.stdin.readline()\n"
        "engine_at(sys.argv[1]).secrets.set(f'KEY_{sys.argv[2]}', sys.argv[2].encode(), app=None)\n"
    )
    words = [[sys.executable, "-c", script, str(empty), str(number)] for number in range(6)]
    started = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for command in words]
    for process in started:
        process.stdout.readline()
    with ThreadPoolExecutor(len(started)) as pool:
        assert not any(pool.map(lambda process: process.communicate(b"\n") and process.returncode, started))
    local.apps.create("web", aegis.AppSpec())
    assert local.secrets.environment("web") == {f"KEY_{number}": str(number) for number in range(6)}


def lost(local, *, name: str = "KEY") -> aegis.SecretUnreadable:
    with pytest.raises(aegis.SecretUnreadable, match=f"the secret {name} of ") as caught:
        local.secrets.environment("web")
    return caught.value


def test_a_key_that_is_gone(local, web, empty):
    """Without the key, secrets cannot be read, and all else works; the doctor says so; who sets one again mends it."""
    (empty / "master.key").rename(empty.parent / "elsewhere")
    assert "is gone" in lost(local).message
    assert "`aegis secret set web KEY`" in lost(local).hint
    with pytest.raises(aegis.SecretUnreadable):
        local.secrets.rotate_key()
    assert [secret.name for secret in local.secrets.list(app="web")] == ["KEY"]
    assert local.apps.create("more", aegis.AppSpec()).name == "more"
    found = [check for check in local.check() if check.name == "master key"]
    assert {check.seen.partition(" cannot")[0] for check in found} == {
        "the secret KEY of app web",
        "the secret SHARED of all apps",
    }
    assert not any(check.ok or check.required for check in found)
    local.secrets.set("KEY", b"new", app="web")
    local.secrets.set("SHARED", b"again", app=None)
    assert local.secrets.environment("web") == {"KEY": "new", "SHARED": "again"}
    assert all(check.ok for check in local.check() if check.name == "master key")


def test_a_key_that_is_another(local, web, empty):
    """With a key of another home, the error says that it is another; what is set again can be read."""
    engine_at(empty.parent / "other").secrets.set("KEY", b"", app=None)
    (empty.parent / "other" / "master.key").replace(empty / "master.key")
    assert "another key" in lost(local).message
    local.secrets.set("KEY", b"new", app="web")
    assert "`aegis secret set-workspace SHARED`" in lost(local, name="SHARED").hint
    local.secrets.delete("SHARED", app=None)
    assert local.secrets.environment("web") == {"KEY": "new"}


def test_a_damaged_key_file(local, web, empty):
    """A key file that is none is said to be none, and put aside when a new key is needed."""
    file = empty / "master.key"
    whole = file.read_bytes()
    for damaged in (b"", whole[:-9], whole.replace(b"1", b"2", 1), b"\xff" * 99):
        file.write_bytes(damaged)
        assert "damaged" in lost(local).message
    local.secrets.set("KEY", b"new", app="web")
    assert "another key" in lost(local, name="SHARED").message
    assert (empty / "master.key.damaged").read_bytes() == damaged


def test_a_key_file_that_cannot_be_written(local, web, empty):
    """Where no key file can be written, the error names it; secrets are what they were."""
    key = (empty / "master.key").read_bytes()
    (empty / "master.key").write_bytes(b"damaged")
    (empty / "master.key.damaged").mkdir()
    with pytest.raises(aegis.StoreFailed, match=f"{empty}/master.key cannot be written"):
        local.secrets.set("KEY", b"new", app="web")
    (empty / "master.key").write_bytes(key)
    assert local.secrets.environment("web")["KEY"] == VALUE


def test_no_room_for_a_key_file(local, web, empty, monkeypatch):
    """Where a new key finds no room on the disk, nothing of it is left, and secrets are what they were."""

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = sorted(empty.iterdir())
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(aegis.StoreFailed, match="No space left"):
            local.secrets.rotate_key()
    assert sorted(empty.iterdir()) == before
    assert local.secrets.environment("web")["KEY"] == VALUE


def test_a_pipe_in_the_place_of_the_key_file(local, web, empty):
    """Nobody waits for who might write to a pipe: it is no key file, and put aside as any that is none."""
    (empty / "master.key").unlink()
    os.mkfifo(empty / "master.key", 0o600)
    assert "damaged" in lost(local).message
    local.secrets.set("KEY", b"new", app="web")
    assert stat.S_ISFIFO((empty / "master.key.damaged").stat().st_mode)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o606])
def test_a_key_file_that_others_may_open(local, web, empty, mode):
    """A key file that is open to others is not used, and the error gives the command that closes it."""
    file = empty / "master.key"
    file.chmod(mode)
    command = f"chmod 600 {file}"
    assert lost(local).hint.startswith(command)
    with pytest.raises(aegis.StoreFailed, match="open to other users"):
        local.secrets.set("KEY", b"new", app="web")
    (check,) = (check for check in local.check() if check.name == "master key")
    assert check.fix.startswith(command)
    subprocess.run(command.split(), check=True)
    assert local.secrets.environment("web")["KEY"] == VALUE


def test_a_key_file_that_is_kept_elsewhere(local, web, empty):
    """A link to the key is followed, and stays a link when the key is rotated."""
    elsewhere = empty.parent / "elsewhere"
    (empty / "master.key").rename(elsewhere)
    (empty / "master.key").symlink_to(elsewhere)
    before = elsewhere.read_bytes()
    assert local.secrets.rotate_key() == 2
    assert local.secrets.environment("web")["KEY"] == VALUE
    assert (empty / "master.key").is_symlink()
    assert elsewhere.read_bytes() != before


TAMPERED = {
    "name": "name = 'MINE'",
    "app": "app = (SELECT id FROM apps WHERE name = 'evil')",
    "all apps": "app = NULL",
    "ciphertext": "ciphertext = zeroblob(80)",
    "no ciphertext": "ciphertext = x''",
    "nonce": "nonce = zeroblob(12)",
    "no nonce": "nonce = x''",
    "value": "(nonce, ciphertext) = (SELECT nonce, ciphertext FROM secrets WHERE app IS NULL)",
}


@pytest.mark.parametrize("what", TAMPERED)
def test_a_record_that_was_tampered_with(local, web, empty, what):
    """A record cannot be given another value, name or app by who does not have the key: it is not read then."""
    local.apps.create("evil", aegis.AppSpec())
    change(empty, f"UPDATE secrets SET {TAMPERED[what]} WHERE name = 'KEY'")
    with pytest.raises(aegis.SecretUnreadable, match="has changed it on record") as caught:
        local.secrets.environment("evil" if what == "app" else "web")
    assert VALUE not in str(caught.value)
    assert caught.value.hint.startswith("set it again: `aegis secret set")


def test_nothing_on_disk_shows_a_value(local, web, empty):
    """No file of a home holds a value, while it is used and after."""
    with local.secrets.records.database.read():  # so that what was written ahead stays beside the records
        local.secrets.set("KEY", VALUE[::-1].encode(), app="web")
        local.secrets.rotate_key()
        files = {path.name: path.read_bytes() for path in empty.rglob("*") if path.is_file()}
    assert {"aegis.db", "aegis.db-wal", "master.key"} <= set(files)
    values = [value.encode() for value in (VALUE, VALUE[::-1])]
    for name, held in files.items():
        assert not [value for value in values if value in held or value.hex().encode() in held], name
