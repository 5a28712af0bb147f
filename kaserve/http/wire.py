"""The contract of the syntax, and the choice between its two implementations.

Five things exist twice, in Python (`wire_pure`) and in Cython (`ext/_fast.pyx`), and this page says what both must do.
They know syntax and nothing else, are strict, and have no options. Every decision has one source, elsewhere.

`find_head_end(data: bytes, start: int) -> int`
    Returns where the first CRLF CRLF of `data[start:]` begins, as an index of `data`; -1 if there is none.

`parse_head(data: bytes, start: int, end: int) -> Request`
    Parses a complete head. `data[start:end]` reaches from the first byte of the request line to the CRLF of the last
    field line inclusive; the empty line that ends the head is left out, and no byte outside is looked at. Raises
    HTTPError 400 for a malformed request line or field line (RFC 9112 §3, §5), and 505 for a major version other than
    1; a later minor version counts as 1 (RFC 9110 §2.5). The request's `target` is not parsed. Field names are in lower
    case, values without the white space around them, both as str (Latin-1). `flags` has the bits of `headers.FLAGS`,
    DUPLICATE_HOST for more than one Host, and CLOSE and KEEP_ALIVE for the options of Connection, in any case and
    anywhere in its lists.

`ChunkedDecoder(limits: Limits)`
    Decodes one chunked body (RFC 9112 §7.1). `feed(data: bytes, start: int) -> int` reads `data[start:]`, adds the
    content to the list `content` (bytes, in order, in pieces that need not be the chunks), and returns the index of the
    first byte that it did not read, which is len(data) until the body is `done`. Extensions are checked and ignored. A
    chunk-size line is checked while it arrives. `missing` is how many bytes of the current chunk have not arrived yet,
    so that a chunk that is too large can be rejected before it arrives. `trailers` are pairs like the fields of a
    request. Raises HTTPError 400 for malformed chunks and for extensions over the limits, 431 for trailers over them.

`encode_head(fields: Sequence[FieldLine]) -> tuple[bytes, int]`
    Returns the field lines of a response without those that the protocol writes itself (Content-Length,
    Transfer-Encoding, Connection and the other fields of one hop), and the bits of `headers.FLAGS` for all fields, so
    that the caller knows which were there. The status line is not part of it. Raises TypeError for an element that is
    not a pair of str, and ValueError for a name that is not a token or a value with a CR, LF, NUL or another byte that
    no field value may have (RFC 9110 §5.5): so a handler cannot split a response.

`join(pieces: Sequence[bytes]) -> bytes`
    Returns the pieces, a list or a tuple, one after the other. `b"".join` in C would be called through Python.
"""

from __future__ import annotations

__all__ = ["IMPLEMENTATION", "ChunkedDecoder", "encode_head", "find_head_end", "join", "parse_head"]

try:
    from ._fast import ChunkedDecoder, encode_head, find_head_end, join, parse_head

    IMPLEMENTATION = "compiled"
except ImportError:
    from .wire_pure import ChunkedDecoder, encode_head, find_head_end, join, parse_head

    IMPLEMENTATION = "pure"
