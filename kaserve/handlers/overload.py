"""What a client gets when too many requests wait for a thread.

Knows the response. Does not know threads (`threads.workers`), nor what the request was for.
"""

from __future__ import annotations

from ..http.errors import HTTPError

__all__ = ["queue_is_full"]

_RETRY_AFTER = "1"  # seconds; a queue is worked off in less


def queue_is_full() -> HTTPError:
    """Returns a 503 that keeps the connection, so that the client can try again on it (RFC 9110 §15.6.4)."""
    return HTTPError(503, "too many requests are waiting", (("Retry-After", _RETRY_AFTER),))
