"""WSGI applications (PEP 3333): their responses, on the reactor and in threads, as a client gets them."""

from __future__ import annotations

import array
import gzip
import io
import os
import socket
import struct
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from wsgiref.validate import validator

import pytest

from kaserve import Server
from kaserve.handlers import WSGI
from kaserve.handlers.wsgi.file_wrapper import FileWrapper
from kaserve.telemetry.endings import Ending
from tests.tools.files import parse
from tests.tools.hooks import respond
from tests.tools.server import PATIENCE, Client, connect, get, post, request, serving, wait_for

Start = Callable[..., Callable[[bytes], None]]
App = Callable[[dict[str, Any], Start], Iterable[bytes]]
ResultType = Callable[[list[bytes]], Iterable[bytes]]

TEXT = ("Content-Type", "text/plain")


class Result:
    """What an application returns; records what is done with it."""

    def __init__(self, pieces: Iterable[bytes], length: int | None = None) -> None:
        self._pieces = iter(pieces)
        self.pulled = 0
        self.closed = threading.Semaphore(0)
        self.closes = 0
        self.threads: set[str] = set()

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        self.threads.add(threading.current_thread().name)
        piece = next(self._pieces)
        self.pulled += 1
        return piece

    def close(self) -> None:
        self.threads.add(threading.current_thread().name)
        self.closes += 1
        self.closed.release()

    def wait(self) -> None:
        """Waits until it was closed, once."""
        assert self.closed.acquire(timeout=PATIENCE)
        assert self.closes == 1


def responding(result: Iterable[bytes], *fields: tuple[str, str], status: str = "200 OK") -> App:
    """An application that always gives the same response."""

    def app(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
        start_response(status, [TEXT, *fields])
        return result

    return app


@pytest.fixture(params=[0, 1, 3], ids=["reactor", "1 thread", "3 threads"])
def threads(request: pytest.FixtureRequest) -> int:
    number: int = request.param
    return number


@contextmanager
def client_of(app: App, threads: int, **settings: Any) -> Iterator[Client]:
    handler = WSGI(app, threads)
    try:
        with serving(handler, **settings) as server, connect(server) as client:
            yield client
    finally:
        handler.close(PATIENCE)


def is_cut_off(client: Client) -> bool:
    """Waits for the end of the connection. True for a reset, which nobody can mistake for the end of a response."""
    try:
        client.rest()
    except ConnectionError:
        return True
    return False


def errors(caplog: pytest.LogCaptureFixture) -> str:
    return "\n".join(record.getMessage() + str(record.exc_info or "") for record in caplog.records)


# Responses.


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([b"hello"], id="list"),
        pytest.param((b"hello",), id="tuple"),
        pytest.param([b"he", b"", b"llo"], id="several"),
        pytest.param((b"", b"hello"), id="tuple-empty-first"),
        pytest.param([b"hello", b""], id="empty-last"),
        pytest.param([b"", b"hello"], id="empty-first"),
    ],
)
def test_a_complete_body_has_a_length(threads: int, pieces: Any) -> None:
    with client_of(responding(pieces), threads) as client:
        for _ in range(3):
            answer = client.ask()
            assert (answer.status, answer.body, answer.framing) == (200, b"hello", "length")
            assert answer.value("content-type") == "text/plain"


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([], id="list"),
        pytest.param((), id="tuple"),
        pytest.param([b""], id="empty"),
        pytest.param([b"", b""], id="two-empty"),
    ],
)
def test_a_response_without_content(threads: int, pieces: Any) -> None:
    with client_of(responding(pieces), threads) as client:
        for _ in range(2):
            assert client.ask().value("content-length") == "0"
    with client_of(responding(Result(pieces)), threads) as client:
        assert client.ask().value("content-length") == "0"


def test_an_iterable_is_sent_in_chunks(threads: int) -> None:
    results = [Result([b"", b"he", b"", b"llo", b""]) for _ in range(2)]
    answers = iter(results)

    def app(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
        start_response("200 OK", [TEXT])
        return next(answers)

    with client_of(app, threads) as client:
        for result in results:
            answer = client.ask()
            assert (answer.body, answer.framing, answer.persists) == (b"hello", "chunked", True)
            result.wait()
            assert result.pulled == 5
            assert len(result.threads) == 1  # made and closed in the same thread


def test_an_iterable_with_content_length_is_not_chunked(threads: int) -> None:
    for pieces in ([b"hello"], [b"he", b"llo"], [b"", b"hel", b"lo", b""]):
        result = Result(pieces)
        with client_of(responding(result, ("Content-Length", "5")), threads) as client:
            answer = client.ask()
            assert (answer.body, answer.framing, answer.values("content-length")) == (b"hello", "length", ["5"])
            result.wait()
            assert result.pulled == len(pieces)


def test_an_iterable_ends_with_the_connection_for_http_1_0(threads: int) -> None:
    with client_of(responding(Result([b"he", b"llo"])), threads) as client:
        answer = client.ask(version="1.0")
        assert (answer.body, answer.framing) == (b"hello", "close")


def test_each_piece_is_sent_before_the_next_is_made(threads: int) -> None:
    """In a thread the application waits until the client has the piece; on the reactor it cannot wait."""
    arrived = threading.Semaphore(0)

    def pieces() -> Iterator[bytes]:
        for number in range(5):
            yield b"%d" % number
            assert not threads or arrived.acquire(timeout=PATIENCE)

    with client_of(responding(pieces()), threads) as client:
        client.send(get())
        client._until(b"\r\n\r\n")
        for number in range(5):
            assert client._exactly(6) == b"1\r\n%d\r\n" % number
            arrived.release()
        assert client._exactly(5) == b"0\r\n\r\n"


def test_the_first_piece_may_come_before_start_response(threads: int) -> None:
    def app(environ: dict[str, Any], start_response: Start) -> Iterator[bytes]:
        yield b""
        start_response("201 Made", [TEXT])
        yield b"hello"

    with client_of(app, threads) as client:
        for _ in range(2):
            answer = client.ask()
            assert (answer.status, answer.body) == (201, b"hello")


def test_write(threads: int) -> None:
    def app(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
        write = start_response("200 OK", [TEXT])
        for piece in (b"", b"a", b"b"):
            write(piece)
        results: dict[str, Any] = {"/list": [b"c", b"d"], "/none": [], "/pieces": Result([b"", b"c", b"d"])}
        result: Iterable[bytes] = results[environ["PATH_INFO"]]
        return result

    with client_of(app, threads) as client:
        for target, body in (("/list", b"abcd"), ("/none", b"ab"), ("/pieces", b"abcd"), ("/list", b"abcd")):
            assert client.ask(target).body == body


class _Markup(bytes):
    pass


def in_each_way(*pieces: Any) -> App:
    """An application that sends `pieces` in the way that its path names."""

    def app(environ: dict[str, Any], start_response: Start) -> Any:
        write = start_response("200 OK", [TEXT])
        match environ["PATH_INFO"]:
            case "/list":
                return list(pieces)
            case "/tuple":
                return tuple(pieces)
            case "/iterable":
                return Result(pieces)
            case "/write":
                for piece in pieces:
                    write(piece)
                return []
            case "/write-and-list":
                write(pieces[0])
                return list(pieces[1:])
            case "/write-and-iterable":
                write(pieces[0])
                return Result(pieces[1:])
            case "/file":
                return environ["wsgi.file_wrapper"](_Pieces(pieces))
            case "/empty-first":
                return Result([b"", *pieces])

    return app


WAYS = ("/list", "/tuple", "/iterable", "/write", "/write-and-list", "/write-and-iterable", "/file", "/empty-first")


def _strided(data: bytes) -> memoryview:
    return memoryview(b"".join(b"%cx" % byte for byte in data))[::2]


@pytest.mark.parametrize("kind", [bytes, _Markup, bytearray, memoryview, _strided])
def test_content_may_be_bytes_bytearray_and_memoryview(threads: int, kind: Callable[[bytes], Any]) -> None:
    """However the application sends it."""
    for pieces in ([b"h"], [b"h", b"i"]):
        with client_of(in_each_way(*map(kind, pieces)), threads) as client:
            for way in WAYS:
                assert client.ask(way).body == b"".join(pieces), way


@pytest.mark.parametrize("piece", ["hello", "", None, 5, [104], array.array("B", b"hello")], ids=repr)
def test_other_content_is_an_error(threads: int, piece: Any) -> None:
    """However the application sends it, and even if it is empty."""
    ways = [way for way in WAYS if way != "/file" or piece]  # an empty piece is the end of a file
    with client_of(in_each_way(piece), threads) as client:
        for way in ways:
            assert client.ask(way).status == 500, way
            assert client.ask(way, method="HEAD").status == 500, way


def test_a_buffer_may_be_used_again_for_the_next_piece(threads: int) -> None:
    def pieces() -> Iterator[Any]:
        buffer = bytearray(3)
        for data in (b"abc", b"def", b"ghi"):
            buffer[:] = data
            yield memoryview(buffer)

    with client_of(responding(Result(pieces())), threads) as client:
        assert client.ask().body == b"abcdefghi"


def test_write_in_a_thread_sends_at_once() -> None:
    arrived = threading.Semaphore(0)

    def app(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
        write = start_response("200 OK", [TEXT])
        write(b"a")
        assert arrived.acquire(timeout=PATIENCE)
        return [b"b"]

    with client_of(app, 1) as client:
        client.send(get())
        client._until(b"1\r\na\r\n")
        arrived.release()
        assert client._until(b"0\r\n\r\n") == b"1\r\nb\r\n0\r\n\r\n"


def test_write_in_the_iterable_is_an_error_on_the_reactor(caplog: pytest.LogCaptureFixture) -> None:
    def app(environ: dict[str, Any], start_response: Start) -> Iterator[bytes]:
        write = start_response("200 OK", [TEXT])
        yield b"a"
        write(b"b")

    with client_of(app, 0) as client:
        client.send(get())
        assert is_cut_off(client)
    assert "RuntimeError" in errors(caplog)


@pytest.mark.parametrize(
    ("status", "line"),
    [
        ("200 OK", "200 OK"),
        ("404 NOT FOUND", "404 NOT FOUND"),
        ("409 Already running", "409 Already running"),
        ("299 Rather good", "299 Rather good"),
        ("409 Schon gestartet: L\xf6we\t!", "409 Schon gestartet: L\xf6we\t!"),
        ("304 Same  as before ", "304 Same  as before"),
        ("404", "404 Not Found"),
        ("404 ", "404 Not Found"),
        ("299", "299 "),
    ],
)
@pytest.mark.parametrize("result_type", [list, Result])
def test_the_reason_phrase_is_the_applications(threads: int, status: str, line: str, result_type: Any) -> None:
    """RFC 9112 §4."""

    def app(environ: dict[str, Any], start_response: Start) -> Any:
        start_response(status, [TEXT, ("Content-Length", "2")] if environ["PATH_INFO"] == "/length" else [TEXT])
        if environ["PATH_INFO"] == "/file":
            return environ["wsgi.file_wrapper"](_named(b"hi"))
        return result_type([b"h", b"i"])

    with client_of(app, threads) as client:
        for target in ("/", "/length", "/file", "/"):
            for method in ("GET", "HEAD"):
                client.send(request(method, target))
                head = client._until(b"\r\n\r\n").decode("latin-1")
                assert head.startswith(f"HTTP/1.1 {line}\r\n")
                if method == "GET" and not status.startswith("304"):
                    client._until(b"0\r\n\r\n") if "chunked" in head else client._exactly(2)


def test_a_replaced_response_has_no_reason_phrase_of_the_first(threads: int) -> None:
    def app(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
        start_response("409 Already running", [TEXT])
        start_response("500 Internal Server Error", [TEXT], raised_exc_info())
        return [b"x"]

    with client_of(app, threads) as client:
        client.send(get())
        assert client._until(b"\r\n") == b"HTTP/1.1 500 Internal Server Error\r\n"


# Hop-by-hop headers (RFC 9110 §7.6.1).

HOP_BY_HOP = [
    *(("Connection", "keep-alive"), ("Keep-Alive", "timeout=5"), ("Transfer-Encoding", "chunked"), ("UPGRADE", "h2c")),
    *(("te", "trailers"), ("Trailer", "x"), ("Proxy-Connection", "close"), ("Connection", "X-Named, keep-alive")),
]


@pytest.mark.parametrize("result_type", [list, Result])
def test_hop_by_hop_headers_are_dropped(
    threads: int, result_type: ResultType, caplog: pytest.LogCaptureFixture
) -> None:
    """PEP 3333 forbids them, but recipes for event streams have them, and views that pass headers on. The framing is
    the server's, whatever they say."""

    def app(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
        start_response("200 OK", [TEXT, ("Cache-Control", "no-cache"), *HOP_BY_HOP, ("X-Named", "1")])
        return result_type([b"he", b"llo"])

    with client_of(app, threads) as client:
        for _ in range(3):
            answer = client.ask()
            assert (answer.status, answer.body, answer.persists) == (200, b"hello", True)
            assert answer.framing == ("length" if result_type is list else "chunked")
            assert answer.value("cache-control") == "no-cache"
            for name in ("upgrade", "te", "trailer", "proxy-connection", "x-named"):
                assert answer.values(name) == []
            assert all("timeout=5" not in value for value in answer.values("keep-alive"))
    (message,) = (each.getMessage() for each in caplog.records if "hop-by-hop" in each.getMessage())
    assert "Connection, Keep-Alive, Transfer-Encoding, UPGRADE, te, Trailer, Proxy-Connection, " in message


def test_hop_by_hop_headers_are_logged_once_per_application(threads: int, caplog: pytest.LogCaptureFixture) -> None:
    app = responding([b"hello"], ("Connection", "keep-alive"))
    for _ in range(2):
        with client_of(app, threads) as client:
            for _ in range(3):
                client.ask()
    assert [each.levelname for each in caplog.records if "hop-by-hop" in each.getMessage()] == ["WARNING"] * 2


@pytest.mark.parametrize("value", ["close", "Close", "keep-alive, close", "close, X-Named"])
def test_connection_close_is_the_wish_to_close(threads: int, value: str, caplog: pytest.LogCaptureFixture) -> None:
    for pieces in ([b"hello"], Result([b"hel", b"lo"])):
        with client_of(responding(pieces, ("Connection", value)), threads) as client:
            answer = client.ask()
            assert (answer.status, answer.body, answer.values("connection")) == (200, b"hello", ["close"])
            assert client.is_closed
    assert "hop-by-hop" not in caplog.text


@pytest.mark.parametrize("name", ["Accept-Encoding", "Range", "If-Match", "Host", "Expect"])
def test_a_header_that_requests_have_is_not_hop_by_hop(threads: int, name: str) -> None:
    """Such as Accept-Encoding with a 415 (RFC 9110 §12.5.3)."""
    with client_of(responding([b"hello"], (name, "x")), threads) as client:
        assert client.ask().values(name.lower()) == ["x"]


def test_repeated_headers(threads: int) -> None:
    with client_of(responding([b""], ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")), threads) as client:
        assert client.ask().values("set-cookie") == ["a=1", "b=2"]


@pytest.mark.parametrize(
    "fields", [pytest.param((), id="no-length"), pytest.param((("Content-Length", "5"),), id="length")]
)
@pytest.mark.parametrize("result_type", [list, Result], ids=["list", "iterable"])
@pytest.mark.parametrize("pieces", [pytest.param([b"hello"], id="content"), pytest.param([], id="nothing")])
def test_head(threads: int, pieces: Any, result_type: ResultType, fields: Any) -> None:
    """No content, and never a Content-Length that the response to GET would not have (RFC 9110 §8.6, §9.3.2)."""
    results: list[Any] = []

    def app(environ: dict[str, Any], start_response: Start) -> Any:
        start_response("200 OK", fields)
        results.append(result_type(pieces))
        return results[-1]

    with client_of(app, threads) as client:
        for _ in range(3):
            answer = client.ask(method="HEAD")
            assert answer.values("content-length") == (["5"] if fields or (pieces and result_type is list) else [])
        if result_type is Result:
            for result in results:
                result.wait()


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_statuses_without_content(threads: int, status: str) -> None:
    for pieces in ([], [b""], [b"not sent"], Result([b"not", b"sent"]), Result([])):
        with client_of(responding(pieces, status=status), threads) as client:
            for _ in range(1 if isinstance(pieces, Result) else 2):
                answer = client.ask()
                assert (answer.status, answer.body, answer.framing) == (int(status[:3]), b"", "none")
            if isinstance(pieces, Result):
                pieces.wait()


# start_response a second time.


def raised_exc_info() -> tuple[Any, ...]:
    try:
        raise LookupError("the fault")
    except LookupError:
        return sys.exc_info()


def test_exc_info_replaces_a_response_that_was_not_sent(threads: int) -> None:
    def app(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
        start_response("200 OK", [("X-First", "1"), ("Content-Length", "1")])
        start_response("503 Sorry", [TEXT], raised_exc_info())
        return [b"sorry"]

    with client_of(app, threads) as client:
        answer = client.ask()
        assert (answer.status, answer.body, answer.values("x-first")) == (503, b"sorry", [])


def test_exc_info_is_raised_after_the_head_was_sent(threads: int, caplog: pytest.LogCaptureFixture) -> None:
    raised = []

    def app(environ: dict[str, Any], start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", [TEXT])
        yield b"begun"
        try:
            start_response("500 Sorry", [TEXT], raised_exc_info())
        except LookupError as error:
            raised.append(error)
            raise

    with client_of(app, threads) as client:
        client.send(get())
        assert is_cut_off(client)
    assert len(raised) == 1
    assert "LookupError" in errors(caplog)


def test_exc_info_without_an_exception_after_the_head(threads: int, caplog: pytest.LogCaptureFixture) -> None:
    """PEP 3333, "The start_response() Callable": without an error there cannot be another head."""

    def app(environ: dict[str, Any], start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", [TEXT])
        yield b"begun"
        start_response("500 Sorry", [TEXT], (None, None, None))

    with client_of(app, threads) as client:
        client.send(get())
        assert is_cut_off(client)
    assert "without an exception" in errors(caplog)


def test_exc_info_is_raised_after_write(threads: int) -> None:
    def app(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
        write = start_response("200 OK", [TEXT])
        write(b"begun, ")
        try:
            start_response("500 Sorry", [TEXT], raised_exc_info())
        except LookupError:
            return [b"went on"]
        return []

    with client_of(app, threads) as client:
        answer = client.ask()
        assert (answer.status, answer.body) == (200, b"begun, went on")


# Faults of the application.


def faulty(environ: dict[str, Any], start_response: Start) -> Any:
    """An application that breaks the rule that its path names."""
    what = environ["PATH_INFO"].strip("/")
    good: Any = [TEXT]
    text: Any = "hello"
    match what:
        case "good":
            start_response("200 OK", good)
            return [b"hello"]
        case "raises":
            raise LookupError("a secret")
        case "exits":
            raise SystemExit(1)
        case "stops":
            raise StopIteration
        case "twice":
            start_response("200 OK", good)
            start_response("200 OK", good)
        case "silent":
            return [b"hello"]
        case "silent-pieces":
            return Result([b"hello"])
        case "silent-nothing":
            return Result([])
        case "silent-file":
            return FileWrapper(tempfile.TemporaryFile())
        case "none":
            start_response("200 OK", good)
            return None
        case "text":
            start_response("200 OK", good)
            return [text]
        case "texts":
            start_response("200 OK", good)
            return [text, "you"]
        case "text-pieces":
            start_response("200 OK", good)
            return Result([text])
        case "write-text":
            start_response("200 OK", good)(text)
        case "fails-at-once":
            start_response("200 OK", good)
            return (1 // 0 for _ in range(1))
        case "lists":
            start_response("200 OK", [["Content-Type", "text/plain"]])
        case "name-only":
            start_response("200 OK", [("Content-Type",)])
    kind, _, number = what.partition("-")
    if kind == "status":
        start_response(STATUSES[int(number)], good)
    if kind == "field":
        start_response("200 OK", [FIELDS[int(number)]])
    return [b"hello"]


STATUSES: list[Any] = ["", "100 Continue", "OK", 200, "200OK", "999 X", "\u0662\u0660\u0660 OK", "200 OK\r\nX: y"]
STATUSES += ["200 \u20ac", "200 A\x01B", "200 A\x7fB", "200 A\nB"]
FIELDS: list[Any] = [
    *(("Connection", "close\r\nX: y"), ("Keep-Alive", "a\0"), ("Transfer-Encoding", 1), ("Connection", None)),
    *(("X", "a\r\nSet-Cookie: b"), ("X", "a\nb"), ("X", "a\0"), ("X", "\u20ac"), ("X", 1), (b"X", b"1")),
    *(("X\r\nY", "1"), ("X ", "1"), ("", "1"), (None, "x"), ("Content-Length", "x"), ("Content-Length", 5)),
]
FAULTS = "raises exits stops twice silent silent-pieces silent-nothing silent-file none text texts text-pieces".split()
FAULTS += ["write-text", "fails-at-once", "lists", "name-only"]
FAULTS += [f"status-{number}" for number in range(len(STATUSES))]
FAULTS += [f"field-{number}" for number in range(len(FIELDS))]


@pytest.mark.parametrize("threads", [0, 2])
def test_faults_are_a_500_and_a_traceback(threads: int, caplog: pytest.LogCaptureFixture) -> None:
    """The client is not expected what it was, and the connection persists."""
    with client_of(faulty, threads) as client:
        for fault in FAULTS:
            caplog.clear()
            answer = client.ask(f"/{fault}")
            assert (answer.status, answer.persists) == (500, True), fault
            assert b"secret" not in answer.body
            assert any(record.exc_info for record in caplog.records), fault
            assert client.ask(f"/{fault}", method="HEAD").status == 500, fault
            assert client.ask("/good").body == b"hello"


def test_content_beyond_its_length_is_cut_off(threads: int, caplog: pytest.LogCaptureFixture) -> None:
    for pieces in ([b"hello"], [b"he", b"llo"], [b"hel", b"lo"], Result([b"hello"]), Result([b"hel", b"lo"])):
        caplog.clear()
        with client_of(responding(pieces, ("Content-Length", "3")), threads) as client:
            assert client.ask().body == b"hel"
            wait_for(lambda: "longer than its Content-Length" in errors(caplog))
            if isinstance(pieces, Result):
                pieces.wait()
            assert client.ask(method="HEAD").status == 200  # the connection persists


def test_content_shorter_than_its_length_ends_the_connection(threads: int, caplog: pytest.LogCaptureFixture) -> None:
    for pieces in ([b"hello"], [b"he", b"llo"], [], Result([b"hello"]), Result([b"hel", b"lo"]), Result([])):
        caplog.clear()
        with client_of(responding(pieces, ("Content-Length", "9")), threads) as client:
            client.send(get())
            assert is_cut_off(client)
            wait_for(lambda: "shorter than its Content-Length" in errors(caplog))


def test_an_error_in_the_middle_ends_the_connection(threads: int, caplog: pytest.LogCaptureFixture) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"begun"
        raise LookupError("the fault")

    result = Result(pieces())
    with client_of(responding(result), threads) as client:
        client.send(get())
        assert is_cut_off(client)
    result.wait()
    assert "LookupError" in errors(caplog)


def test_an_error_after_the_end_is_only_logged(threads: int, caplog: pytest.LogCaptureFixture) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"hello"
        raise LookupError("the fault")

    result = Result(pieces())
    with client_of(responding(result, ("Content-Length", "5")), threads) as client:
        assert client.ask().body == b"hello"
        result.wait()
        wait_for(lambda: "LookupError" in errors(caplog))
        assert client.ask("/", method="HEAD").status == 200  # the connection persists


def test_a_first_piece_as_long_as_announced_is_the_whole_response() -> None:
    """So it is in memory, and leaves with its head; and the application is called to its end before that."""
    result = Result([b"", b"hello", b""])
    wsgi = WSGI(responding(result, ("Content-Length", "5")), threads=0)
    response = respond(wsgi, parse("/"))
    assert response.body == b"hello"
    assert (result.pulled, result.closes) == (3, 1)


def test_an_error_in_close_is_only_logged(threads: int, caplog: pytest.LogCaptureFixture) -> None:
    class Closing(Result):
        def close(self) -> None:
            super().close()
            raise LookupError("the fault")

    with client_of(faulty, threads):
        pass
    result = Closing([b"he", b"llo"])
    with client_of(responding(result), threads) as client:
        assert client.ask().body == b"hello"
        result.wait()
        wait_for(lambda: "LookupError" in errors(caplog))


# close().


def test_a_client_that_leaves(threads: int) -> None:
    """The application is closed once when the server cannot send any more."""

    def pieces() -> Iterator[bytes]:
        while True:
            yield b"x" * 65536

    result = Result(pieces())
    with client_of(responding(result), threads) as client:
        client.send(get())
        client._exactly(65536)
        client.close()
        result.wait()


def test_a_client_that_does_not_read_does_not_delay_others(threads: int) -> None:
    """On the reactor the application continues when the client reads; in a thread it makes its response to the end, of
    which a bounded part waits in memory."""
    piece = b"x" * 65536
    results = []

    def app(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
        start_response("200 OK", [TEXT])
        if environ["PATH_INFO"] != "/large":
            return [b"hello"]
        results.append(Result(piece for _ in range(500)))
        return results[-1]

    handler = WSGI(app, threads + 1 if threads else 0)
    with serving(handler) as server, connect(server) as slow, connect(server) as other:
        slow.send(get("/large"))
        slow._until(b"\r\n\r\n")
        for _ in range(10):
            assert other.ask().body == b"hello"
        if threads:
            results[0].wait()
        else:
            assert results[0].pulled < 500  # the kernel buffers a few megabytes at most
        received = sum(iter(lambda: _chunk(slow), 0))
        assert received == 500 * len(piece)
        if not threads:
            results[0].wait()
    handler.close(PATIENCE)


@pytest.mark.parametrize("sends", ["pieces", "write"])
@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_slow_clients_do_not_occupy_the_threads(sends: str, version: str) -> None:
    """As many clients as there are threads read nothing of a long response: another client gets its own at once, and
    the slow ones get all of theirs, in order, later."""
    pieces = [b"%07d\n" % number * 8192 for number in range(200)]  # 64 KiB each, more than the kernel buffers

    def app(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
        write = start_response("200 OK", [TEXT])
        if environ["PATH_INFO"] != "/large":
            return [b"hello"]
        if sends == "pieces":
            return iter(pieces)
        for piece in pieces:
            write(piece)
        return []

    handler = WSGI(app, 4)
    with serving(handler) as server, ExitStack() as stack:
        slow = [stack.enter_context(connect(server)) for _ in range(4)]
        for client in slow:
            client.send(get("/large", version=version))
            client._until(b"\r\n\r\n")
        with connect(server) as other:
            assert other.ask().body == b"hello"
        for client in slow:
            body = client.rest() if version == "1.0" else b"".join(iter(lambda: _content_of_chunk(client), b""))  # noqa: B023
            assert body == b"".join(pieces)
    handler.close(PATIENCE)


def _chunk(client: Client) -> int:
    """Reads a chunk and returns its size."""
    return len(_content_of_chunk(client))


def _content_of_chunk(client: Client) -> bytes:
    """Reads a chunk and returns its content."""
    size = int(client._until(b"\r\n"), 16)
    return client._exactly(size + 2)[:-2]


@pytest.mark.parametrize("kind", ["pieces", "file", "write"])
def test_a_response_for_a_server_that_has_stopped_is_closed(kind: str, tmp_path: Path) -> None:
    """PEP 3333: close() is called in every case, and no thread waits for a client for ever."""
    path = tmp_path / "file"
    path.write_bytes(b"hello")
    begun, may_end, released = threading.Event(), threading.Event(), threading.Event()
    result = Result(iter(lambda: b"x" * 65536, b""))
    file = open(path, "rb")

    def app(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
        begun.set()
        assert may_end.wait(PATIENCE)
        write = start_response("200 OK", [TEXT])
        if kind == "pieces":
            return result
        if kind == "file":
            wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](file)
            return wrapped
        try:
            while True:
                write(b"x" * 65536)
        finally:
            released.set()

    handler = WSGI(app, 1)
    with serving(handler) as server, connect(server) as client:
        client.send(get())
        assert begun.wait(PATIENCE)
        server.shutdown(0.0)
    may_end.set()
    handler.close(PATIENCE)  # waits for the thread to end
    if kind == "pieces":
        result.wait()
    assert kind != "write" or released.is_set()
    assert kind != "file" or file.closed
    file.close()


def test_a_server_that_stops_wakes_the_blocked_application() -> None:
    result = Result(iter(lambda: b"x" * 65536, b""))
    handler = WSGI(responding(result), 1)
    with serving(handler) as server, connect(server) as client:
        client.send(get())
        client._exactly(65536)
        server.shutdown(0.0)
        result.wait()
    handler.close(PATIENCE)


# Files.


def file_app(open_file: Callable[[], Any], *fields: tuple[str, str], wrap: Any = None) -> App:
    def app(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
        start_response("200 OK", list(fields))
        wrapped: Iterable[bytes] = (wrap or environ["wsgi.file_wrapper"])(open_file())
        return wrapped

    return app


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789" * 1000)
    return path


class TestFiles:
    @pytest.mark.parametrize("buffering", [0, -1])
    def test_are_sent_by_the_kernel(
        self, threads: int, path: Path, buffering: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sent = []
        sendfile = os.sendfile

        def send(*arguments: int) -> int:
            sent.append(arguments)
            return sendfile(*arguments)

        monkeypatch.setattr(os, "sendfile", send)
        opened: list[Any] = []

        def open_file() -> Any:
            opened.append(open(path, "rb", buffering))
            return opened[-1]

        with client_of(file_app(open_file), threads) as client:
            for _ in range(2):
                answer = client.ask()
                assert (answer.body, answer.framing) == (path.read_bytes(), "length")
            assert client.ask(method="HEAD").value("content-length") == "10000"
            client.ask()
            assert len(sent) == 3
            wait_for(lambda: all(file.closed for file in opened))

    def test_from_their_current_position(self, threads: int, path: Path) -> None:
        def open_file() -> Any:
            file = open(path, "rb")
            file.read(9995)  # and the buffer has read on
            return file

        with client_of(file_app(open_file), threads) as client:
            assert client.ask().body == b"56789"

    def test_only_as_much_as_content_length(self, threads: int, path: Path) -> None:
        with client_of(file_app(lambda: open(path, "rb"), ("Content-Length", "12")), threads) as client:
            for _ in range(2):
                assert client.ask().body == b"012345678901"

    def test_shorter_than_content_length(self, threads: int, path: Path) -> None:
        with client_of(file_app(lambda: open(path, "rb"), ("Content-Length", "10001")), threads) as client:
            client.send(get())
            assert is_cut_off(client)

    def test_without_content(self, threads: int, tmp_path: Path) -> None:
        (tmp_path / "empty").touch()
        with client_of(file_app(lambda: open(tmp_path / "empty", "rb")), threads) as client:
            for _ in range(2):
                assert client.ask().value("content-length") == "0"

    def test_of_other_kinds_are_read(self, threads: int, path: Path, tmp_path: Path) -> None:
        """gzip.GzipFile has a fileno(), of something else than what it reads; so has what derives from io.FileIO."""
        (tmp_path / "loud").write_bytes(b"HELLO")
        with gzip.open(tmp_path / "packed", "wb") as packed:
            packed.write(b"hello")
        files: list[Callable[[], Any]] = [
            lambda: io.BytesIO(b"hello"),
            lambda: gzip.open(tmp_path / "packed", "rb"),
            lambda: io.BufferedReader(gzip.open(tmp_path / "packed", "rb")),
            lambda: _pipe(b"hello"),
            lambda: _named(b"hello"),
            lambda: _Reader(b"hello"),
            lambda: _Quiet(tmp_path / "loud"),
            lambda: io.BufferedReader(_Quiet(tmp_path / "loud")),
        ]
        for open_file in files:
            with client_of(file_app(open_file), threads) as client:
                for _ in range(2):
                    assert client.ask().body == b"hello"

    def test_after_what_was_written(self, threads: int, path: Path) -> None:
        def app(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
            start_response("200 OK", [])(b"first ")
            wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](open(path, "rb"), 10)
            return wrapped

        with client_of(app, threads) as client:
            assert client.ask().body == b"first " + path.read_bytes()

    def test_are_closed_when_the_client_leaves(self, threads: int, tmp_path: Path) -> None:
        large = tmp_path / "large"
        with open(large, "wb") as file:
            file.truncate(1 << 28)
        opened = open(large, "rb")
        with client_of(file_app(lambda: opened), threads) as client:
            client.send(get())
            client._exactly(65536)
            client.close()
            wait_for(lambda: opened.closed)


def _pipe(data: bytes) -> Any:
    reader, writer = os.pipe()
    with open(writer, "wb") as file:
        file.write(data)
    return open(reader, "rb")


def _named(data: bytes) -> Any:
    file = tempfile.NamedTemporaryFile()
    file.write(data)
    file.seek(0)
    return file


class _Quiet(io.FileIO):
    """A subclass whose read() is not what the file contains: it is in lower case."""

    def read(self, size: int | None = -1) -> bytes:
        return (super().read(size) or b"").lower()

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class _Pieces:
    """A file whose read() returns one of some pieces."""

    def __init__(self, pieces: Iterable[Any]) -> None:
        self._pieces = iter(pieces)

    def read(self, size: int) -> Any:
        return next(self._pieces, b"")


class _Reader:
    """The least that PEP 3333 asks of a file: read(), but no close()."""

    def __init__(self, data: bytes) -> None:
        self.read = io.BytesIO(data).read


# The request.


def echo(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
    body = environ["wsgi.input"].read()
    start_response("200 OK", [TEXT, ("X-Length", environ.get("CONTENT_LENGTH", "none"))])
    return [body]


def test_bodies(threads: int) -> None:
    with client_of(echo, threads) as client:
        for body in (b"", b"hello", b"x" * 1_000_000):
            client.send(post(body))
            answer = client.answer()
            assert (answer.body, answer.value("x-length")) == (body, str(len(body)))
        client.send(request("POST", "/", "Transfer-Encoding: chunked") + b"5\r\nhello\r\n1\r\n!\r\n0\r\nX: y\r\n\r\n")
        answer = client.answer()
        assert (answer.body, answer.value("x-length")) == (b"hello!", "6")
        assert client.ask().value("x-length") == "none"


def test_expect_100_continue(threads: int) -> None:
    with client_of(echo, threads) as client:
        client.send(request("POST", "/", "Content-Length: 5", "Expect: 100-continue"))
        assert client._until(b"\r\n\r\n").startswith(b"HTTP/1.1 100 ")
        client.send(b"hello")
        assert client.answer().body == b"hello"


def test_pipelined_responses_come_in_order(threads: int) -> None:
    with client_of(echo, threads) as client:
        answers = client.exchange(*(post(b"%d" % number) for number in range(20)))
        assert [int(answer.body) for answer in answers] == list(range(20))


def test_multithread_multiprocess_and_run_once() -> None:
    def app(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
        start_response("200 OK", [])
        names = ("wsgi.multithread", "wsgi.multiprocess", "wsgi.run_once")
        return [repr([environ[name] for name in names]).encode()]

    for handler, expected in (
        (WSGI(app, 0), [False, False, False]),
        (WSGI(app, 1), [False, False, False]),
        (WSGI(app, 2), [True, False, False]),
        (WSGI(app), [True, False, False]),  # safe for applications that wait
        (WSGI(app, 0, multiprocess=True), [False, True, False]),
    ):
        with serving(handler) as server, connect(server) as client:
            assert client.ask().body.decode() == repr(expected)
        handler.close(PATIENCE)


def test_over_a_unix_socket(threads: int, tmp_path: Path) -> None:
    def app(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
        start_response("200 OK", [])
        return [" ".join(environ[f"{side}"] for side in ("SERVER_NAME", "SERVER_PORT", "REMOTE_ADDR")).encode()]

    with client_of(app, threads, bind=f"unix:{tmp_path}/socket") as client:
        assert client.ask().body == b"h 80 "


# wsgiref's validator.


def test_the_validator_of_wsgiref_finds_no_fault(threads: int, caplog: pytest.LogCaptureFixture) -> None:
    def plain(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        environ["wsgi.errors"].write("")
        environ["wsgi.errors"].flush()
        read = environ["wsgi.input"]
        body = read.read(3) + read.readline() + b"".join(read.readlines()) + b"".join(read) + read.read(-1)
        start_response("200 OK", [("Content-Type", "text/plain"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")])
        if environ["PATH_INFO"] == "/pieces":
            return (piece for piece in (b"got ", body))
        return [b"got ", body]

    def written(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])(b"got")
        return [b""]

    with client_of(validator(plain), threads) as client:
        for target in ("/", "/pieces", "/a%20b%ff?c=d"):
            assert client.ask(target).body == b"got "
            assert client.ask(target, method="HEAD").status == 200
            client.send(post(b"a line\nand more\n", "Content-Type: text/plain", target=target))
            assert client.answer().body == b"got a line\nand more\n"
        client.send(request("POST", "/", "Transfer-Encoding: chunked") + b"5\r\nhello\r\n0\r\n\r\n")
        assert client.answer().body == b"got hello"
        assert client.ask("*", method="OPTIONS").status == 200
    with client_of(validator(written), threads) as client:
        assert client.ask().body == b"got"
    assert errors(caplog) == ""


# Threads.


class Gate:
    """An application that waits until the test opens it."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.open = threading.Event()

    def __call__(self, environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
        self.entered.release()
        assert self.open.wait(PATIENCE)
        start_response("200 OK", [TEXT])
        return [b"hello"]


@contextmanager
def gated(threads: int, queue: int) -> Iterator[tuple[Gate, Server]]:
    gate = Gate()
    handler = WSGI(gate, threads, queue)
    try:
        with serving(handler) as server:
            yield gate, server
    finally:
        gate.open.set()
        handler.close(PATIENCE)


def test_threads_run_the_application_concurrently() -> None:
    with gated(3, 10) as (gate, server), connect(server) as one, connect(server) as two, connect(server) as three:
        for client in (one, two, three):
            client.send(get())
        for _ in range(3):
            assert gate.entered.acquire(timeout=PATIENCE)
        gate.open.set()
        assert [client.answer().body for client in (one, two, three)] == [b"hello"] * 3


@pytest.mark.parametrize("queue", [0, 1, 5])
def test_a_full_queue_is_a_503_with_retry_after(queue: int) -> None:
    with gated(2, queue) as (gate, server):
        clients = [connect(server) for _ in range(2 + queue)]
        for client in clients:
            client.send(get())
        wait_for(lambda: _unfinished(server) == 2 + queue)
        with connect(server) as late:
            for _ in range(2):
                answer = late.ask()
                assert (answer.status, answer.persists) == (503, True)
                assert answer.value("retry-after") == "1"
            gate.open.set()
            assert [client.answer().status for client in clients] == [200] * len(clients)
            wait_for(lambda: _unfinished(server) == 0)
            assert late.ask().status == 200
        for client in clients:
            client.close()


def _unfinished(server: Server) -> int:
    handler: Any = server._service.handler
    number: int = handler._workers._unfinished
    return number


def test_a_request_whose_client_left_the_queue_is_not_handled() -> None:
    """Its Future was cancelled, so the application is not called for it."""
    gate = Gate()
    handler = WSGI(gate, 1, 10)
    with serving(handler) as server, connect(server) as first, connect(server) as second:
        first.send(get())
        assert gate.entered.acquire(timeout=PATIENCE)
        second.send(get())
        wait_for(lambda: _unfinished(server) == 2)
        server.shutdown(0.0)
        assert is_cut_off(second)
    gate.open.set()
    handler.close(PATIENCE)
    assert not gate.entered.acquire(blocking=False)


def test_queued_requests_of_clients_that_reset_are_not_begun() -> None:
    gate = Gate()
    handler = WSGI(gate, 2, 40)
    with serving(handler) as server, ExitStack() as stack:
        running = [stack.enter_context(connect(server)) for _ in range(2)]
        for client in running:
            client.send(get())
            assert gate.entered.acquire(timeout=PATIENCE)
        queued = [stack.enter_context(connect(server)) for _ in range(40)]
        for client in queued:
            client.send(get())
        wait_for(lambda: _unfinished(server) == 42)
        stays = queued.pop(20)
        for client in queued:
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
        wait_for(lambda: server.stats.closed[Ending.DISCONNECTED] == 39)
        gate.open.set()
        assert [client.answer().status for client in (*running, stays)] == [200] * 3
        handler.close(PATIENCE)
    assert gate.entered.acquire(blocking=False)  # for the one that stayed
    assert not gate.entered.acquire(blocking=False)


def test_clients_that_left_the_queue_make_room_for_new_ones() -> None:
    """Even while all threads are busy: a queue full of requests that nobody waits for is no reason for a 503."""
    with gated(1, 3) as (gate, server), ExitStack() as stack:
        first, *gone, stays, new = [stack.enter_context(connect(server)) for _ in range(5)]
        first.send(get())
        assert gate.entered.acquire(timeout=PATIENCE)
        for client in (*gone, stays):
            client.send(get())
        wait_for(lambda: _unfinished(server) == 4)
        for client in gone:
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
        wait_for(lambda: server.stats.closed[Ending.DISCONNECTED] == 2)
        new.send(get())
        wait_for(lambda: _unfinished(server) == 3)  # the first, the one that stayed, and the new one
        gate.open.set()
        assert [client.answer().status for client in (first, stays, new)] == [200] * 3


@pytest.mark.parametrize("name", ["threads", "queue", "max_spooled", "max_spooled_total"])
def test_negative_numbers_are_rejected(name: str) -> None:
    numbers: dict[str, Any] = {name: -1}
    with pytest.raises(ValueError, match=f"{name}.* must be 0 or more"):
        WSGI(responding([]), **numbers)


def test_a_closed_handler_responds_with_503() -> None:
    handler = WSGI(responding([b"hello"]), 1)
    with serving(handler) as server, connect(server) as client:
        assert client.ask().status == 200
        handler.close(PATIENCE)
        assert client.ask().status == 503
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("kaserve worker")]
