"""The command ``aegis``: the SDK with a terminal face, one file a command group."""

from aegis_cli.main import main

__all__ = ["main"]
