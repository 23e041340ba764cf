"""Why a request gets no answer from an app: the status, and words for whoever asked."""

from __future__ import annotations

import attrs


@attrs.frozen
class Refuse:
    """Answer the request with *status* and *text*; *retry_after*, in seconds, if trying again may help.

    *reload* gives a browser a page that loads itself again.
    """

    status: int
    text: str
    retry_after: int | None = attrs.field(default=None, kw_only=True)
    reload: bool = attrs.field(default=False, kw_only=True)


class Refused(Exception):  # as those in errors.py
    """The request, or what an app answered to it, is not passed on; *refusal* is what is answered instead."""

    def __init__(self, status: int, text: str, *, retry_after: int | None = None, reload: bool = False) -> None:
        super().__init__(text)
        self.refusal = Refuse(status, text, retry_after=retry_after, reload=reload)


def bad_request(text: str) -> Refused:
    """The client's message is not what HTTP/1.1 allows, or could be taken for two things."""
    return Refused(400, text)


def bad_gateway(text: str) -> Refused:
    """The app answered nothing, or what HTTP/1.1 does not allow."""
    return Refused(502, f"the app cannot be understood: {text}")
