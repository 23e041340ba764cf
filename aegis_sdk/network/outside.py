"""What the outside is for one guest: what it may reach, and the names that it knows."""

from __future__ import annotations

import time
from collections.abc import Callable
from ipaddress import ip_address

import attrs

from aegis_sdk.model import Network, NetworkEvent
from aegis_sdk.model.rule import ANYWHERE
from aegis_sdk.network.addresses import Address, plain
from aegis_sdk.network.dialler import own
from aegis_sdk.network.names import Names, SharedNames
from aegis_sdk.network.policy import Attempt, Policy, Verdict, judge

_NOWHERE = Attempt(address=ip_address("0.0.0.0"), port=0)  # noqa: S104  # it is dialled by nobody


@attrs.frozen
class Decision:
    """What becomes of a connection to a *port* of *address*, by the *name* that the guest has for it.

    *attempt* is what is dialled if the *verdict* allows it, *straight* if no proxy is asked.
    """

    name: str
    address: str
    port: int
    verdict: Verdict
    attempt: Attempt = _NOWHERE
    straight: bool = False


class Outside:
    """Decides for one guest."""

    def __init__(self, network: Network, note: Callable[[NetworkEvent], None]) -> None:
        self.names, self.shared, self.note = Names(), SharedNames(), note
        self.network = network

    @property
    def network(self) -> Network:
        """What decides; may be set from any thread."""
        return self._network

    @network.setter
    def network(self, network: Network) -> None:
        self._network, self.policy = network, Policy.of(network)

    def decide(self, address: Address, port: int) -> Decision:
        """What becomes of a connection there."""
        if name := self.shared.name(address):
            return self._shared(name, port)
        address = plain(address)
        names = self.names.of(address, now=time.monotonic())
        attempt = Attempt(address=address, port=port, names=names, own=own(address))
        return Decision(min(names, default=""), str(address), port, judge(attempt, self.policy), attempt)

    def _shared(self, name: str, port: int) -> Decision:
        known = f"{name}:{port}"
        target = self._network.allow_host.get(known)
        if not target:
            reason = f"nothing of this machine is shared as {known}"
            return Decision(name, "", port, Verdict(allowed=False, rule="allow_host", reason=reason))
        host, _, number = target.rpartition(":")
        attempt = Attempt(address=ip_address(host.strip("[]")), port=int(number), names=(name,))
        verdict = Verdict(allowed=True, rule="allow_host", reason=f"{known} is shared")
        return Decision(name, str(attempt.address), attempt.port, verdict, attempt, straight=True)

    def shares(self, name: str) -> bool:
        """Whether ports of this machine are shared under *name*."""
        return any(known.rpartition(":")[0] == name for known in self._network.allow_host)

    def refuses(self, name: str) -> Decision | None:
        """Why *name* is not even asked for: a question alone can carry a secret out, to whoever answers it."""
        if self.shares(name):
            return None
        if denied := next((rule for rule in self.policy.deny if rule.names(name) and rule.all_ports), None):
            return Decision(name, "", 0, Verdict(allowed=False, rule=str(denied), reason=f"deny has {denied}"))
        if self.policy.mode != "none" or any(rule.host == ANYWHERE or rule.names(name) for rule in self.policy.allow):
            return None
        reason = f"nothing in allow is about {name}"
        return Decision(name, "", 0, Verdict(allowed=False, rule="none", reason=reason, remedy=name))
