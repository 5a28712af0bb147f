"""Ending: why a connection ended.

One name for each reason, used by the connection, the counters, the metrics, the live page and the advice, so that a
misspelt reason is an error of the type checker and not one more metric. Knows the reasons, and which of them a client
cannot see coming. Does not know connections.
"""

from __future__ import annotations

import enum

__all__ = ["UNSOLICITED", "Ending"]


class Ending(enum.StrEnum):
    """Why a connection ended.

    The values are what people read: labels of metrics, words on the live page, keys in JSON. docs/statistics.md
    explains each of them.
    """

    # The server closed an idle connection, without a response that could have announced it.
    IDLE = "idle"  # the keep-alive timeout passed
    DRAIN = "drain"  # the server was shutting down gracefully
    EVICTED = "evicted"  # another connection needed the place
    SHUTDOWN = "shutdown"  # the graceful timeout was over

    # A response announced the close.
    CLIENT_ASKED = "client asked"  # the request said so, or was HTTP/1.0 without keep-alive
    HANDLER_ASKED = "handler asked"  # its response said so
    KEEP_ALIVE_OFF = "keep-alive off"  # the setting, or Server.keep_alive
    REQUEST_LIMIT = "request limit"  # keep_alive_requests
    AGE = "age"  # keep_alive_time
    ANNOUNCED_DRAIN = "announced drain"  # the server was shutting down; unlike DRAIN it cannot lose a request
    LAST_RESPONSE = "last response"  # anything else; see `RequestLoop._why_last`
    REFUSED = "refused"  # a response to a request that could not be parsed, or was not wanted
    REJECTED = "rejected"  # too many connections from one address

    # A tunnel, after a 101, ended.
    TUNNEL_CLOSED = "tunnel closed"  # orderly: both sides have finished, or its owner has closed it
    TUNNEL_RESET = "tunnel reset"  # by its owner
    TUNNEL_TIMEOUT = "tunnel timeout"  # neither side sent anything

    # Something went wrong, or took too long.
    HEADER_TIMEOUT = "header timeout"
    BODY_TIMEOUT = "body timeout"
    SEND_TIMEOUT = "send timeout"
    HALF_CLOSE_TIMEOUT = "half-close timeout"  # the client finished sending, and its response took too long
    HANDSHAKE = "handshake"  # TLS could not be agreed on
    PROXY_HEADER = "proxy header"  # the connection did not begin with a PROXY header, although it must
    FAILED = "failed"  # a response could not be completed

    # The client ended it.
    CLIENT = "client"  # orderly, between two requests
    RESET = "reset"
    DISCONNECTED = "disconnected"  # while the handler made the response


UNSOLICITED = frozenset({Ending.IDLE, Ending.DRAIN, Ending.EVICTED, Ending.SHUTDOWN})
"""Closes that a client may not see coming: a request that it sends at the same moment is lost."""
