"""HTTPError, the exception that becomes an error response, and the reason phrases of the statuses.

Knows the names of the statuses (RFC 9110 §15). Does not know what an error response looks like
(`messages.error_response`), nor what happens to the connection afterwards (`HTTPProtocol.prepare`).
"""

from __future__ import annotations

from http import HTTPStatus

from .headers import FieldLine, Fields, field_lines

__all__ = ["PHRASES", "CutOff", "HTTPError", "body_too_large"]

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
        status: 400 to 599. Below 400 it is no error but a redirect, say, that needs no body to be received: such a
            response has `headers` and no content, and does not count as rejected.
        reason: one sentence for the client. It never repeats what the client sent, nor says where files are.
        headers: further headers as pairs, such as `("Allow", "GET, HEAD")` (RFC 9110 §15.5.6).
        close: whether the connection closes after the response.
    """

    def __init__(self, status: int, reason: str, headers: Fields = (), *, close: bool = False) -> None:
        """Makes an error to be raised.

        Args:
            status: as in the attributes.
            reason: as in the attributes.
            headers: a mapping such as `{"Allow": "GET"}`, `Headers`, or pairs; as in `Response(...)`.
            close: as in the attributes.

        Raises:
            TypeError: an argument has the wrong type. It is raised here and not when the response is made, since the
                traceback shows the line to be changed only here.
        """
        if not isinstance(status, int):
            raise TypeError(f"the status of an HTTPError must be an int, not {status!r}")
        if not isinstance(reason, str):
            raise TypeError(f"the reason of an HTTPError must be a str, not {reason!r}")
        super().__init__(status, reason)
        self.status = status
        self.reason = reason
        self.headers = _checked(headers)
        self.close = close

    def with_headers(self, headers: Fields) -> HTTPError:
        """Returns the same error with `headers` after its own. They may be and raise what those of `HTTPError` do."""
        return HTTPError(self.status, self.reason, (*self.headers, *_checked(headers)), close=self.close)

    def __str__(self) -> str:
        return f"{self.status} {PHRASES.get(self.status, '')}: {self.reason}"


def _checked(headers: Fields) -> tuple[FieldLine, ...]:
    """Returns `headers` as pairs. Raises TypeError if they are not pairs of str."""
    try:
        lines = tuple(field_lines(headers))
    except TypeError:
        lines = None
    # A line that is a str of two characters would otherwise be taken for a pair.
    if lines is None or not all(
        isinstance(line, (tuple, list)) and len(line) == 2 and all(isinstance(text, str) for text in line)
        for line in lines
    ):
        raise TypeError(
            "the headers of an HTTPError must be a mapping such as {'Allow': 'GET'}, or pairs of str, "
            f"not {headers!r}"
        )
    return lines


_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def body_too_large(limit: int) -> HTTPError:
    """Returns the 413 for a body of more than `limit` bytes (RFC 9110 §15.5.14)."""
    power = 0
    while power < len(_UNITS) - 1 and limit and limit % (1 << 10 * (power + 1)) == 0:
        power += 1
    exact = f"{limit:,} byte{'' if limit == 1 else 's'}"
    size = f"{limit >> 10 * power} {_UNITS[power]} ({exact})" if power else exact
    return HTTPError(413, f"the body is larger than {size}, which is the limit here")


class CutOff(Exception):
    """The body of a response cannot be completed, and whatever makes it has logged why: the connection is reset, since
    only that tells the client, and nothing more is logged."""
