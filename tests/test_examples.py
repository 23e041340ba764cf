"""Every example runs, and says what it is there to say."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.conftest import ROOT

SAYS = {
    "asynchronous.py": r"answers: 0 1 2 3 4 5 6 7 8 9",
    "hello.py": r"hello from Linux \d.*\nexit code 0 after",
    "streaming.py": r"step 1\nstep 2\nstep 3\nexit code 0\n6 \* 7 = 42\n2 \^ 64 = 18446744073709551616",
}


def test_all_are_known():
    """No example is left out here."""
    assert set(SAYS) == {path.name for path in (ROOT / "examples").glob("*.py")}


@pytest.mark.parametrize("name", SAYS)
def test_example(name):
    """It ends well, with the words that it is about."""
    done = subprocess.run([sys.executable, ROOT / "examples" / name], capture_output=True, text=True, check=True)
    assert re.match(SAYS[name], done.stdout), done.stdout


def test_the_readmes_python():
    """The Python that README shows runs as it stands."""
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert re.match(r"Linux aegis .*\n\n3\n1\n2\n3\n$", done.stdout, re.DOTALL), done.stdout


def test_the_readmes_links():
    """Every file that README and the pages under docs link to is there."""
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
