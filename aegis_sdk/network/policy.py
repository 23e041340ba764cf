"""Whether a guest may connect there: a pure function, of the address that is dialled."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Self

import attrs

from aegis_sdk.model import Network
from aegis_sdk.model.rule import Rule
from aegis_sdk.network.addresses import NOWHERE, Address, kind, meanings, plain


@attrs.frozen
class Policy:
    """A Network, read: its rules in their order."""

    mode: str
    allow: tuple[Rule, ...] = ()
    deny: tuple[Rule, ...] = ()

    @classmethod
    def of(cls, network: Network) -> Self:
        """The rules of *network*."""
        return cls(network.mode, tuple(map(Rule.of, network.allow)), tuple(map(Rule.of, network.deny)))


@attrs.frozen(kw_only=True)
class Attempt:
    """A connection that a guest wants: where to, and the *names* that were resolved to that address for this guest.

    *own* if the address is one of this machine's.
    """

    address: Address
    port: int
    names: Collection[str] = ()
    own: bool = False


@attrs.frozen(kw_only=True)
class Verdict:
    """Whether it may be: by which *rule*, or word of the policy, and why.

    *remedy* is the rule that would allow what was refused; empty if none would, or a rule that is there refuses it.
    """

    allowed: bool
    rule: str
    reason: str
    remedy: str = ""


def judge(attempt: Attempt, policy: Policy) -> Verdict:
    """Whether *attempt* may be: what is no other machine never, then *deny*, *allow*, and last the policy's mode."""
    special = kind(attempt.address)
    if special in NOWHERE:
        reason = f"{plain(attempt.address)} is a {special} address, which no guest can reach"
        return Verdict(allowed=False, rule="always", reason=reason)
    if rule := next(_denying(attempt, policy), None):
        return Verdict(allowed=False, rule=str(rule), reason=f"deny has {rule}")
    if rule := next(_allowing(attempt, policy, special), None):
        return Verdict(allowed=True, rule=str(rule), reason=f"allow has {rule}")
    return _by_mode(attempt, policy, special)


def _by_mode(attempt: Attempt, policy: Policy, special: str) -> Verdict:
    anybodys = not special and not attempt.own
    if policy.mode == "full" or (policy.mode == "public" and anybodys):
        return Verdict(allowed=True, rule=policy.mode, reason=f"the network is {policy.mode}")
    where = str(plain(attempt.address))
    what = f"{where} is a {special} address" if special else f"{where} is this machine's own"
    host = min(attempt.names, default=where) if anybodys else where
    remedy = str(attrs.evolve(Rule.of(host), first=attempt.port, last=attempt.port))
    if policy.mode == "public":
        return Verdict(allowed=False, rule="public", reason=f"{what}, and not a public one", remedy=remedy)
    if not anybodys and (named := next((rule for rule in policy.allow if _by_name(rule, attempt)), None)):
        reason = f"{what}, and {named} in allow, as each rule with a name, is about public ones alone"
        return Verdict(allowed=False, rule=str(named), reason=reason, remedy=remedy)
    return Verdict(allowed=False, rule="none", reason=f"nothing in allow is about {remedy}", remedy=remedy)


def _denying(attempt: Attempt, policy: Policy) -> Iterator[Rule]:
    for rule in policy.deny:
        if _by_name(rule, attempt) or _by_address(rule, attempt, meanings(attempt.address)):
            yield rule


def _allowing(attempt: Attempt, policy: Policy, special: str) -> Iterator[Rule]:
    for rule in policy.allow:
        # Names are somebody else's to change: what they lead to must be what anybody may reach.
        by_name = not special and not attempt.own and _by_name(rule, attempt)
        if by_name or _by_address(rule, attempt, (plain(attempt.address),)):
            yield rule


def _by_name(rule: Rule, attempt: Attempt) -> bool:
    return rule.takes(attempt.port) and (rule.host == "*" or any(map(rule.names, attempt.names)))


def _by_address(rule: Rule, attempt: Attempt, addresses: tuple[Address, ...]) -> bool:
    return rule.takes(attempt.port) and any(map(rule.covers, addresses))
