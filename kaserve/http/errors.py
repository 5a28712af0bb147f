"""HTTPError, the exception that becomes an error response, and the reason phrases of the statuses.

Knows the names of the statuses (RFC 9110 §15). Does not know what an error response looks like
(`messages.error_response`), nor what happens to the connection afterwards (`HTTPProtocol.prepare`).
"""

from __future__ import annotations

from http import HTTPStatus

__all__ = ["PHRASES", "HTTPError", "body_too_large"]

# The standard table, with the names of RFC 9110, since Python before 3.13 has older ones for some.
PHRASES: dict[int, str] = {status.value: status.phrase for status in HTTPStatus} | {
    413: "Content Too Large",
    414: "URI Too Long",
    416: "Range Not Satisfiable",
    422: "Unprocessable Content",
}


class HTTPError(Exception):
    """An error response: raised anywhere in the server, by handlers included, and rendered in one place
    (`messages.error_response`).

    The connection persists if the request has been read completely, as it does after any other response. It closes if
    the rest of the request cannot be found, or is too large to be drained, and if `close` is true.

    Attributes:
        status: 400 to 599.
        reason: one sentence for the client. It never repeats what the client sent, nor says where files are.
        headers: further headers, such as `("Allow", "GET, HEAD")` (RFC 9110 §15.5.6).
        close: whether the connection closes after the response.
    """

    def __init__(
        self, status: int, reason: str, headers: tuple[tuple[str, str], ...] = (), *, close: bool = False
    ) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason
        self.headers = headers
        self.close = close

    def with_headers(self, headers: tuple[tuple[str, str], ...]) -> HTTPError:
        """Returns the same error with `headers` after its own."""
        return HTTPError(self.status, self.reason, (*self.headers, *headers), close=self.close)

    def __str__(self) -> str:
        return f"{self.status} {PHRASES.get(self.status, '')}: {self.reason}"


_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def body_too_large(limit: int) -> HTTPError:
    """Returns the 413 for a body of more than `limit` bytes (RFC 9110 §15.5.14)."""
    power = 0
    while power < len(_UNITS) - 1 and limit and limit % (1 << 10 * (power + 1)) == 0:
        power += 1
    exact = f"{limit:,} byte{'' if limit == 1 else 's'}"
    size = f"{limit >> 10 * power} {_UNITS[power]} ({exact})" if power else exact
    return HTTPError(413, f"the body is larger than {size}, which is the limit here")
