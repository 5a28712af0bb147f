"""Limits: how large a request may be.

Knows the figures. Does not enforce them: the reader that finds a limit exceeded raises HTTPError.
"""

from __future__ import annotations

__all__ = ["Limits"]


class Limits:
    """The limits on a request, in bytes except for `fields` and `empty_lines`.

    Attributes:
        request_line: the request line; a longer one is a 414.
        fields: number of field lines, of the head and of the trailers each; more are a 431.
        field_size: one field line, of the head or of the trailers; a longer one is a 431.
        head: the whole head, and also all chunk extensions and trailers of a body together; more is a 431, or a 400 for
            extensions.
        body: the content after the chunked coding is removed; more is a 413.
        chunk_line: a chunk-size line with its extensions; a longer one is a 400.
        empty_lines: number of empty lines in front of a request; more are a 400. Some clients of old send one after a
            body (RFC 9112 §2.2), and no client sends many.
        unchecked: a head of up to this many bytes is within all limits of size, whatever it looks like, so that the
            common case costs one comparison.
    """

    __slots__ = ("body", "chunk_line", "empty_lines", "field_size", "fields", "head", "request_line", "unchecked")

    def __init__(
        self,
        *,
        request_line: int = 8190,
        fields: int = 100,
        field_size: int = 8190,
        head: int = 65536,
        body: int = 1 << 30,
        chunk_line: int = 1024,
        empty_lines: int = 32,
    ) -> None:
        self.request_line = request_line
        self.fields = fields
        self.field_size = field_size
        self.head = head
        self.body = body
        self.chunk_line = chunk_line
        self.empty_lines = empty_lines
        self.unchecked = min(request_line, field_size, head)
