"""What a sandbox may reach, and what it has tried to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress

import attrs

from aegis_sdk.engine.base import Engine
from aegis_sdk.errors import AegisError, InvalidValue, SandboxNotFound
from aegis_sdk.model import Completed, Network, NetworkEvent

_EXAMPLE = 'for example: vm.network.update("none"), or vm.network.update(allow=["packages.example.org:443"])'


class GuestNetwork:
    """The network of a sandbox, which has it as ``network``."""

    def __init__(self, engine: Engine, sandbox: str) -> None:
        self._engine, self._sandbox = engine, sandbox

    @property
    def policy(self) -> Network:
        """What it may reach now; SandboxNotFound once it was removed."""
        if info := self._engine.info(self._sandbox):
            return info.network
        raise SandboxNotFound(f"there is no sandbox {self._sandbox}")

    def events(self) -> tuple[NetworkEvent, ...]:
        """What it has tried to reach, also when it has ended: of what is over, the last thousand, in order.

        That is refused, failed or closed. SandboxNotFound once it was removed.
        """
        return self._engine.network_events(self._sandbox)

    def update(
        self,
        network: str | Network | None = None,
        *,
        allow: Iterable[str] | None = None,
        deny: Iterable[str] = (),
        allow_host: Mapping[str, str] | None = None,
        mode: str = "",
    ) -> Network:
        """Have another policy in the place of the whole of the one that there is, now and after its next boots.

        What it refuses of what is open is broken off. It is given as for ``Sandbox``, or by the parts of a Network.
        SandboxNotFound, InvalidValue.
        """
        asked = _asked(network, mode=mode, allow=allow, deny=deny, allow_host=allow_host or {})
        return self._engine.update_network(self._sandbox, asked).network

    def __repr__(self) -> str:
        return f"<GuestNetwork of sandbox {self._sandbox}>"


def explained(network: GuestNetwork, completed: Completed, *, since: float) -> Completed:
    """*completed*, and if it failed what its guest was refused *since* it began (epoch seconds)."""
    if not completed.exit_code:
        return completed
    with suppress(AegisError):  # one that has just ended can say nothing, and the result is there
        events = [event for event in network.events() if event.time >= since]
        return attrs.evolve(completed, refused=events)
    return completed


def _asked(
    network: str | Network | None,
    *,
    mode: str,
    allow: Iterable[str] | None,
    deny: Iterable[str],
    allow_host: Mapping[str, str],
) -> Network:
    if network is None and not mode and allow is None:  # the rest alone would be taken for a change of what there is
        raise InvalidValue("it is not said what the guest may reach: by a network, mode or allow", hint=_EXAMPLE)
    parts = mode or allow is not None or deny or allow_host
    if network is None:
        return Network(mode=mode, allow=allow, deny=deny, allow_host=allow_host)
    if parts:
        raise InvalidValue("a network is given as a whole, or in parts: not both", hint=_EXAMPLE)
    return Network.of(network)
