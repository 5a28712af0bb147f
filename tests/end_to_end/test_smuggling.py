"""Request smuggling: ambiguous messages through real proxies. Proxy and server must see the same requests.

A proxy and its upstream server share connections between clients. If they disagree on where a message ends, the rest of
one client's body becomes the beginning of another client's request. So each ambiguous message is sent through a proxy
that passes on as much as possible, followed by a normal request on the same connection and by one of another client.
The server must see the requests that the proxy forwarded, one by one, and each client must get its own responses.
"""

from __future__ import annotations

import http.client
import re
import select
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import pytest

from kaserve import Request, Response, Server
from tests.tools.proxies import PROXIES, Forwarded, Proxy
from tests.tools.server import PATIENCE, connect, get, serving, wait_for

SILENCE = 0.1  # seconds after which the proxy waits for more data; a wrong guess only makes the check weaker
HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: h\r\n\r\n"
POST = b"POST /case HTTP/1.1\r\nHost: h\r\n"
GET = b"GET /case HTTP/1.1\r\nHost: h\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def counted(head: bytes, body: bytes) -> bytes:
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


def chunked(body: bytes) -> bytes:
    return POST + b"Transfer-Encoding: chunked\r\n\r\n" + body


# Transfer-Encoding in forms that some parsers overlook and others do not.
CODINGS = {
    "plain": b"Transfer-Encoding: chunked",
    "upper case": b"TRANSFER-ENCODING: CHUNKED",
    "no space": b"Transfer-Encoding:chunked",
    "space before the colon": b"Transfer-Encoding : chunked",
    "tab before the colon": b"Transfer-Encoding\t: chunked",
    "tab after the colon": b"Transfer-Encoding:\tchunked",
    "vertical tab": b"Transfer-Encoding:\x0bchunked",
    "form feed": b"Transfer-Encoding: chunked\x0c",
    "no-break space": b"Transfer-Encoding: chunked\xa0",
    "NUL": b"Transfer-Encoding: chunked\x00",
    "NUL in the name": b"Transfer-Encoding\x00: chunked",
    "underscore": b"Transfer_Encoding: chunked",
    "bare CR before it": b"Transfer-Encoding:\rchunked",
    "bare CR after it": b"Transfer-Encoding: chunked\r",
    "bare LF before it": b"X: y\nTransfer-Encoding: chunked",
    "bare CR instead of a line end": b"X: y\rTransfer-Encoding: chunked",
    "folded": b"Transfer-Encoding:\r\n chunked",
    "continuing another field": b"X: y\r\n Transfer-Encoding: chunked",
    "after an empty name": b": y\r\nTransfer-Encoding: chunked",
    "quoted": b'Transfer-Encoding: "chunked"',
    "parameter": b"Transfer-Encoding: chunked;q=1",
    "comma before it": b"Transfer-Encoding: ,chunked",
    "comma after it": b"Transfer-Encoding: chunked,",
    "identity before it": b"Transfer-Encoding: identity, chunked",
    "identity after it": b"Transfer-Encoding: chunked, identity",
    "identity alone": b"Transfer-Encoding: identity",
    "gzip before it": b"Transfer-Encoding: gzip, chunked",
    "gzip after it": b"Transfer-Encoding: chunked, gzip",
    "unknown": b"Transfer-Encoding: xchunked",
    "empty": b"Transfer-Encoding:",
    "twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    "a second line that is not chunked": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x",
    "a first line that is not chunked": b"Transfer-Encoding: x\r\nTransfer-Encoding: chunked",
    "a first line that is empty": b"Transfer-Encoding:\r\nTransfer-Encoding: chunked",
    "Latin-1": b"Transfer-Encoding: chunk\xe9d",
    "Content-Encoding": b"Content-Encoding: chunked",
    "named by Connection": b"Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked",
}

LENGTHS = {
    "twice the same": b"Content-Length: 5\r\nContent-Length: 5",
    "twice": b"Content-Length: 0\r\nContent-Length: 38",
    "twice, the other way": b"Content-Length: 38\r\nContent-Length: 0",
    "list": b"Content-Length: 5, 5",
    "list of two": b"Content-Length: 0, 38",
    "plus": b"Content-Length: +5",
    "minus": b"Content-Length: -5",
    "zeros": b"Content-Length: 0000000005",
    "hexadecimal": b"Content-Length: 0x5",
    "two numbers": b"Content-Length: 0 5",
    "underscore": b"Content-Length: 3_8",
    "fraction": b"Content-Length: 5.0",
    "empty": b"Content-Length: ",
    "no number": b"Content-Length: five",
    "beyond 64 bits": b"Content-Length: 18446744073709551616",
    "just within 64 bits": b"Content-Length: 9223372036854775807",
    "space before the colon": b"Content-Length : 38",
    "vertical tab": b"Content-Length:\x0b38",
    "folded": b"Content-Length:\r\n 38",
    "bare LF before it": b"X: y\nContent-Length: 38",
    "bare CR before it": b"X: y\rContent-Length: 38",
    "underscore in the name": b"Content_Length: 38",
    "named by Connection": b"Connection: Content-Length\r\nContent-Length: 38",
    "named by Connection, with close": b"Connection: close, content-length\r\nContent-Length: 38",
    "NUL": b"Content-Length: 38\x00",
    "NUL within": b"Content-Length: 3\x008",
}

CHUNKS = {
    "extension": b"5;a=b\r\nhello\r\n0\r\n\r\n",
    "quoted extension with a line end": b'5;a="\r\nhello\r\n0\r\n\r\n',
    "extension with a bare LF": b"5;a\nhello\r\n0\r\n\r\n",
    "extension with a bare CR": b"5;\rhello\r\n0\r\n\r\n",
    "extension without a size": b";a\r\nhello\r\n0\r\n\r\n",
    "long extension": b"5;" + b"a" * 20_000 + b"\r\nhello\r\n0\r\n\r\n",
    "space after the size": b"5 \r\nhello\r\n0\r\n\r\n",
    "space before the size": b" 5\r\nhello\r\n0\r\n\r\n",
    "prefix": b"0x5\r\nhello\r\n0\r\n\r\n",
    "plus": b"+5\r\nhello\r\n0\r\n\r\n",
    "minus": b"-5\r\nhello\r\n0\r\n\r\n",
    "underscore": b"0_5\r\nhello\r\n0\r\n\r\n",
    "zeros": b"0" * 30 + b"5\r\nhello\r\n0\r\n\r\n",
    "beyond 32 bits": b"100000005\r\nhello\r\n0\r\n\r\n",
    "beyond 64 bits": b"10000000000000005\r\nhello\r\n0\r\n\r\n",
    "negative as 64 bits": b"ffffffffffffffff\r\nhello\r\n0\r\n\r\n",
    "bare LF after the size": b"5\nhello\r\n0\r\n\r\n",
    "bare LF after the content": b"5\r\nhello\n0\r\n\r\n",
    "bare CR after the size": b"5\rhello\r\n0\r\n\r\n",
    "CR CR LF after the size": b"5\r\r\nhello\r\n0\r\n\r\n",
    "nothing after the content": b"5\r\nhello0\r\n\r\n",
    "other bytes after the content": b"5\r\nhelloXX0\r\n\r\n",
    "longer than its size": b"5\r\nhello, world\r\n0\r\n\r\n",
    "empty size": b"\r\nhello\r\n0\r\n\r\n",
    "last chunk of two zeros": b"5\r\nhello\r\n00\r\n\r\n",
    "bare LF at the end": b"5\r\nhello\r\n0\n\n",
    "bare LF after the last chunk": b"5\r\nhello\r\n0\n\r\n",
    "trailers": b"5\r\nhello\r\n0\r\nX: y\r\n\r\n",
    "trailer Content-Length": b"5\r\nhello\r\n0\r\nContent-Length: 38\r\n\r\n",
    "trailer Transfer-Encoding": b"5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "trailer with a bare LF": b"5\r\nhello\r\n0\r\nX: y\n\n",
    "trailer folded": b"5\r\nhello\r\n0\r\nX: y\r\n z\r\n\r\n",
    "trailer without a colon": b"5\r\nhello\r\n0\r\nGET /hidden HTTP/1.1\r\n\r\n",
    "trailer with NUL": b"5\r\nhello\r\n0\r\nX: \x00\r\n\r\n",
    "a request in a chunk": chunk(HIDDEN) + b"0\r\n\r\n",
}

OTHERS = {
    "pipelined": counted(POST, b"hello") + GET + b"\r\n" + chunked(chunk(b"hello") + b"0\r\n\r\n"),
    "a request in a body": counted(POST, HIDDEN),
    "GET with a request as its body": counted(GET, HIDDEN),
    "GET with chunks": GET + b"Transfer-Encoding: chunked\r\n\r\n" + chunk(HIDDEN) + b"0\r\n\r\n",
    "HEAD with a request as its body": counted(b"HEAD /case HTTP/1.1\r\nHost: h\r\n", HIDDEN),
    "DELETE with a request as its body": counted(b"DELETE /case HTTP/1.1\r\nHost: h\r\n", HIDDEN),
    "OPTIONS *": b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n",
    "TRACE": b"TRACE /case HTTP/1.1\r\nHost: h\r\n\r\n",
    "CONNECT": b"CONNECT h:80 HTTP/1.1\r\nHost: h\r\n\r\n" + HIDDEN,
    "unknown method": counted(b"BREW /case HTTP/1.1\r\nHost: h\r\n", HIDDEN),
    "lower-case method": b"get /case HTTP/1.1\r\nHost: h\r\n\r\n",
    "Expect with its body": counted(POST + b"Expect: 100-continue\r\n", HIDDEN),
    "Expect without its body": POST + b"Expect: 100-continue\r\nContent-Length: 38\r\n\r\n",
    "Expect something else": counted(POST + b"Expect: wonders\r\n", HIDDEN),
    "Expect twice": counted(POST + b"Expect: 100-continue\r\nExpect: 100-continue\r\n", HIDDEN),
    "Expect on GET": GET + b"Expect: 100-continue\r\n\r\n",
    "Upgrade to h2c": GET + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
    "Upgrade to WebSocket": GET
    + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAA\r\n\r\n",
    "Upgrade with a body": counted(POST + b"Connection: Upgrade\r\nUpgrade: x\r\n", HIDDEN),
    "HTTP/1.0 with chunks": b"POST /case HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "HTTP/1.0 with both": b"POST /case HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 43\r\n\r\n"
    + b"0\r\n\r\n"
    + HIDDEN,
    "HTTP/1.0 that persists": counted(b"POST /case HTTP/1.0\r\nConnection: keep-alive\r\n", b"hello"),
    "HTTP/0.9": b"GET /case\r\n",
    "HTTP/1.2": b"GET /case HTTP/1.2\r\nHost: h\r\n\r\n",
    "HTTP/2.0": b"GET /case HTTP/2.0\r\nHost: h\r\n\r\n",
    "HTTP/1.10": b"GET /case HTTP/1.10\r\nHost: h\r\n\r\n",
    "no space before the version": b"GET /caseHTTP/1.1\r\nHost: h\r\n\r\n",
    "two spaces": b"GET  /case  HTTP/1.1\r\nHost: h\r\n\r\n",
    "tabs": b"GET\t/case\tHTTP/1.1\r\nHost: h\r\n\r\n",
    "space in the target": b"GET /case HTTP/1.1 /x HTTP/1.1\r\nHost: h\r\n\r\n",
    "empty lines before it": b"\r\n\r\n" + GET + b"\r\n",
    "bare LFs before it": b"\n\n" + GET + b"\r\n",
    "bare LF after the request line": b"GET /case HTTP/1.1\nHost: h\r\n\r\n",
    "bare LFs throughout": b"GET /case HTTP/1.1\nHost: h\n\n",
    "bare LF at the end of the head": GET + b"\n",
    "space after the request line": b"GET /case HTTP/1.1\r\n Host: h\r\nHost: h\r\n\r\n",
    "space before a field": GET + b" X: y\r\n\r\n",
    "a field without a colon": GET + b"X\r\n\r\n",
    "a field with a space in its name": GET + b"X Y: z\r\n\r\n",
    "NUL in a value": GET + b"X: \x00\r\n\r\n",
    "NUL in the target": b"GET /ca\x00se HTTP/1.1\r\nHost: h\r\n\r\n",
    "fragment in the target": b"GET /case#x HTTP/1.1\r\nHost: h\r\n\r\n",
    "bytes in the target": b"GET /ca\xe9se HTTP/1.1\r\nHost: h\r\n\r\n",
    "another host in absolute-form": b"GET http://other/case HTTP/1.1\r\nHost: h\r\n\r\n",
    "userinfo in absolute-form": b"GET http://h@other/case HTTP/1.1\r\nHost: h\r\n\r\n",
    "absolute-form with a body": counted(b"POST http://h/case HTTP/1.1\r\nHost: h\r\n", HIDDEN),
    "two Hosts": b"GET /case HTTP/1.1\r\nHost: h\r\nHost: other\r\n\r\n",
    "no Host": b"GET /case HTTP/1.1\r\n\r\n",
    "Host with a space": b"GET /case HTTP/1.1\r\nHost: h other\r\n\r\n",
    "Host that is a list": b"GET /case HTTP/1.1\r\nHost: h, other\r\n\r\n",
    "Host with a path": b"GET /case HTTP/1.1\r\nHost: h/x\r\n\r\n",
    "Host folded": b"GET /case HTTP/1.1\r\nHost:\r\n h\r\n\r\n",
    "Host named by Connection": GET + b"Connection: Host\r\n\r\n",
    "close named in odd ways": GET + b"Connection: cLOSE ,,x\r\n\r\n",
    "long field": GET + b"X: " + b"a" * 9000 + b"\r\n\r\n",
    "many fields": GET + b"X: y\r\n" * 150 + b"\r\n",
    "long target": b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: h\r\n\r\n",
    "long target with a body": counted(b"POST /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: h\r\n", HIDDEN),
    "long field with a body": counted(POST + b"X: " + b"a" * 9000 + b"\r\n", HIDDEN),
}


def cases() -> Iterator[tuple[str, bytes]]:
    for name, line in CODINGS.items():
        end = b"0\r\n\r\n" + HIDDEN
        yield f"coding, length of all: {name}", POST + b"Content-Length: %d\r\n%b\r\n\r\n" % (len(end), line) + end
        body = chunk(HIDDEN) + b"0\r\n\r\n"
        yield f"coding, length of a line: {name}", POST + line + b"\r\nContent-Length: 4\r\n\r\n" + body
    for name, line in LENGTHS.items():
        yield f"length: {name}", POST + line + b"\r\n\r\nhello" + HIDDEN
    for name, stream in CHUNKS.items():
        yield f"chunks: {name}", chunked(stream)
    yield from OTHERS.items()


CASES = list(cases())


@dataclass
class Backend:
    """The upstream handler: records the requests that it sees, and numbers them in its responses."""

    seen: list[tuple[str, str]] = field(default_factory=list)

    def __call__(self, request: Request) -> Response:
        query = f"?{request.query_string}" if request.query_string else ""
        target = request.target if request.target == "*" else request.raw_path + query
        self.seen.append((request.method, target))
        shown = quote(request.path, safe="/")
        return Response(200, request.body.read(), {"X-Seen": str(len(self.seen)), "X-Path": shown[:100]})


@pytest.mark.parametrize("name", PROXIES)
def test_proxy_and_server_see_the_same_requests(name: str, tmp_path: Path) -> None:
    backend = Backend()
    with serving(backend) as server:
        assert isinstance(server.address, tuple)
        with PROXIES[name](tmp_path, server.address[1]) as proxy:
            connect(proxy.address).close()
            for number, (case, wire) in enumerate(CASES):
                try:
                    check(proxy, server, backend, wire, number)
                except AssertionError as error:
                    raise AssertionError(f"{case}: {wire[:300]!r}: {error}") from error
        assert server.stats.failed == 0


def check(proxy: Proxy, server: Server, backend: Backend, wire: bytes, number: int) -> None:
    before, requests = len(backend.seen), server.stats.requests
    received = send(proxy, wire + get(f"/next-{number}"), b"X-Path: /next-%d\r\n" % number)
    with closing(http.client.HTTPConnection(*proxy.address, timeout=PATIENCE)) as other:
        other.request("GET", f"/other-{number}")
        response = other.getresponse()
        assert response.status == 200
        assert response.getheader("X-Path") == f"/other-{number}", "the response to another client"
    forwarded: list[Forwarded] = []

    def agree() -> bool:
        """Whether the proxy has logged as many requests as the server saw or rejected: it may log a little later."""
        forwarded.extend(proxy.read_log())
        answered = [each for each in forwarded if each.status == 200]
        return len(answered) >= len(backend.seen) - before and len(forwarded) >= server.stats.requests - requests

    wait_for(agree)
    seen = backend.seen[before:]
    assert [(each.method, each.target) for each in forwarded if each.status == 200] == seen
    assert seen.count(("GET", f"/other-{number}")) == 1
    responses = [int(digits) - 1 for digits in re.findall(rb"(?i)\r\nX-Seen: (\d+)\r\n", received)]
    assert responses == [*range(before, before + len(responses))], "responses to another client, or out of order"


def send(proxy: Proxy, wire: bytes, last: bytes) -> bytes:
    """All that comes back on a new connection, until a response contains `last`, the connection ends, or SILENCE."""
    received = b""
    with connect(proxy.address) as client:
        client.send(wire)
        while last.lower() not in received.lower() and select.select([client.sock], [], [], SILENCE)[0]:
            data = client.sock.recv(65536)
            if not data:
                break
            received += data
    return received
