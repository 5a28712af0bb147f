"""Limits: the most that a request may bring. Only the figures; who finds one exceeded raises HTTPError."""

from __future__ import annotations

__all__ = ["Limits"]


class Limits:
    """All are bytes but `fields`, a count.

    request_line: beyond it 414. fields, field_size (one field line), head (the whole head): beyond them 431. The field
    limits hold for trailers too, and that of the head for all extensions and trailers of a body together. body: the
    decoded body, beyond it 413. chunk_line: a chunk-size line with its extensions, beyond it 400. unchecked: up to here
    a head is within all limits of size.
    """

    __slots__ = ("body", "chunk_line", "field_size", "fields", "head", "request_line", "unchecked")

    def __init__(
        self,
        *,
        request_line: int = 8190,
        fields: int = 100,
        field_size: int = 8190,
        head: int = 65536,
        body: int = 1 << 30,
        chunk_line: int = 1024,
    ) -> None:
        self.request_line = request_line
        self.fields = fields
        self.field_size = field_size
        self.head = head
        self.body = body
        self.chunk_line = chunk_line
        self.unchecked = min(request_line, field_size, head)
