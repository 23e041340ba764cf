"""Names, words and paths reach a guest as they are, or are refused: none becomes another word on its way."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import aegis_sdk as aegis

NASTY = (
    "",
    " ",
    "-rf",
    "--",
    "$(id)",
    "`id`",
    "a\nb",
    "a\tb",
    "'",
    '"',
    "\\",
    "a;b",
    "a,b",
    "a=b",
    "*",
    "\udcff",
    "\x1b[0m",
    "%s",
    "é",
)
TEXT = st.one_of(
    st.sampled_from(NASTY),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=50),
    st.binary(max_size=50).map(lambda data: data.replace(b"\0", b"").decode("utf-8", "surrogateescape")),
)
NAME = TEXT.filter(lambda text: text and "=" not in text)
# The guest is the same for all that is tried.
in_one_guest = settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


@in_one_guest
@given(words=st.lists(TEXT, max_size=8))
def test_arguments(sandbox, words):
    """Each argument is one argument, byte by byte."""
    done = sandbox.run("sh", "-c", r'printf "%s\0" "$#" "$@"', "sh", *words)
    assert done.stdout_bytes == b"".join(word + b"\0" for word in (b"%d" % len(words), *map(_bytes, words)))


@in_one_guest
@given(env=st.dictionaries(NAME, TEXT, max_size=6))
def test_environment(sandbox, env):
    """Each variable is one variable, whatever is in its name and value."""
    seen = set(sandbox.run("env", "-0", env=env).stdout_bytes.split(b"\0"))
    assert {_bytes(name) + b"=" + _bytes(value) for name, value in env.items()} <= seen
    ours = {b"PATH", b"HOME", b"USER", b"LOGNAME", b"HOSTNAME", *map(_bytes, env)}
    assert {line.partition(b"=")[0] for line in seen if line} == ours


@in_one_guest
@given(name=TEXT)
def test_users_and_directories(sandbox, name):
    """A user and a directory of any name are looked for as they are named, and nothing is run in the place of one."""
    for option in ({"user": f"no-{name}"}, {"cwd": f"/no/{name}x"}):
        done = sandbox.run("echo", "ran", **option)
        assert (done.exit_code, done.stdout) == (125, "")


@pytest.mark.parametrize("name", [name for name in NASTY if name])
@pytest.mark.of_qemu
def test_refused_or_meant(name):
    """A driver, an image and a pull policy of such names do not exist, and are refused before anything is started."""
    for option in ("driver", "pull"):
        with pytest.raises(aegis.InvalidValue):
            aegis.Sandbox(**{option: name})
    with pytest.raises(aegis.AegisError) as caught:
        aegis.Sandbox(f"oci:/no/such/{name}")
    assert isinstance(caught.value, (aegis.ImageNotFound, aegis.InvalidValue))


@pytest.mark.of_qemu
def test_mounts(boot, tmp_path):
    """A directory of any name is the one that is shared, in a place of any name."""
    names = ["--daemonize", "a\nb", "$(id),source=x", "x\\:ro\udcff"]
    for number, name in enumerate(names):
        (tmp_path / name).mkdir()
        (tmp_path / name / "which").write_text(str(number))
    vm = boot(mounts={f"/mnt/{name}": tmp_path / name for name in names})
    for number, name in enumerate(names):
        assert vm.run("cat", f"/mnt/{name}/which").stdout == str(number)
