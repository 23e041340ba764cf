"""The guest of the daemon's that a command names: a sandbox, or what serves an app."""

from __future__ import annotations

import aegis_sdk as aegis


def guest(name: str) -> aegis.Sandbox:
    """The sandbox NAME, or the guest of the app NAME, which is woken; each may be named by its ID.

    InvalidValue if there are both, NotServed if nothing serves the app.
    """
    engine = aegis.connect()
    app = _app(name, engine)
    try:
        sandbox = aegis.Sandbox.get(name, engine=engine)
    except aegis.SandboxNotFound:
        if app is None:
            raise
        return _serving(app).sandbox
    if app is not None:
        raise aegis.InvalidValue(
            f"there is a sandbox {name}, and an app", hint=f"name the sandbox {sandbox.id}, or the app {app.id}"
        )
    return sandbox


def _app(name: str, engine: aegis.Engine) -> aegis.App | None:
    try:
        return aegis.App.get(name, engine=engine)
    except aegis.AppNotFound:
        return None


def _serving(app: aegis.App) -> aegis.Instance:
    for instance in app.instances():
        return instance
    raise aegis.NotServed(f"the app {app.name} is not served", hint=f"`aegis app serve {app.name}`")
