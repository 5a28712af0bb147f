"""Responses of HTTP/1.1 as an asyncio client reads them: well-formed ones, for benchmarks that check their content."""

import asyncio
from dataclasses import dataclass


@dataclass(frozen=True)
class Response:
    """A response.

    Attributes:
        status: Its code.
        persists: Whether the connection may be used for another request.
        content: Without its framing.
        size: Bytes of head and content.
    """

    status: int
    persists: bool
    content: bytes
    size: int


async def read_response(reader: asyncio.StreamReader, method: str) -> Response:
    """The final response to a request with `method`. Raises EOFError if the connection ends before it does."""
    head = await reader.readuntil(b"\r\n\r\n")
    status_line, *lines = head.decode("latin-1").lower().split("\r\n")
    fields = dict(line.partition(": ")[::2] for line in lines if line)
    status = int(status_line.split()[1])
    if status == 100:
        return await read_response(reader, method)
    content = b"" if method == "HEAD" else await _read_content(reader, fields)
    return Response(status, fields.get("connection") != "close", content, len(head) + len(content))


async def _read_content(reader: asyncio.StreamReader, fields: dict[str, str]) -> bytes:
    if fields.get("transfer-encoding") != "chunked":
        return await reader.readexactly(int(fields["content-length"]))
    pieces = []
    while size := int(await reader.readuntil(b"\r\n"), 16):
        pieces.append((await reader.readexactly(size + 2))[:-2])
    await reader.readuntil(b"\r\n")
    return b"".join(pieces)
