"""The programs that people run: pip, curl, git and wget in a guest, from servers of the tests' own, by name."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import zipfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pip
import pytest

import aegis_sdk as aegis
from tests.outside_world import METADATA, PRIVATE, PUBLIC, PUBLIC_TOO, Namespace, Outside, named, over_tls, pages, web
from tests.sdk.network.test_proxies import FakeProxy, by_connect, by_socks

pytestmark = [pytest.mark.in_process, pytest.mark.of_qemu, pytest.mark.timeout(60)]

NAMES = {"index.example": PUBLIC, "cdn.files.example": PUBLIC_TOO, "other.example": PUBLIC, "inside.example": PRIVATE}
LISTED = aegis.Network(allow=["index.example", "*.files.example:8080"])
#: Programs of the machine that the guest's Debian was made of.
HOST = {"LD_LIBRARY_PATH": ":".join(f"/host/lib/{name}-linux-gnu" for name in ("x86_64", "aarch64"))}
#: Where the network decides: by names, which lead to a public address and a private one, and by addresses.
PLACES = {
    "index.example": "a page",
    PUBLIC: "a page",
    "inside.example": "secret",
    PRIVATE: "secret",
    METADATA: "secret",
}
OF_ALL, INSIDE = {"index.example", PUBLIC}, {"inside.example", PRIVATE}
#: Each says a line for each of its arguments: the page of there, or nothing.
FETCHING = {
    "curl": "/host/bin/curl -sm 15 -w '\\n' $*",
    "wget": """for place; do busybox wget -qO- "http://$place/" 2>/dev/null; echo; done""",
}
GIT = HOST | {"GIT_EXEC_PATH": "/host/lib/git-core", "GIT_TEMPLATE_DIR": "/tmp"}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With its key in the same file, of ``index.example``, signed by itself."""
    path = tmp_path_factory.mktemp("certificate") / "index.pem"
    make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 9 -subj /CN=index.example"
    names = ("-addext", "subjectAltName=DNS:index.example")
    subprocess.run([*make.split(), *names, "-keyout", path, "-out", path], check=True, capture_output=True)
    return path


def _identity(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@pytest.fixture(scope="module")
def servers(namespace: Namespace, certificate: Path, tmp_path_factory) -> Iterator[None]:
    """An index whose files are elsewhere, a repository of git, and ways to where nobody should come."""
    work = tmp_path_factory.mktemp("served")
    wheel = _wheel(work / "hello-1.0-py3-none-any.whl")
    leading = {
        "/": b"a page",
        "/simple/hello/": f'<a href="http://cdn.files.example:8080/{wheel.name}">{wheel.name}</a>'.encode(),
        "/to/inside": b"http://inside.example/",
        "/to/metadata": f"http://{METADATA}/latest/".encode(),
        "/to/me": b"http://127.0.0.1:22/",
    }
    with closing(Outside(namespace)) as outside, named(NAMES):
        outside.serve(PUBLIC, 80, pages(leading | _repository(work)))
        outside.serve(PUBLIC, 443, over_tls(_identity(certificate), web("a page over TLS")))
        outside.serve(PUBLIC, 8080, web("another port"))
        outside.serve(PUBLIC_TOO, 8080, pages({f"/{wheel.name}": wheel.read_bytes()}))
        for address in (PRIVATE, METADATA):
            outside.serve(address, 80, web("secret"))
        yield


def _wheel(path: Path) -> Path:
    files = {
        "hello.py": "print('hello from a package')\n",
        "hello-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: hello\nVersion: 1.0\n",
        "hello-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "hello-1.0.dist-info/RECORD": "hello.py,,\n",
    }
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
    return path


def _repository(work: Path) -> dict[str, bytes]:
    """What is served of a repository with one file."""
    tree, bare = work / "tree", work / "project.git"
    tree.mkdir()
    (tree / "README").write_text("from git\n")
    who = ("-c", "user.name=t", "-c", "user.email=t@example", "-C", tree)
    for words in (("init", "-q", tree), (*who, "add", "."), (*who, "commit", "-qm", "one")):
        subprocess.run(["git", *words], check=True)
    subprocess.run(["git", "clone", "-q", "--bare", tree, bare], check=True)
    subprocess.run(["git", "-C", bare, "update-server-info"], check=True)
    files = (path for path in bare.rglob("*") if path.is_file())
    return {f"/{path.relative_to(work)}": path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def vm(images, driver, servers) -> Iterator[aegis.Sandbox]:
    """A guest with Python, and all of this machine's programs, that may reach the index and its files."""
    image = images.reference("python")
    with aegis.Sandbox(image=image, driver=driver, network=LISTED, mounts={"/host": "/usr"}) as vm:
        yield vm


def _pip(work: Path) -> bytes:
    """pip of this environment, compiled for the guest's Python: an emulated machine takes long to do so."""
    shutil.copytree(Path(pip.__file__).parent, work / "pip", ignore=shutil.ignore_patterns("__pycache__", "*.exe"))
    subprocess.run(["/usr/bin/python3", "-m", "compileall", "-q", "-b", work / "pip"], check=True)
    with zipfile.ZipFile(work / "pip.zip", "w") as packed:
        for path in (work / "pip").rglob("*"):
            if path.suffix in (".pyc", ".pem", ".txt"):
                packed.write(path, path.relative_to(work))
    return (work / "pip.zip").read_bytes()


@pytest.mark.timeout(120)
def test_pip_install(vm, tmp_path):
    """From an index by its name, whose files are at another name and port: what is listed, and no more."""
    vm.files.write("/tmp/pip.zip", _pip(tmp_path))
    options = ["--no-compile", "--no-cache-dir", "--no-deps", "--progress-bar=off", "--disable-pip-version-check"]
    trusted = ["--trusted-host=index.example", "--trusted-host=cdn.files.example"]
    words = ["--target=/tmp/packages", "--index-url=http://index.example/simple", *options, *trusted, "hello"]
    # The image's own library has to be compiled first, which takes an emulated machine long, too.
    compiled = {"PYTHONPATH": "/tmp/pip.zip", "PYTHONHOME": "/host"}
    done = vm.run("python3", "-m", "pip", "install", *words, env=compiled, timeout=100)
    assert done.exit_code == 0, done.stderr
    assert vm.run("python3", "-m", "hello", env={"PYTHONPATH": "/tmp/packages"}).stdout == "hello from a package\n"


def test_git_clone(vm):
    """A repository over HTTP, by the name of its server."""
    done = vm.run("/host/bin/git", "clone", "-q", "http://index.example/project.git", "/tmp/clone", env=GIT)
    assert done.exit_code == 0, done.stderr
    assert vm.files.read("/tmp/clone/README") == b"from git\n"


def test_curl_and_wget(vm):
    """Both have what is listed, and learn at once that the rest is not there."""
    for words in (("/host/bin/curl", "-sS"), ("busybox", "wget", "-qO-")):
        assert vm.run(*words, "http://index.example/", env=HOST).stdout == "a page"
        assert "resolve" in vm.run(*words, "http://other.example/", env=HOST).stderr.replace("bad address", "resolve")
    refused = vm.run("/host/bin/curl", "-sS", f"http://{PRIVATE}/", env=HOST)
    assert refused.exit_code == 7


def test_https(vm, certificate):
    """TLS is between the program and its server: a certificate that the program does not know ends it there."""
    vm.files.write("/tmp/known.pem", certificate.read_bytes())
    curl = ("/host/bin/curl", "-sS", "https://index.example/")
    assert vm.run(*curl, "--cacert", "/tmp/known.pem", env=HOST).stdout == "a page over TLS"
    assert vm.run(*curl, "--cacert", "/dev/null", env=HOST).exit_code in (60, 77)


@pytest.mark.parametrize("program", FETCHING)
@pytest.mark.parametrize(
    ("network", "reached"),
    [
        (aegis.Network(), OF_ALL),
        (aegis.Network(mode="none"), set()),
        (aegis.Network(mode="full"), set(PLACES)),
        (aegis.Network(allow=["index.example:80"]), {"index.example", PUBLIC}),
        (aegis.Network(allow=[f"{PRIVATE}:80"]), INSIDE),
        (aegis.Network(mode="public", allow=[f"{PRIVATE}:80"]), OF_ALL | INSIDE),
        (aegis.Network(mode="full", deny=[PUBLIC]), {*INSIDE, METADATA}),
    ],
    ids=["public", "none", "full", "name", "address", "public-and-address", "full-without"],
)
def test_each_policy(vm, network, reached, program):
    """By name and by address, a program gets what the network allows, and nothing of the rest."""
    vm._engine.update_network(vm.id, network)
    got = vm.run("sh", "-c", FETCHING[program], "sh", *PLACES, env=HOST).stdout.splitlines()
    assert dict(zip(PLACES, got, strict=True)) == {place: PLACES[place] * (place in reached) for place in PLACES}


@pytest.mark.parametrize("network", [LISTED, aegis.Network()], ids=["listed", "public"])
@pytest.mark.parametrize("where", ["inside", "metadata", "me"])
def test_redirects(vm, network, where):
    """Who is led elsewhere by a server that may be reached is judged again, and gets nothing of there."""
    vm._engine.update_network(vm.id, network)
    done = vm.run("busybox", "wget", "-qO-", f"http://index.example/to/{where}", env=HOST)
    assert done.exit_code == 1
    assert "secret" not in done.stdout


def test_redirects_that_are_allowed(vm):
    """The same is reached where the network is full: it was the policy that stood before it."""
    vm._engine.update_network(vm.id, aegis.Network(mode="full"))
    assert vm.run("busybox", "wget", "-qO-", "http://index.example/to/inside", env=HOST).stdout == "secret"


def test_proxies(driver, servers, monkeypatch):
    """What leaves a guest goes by this machine's proxies, but for what NO_PROXY names; no name is asked of them."""
    connect, socks = FakeProxy(by_connect), FakeProxy(by_socks)
    monkeypatch.setenv("http_proxy", f"http://user:word@127.0.0.1:{connect.port}")
    monkeypatch.setenv("https_proxy", f"socks5://user:word@127.0.0.1:{socks.port}")
    monkeypatch.setenv("no_proxy", ".index.example,localhost")
    with closing(connect), closing(socks), aegis.Sandbox(driver=driver) as vm:
        for url, page in (
            (f"http://{PUBLIC_TOO}/", "by CONNECT"),
            (f"http://{PUBLIC_TOO}:443/", "by SOCKS"),
            ("http://index.example/", "a page"),
        ):
            assert vm.run("wget", "-qO-", url).stdout == page
        assert vm.run("wget", "-qO-", f"http://{PRIVATE}/").exit_code == 1
        assert vm.run("env").stdout.count("proxy") == 0  # nor does the guest learn their passwords
    assert [len(connect.asked), len(socks.asked)] == [1, 1]
    assert connect.asked[0].startswith(f"CONNECT {PUBLIC_TOO}:80 ".encode())
