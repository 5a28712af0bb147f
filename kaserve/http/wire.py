"""The contract of the syntax, and the choice between its two implementations.

Only five things exist twice, in Python (`wire_pure`) and in Cython (`ext/_fast.pyx`), and this page says what both
must do. They do syntax and nothing else, are strict, and have no options; what decides has one source elsewhere.

`find_head_end(data: bytes, start: int) -> int`
    Where the first CRLF CRLF begins in `data[start:]`, as an index of `data`; -1 without one.

`parse_head(data: bytes, start: int, end: int) -> Request`
    `data[start:end]` is a complete head, from the first byte of the request line to the CRLF of the last field line
    inclusive; the empty line that ends it is left out, and nothing outside of it is looked at. Raises HTTPError 400 for
    what is not a request line or a field line (RFC 9112 §3, §5) and 505 for a major version other than 1; a later minor
    version counts as 1 (RFC 9110 §2.5). The request's `target` is not looked into. Field names come in lower case,
    values without the white space around them, both as str (Latin-1). `flags` has the bits of `messages.FLAGS`, HOSTS
    for more than one Host, and CLOSE and KEEP_ALIVE for the options of Connection, in any case and anywhere in its
    lists.

`ChunkedDecoder(limits: Limits)`
    One chunked body (RFC 9112 §7.1). `feed(data: bytes, start: int) -> int` reads from `data[start:]`, hands the
    content on to the list `content` (bytes, in order, in pieces that need not be the chunks) and returns the index of
    the first byte it did not take, which is len(data) until the body is `done`. Extensions are checked and ignored.
    `missing` is what the current chunk still lacks, so that a length too large can be refused before it arrives.
    `trailers` are pairs like a request's fields. Raises HTTPError 400 for malformed chunks and for extensions over the
    limits, 431 for trailers over them.

`encode_head(status: int, fields: Sequence[FieldLine]) -> tuple[bytes, int]`
    The field lines of a response, without the status line and without those that the protocol writes itself (the
    names in `messages.FLAGS` but for Host, Expect and Date); which of them were there is told by the bits returned.
    Raises TypeError for what is not a pair of str, and ValueError for a name that is no token or a value with a CR, LF,
    NUL or another byte that no field may hold (RFC 9110 §5.5): a response is never split.

`join(pieces: Sequence[bytes]) -> bytes`
    The pieces one after the other, which are a list or a tuple.
"""

from __future__ import annotations

__all__ = ["IMPLEMENTATION", "ChunkedDecoder", "encode_head", "find_head_end", "join", "parse_head"]

try:
    from ._fast import ChunkedDecoder, encode_head, find_head_end, join, parse_head

    IMPLEMENTATION = "compiled"
except ImportError:
    from .wire_pure import ChunkedDecoder, encode_head, find_head_end, join, parse_head

    IMPLEMENTATION = "pure"
