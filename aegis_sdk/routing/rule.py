"""The built-in routing policy: an app by header, by host name, by path, or because it is the only one."""

from __future__ import annotations

import re
from functools import lru_cache

import attrs

from aegis_sdk.routing.base import Apps, Decision, Redirect, Serve, ServedApp, ServedInstance
from aegis_sdk.routing.heads import RequestHead
from aegis_sdk.routing.refusals import Refuse

_PATH = re.compile(r"/app/([^/?:]*)(?::([^/?]*))?(/?)")
_LOCALHOST = ".localhost"
#: A browser that can be answered soon is not shown a page that says to wait.
_SOON = 0.5
_WAIT = 30.0


@attrs.frozen
class BuiltInRule:
    """What routes requests where no plugin says otherwise."""

    name: str = "built in"

    def route(self, request: RequestHead, apps: Apps, so_far: Decision) -> Decision:  # noqa: ARG002  # it is the first
        fields = request.fields
        port = fields.get("x-aegis-port")
        if "x-aegis-app" in fields.names:
            return _named(fields.get("x-aegis-app") or "", request, apps, port=port)
        if request.host.endswith(_LOCALHOST):
            return _named(request.host.removesuffix(_LOCALHOST), request, apps, port=port)
        if match := _PATH.match(request.target):
            return _by_path(match, request, apps, port=port)
        return _the_only(request, apps, port=port)


def _by_path(match: re.Match[str], request: RequestHead, apps: Apps, *, port: str | None) -> Decision:
    name, path_port, slash = match.groups()
    prefix = match[0].removesuffix("/")
    if not slash and request.method in ("GET", "HEAD"):
        # Else a page's relative links would lead out of the app.
        return Redirect(f"{prefix}/{request.target[len(prefix) :]}")
    if port is not None and path_port is not None and port != path_port:
        return Refuse(400, f"the path names port {path_port[:20]!r}, and X-Aegis-Port another one, {port[:20]!r}")
    return _named(name, request, apps, port=port if path_port is None else path_port, prefix=prefix)


def _named(name: str, request: RequestHead, apps: Apps, *, port: str | None, prefix: str = "") -> Decision:
    if (app := apps.get(name)) is None:
        return Refuse(404, f"there is no app {name[:80]!r}; {_list(apps)}")
    return _serve(request, app, port=port, prefix=prefix)


def _the_only(request: RequestHead, apps: Apps, *, port: str | None) -> Decision:
    # A task that comes and goes takes nothing from the only app.
    meant = [app for app in apps.values() if not app.task] or list(apps.values())
    if len(meant) != 1:
        return Refuse(404, f"the request names no app; {_list(apps)}")
    (app,) = meant
    return _serve(request, app, port=port, prefix="")


def _serve(request: RequestHead, app: ServedApp, *, port: str | None, prefix: str) -> Decision:
    if not app.instances:
        return Refuse(503, f"the app {app.name} is not served; serve it with: aegis app serve {app.name}")
    instance = app.instances[0]
    number = _number(port, instance)
    if number is None:
        return Refuse(404, f"the app {app.name} {_no_port(port, instance)}")
    return _decision(app.name, number, prefix, _reloads(request))


@lru_cache(256)
def _decision(app: str, port: int, prefix: str, reload: bool) -> Serve:  # noqa: FBT001  # a key of the cache
    return Serve(app=app, port=port, prefix=prefix, wait=_SOON if reload else _WAIT, reload=reload)


def _number(port: str | None, instance: ServedInstance) -> int | None:
    if port is None:
        return instance.ports[0] if instance.ports else None
    return next((exposed for exposed in instance.ports if str(exposed) == port), None)


def _no_port(port: str | None, instance: ServedInstance) -> str:
    exposed = ", ".join(map(str, instance.ports))
    if not exposed:
        return "exposes no port for HTTP"
    return f"exposes no port {str(port)[:20]!r}; it exposes {exposed}"


def _reloads(request: RequestHead) -> bool:
    """Whether a person's browser asks, which would show a page and can load it again."""
    accepted = request.fields.names.get("accept", "")
    return "text/html" in accepted and request.method == "GET" and "upgrade" not in request.fields.names


def _list(apps: Apps) -> str:
    if not apps:
        return "there are no apps"
    return "there are: " + ", ".join(f"/app/{name}/" for name in sorted(apps))
