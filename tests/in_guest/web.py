"""A server of HTTP in a guest, on its loopback alone: what it was asked, much up and down, events, a WebSocket."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import struct
from asyncio import StreamReader, StreamWriter
from functools import partial

PIECE = bytes(1 << 16)
seen: list[str] = []
heard = asyncio.Event()


async def serve(port: int, reader: StreamReader, writer: StreamWriter) -> None:
    """Answer requests until the other side has gone."""
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            await answer(port, head.decode("latin-1"), reader, writer)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def answer(port: int, head: str, reader: StreamReader, writer: StreamWriter) -> None:
    """One request."""
    first, *lines = head.split("\r\n")[:-2]
    method, target, _ = first.split()
    fields = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    seen.append(f"{method} {target}")
    heard.set()
    body = await swallow(fields, reader)
    match target.split("?")[0]:
        case "/pour":
            await pour(int(target.split("?")[1]), writer)
        case "/events":
            await events(writer)
        case "/socket":
            await talk(fields, reader, writer)
        case _:
            said = {"port": port, "method": method, "target": target, "fields": fields, "body": body}
            said |= {"seen": seen} if target == "/seen" else {}
            text = json.dumps(said).encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(text) + text)


async def swallow(fields: dict[str, str], reader: StreamReader) -> int:
    """Read a body; how many bytes it had."""
    whole = 0
    if fields.get("transfer-encoding") == "chunked":
        while size := int(await reader.readline(), 16):
            await reader.readexactly(size + 2)
            whole += size
        await reader.readline()
        return whole
    left = int(fields.get("content-length", 0))
    while left:
        piece = await reader.read(min(left, 1 << 20))
        left, whole = left - len(piece), whole + len(piece)
    return whole


async def pour(size: int, writer: StreamWriter) -> None:
    """So many bytes."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
    while size:
        writer.write(PIECE[:size])
        size -= len(PIECE[:size])
        await writer.drain()


async def events(writer: StreamWriter) -> None:
    """Server-sent events, each when the one before it was heard of: by a request for something else."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
    heard.clear()
    for number in range(3):
        event = f"data: {number}\n\n".encode()
        writer.write(b"%x\r\n%s\r\n" % (len(event), event))
        await writer.drain()
        await heard.wait()
        heard.clear()
    writer.write(b"0\r\n\r\n")


async def talk(fields: dict[str, str], reader: StreamReader, writer: StreamWriter) -> None:
    """A WebSocket that says again what it is told."""
    key = fields["sec-websocket-key"].encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    accept = base64.b64encode(hashlib.sha1(key, usedforsecurity=False).digest())
    writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n")
    writer.write(b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n")
    while True:
        first, size = await reader.readexactly(2)
        size &= 127
        if size == 126:
            (size,) = struct.unpack(">H", await reader.readexactly(2))
        mask = await reader.readexactly(4)
        text = bytes(byte ^ mask[at % 4] for at, byte in enumerate(await reader.readexactly(size)))
        length = bytes([size]) if size < 126 else struct.pack(">BH", 126, size)
        writer.write(bytes([first]) + length + text)
        await writer.drain()


async def echo(reader: StreamReader, writer: StreamWriter) -> None:
    """Say everything again."""
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()


async def main() -> None:
    """Serve until killed."""
    for port in (8000, 9000):
        await asyncio.start_server(partial(serve, port), "127.0.0.1", port, backlog=1024)
    await asyncio.start_server(partial(serve, 9999), "0.0.0.0", 9999)
    await asyncio.start_server(echo, "127.0.0.1", 5432)
    await asyncio.sleep(1 << 20)


asyncio.run(main())
