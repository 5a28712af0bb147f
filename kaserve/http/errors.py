"""What a server says when it refuses: statuses, their reason phrases, and the one exception.

Knows the names of the statuses (RFC 9110 §15). Does not know how an error is shown (`messages.error_response`), nor
what happens to the connection afterwards (`framing.persists`).
"""

from __future__ import annotations

from http import HTTPStatus

__all__ = ["PHRASES", "HTTPError"]

# The standard table, with the names RFC 9110 gave to the statuses that older Pythons call otherwise.
PHRASES: dict[int, str] = {status.value: status.phrase for status in HTTPStatus} | {
    413: "Content Too Large",
    414: "URI Too Long",
    416: "Range Not Satisfiable",
    422: "Unprocessable Content",
}


class HTTPError(Exception):
    """A refusal: the client gets `status` and one line of `reason`, and the connection closes after the answer.

    Any part of the server raises it, handlers included; `messages.error_response` is the one place that renders it.
    For an ordinary answer that happens to be a 4xx (a file not found, say) return a `Response` instead: that keeps
    the connection.

    status: 400 to 599. reason: one sentence for the client; never holds what the client sent or where files are.
    fields: further field lines, such as `("Allow", "GET, HEAD")` (RFC 9110 §15.5.6).
    """

    def __init__(self, status: int, reason: str, fields: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason
        self.fields = fields

    def __str__(self) -> str:
        return f"{self.status} {PHRASES.get(self.status, '')}: {self.reason}"
