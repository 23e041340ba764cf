"""An Aegis plugin: while two releases of an app are served, it tries the new one on some of those who ask.

Who sends ``X-Canary: always`` or ``never`` has chosen. Anybody else is known by ``X-User``, or else by ``User-Agent``,
so that the same user stays with the same release; of a hundred users, as many get the new one as ``X-Canary-Percent``
says, or AEGIS_CANARY_PERCENT where the router runs, or ten.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping

import attrs

import aegis_sdk as aegis

Decision = aegis.Serve | aegis.Redirect | aegis.Refuse


@attrs.frozen
class Canary:
    """A routing policy: a pure function of the request's head, the apps, and what the policies before it say."""

    percent: int
    name: str = "canary"

    def route(self, request: aegis.RequestHead, apps: Mapping[str, aegis.ServedApp], so_far: Decision) -> Decision:
        if not isinstance(so_far, aegis.Serve) or so_far.release is not None:
            return so_far
        app = apps.get(so_far.app)
        if app is None or len(app.instances) < 2:
            return so_far
        new = app.instances[-1]  # the first serves who is sent nowhere else
        if so_far.port not in new.ports or not self._tries(request):
            return so_far
        return attrs.evolve(so_far, release=new.release)

    def _tries(self, request: aegis.RequestHead) -> bool:
        wish = (request.header("X-Canary") or "").lower()
        if wish in ("always", "never"):
            return wish == "always"
        user = request.header("X-User") or request.header("User-Agent") or ""
        percent = _percent(request.header("X-Canary-Percent"), otherwise=self.percent)
        return hashlib.sha256(user.encode("utf-8", "replace")).digest()[0] * 100 // 256 < percent


@aegis.hookimpl
def aegis_routing_policies() -> Iterable[aegis.RoutingPolicy]:
    return (Canary(_percent(os.environ.get("AEGIS_CANARY_PERCENT"), otherwise=10)),)


def _percent(word: str | None, *, otherwise: int) -> int:
    return int(word) if word and word.isascii() and word.isdigit() and len(word) <= 3 else otherwise
