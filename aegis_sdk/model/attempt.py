"""What a guest tried to reach."""

from __future__ import annotations

import attrs


@attrs.frozen(kw_only=True)
class NetworkEvent:
    """A connection that a guest opened, or a name that it asked for in vain; *time* in seconds since 1970.

    *name* is what the guest knows the address by, *address* and *port* where it went, empty and 0 where it was only a
    name. By *rule*, or the network's own word, it was *allowed* or not, for that *reason*; *remedy* is the rule that
    would have allowed it, empty if none would. *error* is why it failed although it was allowed. *sent* and *received*
    are bytes, as the guest sees them, *duration* the seconds from the guest's asking to the end.
    """

    time: float
    name: str
    address: str
    port: int
    allowed: bool
    rule: str
    reason: str
    remedy: str = ""
    error: str = ""
    sent: int = 0
    received: int = 0
    duration: float = 0.0

    @property
    def place(self) -> str:
        """Where it went, as the guest knows it: ``example.org:443``, or the name alone where it came no further."""
        host = self.name or self.address
        if not self.port:
            return host
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"

    @property
    def hint(self) -> str:
        """Why the guest was refused it, in words, and what would allow it; empty if it was not."""
        if self.allowed:
            return ""
        return f"the guest was refused {self.place}: {self.reason}{self._mending()}"

    def _mending(self) -> str:
        if not self.remedy:
            return ""
        if self.rule == "public":  # which allow would replace by itself
            code, words = f'Network(mode="public", allow=["{self.remedy}"])', f"--network public --allow {self.remedy}"
        else:
            code, words = f'Network(allow=["{self.remedy}"])', f"--allow {self.remedy}"
        return f"; {code} allows it (aegis run {words})"
