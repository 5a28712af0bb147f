"""A wire between a framework's test client and its application: what the client would call goes through kaserve.

Takes an environ, as test clients make them, sends it as a request over a persistent connection, and returns the answer
as it came back. The client's side is h11's, which is strict and not ours. Does not know any framework.

What HTTP cannot carry is handed over beside it, as the server is in the same process: what an application raises, which
clients of this kind raise in their turn; and what they put into the environ for their own framework alone.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, BinaryIO
from urllib.parse import quote, unquote
from wsgiref.util import setup_testing_defaults

import h11

from kaserve import Request, Server
from kaserve.handlers import WSGI, Mount
from kaserve.handlers.wsgi.file_wrapper import FileWrapper
from kaserve.handlers.wsgi.start_response import Application, close_result
from kaserve.testing import serve
from tests.tools.server import PATIENCE

Environ = dict[str, Any]

_NUMBER = "X-Wire-Exchange"  # the field that says which exchange a request belongs to; no application sees it
_NUMBER_KEY = "HTTP_X_WIRE_EXCHANGE"
_ONE_HOP = {b"connection", b"keep-alive", b"transfer-encoding"}  # RFC 9110 §7.6.1
_IN_PATH = "/:@!$&'()*+,;=~"  # RFC 3986 §3.3
_IN_QUERY = _IN_PATH + "?%"


@dataclass(frozen=True)
class Answer:
    """What a client has got. fields: without those of one hop."""

    status: int
    reason: str
    fields: list[tuple[str, str]]
    body: bytes


@dataclass
class _Exchange:
    """One request, seen from both sides. beside: what goes into the environ without being sent. over: the application
    is done with it, and has closed what it returned."""

    app: Application
    mount: str
    beside: Environ
    called: bool = False
    error: BaseException | None = None
    over: threading.Event = field(default_factory=threading.Event)


class Wire:
    """A server for whatever application a request is meant for, and connections to it, which are kept.

    threads: those of `WSGI`, 0 for the reactor. sent: requests so far.
    """

    def __init__(self, threads: int) -> None:
        self._wsgi = WSGI(self._call, threads)
        self._exchanges: dict[str, _Exchange] = {}
        self.sent = 0
        self._idle: list[WireConnection] = []
        self._stack = ExitStack()

    def __enter__(self) -> Wire:
        self._stack.callback(self._wsgi.close, PATIENCE)
        self.server: Server = self._stack.enter_context(serve(self._handle, forwarded_allow_ips="127.0.0.1"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for connection in self._idle:
            connection.close()
        self._stack.close()

    # The client.

    def ask(self, app: Application, environ: Environ) -> Answer:
        """The answer of `app` to the request that `environ` describes. Raises what the application raises."""
        self.sent += 1
        number = str(self.sent)
        exchange = self._exchanges[number] = _Exchange(app, environ.get("SCRIPT_NAME", ""), _beside(environ))
        environ = environ.copy()
        setup_testing_defaults(environ)
        try:
            try:
                answer = self._send(environ, number)
            finally:
                if exchange.called:  # an answer may have arrived before it was closed
                    assert exchange.over.wait(PATIENCE), "the application's answer was not closed"
                if exchange.error is not None:
                    raise exchange.error
        finally:
            del self._exchanges[number]
        return answer

    def _send(self, environ: Environ, number: str) -> Answer:
        connection = self._idle.pop() if self._idle else WireConnection(self.server)
        try:
            answer = connection.exchange(*_request(environ, number))
        except BaseException:
            connection.close()
            raise
        if connection.persists:
            self._idle.append(connection)
        else:
            connection.close()
        return answer

    # The server.

    def _handle(self, request: Request) -> Any:
        exchange = self._exchanges[request.headers[_NUMBER]]
        return Mount({exchange.mount: self._wsgi})(request) if exchange.mount else self._wsgi(request)

    def _call(self, environ: Environ, start_response: Any) -> Any:
        """The application of everything: calls the one that is meant."""
        exchange = self._exchanges[environ.pop(_NUMBER_KEY)]
        exchange.called = True
        environ |= exchange.beside
        try:
            result = exchange.app(environ, start_response)
        except BaseException as error:
            exchange.error = error
            exchange.over.set()
            raise
        if type(result) in (list, tuple):  # there is nothing to be iterated or closed
            exchange.over.set()
            return result
        if type(result) is FileWrapper:  # stays what it is, or it would not be sent as a file
            result._close = _Watched(result.file, exchange).close
            return result
        return _Watched(result, exchange)


class _Watched:
    """What an application returns; the exchange is told of its end."""

    def __init__(self, result: Any, exchange: _Exchange) -> None:
        self._result = result
        self._exchange = exchange

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._result
        except GeneratorExit:
            raise
        except BaseException as error:
            self._exchange.error = error
            raise

    def close(self) -> None:
        try:
            close_result(self._result)
        except BaseException as error:
            self._exchange.error = error
            raise
        finally:
            self._exchange.over.set()


# Requests.


def _beside(environ: Environ) -> Environ:
    """What is in `environ` for the framework (its names have a dot), or is a stream of the test's own."""
    return {
        key: value
        for key, value in environ.items()
        if ("." in key and not key.startswith("wsgi.")) or key == "wsgi.errors"
    }


def _request(environ: Environ, number: str) -> tuple[h11.Request, bytes]:
    """The request that `environ` describes (PEP 3333, "environ Variables"), and its body."""
    fields = [("Host", environ["HTTP_HOST"]), (_NUMBER, number)]
    for key, value in environ.items():
        if key.startswith("HTTP_") and key not in ("HTTP_HOST", "HTTP_TRANSFER_ENCODING"):
            fields.append((key.removeprefix("HTTP_").replace("_", "-").title(), str(value)))
    # What is not of the request itself is said as a proxy says it, which is trusted here.
    if environ["wsgi.url_scheme"] != "http":
        fields.append(("X-Forwarded-Proto", environ["wsgi.url_scheme"]))
    if environ.get("REMOTE_ADDR", "127.0.0.1") != "127.0.0.1":
        fields.append(("X-Forwarded-For", environ["REMOTE_ADDR"]))
    if environ.get("CONTENT_TYPE"):
        fields.append(("Content-Type", environ["CONTENT_TYPE"]))
    if environ.get("CONTENT_LENGTH"):
        fields.append(("Content-Length", environ["CONTENT_LENGTH"]))
        body = _read(environ["wsgi.input"], int(environ["CONTENT_LENGTH"]))
    else:
        body = _read(environ["wsgi.input"]) if environ.get("wsgi.input_terminated") else b""
        if body:
            fields.append(("Transfer-Encoding", "chunked"))
    headers = [(name, value.encode("latin-1")) for name, value in fields]
    return h11.Request(method=environ["REQUEST_METHOD"], target=_target(environ), headers=headers), body


def _target(environ: Environ) -> str:
    """As the client has written it, where it says so and means the same; else as it follows from the path."""
    path, query = environ["SCRIPT_NAME"] + environ["PATH_INFO"], environ.get("QUERY_STRING", "")
    target: str = environ.get("REQUEST_URI", "")
    raw_path, _, raw_query = target.partition("?")
    if target.isascii() and unquote(raw_path, "latin-1") == path and raw_query == query:
        return target
    quoted = quote(path, safe=_IN_PATH, encoding="latin-1") or "/"
    return f"{quoted}?{quote(query, safe=_IN_QUERY, encoding='latin-1')}" if query else quoted


def _read(stream: BinaryIO, size: int = -1) -> bytes:
    """What is in `stream`, which is left as it is where that can be done: a redirected request sends it again."""
    if not stream.seekable():
        return stream.read(size)
    position = stream.tell()
    body = stream.read(size)
    stream.seek(position)
    return body


def end_to_end(head: h11.Response) -> list[tuple[str, str]]:
    """The fields of an answer, without those of one hop."""
    return [
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, value in head.headers.raw_items()
        if name.lower() not in _ONE_HOP
    ]


class WireConnection:
    """A persistent connection, with h11's opinion of what comes over it."""

    def __init__(self, server: Server) -> None:
        assert isinstance(server.address, tuple)
        self._sock = socket.create_connection(server.address[:2], timeout=PATIENCE)
        self._http = h11.Connection(h11.CLIENT)
        self.trailers: list[tuple[bytes, bytes]] = []  # of the answer whose pieces have come

    def exchange(self, request: h11.Request, body: bytes) -> Answer:
        """Raises h11.RemoteProtocolError when what comes back is not an answer."""
        head = self.ask(request, body)
        content = b"".join(self.pieces())
        return Answer(head.status_code, bytes(head.reason).decode("latin-1"), end_to_end(head), content)

    def ask(self, request: h11.Request, body: bytes) -> h11.Response:
        """Sends a request, and returns the head of the answer."""
        http = self._http
        if http.our_state is h11.DONE:
            http.start_next_cycle()
        events = [request, *([h11.Data(body)] if body else []), h11.EndOfMessage()]
        self._sock.sendall(b"".join(http.send(event) or b"" for event in events))
        head = self._next()
        while isinstance(head, h11.InformationalResponse):
            head = self._next()
        assert isinstance(head, h11.Response), head
        return head

    def pieces(self) -> Iterator[bytes]:
        """The content of the answer, as it arrives."""
        while isinstance(event := self._next(), h11.Data):
            yield bytes(event.data)
        assert isinstance(event, h11.EndOfMessage), event
        self.trailers = [(bytes(name), bytes(value)) for name, value in event.headers]

    def _next(self) -> Any:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._http.receive_data(self._sock.recv(65536))
        return event

    @property
    def persists(self) -> bool:
        return self._http.our_state is h11.DONE and self._http.their_state is h11.DONE

    def close(self) -> None:
        self._sock.close()
