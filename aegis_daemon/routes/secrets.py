"""Secrets: of one app, or of all."""

from __future__ import annotations

from aegis_daemon.bodies import NewSecret, Rotated
from aegis_daemon.calls import Call
from aegis_daemon.operations import Operations
from aegis_sdk.model import SecretInfo

operations = Operations()


@operations.serve("GET", "/v1/secrets")
def list_(call: Call) -> tuple[SecretInfo, ...]:
    """The secrets of all apps, without values, in the order of their names."""
    return call.engine.secrets.list(app=None)


@operations.serve("PUT", "/v1/secrets/{name}")
def set_(call: Call, name: str, body: NewSecret) -> SecretInfo:
    """Keep a secret of all apps, encrypted, in the place of one of that name."""
    return call.engine.secrets.set(name, body.value, app=None)


@operations.serve("DELETE", "/v1/secrets/{name}")
def delete(call: Call, name: str) -> None:
    """Delete a secret of all apps."""
    call.engine.secrets.delete(name, app=None)


@operations.serve("GET", "/v1/apps/{id}/secrets")
def list_of(call: Call, id: str) -> tuple[SecretInfo, ...]:
    """The secrets of an app, without values, in the order of their names."""
    return call.engine.secrets.list(app=id)


@operations.serve("PUT", "/v1/apps/{id}/secrets/{name}")
def set_of(call: Call, id: str, name: str, body: NewSecret) -> SecretInfo:
    """Keep a secret of an app, encrypted, in the place of one of that name."""
    return call.engine.secrets.set(name, body.value, app=id)


@operations.serve("DELETE", "/v1/apps/{id}/secrets/{name}")
def delete_of(call: Call, id: str, name: str) -> None:
    """Delete a secret of an app."""
    call.engine.secrets.delete(name, app=id)


@operations.serve("POST", "/v1/key/rotate")
def rotate(call: Call) -> Rotated:
    """Encrypt all secrets with a new key."""
    return Rotated(secrets=call.engine.secrets.rotate_key())
