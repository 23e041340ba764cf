"""``aegis doctor``: whether a guest can boot here, and what to do if not."""

from __future__ import annotations

import json
from collections.abc import Sequence

import attrs
import click

import aegis_sdk as aegis
from aegis_cli.words import printable


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option("--quick", is_flag=True, help="Do not boot a guest to prove it.")
@click.option("--fix", is_flag=True, help="First mend what Aegis can mend by itself.")
def doctor(*, as_json: bool, quick: bool, fix: bool) -> int:
    """Check what Aegis needs here; exit with 0 only if a guest can boot."""
    if fix:
        for done in aegis.mend() or ("there is nothing here that Aegis could mend by itself",):
            click.echo(printable(done), err=as_json)
    checks = aegis.diagnose(quick=quick)
    healthy = all(check.ok for check in checks if check.required)
    if as_json:
        click.echo(json.dumps({"healthy": healthy, "checks": [attrs.asdict(check) for check in checks]}, indent=2))
    else:
        _show(checks)
    return 0 if healthy else 1


def _show(checks: Sequence[aegis.Check]) -> None:
    width = max(len(check.name) for check in checks)
    for check in checks:
        word, colour = _verdict(check)
        name = printable(f"{check.name:{width}}")
        click.echo(f"{click.style(f'{word:7}', fg=colour)}  {name}  {printable(check.seen)}")
        if not check.ok and check.fix:
            click.echo(f"{'':7}  {'':{width}}  mend it with: {printable(check.fix)}")


def _verdict(check: aegis.Check) -> tuple[str, str]:
    if check.ok:
        return "ok", "green"
    if check.required:
        return "missing", "red"
    return "slow" if check.name == "acceleration" else "warning", "yellow"
