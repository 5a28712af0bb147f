"""Requests that are refused before their body is there: whether to receive it all the same.

To answer first and close saves the client the rest of its upload; to receive the body and then answer saves it a new
connection. Does not know why a request is refused.
"""

from __future__ import annotations

from ..http.body import Discard, Sink
from ..http.errors import HTTPError
from ..http.messages import EXPECT, TRANSFER_ENCODING, Request

__all__ = ["receive_in_vain"]

_SMALL = 64 * 1024  # bytes, about what is on its way already when the head is read


def receive_in_vain(request: Request, error: HTTPError) -> Sink:
    """Where the body of a refused request goes if it is small; for any other, raises `error`.

    A client that waits for `100 Continue` gets its answer instead (RFC 9110 §10.1.1).
    """
    if request.flags & (EXPECT | TRANSFER_ENCODING) or (request.content_length or 0) > _SMALL:
        raise error
    return Discard()
