"""A client of WebSockets, as far as tests need one."""

from __future__ import annotations

import base64
import socket

import httpx

from tests.sdk.routing.apps import exactly, head


def _frame(text: bytes) -> bytes:
    """A masked text frame of a WebSocket's client."""
    return bytes([0x81, 0x80 | len(text)]) + b"mask" + bytes(byte ^ b"mask"[at % 4] for at, byte in enumerate(text))


def socket_to(url: str) -> socket.socket:
    """A WebSocket to ``socket`` of an app, at the end of its handshake."""
    line = socket.create_connection(("127.0.0.1", httpx.URL(url).port or 0), 30)
    key = base64.b64encode(bytes(16)).decode()
    line.sendall(
        f"GET {httpx.URL(url).path}socket HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
        f"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
    )
    answer = head(line)
    assert answer.startswith(b"HTTP/1.1 101 "), answer
    assert b"ICX+Yqv66kxgM0FcWaLWlFLwTAI=" in answer
    return line


def echoes(line: socket.socket, text: bytes) -> bool:
    """Whether a WebSocket says again what it is told."""
    line.sendall(_frame(text))
    return exactly(line, len(text) + 2) == bytes([0x81, len(text)]) + text
