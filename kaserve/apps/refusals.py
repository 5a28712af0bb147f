"""Requests that are refused before their body is there: whether to receive it all the same.

To answer first and close saves the client the rest of its upload; to receive the body and then answer saves it a new
connection. Does not know why a request is refused.
"""

from __future__ import annotations

import io
from typing import BinaryIO

from ..http.body import Sink
from ..http.errors import HTTPError
from ..http.messages import EXPECT, Request

__all__ = ["InVain", "receive_in_vain"]

_SMALL = 64 * 1024  # bytes, about what is on its way already when the head is read


def receive_in_vain(request: Request, error: HTTPError) -> Sink:
    """Where the body of a refused request goes if it is small; for any other, raises `error`.

    A client that waits for `100 Continue` gets its answer instead (RFC 9110 §10.1.1). How much comes in chunks shows
    only when it comes.
    """
    if request.flags & EXPECT or (request.content_length or 0) > _SMALL:
        raise error
    return InVain(error)


class InVain:
    """Takes a small body without keeping it; raises `error` once it was too much."""

    def __init__(self, error: HTTPError) -> None:
        self.error = error
        self._left = _SMALL

    def write(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left < 0:
            raise self.error

    def finish(self) -> BinaryIO:
        return io.BytesIO()

    def abandon(self) -> None:
        """Nothing is held."""
