"""Images under their names: how long they stay, and what goes with them."""

from __future__ import annotations

import time

import pytest

import aegis_sdk as aegis
from tests.images_made import skopeo
from tests.images_world import disks, taken

pytestmark = pytest.mark.timeout(60)  # Python in software emulation, on a busy machine


def test_an_image_is_removed(registry, empty_home):
    """What is removed is not there any more, by any name, and takes no space."""
    image = aegis.Image.pull(registry.name("python:1"))
    image.remove()
    assert not aegis.Image.list()
    assert not disks(empty_home)
    assert taken(empty_home) < 100_000
    for action in (lambda: aegis.Image.get(image.reference), image.remove):
        with pytest.raises(aegis.ImageNotFound):
            action()


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
