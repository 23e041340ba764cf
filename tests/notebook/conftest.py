"""A notebook with a real kernel, whose cells are run by nbclient."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.util import ensure_async

_PLACES = ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")


@attrs.frozen
class Ran:
    """What a cell that was run shows."""

    outputs: list[dict[str, Any]]

    @property
    def stdout(self) -> str:
        return self._stream("stdout")

    @property
    def stderr(self) -> str:
        return self._stream("stderr")

    @property
    def result(self) -> dict[str, str]:
        """What the last expression shows, by media type."""
        (found,) = (each["data"] for each in self.outputs if each["output_type"] == "execute_result")
        return dict(found)

    @property
    def error(self) -> tuple[str, str]:
        """The error's name, and what is shown of it; both empty if there was none."""
        for each in self.outputs:
            if each["output_type"] == "error":
                return each["ename"], "\n".join(each["traceback"])
        return "", ""

    def _stream(self, name: str) -> str:
        return "".join(each["text"] for each in self.outputs if each.get("name") == name)


class Notebook:
    """A notebook that is being worked in."""

    def __init__(self, client: NotebookClient, runner: asyncio.Runner) -> None:
        self.client, self._runner = client, runner

    def run(self, source: str) -> Ran:
        """Run a cell to its end."""
        return self._runner.run(self._run(self._add(source)))

    def interrupt(self, source: str, *, after: str) -> Ran:
        """Run a cell, press the stop button when it has written *after*, and wait for its end."""
        return self._runner.run(self._interrupt(self._add(source), after))

    def kill(self) -> None:
        """Kill the kernel."""
        self._runner.run(ensure_async(self.client.km.shutdown_kernel(now=True)))

    async def _run(self, cell: Any) -> Ran:
        await self.client.async_execute_cell(cell, self.client.nb.cells.index(cell))
        return Ran(cell.outputs)

    async def _interrupt(self, cell: Any, after: str) -> Ran:
        running = asyncio.create_task(self._run(cell))
        while after not in Ran(cell.outputs).stdout:
            await asyncio.wait([running], timeout=0.02)
            assert not running.done(), cell.outputs
        await ensure_async(self.client.km.interrupt_kernel())
        return await running

    def _add(self, source: str) -> Any:
        self.client.nb.cells.append(nbformat.v4.new_code_cell(source))
        return self.client.nb.cells[-1]


@contextmanager
def client_in(folder: Path, book: Any, **options: Any) -> Iterator[NotebookClient]:
    """What runs *book*, with all that Jupyter stores in *folder*."""
    with pytest.MonkeyPatch.context() as patch:
        for name in _PLACES:
            (folder / name).mkdir()
            patch.setenv(name, str(folder / name))
        client = NotebookClient(book, kernel_name="python3", timeout=60, **options)
        client.create_kernel_manager().connection_file = str(folder / "connection.json")
        yield client


@contextmanager
def working_in(folder: Path) -> Iterator[Notebook]:
    """A new notebook with the magic, whose kernel runs."""
    book = nbformat.v4.new_notebook()
    with client_in(folder, book, allow_errors=True) as client, asyncio.Runner() as runner:
        try:
            runner.run(client.async_start_new_kernel())
            runner.run(client.async_start_new_kernel_client())
            notebook = Notebook(client, runner)
            notebook.run("%load_ext aegis_sdk.notebook")
            yield notebook
        finally:
            runner.run(client._async_cleanup_kernel())


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Notebook]:
    """A notebook whose sandbox has booted; a test must not end it."""
    with working_in(tmp_path_factory.mktemp("notebook")) as notebook:
        assert "running" in notebook.run("vm = %aegis\nvm").result["text/plain"]
        yield notebook


@pytest.fixture
def notebook(tmp_path: Path) -> Iterator[Notebook]:
    """A notebook of a test's own; its guests end with its kernel, as is checked after each test."""
    with working_in(tmp_path) as notebook:
        yield notebook
