"""Images from registries and from this machine, as guests see them."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

import aegis_sdk as aegis
from tests.conftest import AEGIS, until
from tests.images_made import FOREIGN, GUEST, skopeo
from tests.images_world import PASSWORD, disks

pytestmark = [pytest.mark.contents, pytest.mark.timeout(60)]  # Python in software emulation, on a busy machine

LAYERS = 3  # of the image python


def _layers_fetched(heard: list[str], manifest: dict[str, Any]) -> list[str]:
    digests = {layer["digest"] for layer in manifest["layers"]}
    return [digest for line in heard if line.startswith("GET") and (digest := line.rpartition("/")[2]) in digests]


def test_python_from_a_registry(registry, boot):
    """An image of a registry boots by its name, and its Python computes."""
    vm = boot(image=registry.name("python:1"))
    assert vm.run("python3", "-c", "print(1+1)").stdout == "2\n"


def test_what_is_known_of_an_image(registry, images, empty_home):
    """A pulled image is listed with its full name, digest, settings, layers and sizes."""
    before = time.time()
    pulled = aegis.Image.pull(registry.name("python:1"))
    assert [image.reference for image in aegis.Image.list()] == [registry.name("python:1")]
    info = aegis.Image.get(registry.name("python:1")).info
    assert info == pulled.info
    assert (info.digest, info.architecture) == (images.digest("python"), GUEST)
    config = images.json(images.manifest("python")["config"]["digest"])
    assert info.created == config["created"]
    assert [layer.digest for layer in info.layers] == config["rootfs"]["diff_ids"]
    assert [layer.size for layer in info.layers] == [layer["size"] for layer in images.manifest("python")["layers"]]
    assert info.config.env == {"PATH": "/usr/bin:/srv", "GREETING": "hello from the image", "EMPTY": ""}
    assert (info.config.cwd, info.config.user) == ("/app/below", "")
    assert info.config.entrypoint == ("python3", "-u")
    assert info.config.command == ("-c", "print('nothing was asked for')")
    assert before <= info.pulled <= info.used <= time.time()
    (disk,) = disks(empty_home)
    assert 0 < info.disk_bytes <= disk.stat().st_blocks * 512


def test_an_image_is_removed(registry, empty_home):
    """What is removed is not there any more, by any name, and takes no space."""
    image = aegis.Image.pull(registry.name("python:1"))
    image.remove()
    assert not aegis.Image.list()
    assert not disks(empty_home)
    assert _size(empty_home) < 100_000
    for action in (lambda: aegis.Image.get(image.reference), image.remove):
        with pytest.raises(aegis.ImageNotFound):
            action()


def _size(home: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in home.rglob("*") if path.is_file())


def test_an_image_in_use_is_not_removed(registry, empty_home, boot):
    """An image stays as long as a sandbox uses it, and can be removed afterwards."""
    image = aegis.Image.pull(registry.name("python:1"))
    with boot(image=image) as vm:
        with pytest.raises(aegis.ImageInUse):
            image.remove()
        assert aegis.Image.prune(unused=True, older_than=0).images == ()
        assert vm.run("cat", "/etc/group").ok
    image.remove()
    assert not disks(empty_home)


def test_a_cached_image_needs_no_network(registry, boot):
    """Booting what is here asks nobody anything."""
    aegis.Image.pull(registry.name("hello:1"))
    with registry.listening() as heard:
        boot(image=registry.name("hello:1"))
        boot(image=registry.name("hello:1"), pull="never")
        aegis.Image.pull(registry.name("hello:1"), policy="missing")
        assert aegis.Image.get(registry.name("hello:1"))
    assert heard == []


def test_always_asks(registry, images, empty_home):
    """A pull asks what its name means now, and fetches no layer that is here."""
    aegis.Image.pull(registry.name("python:1"))
    with registry.listening() as heard:
        aegis.Image.pull(registry.name("python:1"))
    assert any("/manifests/" in line for line in heard)
    assert not _layers_fetched(heard, images.manifest("python"))


def test_never_asks(registry, empty_home):
    """Who wants no network gets what is here, or an error, and no request is made."""
    with registry.listening() as heard, pytest.raises(aegis.ImageNotFound, match="hello:1"):
        aegis.Image.pull(registry.name("hello:1"), policy="never")
    assert heard == []


def test_two_tags_of_one_image_share_everything(registry, images, empty_home):
    """A second tag of an image costs no layer and no disk; it stays when the first one is removed."""
    first = aegis.Image.pull(registry.name("python:1"))
    before = disks(empty_home)
    with registry.listening() as heard:
        second = aegis.Image.pull(registry.name("python:same"))
    assert not _layers_fetched(heard, images.manifest("python"))
    assert disks(empty_home) == before
    assert second.info.digest == first.info.digest
    first.remove()
    assert disks(empty_home) == before
    assert [image.reference for image in aegis.Image.list()] == [second.reference]


@pytest.mark.parametrize("tag", ["python", "odd"])
def test_one_disk_whatever_way_an_image_came(registry, images, tag, empty_home, monkeypatch):
    """From a registry, as Docker's format and as zstd, from an OCI layout and from docker save: the same bytes."""
    work = empty_home.parent
    archive = f"docker-archive:{work / 'saved.tar'}"
    skopeo(images.reference(tag), f"{archive}:{tag}:1")
    roads = [
        registry.name(f"{tag}:1"),
        registry.push(tag, f"{tag}-docker:1", "--format", "v2s2"),
        registry.push(tag, f"{tag}-zstd:1", "--dest-compress-format", "zstd"),
        images.reference(tag),
        archive,
    ]
    for reference in roads:
        aegis.Image.pull(reference)
        assert len(disks(empty_home)) == 1, reference
    found: list[str] = []
    for number, reference in enumerate(roads):
        home = work / f"home-{number}"
        monkeypatch.setenv("AEGIS_HOME", str(home))
        aegis.Image.pull(reference)
        found += disks(home).values()
    assert len(found) == len(roads)
    assert len(set(found)) == 1


def test_an_images_defaults(registry, boot):
    """Variables, directory and user of the image hold for commands, also for a directory that the image lacks."""
    vm = boot(image=registry.name("python:user"))
    done = vm.shell('echo "$GREETING|${EMPTY-unset}|$PATH|$HOME"; pwd; id -u; id -g; ls -ldn .')
    assert done.stdout.splitlines()[:4] == [
        "hello from the image||/usr/bin:/srv|/home/app",
        "/app/below",
        "1234",
        "2345",
    ]
    assert done.stdout.splitlines()[4].split()[:4:2] == ["drwxr-xr-x", "0"]
    assert vm.run("greet").stdout == "hello from the image\n"


def test_defaults_are_overridden(registry, boot):
    """What the caller says goes before what the image says; the rest of the image's words stays."""
    vm = boot(image=registry.name("python:user"))
    script = 'echo "$GREETING $PATH"; pwd; id -u'
    done = vm.shell(script, env={"GREETING": "mine"}, cwd="/srv", user="root")
    assert done.stdout.splitlines() == ["mine /usr/bin:/srv", "/srv", "0"]


def test_a_directory_that_cannot_be(images, boot):
    """An image whose directory cannot be made boots; a command that would start there says what is wrong."""
    images.configure("hello", "no-directory", "--config.workingdir=/busybox/below")
    vm = boot(image=images.reference("no-directory"))
    done = vm.run()
    assert done.exit_code == 125
    assert "/busybox/below" in done.stderr
    assert vm.run("/busybox", "echo", "hello", cwd="/").stdout == "hello\n"


def test_an_images_own_command(registry, boot):
    """Without a command, ENTRYPOINT and CMD run; a caller's words take the place of both."""
    vm = boot(image=registry.name("python:1"))
    assert vm.run().stdout == "nothing was asked for\n"
    with vm.start() as process:
        assert process.wait() == 0
    assert vm.run("sh", "-c", "echo $0").stdout == "sh\n"


def test_no_command_at_all(sandbox):
    """An image without a command of its own wants one."""
    with pytest.raises(aegis.InvalidValue, match="no command"):
        sandbox.run()


def test_an_image_is_an_image(registry, boot):
    """A sandbox takes an image that was pulled as well as its name."""
    assert boot(image=aegis.Image.pull(registry.name("hello:1"))).run().stdout == "hello from scratch\n"


@pytest.mark.parametrize("name", ["foreign:1", "foreign-index:1"])
def test_another_architecture(registry, images, empty_home, name):
    """An image for other machines is refused by what it is for, before any layer is fetched."""
    with registry.listening() as heard, pytest.raises(aegis.ArchitectureNotFound) as caught:
        aegis.Image.pull(registry.name(name))
    message = f"no linux/{GUEST} variant found in {registry.name(name)} (has: linux/{FOREIGN})"
    assert caught.value.message == message
    assert heard
    assert not _layers_fetched(heard, images.manifest("foreign"))
    assert not aegis.Image.list()


def test_an_index_of_several(registry, images, boot):
    """Of an image for several machines, the one for this machine is taken."""
    vm = boot(image=registry.name("multi:1"))
    assert vm.run().stdout == "hello from scratch\n"


SCRATCH = """
cat /proc/self/comm /proc/sys/kernel/hostname /etc/hostname; hostname
[ -d /sys/kernel ] && [ -c /dev/pts/ptmx ] && [ -c /dev/null ] && [ -L /dev/fd ] && echo devices
grep -c -e ' /proc proc ' -e ' /sys sysfs ' -e ' /dev/pts devpts ' -e ' /dev/shm tmpfs ' /proc/mounts
grep -c '^127.0.0.1.localhost$' /etc/hosts; [ -s /etc/resolv.conf ] && echo names
for place in /tmp /run /dev/shm /workspace /var; do echo x > $place/file && cat $place/file; done
touch /file 2>&1
"""


def test_scratch(registry, boot):
    """An image of one static program gets all that a Linux program expects: files of the kernel, places, names."""
    vm = boot(image=registry.name("hello:1"))
    assert vm.run().stdout == "hello from scratch\n"
    script = (
        "".join(f'{name}() {{ /busybox {name} "$@"; }}\n' for name in ("cat", "grep", "hostname", "touch")) + SCRATCH
    )
    done = vm.run("/busybox", "sh", "-c", script)
    said = ["busybox", "aegis", "aegis", "aegis", "devices", "4", "1", "names", *"xxxxx"]
    assert done.stdout.splitlines()[:-1] == said
    assert done.stdout.splitlines()[-1] == "touch: /file: Read-only file system"


@pytest.mark.parametrize("policy", ["always", "missing"])
def test_a_truncated_disk_is_made_again(registry, empty_home, policy):
    """A disk that lost its end is noticed before anything boots from it."""
    image = aegis.Image.pull(registry.name("python:1"))
    ((path, digest),) = disks(empty_home).items()
    path.chmod(0o600)
    os.truncate(path, path.stat().st_size // 2)
    aegis.Image.pull(image.reference, policy=policy)
    assert disks(empty_home) == {path: digest}


@pytest.mark.parametrize(("times_kept", "policy"), [(True, "always"), (False, "always"), (False, "missing")])
def test_a_changed_disk_is_made_again(registry, empty_home, times_kept, policy):
    """A disk that was written to is noticed; a pull notices bytes that have changed, even if no time has."""
    image = aegis.Image.pull(registry.name("python:1"))
    ((path, digest),) = disks(empty_home).items()
    before = path.stat()
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.seek(before.st_size // 2)
        file.write(bytes(byte ^ 255 for byte in file.read(1)))
    if times_kept:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    aegis.Image.pull(image.reference, policy=policy)
    assert disks(empty_home) == {path: digest}


def test_a_changed_layer_is_fetched_again(registry, empty_home):
    """A kept layer that has changed, or lost its end, is not what a disk is made of."""
    image = aegis.Image.pull(registry.name("python:1"))
    ((path, digest),) = disks(empty_home).items()
    path.unlink()
    kept = sorted(blob for blob in empty_home.rglob("*") if blob.is_file() and blob.read_bytes()[:2] == b"\x1f\x8b")
    for number, blob in enumerate(kept):
        blob.chmod(0o600)
        if number % 2:
            os.truncate(blob, blob.stat().st_size // 2)
        else:
            blob.write_bytes(bytes(reversed(blob.read_bytes())))
    aegis.Image.pull(image.reference)
    assert disks(empty_home) == {path: digest}


@pytest.mark.parametrize("lines", [None, 0, 1, LAYERS, LAYERS + 1, 2 * LAYERS])
def test_a_killed_pull(registry, empty_home, lines):
    """A pull that is killed, whenever it is, is in the way of nothing, and what it left is removed."""
    command = [*AEGIS, "image", "pull", registry.name("python:1")]
    asked = len(registry.requests())
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as pulling:
        if lines is None:
            assert until(lambda: len(registry.requests()) > asked, 20)
        for _ in range(lines or 0):
            assert pulling.stderr.readline()
        pulling.kill()
    aegis.Image.prune()
    image = aegis.Image.pull(registry.name("python:1"))
    ((path, digest),) = disks(empty_home).items()
    aegis.Image.prune()
    assert disks(empty_home) == {path: digest}
    image.remove()
    assert _size(empty_home) < 100_000


def test_two_pulls_at_once(registry, images, empty_home):
    """Two processes that want one image fetch each of its layers once."""
    command = [*AEGIS, "image", "pull", "--quiet", registry.name("python:1")]
    with registry.listening() as heard:
        pulls = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
        ended = [(*pull.communicate(timeout=40), pull.returncode) for pull in pulls]
    assert [end[2] for end in ended] == [0, 0], ended
    assert ended[0][0] == ended[1][0]
    assert sorted(_layers_fetched(heard, images.manifest("python"))) == sorted(
        layer["digest"] for layer in images.manifest("python")["layers"]
    )
    assert len(disks(empty_home)) == 1


def test_without_a_password(registry_with_password, empty_home):
    """A registry that wants a password is named, and so is what to do."""
    with pytest.raises(aegis.RegistryDenied, match=registry_with_password.address) as caught:
        aegis.Image.pull(registry_with_password.name("hello:1"))
    assert "login" in caught.value.hint


def test_with_a_wrong_password(registry_with_password, empty_home, log_in):
    """A wrong password is refused, and shown nowhere."""
    log_in(registry_with_password, "a wrong one")
    with pytest.raises(aegis.RegistryDenied) as caught:
        aegis.Image.pull(registry_with_password.name("hello:1"))
    assert "a wrong one" not in f"{caught.value} {caught.value.__cause__!r}"


def test_with_a_password(registry_with_password, boot, log_in):
    """What `docker login` has stored opens the registry."""
    log_in(registry_with_password, PASSWORD)
    assert boot(image=registry_with_password.name("hello:1")).run().stdout == "hello from scratch\n"


def test_over_https(registry_over_https, boot, monkeypatch):
    """A registry with a certificate of a private authority is believed once the user trusts that."""
    registry, authority = registry_over_https
    reference = registry.name("hello:1").replace("127.0.0.1", "localhost")
    with pytest.raises(aegis.RegistryFailed, match="certificate"):
        aegis.Image.pull(reference)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    assert boot(image=reference).run().stdout == "hello from scratch\n"


def test_a_tag_that_moves_on(registry, images, empty_home):
    """A pull gets the new image of a tag, and what the old one took is free."""
    moving = registry.push("python", "moving:1")
    assert aegis.Image.pull(moving).info.digest == images.digest("python")
    registry.push("hello", "moving:1")
    assert aegis.Image.pull(moving, policy="missing").info.digest == images.digest("python")
    assert aegis.Image.pull(moving).info.digest == images.digest("hello")
    assert [image.info.digest for image in aegis.Image.list()] == [images.digest("hello")]
    assert len(disks(empty_home)) == 1


def test_replaced_images_are_pruned(registry, empty_home, boot):
    """What sandboxes of a replaced image still use stays with them, and is pruned when they are gone."""
    moving = registry.push("python", "moving:2")
    with boot(image=moving) as vm:
        registry.push("hello", "moving:2")
        aegis.Image.pull(moving)
        assert aegis.Image.prune().bytes == 0
        assert vm.run("cat", "/etc/group").ok
    pruned = aegis.Image.prune()
    assert pruned.images == ()
    assert pruned.bytes > 10_000_000
    assert len(disks(empty_home)) == 1


def test_old_images_are_pruned(registry, empty_home):
    """Images that were not used for a time can be pruned, and so can all that no sandbox uses."""
    references = [aegis.Image.pull(registry.name(name)).reference for name in ("hello:1", "python:1")]
    assert aegis.Image.prune(older_than=3600).images == ()
    time.sleep(1.1)
    aegis.Image.pull(references[0], policy="missing")  # which uses it
    assert aegis.Image.prune(older_than=1).images == (references[1],)
    assert aegis.Image.prune(unused=True).images == (references[0],)
    assert not aegis.Image.list()
    assert not disks(empty_home)


def test_an_imported_image(images, tmp_path, boot):
    """An image of this machine can be given a name, and stays when the file that it came from has gone."""
    saved = tmp_path / "saved.tar"
    skopeo(images.reference("hello"), f"docker-archive:{saved}:hello:1")
    image = aegis.Image.import_from(f"docker-archive:{saved}", name="from-a-file:1")
    saved.unlink()
    assert image.reference == "docker.io/library/from-a-file:1"
    assert boot(image="from-a-file:1").run().stdout == "hello from scratch\n"


def test_a_name_is_taken(images, empty_home):
    """An import takes no name that is another image's, unless it is told to replace that."""
    aegis.Image.import_from(images.reference("hello"), name="mine:1")
    with pytest.raises(aegis.InvalidValue, match="mine:1"):
        aegis.Image.import_from(images.reference("python"), name="mine:1")
    assert aegis.Image.get("mine:1").info.digest == images.digest("hello")
    aegis.Image.import_from(images.reference("python"), name="mine:1", replace=True)
    assert aegis.Image.get("mine:1").info.digest == images.digest("python")


def test_progress(registry, images, empty_home):
    """A pull tells of each layer how far it is, first fetched and then unpacked, to the last byte."""
    heard: list[aegis.Progress] = []
    aegis.Image.pull(registry.name("python:1"), progress=heard.append)
    steps = {(one.number, one.step): one for one in heard}
    assert set(steps) == {(number, step) for number in range(1, LAYERS + 1) for step in ("fetch", "unpack")}
    sizes = [layer["size"] for layer in images.manifest("python")["layers"]]
    for (number, step), last in steps.items():
        told = [one for one in heard if (one.number, one.step) == (number, step)]
        done = [one.done for one in told]
        assert done == sorted(done)
        assert {one.layers for one in told} == {LAYERS}
        assert (last, last.done) == (told[-1], last.total)
        if step == "fetch":
            assert last.total == sizes[number - 1]


def test_a_callers_own_error_ends_a_pull(registry, empty_home):
    """What a progress callback raises ends the pull and reaches the caller; the next pull works."""

    def stop(progress: aegis.Progress) -> None:
        raise KeyError(progress.step)

    with pytest.raises(KeyError, match="fetch"):
        aegis.Image.pull(registry.name("python:1"), progress=stop)
    assert not aegis.Image.list()
    assert aegis.Image.pull(registry.name("python:1"))
