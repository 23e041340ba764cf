"""``aegis app``: what is published and served, and has a name, secrets and a workspace of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs
import click

import aegis_sdk as aegis
from aegis_cli import words
from aegis_cli.app_options import app_options
from aegis_cli.app_serve import logs, serve
from aegis_cli.commands import Commands
from aegis_cli.progress import progress_on_stderr

_as_json = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


@click.group(cls=Commands)
def app() -> None:
    """Create, publish and serve apps; each is named by its name or its ID."""


app.add_command(serve)
app.add_command(logs)


@app.command()
@click.option("--name", required=True, help="Up to 63 lower-case letters, digits and hyphens.")
@app_options
@_as_json
def create(*, name: str, options: aegis.AppOptions, as_json: bool) -> None:
    """Put a new app on record: what its first release is to be; COMMAND is the image's own unless it is given.

    For example: aegis app create --name web --image python:3.12-alpine --expose 8000 -- python -m http.server 8000
    """
    _show(aegis.App.create(name, engine=aegis.engine_of_home(), **options), as_json=as_json)


@app.command()
@click.argument("app")
@app_options
@_as_json
def update(*, app: str, options: aegis.AppOptions, as_json: bool) -> None:
    """Have the next release of APP be otherwise; only what is given changes. What is served stays as it is."""
    if not options:
        raise click.UsageError("Nothing was given that is to be otherwise.")
    _show(_get(app).update(**options), as_json=as_json)


@app.command()
@click.option("--label", help="What the release is to be called beside its ID, such as v1.")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress of the image.")
@_as_json
@click.argument("app")
def publish(*, label: str | None, quiet: bool, as_json: bool, app: str) -> None:
    """Make a release of APP: its image, command, ports and environment as they are now, which never change."""
    found = _get(app)
    quiet = quiet or found.info.spec.sandbox.image == "base"  # which is made here in a moment
    with progress_on_stderr(quiet=quiet) as progress:
        release = found.publish(label=label, progress=progress)
    if as_json:
        _print_json(_plain(release))
    else:
        click.echo(f"published release {_named(release)} of app {found.name}")


@app.command()
@_as_json
@click.argument("app")
def releases(*, as_json: bool, app: str) -> None:
    """Show the releases of APP, the newest last."""
    found = _get(app).releases()
    if as_json:
        _print_json(list(map(_plain, found)))
        return
    rows = [
        (str(one.number), one.label or "", one.id, _image(one.spec), _digest(one.spec), words.ago(one.created))
        for one in found
    ]
    words.table(("NUMBER", "LABEL", "ID", "IMAGE", "DIGEST", "PUBLISHED"), rows)


@app.command("list")
@_as_json
def list_(*, as_json: bool) -> None:
    """Show the apps that there are, what serves each, and where."""
    engine = aegis.engine_of_home()
    instances = engine.apps.instances()
    apps = [(found.info, [one for one in instances if one.app == found.id]) for found in aegis.App.list(engine=engine)]
    if as_json:
        _print_json([_described(info, served) for info, served in apps])
        return
    rows = [(info.name, info.id, _states(served), _addresses(served)) for info, served in apps]
    words.table(("NAME", "ID", "STATE", "URL"), rows)


@app.command()
@_as_json
@click.argument("app")
def info(*, app: str, as_json: bool) -> None:
    """Show ID and workspace of APP, what it is, and what serves it."""
    _show(_get(app), as_json=as_json)


@app.command()
@click.option("--release", metavar="LABEL|ID", help="Only that one; others serve on.")
@_as_json
@click.argument("app")
def stop(*, release: str | None, as_json: bool, app: str) -> None:
    """Have APP be served no more, by the daemon; its guests end. Fine if it is not."""
    found = _get(app)
    before = [one.id for one in found.instances()]
    found.stop(release=release)
    stopped = [one for one in before if one not in {left.id for left in found.instances()}]
    if as_json:
        _print_json({"stopped": stopped})
    else:
        click.echo(f"stopped app {found.name}" if stopped else f"app {found.name} was not served")


@app.command()
@click.option("--workspace", is_flag=True, help="Delete its workspace, too, with all files in it.")
@_as_json
@click.argument("app")
def delete(*, app: str, workspace: bool, as_json: bool) -> None:
    """Stop APP, and forget it with its releases, logs and secrets."""
    found = _get(app)
    found.delete(workspace=workspace)
    if as_json:
        _print_json({"deleted": found.id, "workspace": workspace})
    elif workspace:
        click.echo(f"deleted app {found.name} and its workspace")
    else:
        stays = words.printable(found.info.workspace)
        click.echo(f"deleted app {found.name}; its workspace, if it has one, stays: {stays}")


def _get(app: str) -> aegis.App:
    return aegis.App.get(app, engine=aegis.engine_of_home())


def _show(app: aegis.App, *, as_json: bool) -> None:
    served, published = [one.info() for one in app.instances()], app.releases()
    if as_json:
        newest = _plain(published[-1]) if published else None
        _print_json({**_described(app.info, served), "release": newest})
        return
    for title, value in _facts(app.info, served, published):
        click.echo(f"{title:10} {words.printable(value)}")


def _facts(
    info: aegis.AppInfo, served: Sequence[aegis.InstanceInfo], published: Sequence[aegis.ReleaseInfo]
) -> Iterator[tuple[str, str]]:
    yield "name", info.name
    yield "id", info.id
    yield "created", words.ago(info.created)
    yield "workspace", info.workspace
    yield "image", info.spec.sandbox.image
    yield "command", " ".join(info.spec.command) or "the image's own"
    yield "network", str(info.spec.sandbox.network)
    if info.spec.expose:
        yield "exposes", ", ".join(map(str, info.spec.expose))
    if published:
        yield "release", f"{_named(published[-1])}, the newest, {words.ago(published[-1].created)}"
    yield "state", _states(served)
    if served:
        yield "address", _addresses(served)


def _named(release: aegis.ReleaseInfo) -> str:
    return f"{release.label} ({release.id})" if release.label else release.id


def _states(served: Sequence[aegis.InstanceInfo]) -> str:
    """What serves an app: the first by its state, and those beside it."""
    each = (f"{one.state} ({one.label or one.release}{_reason(one)})" for one in served)
    return ", ".join(each) or "not served"


def _reason(instance: aegis.InstanceInfo) -> str:
    failed = instance.state is aegis.InstanceState.FAILED and instance.reason
    return f": {instance.reason.splitlines()[0]}" if failed else ""


def _addresses(served: Sequence[aegis.InstanceInfo]) -> str:
    found = dict.fromkeys(where for one in served for where in (one.url, *one.addresses.values()) if where)
    return ", ".join(found)


def _image(spec: aegis.AppSpec) -> str:
    return spec.sandbox.image


def _digest(spec: aegis.AppSpec) -> str:
    return (spec.sandbox.digest or "").rpartition(":")[2][:12]


def _described(info: aegis.AppInfo, served: Sequence[aegis.InstanceInfo]) -> dict[str, object]:
    return {**_plain(info), "instances": list(map(_plain, served))}


def _plain(value: Any) -> dict[str, Any]:  # Any: one of the SDK's values
    return attrs.asdict(value, value_serializer=lambda _, __, part: dict(part) if isinstance(part, Mapping) else part)


def _print_json(value: object) -> None:
    click.echo(json.dumps(value, indent=2))
