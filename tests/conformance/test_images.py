"""Images from registries and from this machine, as guests see them."""

from __future__ import annotations

import pytest

import aegis_sdk as aegis
from tests.images_world import PASSWORD

pytestmark = pytest.mark.timeout(60)  # Python in software emulation, on a busy machine


def test_python_from_a_registry(registry, boot):
    """An image of a registry boots by its name, and its Python computes."""
    vm = boot(image=registry.name("python:1"))
    assert vm.run("python3", "-c", "print(1+1)").stdout == "2\n"


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


@pytest.mark.in_process
def test_with_a_password(registry_with_password, boot, log_in):
    """What `docker login` has stored opens the registry."""
    log_in(registry_with_password, PASSWORD)
    assert boot(image=registry_with_password.name("hello:1")).run().stdout == "hello from scratch\n"


@pytest.mark.in_process
def test_over_https(registry_over_https, boot, monkeypatch):
    """A registry with a certificate of a private authority is believed once the user trusts that."""
    registry, authority = registry_over_https
    reference = registry.name("hello:1").replace("127.0.0.1", "localhost")
    with pytest.raises(aegis.RegistryFailed, match="certificate"):
        aegis.Image.pull(reference)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    assert boot(image=reference).run().stdout == "hello from scratch\n"
