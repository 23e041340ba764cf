"""``aegis image``: the images that guests boot from, and their place on this disk."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import attrs
import click

import aegis_sdk as aegis
from aegis_cli import words
from aegis_cli.commands import Commands
from aegis_cli.progress import progress_on_stderr

_as_json = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
_quiet = click.option("-q", "--quiet", is_flag=True, help="Show no progress.")


def _seconds(_: click.Context, __: click.Parameter, value: str | None) -> float | None:
    try:
        return None if value is None else words.duration(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@click.group(cls=Commands)
def image() -> None:
    """Get, show and remove images."""


@image.command()
@click.option(
    "--policy",
    type=click.Choice(["always", "missing", "never"]),
    default="always",
    show_default=True,
    help="When to ask the registry: also for an image that is here, only for one that is not, or not at all.",
)
@_quiet
@_as_json
@click.argument("reference")
def pull(*, policy: str, quiet: bool, as_json: bool, reference: str) -> None:
    """Have the image REFERENCE here, so that guests can boot from it."""
    with progress_on_stderr(quiet=quiet) as progress:
        pulled = aegis.Image.pull(reference, policy=policy, progress=progress)
    _show_one(pulled.info, as_json=as_json)


@image.command("import")
@click.option("--replace", is_flag=True, help="Give the name to this image even if another one has it.")
@_quiet
@_as_json
@click.argument("source")
@click.argument("name")
def import_(*, replace: bool, quiet: bool, as_json: bool, source: str, name: str) -> None:
    """Have the image SOURCE here under NAME.

    SOURCE is an OCI layout, a file that `docker save` wrote, or a directory that is to be the root.
    """
    with progress_on_stderr(quiet=quiet) as progress:
        made = aegis.Image.import_from(_reference(source), name=name, replace=replace, progress=progress)
    _show_one(made.info, as_json=as_json)


@image.command("list")
@_as_json
def list_(*, as_json: bool) -> None:
    """Show the images that are here."""
    infos = [found.info for found in aegis.Image.list()]
    if as_json:
        _print_json([_described(info) for info in infos])
    else:
        _show_table(infos)


@image.command()
@_as_json
@click.argument("reference")
def info(*, as_json: bool, reference: str) -> None:
    """Show what is known of the image REFERENCE."""
    found = aegis.Image.get(reference).info
    if as_json:
        _print_json(_described(found))
        return
    for title, value in _facts(found):
        click.echo(f"{title:13} {words.printable(value)}")


@image.command()
@_as_json
@click.argument("references", nargs=-1, required=True, metavar="REFERENCE...")
def remove(*, as_json: bool, references: Sequence[str]) -> int:
    """Forget images, and free what only they used; exit with 1 if one of them could not be removed."""
    removed, failed = [], []
    for reference in references:
        try:
            aegis.Image.get(reference).remove()
        except aegis.AegisError as error:
            failed.append({"reference": reference, "code": error.code, "error": str(error)})
            click.echo(f"aegis: {error}", err=True)
        else:
            removed.append(reference)
            if not as_json:
                click.echo(f"removed {words.printable(reference)}")
    if as_json:
        _print_json({"removed": removed, "failed": failed})
    return 1 if failed else 0


@image.command()
@click.option("--older-than", callback=_seconds, metavar="TIME", help="Also images last used before that: 12h, 7d, 2w.")
@click.option("--unused", is_flag=True, help="Also every image that no running sandbox uses.")
@_as_json
def prune(*, older_than: float | None, unused: bool, as_json: bool) -> None:
    """Remove what no name leads to any more: replaced images, and what an ended pull has left."""
    pruned = aegis.Image.prune(older_than=older_than, unused=unused)
    if as_json:
        _print_json(attrs.asdict(pruned))
        return
    for reference in pruned.images:
        click.echo(f"removed {words.printable(reference)}")
    click.echo(f"freed {words.size(pruned.bytes)}")


def _reference(source: str) -> str:
    """*source* as a reference, also if it is just a path."""
    path = Path(source)
    if not path.exists():
        if ":" not in source or source.startswith(("/", "./", "../")):
            raise click.BadParameter(f"there is no {source}", param_hint="SOURCE")
        return source
    if path.is_dir():
        return f"oci:{source}" if (path / "oci-layout").exists() else f"dir:{source}"
    return f"docker-archive:{source}"


def _show_one(info: aegis.ImageInfo, *, as_json: bool) -> None:
    if as_json:
        _print_json(_described(info))
    else:
        click.echo(f"{words.printable(info.reference)} {info.digest} {words.size(info.disk_bytes)}")


def _show_table(infos: Iterable[aegis.ImageInfo]) -> None:
    words.table(("REFERENCE", "DIGEST", "PULLED", "SIZE"), map(_row, infos))


def _row(info: aegis.ImageInfo) -> tuple[str, ...]:
    digest = info.digest.rpartition(":")[2][:12]
    return info.reference, digest, words.ago(info.pulled), words.size(info.disk_bytes)


def _facts(info: aegis.ImageInfo) -> Iterator[tuple[str, str]]:
    yield "reference", info.reference
    yield "digest", info.digest
    yield "architecture", info.architecture
    yield "created", info.created or "the image does not say"
    yield "pulled", words.ago(info.pulled)
    yield "last used", words.ago(info.used)
    yield "on disk", words.size(info.disk_bytes)
    for number, layer in enumerate(info.layers, 1):
        yield f"layer {number}", f"{layer.digest} {words.size(layer.size)}"
    for name, value in info.config.env.items():
        yield "environment", f"{name}={value}"
    yield "directory", info.config.cwd or "/"
    yield "user", info.config.user or "root"
    yield "entrypoint", json.dumps(info.config.entrypoint)
    yield "command", json.dumps(info.config.command)


def _described(info: aegis.ImageInfo) -> dict[str, object]:
    # attrs knows dict, and a frozen value holds a read-only view of one.
    return attrs.asdict(
        info, value_serializer=lambda _, __, value: dict(value) if isinstance(value, Mapping) else value
    )


def _print_json(value: object) -> None:
    click.echo(json.dumps(value, indent=2))
