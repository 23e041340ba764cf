"""References are read as docker reads them, and nothing else is taken for one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis_sdk.errors import InvalidValue
from aegis_sdk.images.registry.reference import Reference, parse

DIGEST = f"sha256:{'0a' * 32}"


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("alpine", "docker.io/library/alpine:latest"),
        ("python:3.12-alpine", "docker.io/library/python:3.12-alpine"),
        ("owner/name", "docker.io/owner/name:latest"),
        ("docker.io/alpine", "docker.io/library/alpine:latest"),
        ("index.docker.io/alpine:3", "docker.io/library/alpine:3"),
        ("ghcr.io/o/n:T_a.g-1", "ghcr.io/o/n:T_a.g-1"),
        ("GHCR.io/o/n", "ghcr.io/o/n:latest"),
        ("localhost/x", "localhost/x:latest"),
        ("localhost:5000/x:y", "localhost:5000/x:y"),
        ("registry:5000/a/b/c", "registry:5000/a/b/c:latest"),
        ("[::1]:5000/x", "[::1]:5000/x:latest"),
        ("registry/x", "docker.io/registry/x:latest"),
        (f"alpine@{DIGEST}", f"docker.io/library/alpine@{DIGEST}"),
        (f"localhost:5000/x:y@{DIGEST}", f"localhost:5000/x@{DIGEST}"),
        ("a.b/c__d/e-f---g/h.i", "a.b/c__d/e-f---g/h.i:latest"),
        (f"a.b/{'n' * 255}", f"a.b/{'n' * 255}:latest"),
    ],
)
def test_docker_spellings(text, full):
    """A short reference stands for the full one that docker makes of it; a digest wins over a tag."""
    assert str(parse(text)) == full
    assert parse(full) == parse(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        ("../x", "path"),
        ("./x", "path"),
        ("/x", "path"),
        ("~/x", "path"),
        ("a.b/../x", "'..' cannot be part"),
        ("a.b/x/../../y", "'..' cannot be part"),
        ("a.b//x", "'' cannot be part"),
        ("a.b/", "'' cannot be part"),
        ("Alpine", "lower case"),
        ("a.b/C", "lower case"),
        ("al pine", "' '"),
        ("alpine\n", r"'\\n'"),
        ("alpine\0", r"'\\x00'"),
        ("alpine\x1b[0m", r"'\\x1b'"),
        ("alpine:", "no tag"),
        ("alpine:-x", "no tag"),
        (f"alpine:{'t' * 129}", "no tag"),
        ("alpine:a:b", "no tag"),
        ("alpine@", "no digest"),
        ("alpine@sha256:../../x", "no digest"),
        (f"alpine@sha256:{'0A' * 32}", "no digest"),
        (f"alpine@md5:{'0' * 32}", "no digest"),
        (f"alpine@{DIGEST}@{DIGEST}", "no digest"),
        ("https://ghcr.io/o/n", "no scheme"),
        ("docker://alpine", "no scheme"),
        ("a.b:0/x", "registry's host"),
        ("a.b:99999/x", "registry's host"),
        ("a.b:http/x", "registry's host"),
        ("user:password@a.b/x", "no digest"),
        ("-a.b/x", "registry's host"),
        (f"{'a' * 64}.b/x", "registry's host"),
        (f"a.b/{'n' * 256}", "longer than 255"),
        ("alpine_", "cannot be part"),
        ("_alpine", "cannot be part"),
        ("\N{FULLWIDTH LATIN SMALL LETTER A}lpine", "cannot be part"),
        ("a" * 5000, "5000"),
    ],
)
def test_what_is_no_reference(text, words):
    """What docker would not take either is refused, in words that name what is wrong."""
    with pytest.raises(InvalidValue, match=words):
        parse(text)


@pytest.mark.parametrize(
    ("text", "instead"),
    [
        ("https://ghcr.io/o/n:1", "ghcr.io/o/n:1"),
        ("docker://alpine", "alpine"),
        ("Alpine:LTS", "alpine:LTS"),
        ("a.b/Owner/Name", "a.b/owner/name"),
    ],
)
def test_what_to_write_instead(text, instead):
    """The hint spells the reference that was probably meant."""
    with pytest.raises(InvalidValue) as caught:
        parse(text)
    assert caught.value.hint.endswith(f"write {instead}")


@pytest.mark.parametrize(
    ("text", "instead"),
    [
        ("./hello.tar", "docker-archive:./hello.tar"),
        ("./hello.tar:app", "docker-archive:./hello.tar:app"),
        ("./imgs/layout", "oci:./imgs/layout"),
        ("./imgs/layout:v1", "oci:./imgs/layout:v1"),
        ("./imgs", "dir:./imgs"),
        ("~/imgs", "dir:{home}/imgs"),
    ],
)
def test_what_a_path_is_for(tmp_path, monkeypatch, text, instead):
    """The hint for a path names the scheme of what is there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "hello.tar").touch()
    (tmp_path / "imgs/layout").mkdir(parents=True)
    (tmp_path / "imgs/layout/oci-layout").touch()
    with pytest.raises(InvalidValue, match="looks like a path") as caught:
        parse(text)
    assert caught.value.hint.endswith(f"write {instead.format(home=tmp_path)}")


@pytest.mark.parametrize("text", ["./gone.tar", "~nobody-of-that-name/x", "./a\0b", "/" + "a" * 300])
def test_a_path_to_nothing(tmp_path, monkeypatch, text):
    """A path that leads to nothing is said to do so."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidValue, match="there is no such file"):
        parse(text)


NAMES = st.from_regex(r"[a-z0-9]{1,8}((\.|_|__|-{1,3})[a-z0-9]{1,8}){0,2}", fullmatch=True)
HOSTS = st.from_regex(r"[a-z0-9]{1,8}(-[a-z0-9]{1,4})?\.[a-z]{2,4}(:[1-9][0-9]{0,3})?|localhost", fullmatch=True)
TAGS = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,30}", fullmatch=True)
HEX = st.text("0123456789abcdef", min_size=64, max_size=64)


@given(host=HOSTS, names=st.lists(NAMES, min_size=1, max_size=4), tag=TAGS, value=st.none() | HEX)
def test_round_trip(host, names, tag, value):
    """Every reference reads as itself from its own text."""
    chosen = {"digest": f"sha256:{value}"} if value else {"tag": tag}
    reference = Reference(registry=host, repository="/".join(names), **chosen)
    assert parse(str(reference)) == reference


@given(st.text(max_size=80) | st.from_regex(r"[a-zA-Z0-9./:@_-]{0,60}", fullmatch=True))
def test_anything_at_all(text):
    """Any text is a reference that is safe in a URL's path, or InvalidValue."""
    try:
        reference = parse(text)
    except InvalidValue:
        return
    assert parse(str(reference)) == reference
    assert not {"", ".", ".."} & set(reference.repository.split("/"))
    assert set(reference.repository) <= set("abcdefghijklmnopqrstuvwxyz0123456789/._-")
