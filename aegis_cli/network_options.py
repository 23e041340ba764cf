"""The options that say what a guest may reach, and what they come to."""

from __future__ import annotations

from collections.abc import Sequence

import click

import aegis_sdk as aegis

NETWORK_OPTIONS = (
    click.option(
        "--network",
        type=click.Choice(["public", "none", "full"]),
        help="What it may reach where no rule speaks: public addresses by default, and none with --allow.",
    ),
    click.option(
        "--allow",
        multiple=True,
        metavar="RULE",
        help="It may reach that: packages.example.org:443, *.example.net, 10.0.0.0/8. Without --network only that.",
    ),
    click.option("--deny", multiple=True, metavar="RULE", help="It may not reach that, whatever else is said."),
    click.option(
        "--allow-host",
        multiple=True,
        metavar="NAME=ADDRESS:PORT",
        help="It may reach one port of this machine, by that name: db=127.0.0.1:5432.",
    ),
)


def network_of(
    *, network: str | None, allow: Sequence[str], deny: Sequence[str], allow_host: Sequence[str]
) -> aegis.Network | None:
    """The network that is meant; None if nothing was said."""
    if not (network or allow or deny or allow_host):
        return None
    return aegis.Network(mode=network or "", allow=allow or None, deny=deny, allow_host=_all_shared(allow_host))


def _all_shared(words: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, target in map(_shared, words):
        if found.setdefault(name, target) != target:  # the last one would win, and nobody would say so
            said = f"{name!r} leads to {found[name]} and to {target}: write NAME:PORT=ADDRESS:PORT for each port"
            raise click.BadParameter(said, param_hint="--allow-host")
    return found


def _shared(word: str) -> tuple[str, str]:
    name, equals, target = word.partition("=")
    if not equals or not name:
        raise click.BadParameter(f"{word!r} is not NAME=ADDRESS:PORT", param_hint="--allow-host")
    return name, target
