"""UpstreamFailure: why a request could not be passed on, or its response not be passed back.

Knows the status that a client gets for each kind of failure. Does not know who logs it.
"""

from __future__ import annotations

import enum
import errno
import os
import ssl

from ..http.errors import HTTPError

__all__ = ["Cause", "UpstreamFailure", "describe_error", "describe_handshake_error"]


class Cause(enum.Enum):
    """What kind of failure it was: its status (RFC 9110 §15.6), and what the client is told.

    A client learns nothing about the network behind the proxy; the log names the upstream and the reason.
    """

    CONNECT = (502, "the server behind this proxy cannot be reached")
    CONNECT_TIMEOUT = (504, "the server behind this proxy cannot be reached in time")
    CLOSED = (502, "the server behind this proxy closed the connection without a response")
    MALFORMED = (502, "the server behind this proxy sent no valid response")
    TIMEOUT = (504, "the server behind this proxy did not respond in time")
    EXHAUSTED = (503, "this proxy cannot open more connections at the moment")

    def __init__(self, status: int, reason: str) -> None:
        self.status = status
        self.reason = reason

    @property
    def blames_upstream(self) -> bool:
        """Whether the upstream should be left out for a while."""
        return self in (Cause.CONNECT, Cause.CONNECT_TIMEOUT, Cause.TIMEOUT)

    @property
    def may_retry(self) -> bool:
        """Whether an idempotent request is sent once more. Not after a timeout: the client has waited long enough; nor
        after a malformed response, which would come again."""
        return self is Cause.CLOSED


class UpstreamFailure(Exception):
    """A connection to an upstream failed.

    Attributes:
        cause: what kind of failure.
        detail: the reason, for the log: one line.
        has_response: whether bytes of a response have come.
        is_unprocessed: whether the upstream cannot have processed any of the request, since none of it was sent.
    """

    def __init__(self, cause: Cause, detail: str, *, has_response: bool = False, is_unprocessed: bool = False) -> None:
        super().__init__(detail)
        self.has_response = has_response
        self.cause = cause
        self.detail = detail
        self.is_unprocessed = is_unprocessed

    def to_http_error(self) -> HTTPError:
        """Returns the response of the proxy itself."""
        headers = (("Retry-After", "1"),) if self.cause is Cause.EXHAUSTED else ()
        return HTTPError(self.cause.status, self.cause.reason, headers)


# Of this machine, not of the upstream: no more descriptors, ports, or memory.
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL, errno.EAGAIN}


def describe_error(error: OSError, doing: str) -> UpstreamFailure:
    """Returns the failure that `error` is while a connection is being opened.

    Args:
        error: what the system said.
        doing: what failed, as in "cannot connect".
    """
    reason = error.strerror or (os.strerror(error.errno) if error.errno else str(error))
    cause = Cause.EXHAUSTED if error.errno in _EXHAUSTED else Cause.CONNECT
    return UpstreamFailure(cause, f"{doing}: {reason}", is_unprocessed=True)


def describe_handshake_error(error: OSError) -> UpstreamFailure:
    """Returns the failure that `error` is in a TLS handshake; it says what is wrong with a certificate."""
    if isinstance(error, ssl.SSLCertVerificationError):
        detail = f"its certificate cannot be verified: {error.verify_message}"
    elif isinstance(error, ssl.SSLError) and error.reason:
        detail = f"the TLS handshake failed: {error.reason.lower().replace('_', ' ')}"
    else:
        detail = f"the TLS handshake failed: {error.strerror or error}"
    return UpstreamFailure(Cause.CONNECT, detail, is_unprocessed=True)
