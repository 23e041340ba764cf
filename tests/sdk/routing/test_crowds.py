"""Room for connections that come when there are too many."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

from aegis_sdk.routing.listener import Clients


def test_each_who_comes_takes_another_ones_place():
    """Of many that come in one moment, each has an idle connection's place, not all of them that of the same one."""

    async def ended() -> list[bool]:
        clients = Clients(asyncio.get_running_loop(), most=3, sweep=lambda _: False)
        over = [asyncio.Event() for _ in range(3)]
        for each in over:
            client = SimpleNamespace(on_lost=None, close=each.set)
            clients.add(SimpleNamespace(client=client, idle=True, serve=asyncio.Event().wait, check=lambda _: None))
        await asyncio.sleep(0)
        assert [clients.make_room() for _ in range(4)] == [True, True, True, False]
        await asyncio.sleep(0.1)
        closed = [each.is_set() for each in over]
        await clients.close()
        return closed

    assert asyncio.run(ended()) == [True, True, True]
