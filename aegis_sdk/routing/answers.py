"""What the router answers itself: a status and why, as text, or as a page for a browser."""

from __future__ import annotations

import html
from http import HTTPStatus

from aegis_sdk.routing.base import Redirect
from aegis_sdk.routing.heads import RequestHead
from aegis_sdk.routing.refusals import Refuse

_PAGE = """<!doctype html>
<meta charset="utf-8">{reload}
<title>{title}</title>
<body style="font: 16px/1.5 sans-serif; max-width: 40em; margin: 4em auto; padding: 0 1em">
<h1 style="font-size: 1.4em">{title}</h1>
<p style="white-space: pre-wrap">{text}</p>
"""
_RELOAD = '\n<meta http-equiv="refresh" content="{seconds}">'


def refusal(refuse: Refuse, head: RequestHead | None, *, keep: bool) -> bytes:
    """The whole answer to *head*, which is None if it could not be read."""
    page = head is not None and "text/html" in (head.header("accept") or "")
    fields = {"Content-Type": f"text/{'html' if page else 'plain'}; charset=utf-8"}
    if refuse.retry_after is not None:
        fields["Retry-After"] = str(refuse.retry_after)
    text = _page(refuse) if page else f"{refuse.text}\n"
    return _answer(refuse.status, fields, text, head=head, keep=keep)


def redirect(to: Redirect, head: RequestHead, *, keep: bool) -> bytes:
    """The whole answer that sends a client elsewhere."""
    return _answer(307, {"Location": to.location, "Content-Type": "text/plain"}, "", head=head, keep=keep)


def _page(refuse: Refuse) -> str:
    reload = _RELOAD.format(seconds=refuse.retry_after or 1) if refuse.reload else ""
    title = html.escape(f"{refuse.status} {_phrase(refuse.status)}")
    return _PAGE.format(reload=reload, title=title, text=html.escape(refuse.text))


def _answer(status: int, fields: dict[str, str], text: str, *, head: RequestHead | None, keep: bool) -> bytes:
    body = text.encode("utf-8", "replace")
    # Nobody keeps what is only so at the moment, and nobody takes text that an app has a say in for anything else.
    fields |= {
        "Content-Length": str(len(body)),
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "Connection": "keep-alive" if keep else "close",
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    first = f"HTTP/1.1 {status} {_phrase(status)}\r\n{lines}\r\n".encode("latin-1")
    return first if head is not None and head.method == "HEAD" else first + body


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
