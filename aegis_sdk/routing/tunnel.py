"""Bytes both ways between two connections, each end of stream on its own."""

from __future__ import annotations

import asyncio

from aegis_sdk.routing.stream import Gone, Stream


async def tunnel(one: Stream, other: Stream) -> None:
    """Pass on what each says until both have said all; Gone if one of them breaks. There is no limit of time."""
    ways = [asyncio.ensure_future(_pour(one, other)), asyncio.ensure_future(_pour(other, one))]
    try:
        await asyncio.gather(*ways)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)


async def _pour(source: Stream, sink: Stream) -> None:
    while source.waiting or await source.more():
        sink.write(source.take())
        await sink.drain()
    if source.lost:
        raise Gone("one end broke")
    await sink.drain(below=1)
    sink.finish()
