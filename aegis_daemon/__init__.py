"""aegisd: an engine that outlives its clients, behind two sockets of its home.

``aegisd.sock`` speaks HTTP: each route parses what it is asked, calls one verb of the engine and renders what it gives.
``guests.sock`` hands out connections to guests as descriptors, so that what runs over them costs the daemon nothing.
"""

from __future__ import annotations

from typing import NoReturn


def main() -> NoReturn:
    """Run the daemon in this process, and exit."""
    from aegis_daemon.main import main

    main()
